"""`train_estimator`: the same machinery for any parameters and any arrays, without galaxies."""

__all__ = ["GeneralConfig", "train_estimator"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.config import parse_recipe
from astroflow.errors import InputError
from astroflow.networks.targets import box_bijector
from astroflow.posteriors.ensemble import AnyEstimator, build_any_estimator
from astroflow.posteriors.recipe import Architecture
from astroflow.randomness import generator
from astroflow.training.members import fit_members
from astroflow.training.recipe import TrainingRecipe
from astroflow.types import Array, Progress

LEAST_PAIRS = 16
"""Fewer pairs than this are a mistake."""


class GeneralConfig(Architecture):
    """Configuration of `train_estimator`: architecture, optimisation, bounds."""

    training: TrainingRecipe = TrainingRecipe(turns=False)
    """The optimisation."""
    bounds: tuple[tuple[float, float] | None, ...] | None = None
    """(low, high) of each parameter, or null where it is free; none at all by default."""
    seed: int = 0
    """Seeds initial weights and the order of the batches."""


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
    feed = _ArrayFeed(train, min(settings.training.batch_size, len(train["theta"])), settings.seed)
    held_out = {name: value[-n_held_out:] for name, value in rows.items()}
    fit_members(estimator, feed, held_out, settings.training, settings.seed, len(train["theta"]), progress=progress)
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


def _checked_bounds(theta: Array, bounds: Sequence[tuple[float, float] | None] | None) -> Sequence[tuple[float, float] | None]:
    if not np.isfinite(theta).all():
        raise InputError("`theta` holds values that are not finite")
    bounds = bounds or [None] * theta.shape[1]
    if len(bounds) != theta.shape[1]:
        raise InputError(f"`bounds` must have one entry per parameter: expected {theta.shape[1]}, got {len(bounds)}")
    for k, pair in enumerate(bounds):
        if pair is not None and not (pair[0] < theta[:, k].min() and theta[:, k].max() < pair[1]):
            raise InputError(f"parameter {k} spans {theta[:, k].min():g} to {theta[:, k].max():g}, not inside its bounds {pair}")
    return bounds
