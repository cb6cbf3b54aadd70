"""Every run recipe that ships parses, and names recipes that ship."""

from pathlib import Path

import pytest

from astroflow.catalogs import load_catalog
from astroflow.config import load_recipe
from astroflow.pipelines.run import RunRecipe
from astroflow.training.recipe import EstimatorRecipe

FOLDER = Path(__file__).resolve().parents[2] / "pipelines"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(autouse=True)
def data_folder(monkeypatch, tmp_path):
    """Recipes are read without their data."""
    monkeypatch.setenv("ASTROFLOW_DATA", str(tmp_path))


def test_there_are_recipes():
    assert {"cosmos_acs", "demo"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_says_what_it_is_and_is_found_by_name(path):
    assert path.read_text().startswith("# ")
    recipe = load_recipe(RunRecipe, path, "pipelines")
    assert recipe == load_recipe(RunRecipe, path.stem, "pipelines")
    assert len(recipe.description) > 20


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_what_it_names_exists_and_fits_together(path):
    recipe = load_recipe(RunRecipe, path, "pipelines")
    assert load_recipe(EstimatorRecipe, recipe.train.recipe, "configs").simulations.n > 0
    for stage in recipe.infer.values():
        catalog = load_catalog(stage.catalog)
        if stage.report is not None and stage.report.published is not None:
            assert stage.report.published.pixel_scale_arcsec == catalog.pixel_scale_arcsec
            assert stage.report.published.zero_point == catalog.zero_point


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_is_validated_on_other_simulations_than_it_is_trained_on(path):
    recipe = load_recipe(RunRecipe, path, "pipelines")
    assert recipe.validate_on.seed != recipe.train.seed
    assert recipe.validate_on.n >= 2000
