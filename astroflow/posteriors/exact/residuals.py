r"""Is a residual noise? Chi-squared as a whole and in the core, neighbouring pixels, and what a wrong PSF would leave.

A fit hides most of a wrong model: what is left is faint and has a shape. So besides chi-squared the residual is projected on the
pictures that a PSF of another width or ellipticity would add (`astroflow.sims.psf_errors`), and on a level of the sky, with all that the
parameters can absorb taken off (a score test, Rao 1948). Under the model each statistic has a known distribution, whatever directions
are chosen. The smallest p-value, times their number, is the p-value of the structure.
"""

__all__ = ["DIRECTIONS", "ProfileScore", "chi_squared_p", "core_p", "neighbour_p", "normal_p", "profile_score", "structure_p"]

from typing import NamedTuple

import numpy as np
from scipy import stats

from astroflow.types import Array

DIRECTIONS = ("psf_width_error", "psf_e1_error", "psf_e2_error", "sky_left")
"""Faults that rows are measured for: the log of the PSF's width, its e1 and e2, in use less true; sky in the image, in noise rms."""
LEAST_CORE = 12
"""A core of fewer pixels is not tested on its own."""
LEAST_LEFT = 1e-6
"""A direction of which the parameters leave a smaller share is no test."""


def chi_squared_p(chi_squared: Array, dof: Array) -> Array:
    """Return two-sided p-values ``(N,)``: too little scatter says that the noise map is wrong, as too much does."""
    return np.asarray(np.minimum(1.0, 2 * np.minimum(stats.chi2.sf(chi_squared, dof), stats.chi2.cdf(chi_squared, dof))))


def core_p(white: Array, model: Array, rms: Array, parameters: int) -> Array:
    """Return p-values ``(N,)`` of whitened residuals ``(N, H, W)`` where the model stands above the noise; one where it hardly does."""
    core = (model > rms) & (white != 0)
    count = core.sum((1, 2))
    chi_squared = np.where(core, white**2, 0).sum((1, 2))
    # parameters are fitted by these pixels most of all
    p = stats.chi2.sf(chi_squared, np.maximum(count - parameters, 1))
    return np.asarray(np.where(count >= LEAST_CORE + parameters, p, 1.0))


def neighbour_p(white: Array) -> Array:
    """Return two-sided p-values ``(N,)`` of the correlation of whitened residuals ``(N, H, W)`` with their next and diagonal neighbours."""
    total, pairs = np.zeros(len(white)), np.zeros(len(white))
    for a, b in (
        (white[:, :, 1:], white[:, :, :-1]), (white[:, 1:], white[:, :-1]),
        (white[:, 1:, 1:], white[:, :-1, :-1]), (white[:, 1:, :-1], white[:, :-1, 1:]),
    ):  # fmt: skip
        total += (a * b).sum((1, 2))
        pairs += ((a != 0) & (b != 0)).sum((1, 2))
    return normal_p(total / np.sqrt(np.maximum(pairs, 1)))


def normal_p(z: Array) -> Array:
    """Return two-sided p-values of standard normals, in their shape; one for NaN, which tests nothing."""
    return np.asarray(np.where(np.isnan(z), 1.0, 2 * stats.norm.sf(np.abs(z))))


class ProfileScore(NamedTuple):
    """What a residual says of K directions beside the parameters.

    `amplitude` ``(N, K)`` is the most likely amount of each direction alone and `error` ``(N, K)`` its standard error, both NaN
    where the parameters absorb it altogether; their ratio is standard normal under the model. `p` ``(N,)`` is that of all together.
    """

    amplitude: Array
    error: Array
    p: Array


def profile_score(information: Array, score: Array, parameters: int, aside: int = 0) -> ProfileScore:
    r"""Test directions beside the parameters, with all that the parameters can absorb taken off.

    With the Fisher matrix in blocks, :math:`s = s_k - I_{kp} I_{pp}^{-1} s_p` has variance :math:`I = I_{kk} - I_{kp} I_{pp}^{-1} I_{pk}`
    whatever the parameters are, so no prior enters: a galaxy that is unlike the prior is no sign of a wrong PSF.

    Parameters
    ----------
    information, score : ndarray
        ``(N, P + K, P + K)`` and ``(N, P + K)``: Fisher matrix and score of the P parameters, then of the K directions.
    parameters : int
        P.
    aside : int
        So many directions, the last ones, are free as well while the amplitudes of the others are found.

    Returns
    -------
    ProfileScore
        Of NaN where a row's matrix or score is not finite.
    """
    count = score.shape[1] - parameters
    amplitude, error, p = np.full((len(score), count), np.nan), np.full((len(score), count), np.nan), np.ones(len(score))
    for i, (matrix, slope) in enumerate(zip(information, score, strict=True)):
        if not (np.isfinite(matrix).all() and np.isfinite(slope).all()):
            p[i] = np.nan
            continue
        own, cross, extra = matrix[:parameters, :parameters], matrix[:parameters, parameters:], matrix[parameters:, parameters:]
        absorbed = np.linalg.lstsq(own, np.column_stack([cross, slope[:parameters]]), rcond=None)[0]
        scale = np.sqrt(np.maximum(np.diag(extra), 1e-30))
        left = (extra - cross.T @ absorbed[:, :-1]) / scale[:, None] / scale
        force = (slope[parameters:] - cross.T @ absorbed[:, -1]) / scale
        values, vectors = np.linalg.eigh(left)
        kept = values > LEAST_LEFT
        if kept.any():
            statistic = ((vectors[:, kept].T @ force) ** 2 / values[kept]).sum()
            p[i] = stats.chi2.sf(statistic, int(kept.sum()))
        for k in range(count):
            free = [j for j in range(count - aside, count) if k < count - aside and left[j, j] > LEAST_LEFT]
            gone = np.linalg.lstsq(left[np.ix_(free, free)], left[free, k], rcond=None)[0]
            share = left[k, k] - left[k, free] @ gone
            if share > LEAST_LEFT:
                amplitude[i, k] = (force[k] - force[free] @ gone) / share / scale[k]
                error[i, k] = 1 / np.sqrt(share) / scale[k]
    return ProfileScore(amplitude, error, p)


def structure_p(*p_values: Array) -> Array:
    """Return the p-value of the smallest of several, ``(N,)``."""
    return np.asarray(np.minimum(1.0, len(p_values) * np.minimum.reduce(p_values)))
