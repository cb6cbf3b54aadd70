r"""Conformal correction: by what factor intervals have to be stretched, with a guarantee that asks nothing of the posterior.

For each simulated truth there is a factor by which the posterior's central interval, stretched about its median, just reaches it. Take
the :math:`\lceil (n + 1)\,c \rceil`-th smallest of n such factors: a new truth, exchangeable with these, lies in the interval stretched
by it with probability at least c, and at most c + 1 / (n + 1) where no two factors agree.

Nothing is assumed of the posterior, and these of its use:

- The new interval is made as these were: of as many draws, by the same posterior, neither reweighted nor refined.
- The new galaxy is of the simulations' kind, and has a posterior. Where some have none, the guarantee is of those that have.
- Bins are functions of the data, with edges that were fixed before these images were looked at (`fixed_bins`). Quantiles of the images
  themselves (`quantile_bins`) leave it right only to about one image in each bin, and galaxies beyond the outermost without a bin.
- It speaks of all galaxies of a bin together and of one parameter at a time: not of single galaxies, nor of another survey.

Factors near 1 say that the error bars are right. A factor corrects widths and not shapes; it is no substitute for a better posterior.

References
----------
Vovk, Gammerman & Shafer 2005, chapter 2; Lei et al. 2018, theorem 2.2, https://arxiv.org/abs/1604.04173; in bins: Vovk 2012,
https://arxiv.org/abs/1209.2673
"""

__all__ = ["Conformal", "conformal_factors"]

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from astroflow.diagnostics.local import Bins
from astroflow.diagnostics.ranks import checked_draws
from astroflow.errors import InputError
from astroflow.types import Array


class Conformal(NamedTuple):
    """Factors of K bins and P parameters."""

    bins: Bins
    level: float
    """Coverage c that stretched intervals have at least."""
    factor: Array
    """``(K, P)`` stretch each side of the central interval about the median by this; NaN where the bin has too few images."""
    n_images: Array
    """``(K,)`` that the factors are made from."""

    @property
    def most(self) -> Array:
        """``(K,)`` the coverage that stretched intervals have at most, where no two factors agree."""
        return np.minimum(1.0, self.level + 1 / (self.n_images + 1))

    @property
    def fewest(self) -> int:
        """Images that a bin needs for a factor."""
        level = _exact(self.level)
        return math.ceil(level / (1 - level))

    def stretch(self, interval: Array, which: Array) -> Array:
        """Stretch intervals.

        Parameters
        ----------
        interval : ndarray
            ``(N, 3, P)`` lower end, median and upper end of central intervals of this level.
        which : ndarray
            ``(N,)`` the bin of each image.

        Returns
        -------
        ndarray
            ``(N, 2, P)`` lower and upper ends; NaN where there is no factor.
        """
        factor = np.where(which[:, None] >= 0, self.factor[which], np.nan)
        low, middle, high = np.moveaxis(np.asarray(interval, np.float64), 1, 0)
        return np.stack([middle - factor * (middle - low), middle + factor * (high - middle)], 1)


def _exact(level: float) -> Fraction:
    """Return a level as it is written: 0.9 is nine tenths, not the binary number next to it."""
    return Fraction(str(float(level)))


def central_interval(draws: Array, level: float) -> Array:
    """Return lower end, median and upper end of central intervals, ``(N, 3, P)``."""
    return np.moveaxis(np.quantile(np.asarray(draws, np.float64), [(1 - level) / 2, 0.5, (1 + level) / 2], axis=1), 0, 1)


def conformal_factors(draws: Array, truth: Array, bins: Bins, *, level: float = 0.68) -> Conformal:
    """Measure by what factors central intervals have to be stretched to keep what they promise.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)`` and ``(N, P)`` of simulations that no training has seen.
    bins : Bins
        How the images are sorted, by functions of the data: `fixed_bins`, for the guarantee to hold as it stands.
    level : float
        Nominal coverage.

    Raises
    ------
    InputError
        If shapes disagree, something is not finite, or `level` is not between 0 and 1.
    """
    draws, truth = checked_draws(draws, truth)
    if not 0 < level < 1:
        raise InputError(f"`level` must lie strictly between 0 and 1; got {level}")
    if bins.which.shape != truth.shape[:1]:
        raise InputError(f"bins of {bins.name} are not of the same {len(truth)} images")
    low, middle, high = np.moveaxis(central_interval(draws, level), 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(truth < middle, (middle - truth) / (middle - low), (truth - middle) / (high - middle))
    needed = np.where(truth == middle, 0.0, needed)
    kinds = len(bins.edges) - 1
    factor, count = np.full((kinds, truth.shape[1]), np.nan), np.zeros(kinds, np.int64)
    for k in range(kinds):
        rows = needed[bins.which == k]
        count[k] = len(rows)
        place = math.ceil((len(rows) + 1) * _exact(level))
        if 0 < place <= len(rows):
            factor[k] = np.sort(rows, 0)[place - 1]
    return Conformal(bins, level, factor, count)
