"""Whether error bars and regions mean what they say: the share of truths inside central credible intervals, and inside joint regions.

The central 68 % interval leaves 16 % of the posterior on either side. Over fresh simulations it should hold the truth 68 % of the
time. Less: the posterior is overconfident. More: it wastes information. Intervals are taken through the PIT (see `ranks`), which
is exact at any number of draws: a quantile estimated from S draws makes the interval too narrow by a share of about 1 / S.

A test of the joint posterior gives each truth a credibility: that of the smallest region that reaches it, of regions of highest density, of
ellipsoids, or of balls about a reference point. The region of credibility c holds the truths whose own is at most c.
"""

__all__ = ["Coverage", "LEVELS", "central_coverage", "region_coverage"]

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from astroflow.errors import InputError
from astroflow.types import Array

LEVELS = (0.50, 0.68, 0.90, 0.95)


class Coverage(NamedTuple):
    """Empirical coverage of central intervals or of joint regions, in P columns."""

    levels: Array
    """``(L,)`` nominal coverage."""
    fraction: Array
    """``(L, P)`` share of truths inside."""
    error: Array
    """``(L,)`` binomial standard deviation of `fraction` for an exact posterior."""

    @property
    def z(self) -> Array:
        """``(L, P)`` deviation in units of `error`; negative where the posterior is overconfident."""
        return (self.fraction - self.levels[:, None]) / self.error[:, None]


def central_coverage(values: Array, levels: Sequence[float] | Array = LEVELS) -> Coverage:
    """Measure the coverage of central intervals.

    Parameters
    ----------
    values : ndarray
        ``(N, P)`` PIT values, from `astroflow.diagnostics.pit`.
    levels : sequence of float
        Nominal coverages, strictly between 0 and 1.
    """
    return region_coverage(2 * np.abs(np.asarray(values) - 0.5), levels)


def region_coverage(credibility: Array, levels: Sequence[float] | Array = LEVELS) -> Coverage:
    """Measure the coverage of joint regions.

    Parameters
    ----------
    credibility : ndarray
        ``(N, C)`` credibility of the smallest region that reaches each truth, of C kinds of regions: from `density_credibility`, `tarp`
        or `joint_pit`.
    levels : sequence of float
        Nominal coverages, strictly between 0 and 1.
    """
    credibility, nominal = np.asarray(credibility), np.asarray(levels, np.float64)
    if nominal.ndim != 1 or not ((nominal > 0) & (nominal < 1)).all():
        raise InputError(f"coverage levels must lie strictly between 0 and 1; got {list(levels)}")
    inside = credibility <= nominal[:, None, None]
    return Coverage(nominal, inside.mean(1), np.sqrt(nominal * (1 - nominal) / len(credibility)))
