import pytest

from astroflow.config import parse_recipe
from astroflow.errors import ConfigError
from astroflow.posteriors.inputs import input_shapes
from astroflow.sims.stamp import StampSpec
from astroflow.training.recipe import IMAGE_INPUTS, EstimatorRecipe


def parse(**data):
    return parse_recipe(EstimatorRecipe, {"simulations": {"simulator": "demo_survey"}} | data, "here")


def test_only_the_simulator_is_asked_for():
    recipe = parse()
    assert recipe.simulations.n == 40_000
    assert recipe.training.turns
    assert EstimatorRecipe.model_validate(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(ConfigError, match="missing key `simulations`"):
        parse_recipe(EstimatorRecipe, {}, "here")


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"epochs": 0}, r"`training.epochs` \(= 0\)"),
        ({"batch_size": 4}, r"`training.batch_size` \(= 4\)"),
        ({"learning_rate": -1}, r"`training.learning_rate`"),
        ({"learning_rate": float("nan")}, r"`training.learning_rate`"),
        ({"ema": 1.0}, r"`training.ema`"),
        ({"validation": 0.6}, r"`training.validation`"),
        ({"warmup": 1}, r"`training.warmup`"),
        ({"learning_rte": 1e-3}, r"unknown key `training.learning_rte`.* Did you mean 'learning_rate'\?"),
    ],
)
def test_optimisations_that_cannot_work_are_refused(training, message):
    with pytest.raises(ConfigError, match=message):
        parse(training=training)


def test_channels_of_an_input_that_does_not_exist_are_refused_before_anything_is_simulated():
    with pytest.raises(ConfigError, match=r"here: `summary.channels` names 'imgae', .* are image, psf. Did you mean 'image'\?"):
        parse(summary={"channels": {"imgae": [64, 64]}})
    assert parse(summary={"channels": {"image": [64, 64]}}).summary.channels == {"image": (64, 64)}


def test_the_image_inputs_are_those_of_the_network():
    shapes = input_shapes(StampSpec(pixel_scale_arcsec=0.2, zero_point=27.0))
    assert {name for name, shape in shapes.items() if len(shape) == 3} == set(IMAGE_INPUTS)
