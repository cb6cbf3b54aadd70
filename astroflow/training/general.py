"""`train_estimator`: the same machinery for any parameters and any arrays, without galaxies."""

__all__ = ["GeneralConfig", "GeneralTraining", "train_estimator"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from astroflow.config import parse_recipe
from astroflow.errors import InputError
from astroflow.networks.targets import Bounds, box_bijector
from astroflow.posteriors.ensemble import AnyEstimator, build_any_estimator
from astroflow.posteriors.recipe import Architecture, FlowRecipe, SplineMAFRecipe, SummaryRecipe
from astroflow.randomness import generator
from astroflow.training.members import fit_members
from astroflow.training.recipe import TrainingRecipe
from astroflow.types import Array, Progress

LEAST_PAIRS = 16
"""Fewer pairs than this are a mistake."""
LEAST_BATCH, MOST_STEPS = 32, 200
"""Batches of small sets: at least so large, and otherwise so many of them in a pass."""
MOST_EPOCHS, SEEN = 60, 1_500_000
"""Passes over small sets: at most so many, and otherwise enough to see so many simulations, repeated ones counted."""


class GeneralTraining(TrainingRecipe):
    """The optimisation of general problems, whose data come without new noise in every pass. Two defaults depend on how many there are."""

    epochs: pydantic.PositiveInt = 15
    """Passes over the training set. Unless it is given, it is more for less than 100,000 simulations: up to 60."""
    batch_size: Annotated[int, pydantic.Field(ge=8, le=4096)] = 256
    """Simulations per step. Unless it is given, it is less for less than 50,000 simulations: down to 32."""
    polish: pydantic.NonNegativeInt = 0
    """Passes over the training set whose contexts the flow is fitted to once more, at the end; 0 for none."""
    turns: Literal[False] = False
    """General data are not turned."""

    def sized(self, n: int) -> "GeneralTraining":
        """Return these settings with the defaults for `n` simulations to train on."""
        epochs, size = min(MOST_EPOCHS, SEEN // n), max(LEAST_BATCH, n // MOST_STEPS)
        chosen = {"epochs": max(self.epochs, epochs), "batch_size": min(self.batch_size, size)}
        sizes = chosen | {name: getattr(self, name) for name in chosen.keys() & self.model_fields_set}
        return self.model_copy(update=sizes | {"batch_size": min(sizes["batch_size"], n)})


class GeneralConfig(Architecture):
    """Configuration of `train_estimator`: architecture, optimisation, bounds."""

    linearized: None = None
    """General problems have no forward model whose fits could be improved on."""

    summary: SummaryRecipe = SummaryRecipe(dense=(256, 256, 256, 256), context=64)
    """The summary network."""
    flow: FlowRecipe = SplineMAFRecipe(layers=4, bins=10)
    """The conditional distribution."""
    training: GeneralTraining = GeneralTraining()
    """The optimisation."""
    bounds: tuple[Bounds, ...] | None = None
    """(low, high) of each parameter, such as [0, null] for what is positive; null where it is free, as all are by default."""
    seed: int = 0
    """Seeds initial weights and the order of the batches."""

    @pydantic.field_validator("linearized", mode="before")
    @classmethod
    def _no_fits(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("it fits images of galaxies by their forward model, which general problems do not have; leave it out")
        return value


@dataclass(frozen=True)
class _ArrayFeed:
    """Batches of arrays in memory, in a new order every epoch."""

    arrays: Mapping[str, Array]
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return len(self.arrays["theta"]) // self.batch_size

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Mapping[str, Array]]:
        order = generator(self.seed, "feed", epoch).permutation(len(self.arrays["theta"]))
        for start in range(first * self.batch_size, self.steps_per_epoch * self.batch_size, self.batch_size):
            rows = order[start : start + self.batch_size]
            yield {name: values[rows] for name, values in self.arrays.items()}


def train_estimator(
    theta: Array, x: Array | Mapping[str, Array], config: GeneralConfig | Mapping[str, Any] | None = None, progress: Progress | None = None
) -> AnyEstimator:
    """Train an amortized posterior ``q(theta | x)`` on simulated pairs.

    Parameters
    ----------
    theta : array_like
        ``(N, P)`` parameters.
    x : array_like or dict of array_like
        The data: vectors ``(N, K)``, images ``(N, H, W)`` or ``(N, H, W, C)``, or a dict of such arrays.
    config : GeneralConfig or mapping, optional
        Architecture, optimisation and bounds; the defaults suit a few thousand pairs and more.
    progress : callable, optional
        Told after every step.

    Returns
    -------
    Estimator or Ensemble
        With `encode`, `sample`, `log_prob` and `distribution`; an ensemble where the configuration has `epistemic`.

    Raises
    ------
    InputError
        If lengths differ, values are not finite, or theta lies outside its bounds.
    """
    settings = config if isinstance(config, GeneralConfig) else parse_recipe(GeneralConfig, dict(config or {}), "config")
    theta = np.asarray(theta, np.float32)
    if theta.ndim != 2 or theta.shape[1] < 1 or len(theta) < LEAST_PAIRS:
        raise InputError(f"`theta` must be (N, P), with N of at least {LEAST_PAIRS}; got shape {theta.shape}")
    arrays = {name: _checked(name, value, len(theta)) for name, value in (x if isinstance(x, Mapping) else {"x": x}).items()}
    if not arrays:
        raise InputError("`x` is empty: give at least one array")
    bounds = _checked_bounds(theta, settings.bounds)
    shapes = {name: value.shape[1:] for name, value in arrays.items()}
    architecture = Architecture(summary=settings.summary, flow=settings.flow, epistemic=settings.epistemic)
    estimator = build_any_estimator(architecture, shapes, box_bijector(bounds), theta.shape[1], (), settings.seed)
    n_held_out = max(1, round(len(theta) * settings.training.validation))
    # held out at random, because rows may come in an order
    order = generator(settings.seed, "held out").permutation(len(theta))
    rows = {name: value[order] for name, value in {"theta": theta, **arrays}.items()}
    train = {name: value[:-n_held_out] for name, value in rows.items()}
    estimator.adapt({name: train[name] for name in arrays}, train["theta"])
    recipe = settings.training.sized(len(train["theta"]))
    feed = _ArrayFeed(train, recipe.batch_size, settings.seed)
    held_out = {name: value[-n_held_out:] for name, value in rows.items()}
    fit_members(estimator, feed, held_out, recipe, settings.seed, len(train["theta"]), progress=progress)
    return estimator


def _checked(name: str, value: Any, n: int) -> Array:
    if not name.isidentifier() or name in ("theta", "auxiliary"):
        raise InputError(f"{name!r} cannot name an input; use a Python identifier other than `theta` and `auxiliary`")
    array = np.asarray(value, np.float32)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim not in (2, 4) or len(array) != n:
        raise InputError(f"`{name}` must be ({n}, K), ({n}, H, W) or ({n}, H, W, C); got shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"`{name}` holds {int((~np.isfinite(array)).sum())} values that are not finite; mask or impute them first")
    return array


def _checked_bounds(theta: Array, bounds: Sequence[Bounds] | None) -> Sequence[Bounds]:
    if not np.isfinite(theta).all():
        raise InputError("`theta` holds values that are not finite")
    bounds = bounds or [None] * theta.shape[1]
    if len(bounds) != theta.shape[1]:
        raise InputError(f"`bounds` must have one entry per parameter: expected {theta.shape[1]}, got {len(bounds)}")
    for k, pair in enumerate(bounds):
        low, high = pair or (None, None)
        least, most = theta[:, k].min(), theta[:, k].max()
        # on a bound is inside: rounding to float32 puts parameters there
        if (low is not None and not low <= least) or (high is not None and not most <= high):
            raise InputError(f"parameter {k} spans {least:g} to {most:g}, not inside its bounds {pair}")
    return bounds
