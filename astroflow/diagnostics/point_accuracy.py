"""Point estimates per magnitude bin, in the form of the Euclid Morphology Challenge: what a catalog of best values is worth.

Bias is the median error, dispersion half the width of its central 68 %, an outlier is off by more than `OUTLIER`, and completeness is the
share of galaxies that have a usable estimate at all. Errors of sizes and fluxes are relative, those of Sersic indices in dex, those of
axis ratios and ellipticities plain.

Codes are compared in bins of *true* magnitude, as the challenge does, so that all are asked about the same galaxies. That is fair to
codes, and not to posteriors: the mean of even an exact one is biased among galaxies that are chosen by their truth (see `accuracy`).

Reference: Bretonnière et al. (Euclid Collaboration) 2023, https://arxiv.org/abs/2209.12907
"""

__all__ = ["PointAccuracy", "point_accuracy"]

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from astroflow.errors import InputError
from astroflow.types import Array

Kind = Literal["relative", "dex", "plain"]
OUTLIER = 0.5
"""An error larger than this, in the units of its kind, is an outlier."""


class PointAccuracy(NamedTuple):
    """One quantity in K magnitude bins."""

    kind: Kind
    edges: Array
    """``(K + 1,)`` magnitudes."""
    n_images: Array
    """``(K,)`` galaxies, with an estimate or without."""
    bias: Array
    """``(K,)`` median error; NaN where no galaxy has an estimate."""
    dispersion: Array
    """``(K,)`` half the width of the central 68 % of errors."""
    outliers: Array
    """``(K,)`` share of the estimates that are off by more than `OUTLIER`."""
    completeness: Array
    """``(K,)`` share of the galaxies that have an estimate; NaN in empty bins."""


def errors_of(estimate: Array, truth: Array, kind: Kind) -> Array:
    """Return errors of one kind; NaN where an estimate is not finite, or has no logarithm."""
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = {
            "relative": lambda: estimate / truth - 1,
            "dex": lambda: np.log10(estimate) - np.log10(truth),
            "plain": lambda: estimate - truth,
        }[kind]()
    return np.where(np.isfinite(error), error, np.nan)


def point_accuracy(
    estimates: Mapping[str, Array], truths: Mapping[str, Array], kinds: Mapping[str, Kind], magnitude: Array, edges: Sequence[float]
) -> dict[str, PointAccuracy]:
    """Score point estimates per magnitude bin.

    Parameters
    ----------
    estimates, truths : mapping of str to ndarray
        ``(N,)`` for each quantity; an estimate that is not finite is missing.
    kinds : mapping of str to {"relative", "dex", "plain"}
        The quantities, and how their errors are counted.
    magnitude : ndarray
        ``(N,)`` true magnitudes.
    edges : sequence of float
        Rising edges of the bins; galaxies outside are left out.

    Raises
    ------
    InputError
        If a quantity is missing, a kind is none of these, shapes disagree, a truth is not finite, or edges do not rise.
    """
    magnitude, limits = np.asarray(magnitude, np.float64), np.asarray(edges, np.float64)
    if limits.ndim != 1 or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise InputError(f"`edges` must be at least two magnitudes that rise; got {list(edges)}")
    bins = [(magnitude >= low) & (magnitude < high) for low, high in itertools.pairwise(limits)]
    out = {}
    for name, kind in kinds.items():
        if kind not in get_args(Kind):
            raise InputError(f"the kind of {name} must be one of {', '.join(get_args(Kind))}; got {kind!r}")
        if name not in estimates or name not in truths:
            raise InputError(f"{name} is not among both estimates ({', '.join(estimates)}) and truths ({', '.join(truths)})")
        estimate, truth = np.asarray(estimates[name]), np.asarray(truths[name])
        if estimate.shape != magnitude.shape or truth.shape != magnitude.shape or not np.isfinite(truth).all():
            raise InputError(f"{name}: expected {len(magnitude)} estimates and finite truths; got {estimate.shape} and {truth.shape}")
        error = errors_of(estimate, truth, kind)
        rows = [_scores(error[inside]) for inside in bins]
        count = np.array([inside.sum() for inside in bins])
        out[name] = PointAccuracy(kind, limits, count, *np.array(rows).T)
    return out


def _scores(error: Array) -> tuple[float, float, float, float]:
    known = error[np.isfinite(error)]
    if not len(known):
        return np.nan, np.nan, np.nan, 0.0 if len(error) else np.nan
    low, middle, high = np.quantile(known, [0.16, 0.5, 0.84])
    return float(middle), float(high - low) / 2, float(np.mean(np.abs(known) > OUTLIER)), len(known) / len(error)
