"""Training recipes: the files of the folder ``configs/``."""

__all__ = ["EstimatorRecipe", "SimulationsRecipe", "TrainingRecipe"]

from typing import Annotated, Literal

import pydantic

from astroflow.config import Recipe
from astroflow.posteriors.recipe import Architecture

IMAGE_INPUTS = ("image", "psf")
"""Which of a galaxy's network inputs are images."""


class TrainingRecipe(Recipe):
    """The optimisation."""

    epochs: pydantic.PositiveInt = 14
    """Passes over the training set; noise, masks and turns are new in each."""
    batch_size: Annotated[int, pydantic.Field(ge=8, le=4096)] = 64
    """Simulations per step."""
    learning_rate: pydantic.PositiveFloat = 2e-3
    """Peak learning rate of AdamW; it rises linearly, then falls as a cosine to one hundredth."""
    warmup: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.05
    """Share of the steps spent on the rise."""
    weight_decay: Annotated[float, pydantic.Field(ge=0, le=1)] = 1e-4
    """AdamW's weight decay."""
    clip_norm: pydantic.PositiveFloat = 5.0
    """Global gradient norm is cut to this."""
    ema: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    patience: pydantic.PositiveInt = 8
    """Stop after this many epochs without a better held-out score."""
    polish: pydantic.NonNegativeInt = 2
    """Passes over the training set whose contexts the flow is fitted to once more, at the end; 0 for none."""
    linearized: pydantic.PositiveInt = 4
    """Passes over the training set whose fits the flow of a linearised stage learns; without `linearized` there are none."""
    validation: Annotated[float, pydantic.Field(gt=0, le=0.5)] = 0.05
    """Share of the simulations that is held out."""
    turns: bool = True
    """Flip and turn the stamps, where the prior allows it."""


class SimulationsRecipe(Recipe):
    """The simulations to train on."""

    simulator: str
    """Forward-model recipe: a name in the folder `sims`, or a path."""
    n: pydantic.PositiveInt = 40_000
    """How many noiseless simulations to store; of fresh ones, how many make an epoch."""
    mode: Literal["fresh", "stored", "mixed"] = "stored"
    """fresh: new galaxies in every step, which needs `engine: fourier` in the forward model. stored: simulated once, with new noise in
    every step. mixed: both in turn. With `train --data`, fresh becomes stored."""


class EstimatorRecipe(Architecture):
    """An estimator and its training."""

    description: str = ""
    """One sentence."""
    simulations: SimulationsRecipe
    """The simulations to train on."""
    training: TrainingRecipe = TrainingRecipe()
    """The optimisation."""

    @pydantic.model_validator(mode="after")
    def _names_inputs(self) -> "EstimatorRecipe":
        # refused here, not where the network is built, which is after the simulations
        self.summary.channels_of(IMAGE_INPUTS)
        return self
