r"""Is a residual noise? Chi-squared as a whole and in the core, neighbouring pixels, and what a wrong PSF would leave.

A fit hides most of a wrong model: what is left is faint and has a shape. So besides chi-squared the residual is projected on the
pictures that a PSF of another width or ellipticity would add, :math:`\nabla^2 m`, :math:`(\partial_x^2 - \partial_y^2) m` and
:math:`2 \partial_x \partial_y m`, and on a level of the sky, with all that the parameters can absorb taken off (a score test, Rao 1948).
Under the model each statistic has a known distribution, whatever directions are chosen. The smallest p-value, times their number, is
the p-value of the structure.
"""

__all__ = ["blur_pictures", "chi_squared_p", "core_p", "neighbour_p", "score_p", "structure_p"]

import numpy as np
from scipy import stats

from astroflow.types import Array

LEAST_CORE = 12
"""A core of fewer pixels is not tested on its own."""


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
    return np.asarray(2 * stats.norm.sf(np.abs(total) / np.sqrt(np.maximum(pairs, 1))))


def score_p(information: Array, score: Array, parameters: int) -> Array:
    """Return p-values ``(N,)`` of directions beside the parameters.

    Parameters
    ----------
    information, score : ndarray
        ``(N, P + K, P + K)`` and ``(N, P + K)``: Fisher matrix and score of the P parameters, then of the K directions.
    parameters : int
        P.
    """
    p = np.ones(len(score))
    for i, (matrix, slope) in enumerate(zip(information, score, strict=True)):
        own, cross, extra = matrix[:parameters, :parameters], matrix[:parameters, parameters:], matrix[parameters:, parameters:]
        absorbed = np.linalg.lstsq(own, np.column_stack([cross, slope[:parameters]]), rcond=None)[0]
        left = extra - cross.T @ absorbed[:, :-1]
        force = slope[parameters:] - cross.T @ absorbed[:, -1]
        scale = np.sqrt(np.maximum(np.diag(extra), 1e-30))
        values, vectors = np.linalg.eigh(left / scale[:, None] / scale)
        kept = values > 1e-6  # what the parameters absorb altogether is no test
        if kept.any():
            statistic = ((vectors[:, kept].T @ (force / scale)) ** 2 / values[kept]).sum()
            p[i] = stats.chi2.sf(statistic, int(kept.sum()))
    return p


def blur_pictures(model: Array) -> Array:
    """Return what wider, and differently elliptical, PSFs add to models ``(N, H, W)``, and a constant: ``(N, 4, H, W)``."""
    wide = np.pad(model.astype(np.float64), [(0, 0), (1, 1), (1, 1)], mode="edge")
    middle = wide[:, 1:-1, 1:-1]
    xx = wide[:, 1:-1, 2:] + wide[:, 1:-1, :-2] - 2 * middle
    yy = wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1] - 2 * middle
    xy = (wide[:, 2:, 2:] + wide[:, :-2, :-2] - wide[:, 2:, :-2] - wide[:, :-2, 2:]) / 4
    return np.stack([xx + yy, xx - yy, 2 * xy, np.ones_like(middle)], 1)


def structure_p(*p_values: Array) -> Array:
    """Return the p-value of the smallest of several, ``(N,)``."""
    return np.asarray(np.minimum(1.0, len(p_values) * np.minimum.reduce(p_values)))
