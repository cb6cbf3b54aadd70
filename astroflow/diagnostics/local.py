"""Calibration in bins of what the data say: right on average is not right everywhere.

A posterior that is too wide for faint galaxies and too narrow for bright ones may be right on average. So PIT values are looked at again
in bins of functions of the data: the estimated signal-to-noise ratio, the posterior's median size, the width of the PSF, the masked
share. Never bin by a true parameter: even an exact posterior is not calibrated among galaxies that are chosen by it (see `accuracy`).

Many bins and parameters make many tests, of which some fail by chance. Each bin and column gets one p-value, and Holm's rule says
which of all of them, taken together, are more than chance: the probability of any false alarm is at most `ALARM`. A bin with too few
images to say anything says so, and is no pass.

Columns may be PIT values of parameters, whose coverage is that of central intervals, and credibilities of joint regions, whose coverage is
that of the regions (`coverage`): with both, a joint posterior that is wrong for some images alone is found though its marginals are right.

References
----------
Holm 1979, https://www.jstor.org/stable/4615733; Zhao et al. 2021, "Diagnostics for conditional density models and Bayesian inference
algorithms", https://arxiv.org/abs/2102.10473
"""

__all__ = [
    "ALARM",
    "FEWEST",
    "Bins",
    "LocalCalibration",
    "Outcome",
    "calibrate_locally",
    "fixed_bins",
    "holm",
    "quantile_bins",
    "uniform_p",
]

import enum
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from astroflow.diagnostics.coverage import LEVELS, central_coverage, region_coverage
from astroflow.errors import InputError
from astroflow.types import Array

ALARM = 0.01
"""Probability that an exact posterior fails anywhere."""
FEWEST = 100
"""Images in a bin that says anything."""


class Outcome(enum.StrEnum):
    """What a test says."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "not enough data"


class Bins(NamedTuple):
    """Images sorted by a function of the data."""

    name: str
    """What they are sorted by."""
    edges: Array
    """``(K + 1,)`` from the smallest value to the largest; infinite where a bin is open."""
    which: Array
    """``(N,)`` the bin of each image; -1 for none."""

    @property
    def labels(self) -> tuple[str, ...]:
        """How a table or plot writes each bin."""
        return tuple(_label(low, high) for low, high in itertools.pairwise(self.edges.tolist()))


def _label(low: float, high: float) -> str:
    if np.isinf(low):
        return "all" if np.isinf(high) else f"below {high:.3g}"
    return f"{low:.3g} and more" if np.isinf(high) else f"{low:.3g} to {high:.3g}"


def quantile_bins(name: str, values: Array, count: int = 4) -> Bins:
    """Sort images into bins that hold about as many each.

    Parameters
    ----------
    name : str
        What the values are.
    values : ndarray
        ``(N,)``, a function of the data; images where it is not finite are in no bin.
    count : int
        Bins; fewer where many values are the same.

    Raises
    ------
    InputError
        If `values` are not one number per image, or none is finite.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    if values.ndim != 1 or not known.any():
        raise InputError(f"bins of {name} need one number per image, some of them finite; got shape {values.shape}")
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, count + 1)))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    which = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return Bins(name, edges, np.where(known, which, -1))


def fixed_bins(name: str, values: Array, inner: Sequence[float]) -> Bins:
    """Sort images into bins whose edges do not depend on them; the outer bins are open, so that every image has a bin.

    Parameters
    ----------
    name : str
        What the values are.
    values : ndarray
        ``(N,)``, a function of the data; images where it is NaN are in no bin.
    inner : sequence of float
        Rising inner edges; empty for one bin.

    Raises
    ------
    InputError
        If `values` are not one number per image, or edges do not rise.
    """
    values, edges = np.asarray(values, np.float64), np.array([-np.inf, *inner, np.inf])
    if values.ndim != 1:
        raise InputError(f"bins of {name} need one number per image; got shape {values.shape}")
    if not (edges[1:] > edges[:-1]).all():
        raise InputError(f"edges of {name} must be finite and rise; got {list(inner)}")
    which = np.searchsorted(edges[1:-1], values, side="right")
    return Bins(name, edges, np.where(np.isnan(values), -1, which))


class LocalCalibration(NamedTuple):
    """Calibration in K bins of each of C columns of PIT values or credibilities."""

    bins: Bins
    names: tuple[str, ...]
    """Of the columns."""
    n_images: Array
    """``(K,)``."""
    levels: Array
    """``(L,)`` nominal coverages."""
    coverage: Array
    """``(K, L, C)`` of central intervals, or of joint regions; NaN where a bin is empty."""
    p: Array
    """``(K, C)`` that the PIT values are uniform; NaN in bins of fewer than `FEWEST` images."""
    outcome: Array
    """``(K, C)`` of `Outcome`, all tests of all bins of this run taken together."""

    @property
    def error(self) -> Array:
        """``(K, L)`` binomial standard deviation of `coverage` for an exact posterior."""
        return np.asarray(np.sqrt(self.levels * (1 - self.levels) / np.maximum(self.n_images, 1)[:, None]))


def calibrate_locally(
    values: Array, names: Sequence[str], binnings: Sequence[Bins], *, regions: Sequence[str] = (), alarm: float = ALARM
) -> list[LocalCalibration]:
    """Measure calibration in bins of some functions of the data, and judge all of it at once.

    Parameters
    ----------
    values : ndarray
        ``(N, C)`` PIT values or credibilities, uniform for an exact posterior.
    names : sequence of str
        Of the columns.
    binnings : sequence of Bins
        How the N images are sorted.
    regions : sequence of str
        Which of `names` are credibilities of joint regions.
    alarm : float
        Probability that an exact posterior fails in any bin, column or binning.

    Returns
    -------
    list of LocalCalibration
        One for each binning.

    Raises
    ------
    InputError
        If shapes disagree, or a value is not between 0 and 1.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise InputError(f"`values` must be (images, {len(names)}) for columns {', '.join(names)}; got shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("PIT values must lie between 0 and 1: leave flagged rows out first")
    wrong = [bins.name for bins in binnings if bins.which.shape != values.shape[:1]]
    if wrong:
        raise InputError(f"bins of {wrong[0]} are not of the same {len(values)} images")
    joint = np.isin(np.array(names), regions)
    measured = [_measure(values, joint, bins) for bins in binnings]
    failed = holm(np.concatenate([p.ravel() for _, p, _ in measured]), alarm) if measured else np.zeros(0, bool)
    out, first = [], 0
    for bins, (coverage, p, count) in zip(binnings, measured, strict=True):
        bad = failed[first : first + p.size].reshape(p.shape)
        first += p.size
        outcome = np.where(np.isnan(p), Outcome.UNKNOWN.value, np.where(bad, Outcome.FAILED.value, Outcome.PASSED.value))
        out.append(LocalCalibration(bins, tuple(names), count, np.array(LEVELS), coverage, p, outcome))
    return out


def _measure(values: Array, joint: Array, bins: Bins) -> tuple[Array, Array, Array]:
    kinds = len(bins.edges) - 1
    coverage, p = np.full((kinds, len(LEVELS), values.shape[1]), np.nan), np.full((kinds, values.shape[1]), np.nan)
    count = np.array([(bins.which == k).sum() for k in range(kinds)])
    for k in range(kinds):
        rows = values[bins.which == k]
        if len(rows):
            coverage[k] = np.where(joint, region_coverage(rows).fraction, central_coverage(rows).fraction)
        if len(rows) >= FEWEST:
            p[k] = [uniform_p(column) for column in rows.T]
    return coverage, p, count


def uniform_p(column: Array) -> float:
    """Return the p-value that numbers are uniform: a shift moves them, a width their distances from the middle."""
    both = [stats.kstest(part, "uniform").pvalue for part in (column, np.abs(2 * column - 1))]
    return float(min(1.0, 2 * min(both)))


def holm(p: Array, alarm: float) -> Array:
    """Return which p-values ``(T,)`` fail together, with a probability of any false alarm of at most `alarm`; NaN never does."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p)  # NaN last
    tests = int(np.isfinite(p).sum())
    failed = np.zeros(len(p), bool)
    for place, i in enumerate(order[:tests].tolist()):
        if p[i] > alarm / (tests - place):
            break
        failed[i] = True
    return failed
