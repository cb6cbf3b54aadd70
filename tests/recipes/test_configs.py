"""Every estimator recipe that ships parses, names a forward model that ships, and describes networks that can be built."""

from pathlib import Path

import pytest
import yaml

from astroflow.config import find_recipe, load_recipe
from astroflow.training.recipe import EstimatorRecipe

FOLDER = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes():
    assert {"cosmos_acs", "demo", "template"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_says_what_it_is_and_is_found_by_name(path):
    assert path.read_text().startswith("# ")
    recipe = load_recipe(EstimatorRecipe, path, "configs")
    assert recipe == load_recipe(EstimatorRecipe, path.stem, "configs")
    assert len(recipe.description) > 20
    assert EstimatorRecipe.model_validate(yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_its_forward_model_ships_with_it(path):
    recipe = load_recipe(EstimatorRecipe, path, "configs")
    assert find_recipe(recipe.simulations.simulator, "sims").parent == FOLDER.parent / "sims"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_its_networks_can_be_built_and_trained(path):
    from astroflow.posteriors.bundle import BundleConfig, build_estimator
    from astroflow.posteriors.recipe import Architecture
    from astroflow.sims.recipe import load_simulator

    recipe = load_recipe(EstimatorRecipe, path, "configs")
    # any Sersic model with the stamp of the recipe's own, which may need survey data
    data = yaml.safe_load(find_recipe(recipe.simulations.simulator, "sims").read_text())
    parameters = load_simulator("template").parameters
    stamp = type(load_simulator("template").stamp).model_validate(data["stamp"])
    architecture = Architecture(summary=recipe.summary, flow=recipe.flow)
    estimator = build_estimator(BundleConfig(architecture=architecture, parameters=parameters, stamp=stamp, forward_model={}, training={}))
    assert set(recipe.summary.channels) <= set(estimator.shapes)
    weights = sum(
        int(v.shape.num_elements() if hasattr(v.shape, "num_elements") else v.numpy().size) for v in estimator.trainable_variables
    )
    assert 1e5 < weights < 1e7
    steps = recipe.simulations.n * (1 - recipe.training.validation) / recipe.training.batch_size * recipe.training.epochs
    assert steps > 1000
