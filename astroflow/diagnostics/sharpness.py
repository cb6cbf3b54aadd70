"""What each image has taught: posterior contraction, and how far the truth lies from the posterior's mean.

Contraction is one minus the posterior's variance over the prior's: 0 where the image has said nothing, 1 where it has said all. The
z-score is the error of the posterior mean in posterior standard deviations: of mean 0 and unit variance, over everything, for an
exact posterior. Together they tell four faults apart: contraction near 0 with small z (nothing learned), contraction near 1 with large z
(overconfident), contraction below 0 on average (wider than the prior: wrong, though single images of an exact posterior may have it where
the prior is skewed), z off centre (biased).

Reference: Schad, Betancourt & Vasishth 2021, section 4, https://arxiv.org/abs/1904.12765
"""

__all__ = ["Sharpness", "sharpness"]

from typing import NamedTuple

import numpy as np

from astroflow.diagnostics.ranks import checked_draws
from astroflow.errors import InputError
from astroflow.types import Array


class Sharpness(NamedTuple):
    """Contraction and z-score of each image (first axis) and parameter (second)."""

    contraction: Array
    """``(N, P)`` 1 - posterior variance / prior variance; at most 1."""
    z: Array
    """``(N, P)`` (posterior mean - truth) / posterior standard deviation."""


def sharpness(draws: Array, truth: Array, prior_sd: Array) -> Sharpness:
    """Measure contraction and z-scores.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)``, at least two draws, and ``(N, P)``.
    prior_sd : ndarray
        ``(P,)`` standard deviation of the prior.

    Raises
    ------
    InputError
        If shapes disagree, something is not finite, or the prior of a parameter has no width.
    """
    draws, truth = checked_draws(draws, truth)
    prior_sd = np.asarray(prior_sd, np.float64)
    if draws.shape[1] < 2:
        raise InputError("a variance needs at least two draws of each posterior; got one")
    if prior_sd.shape != truth.shape[1:] or not (np.isfinite(prior_sd) & (prior_sd > 0)).all():
        raise InputError(f"`prior_sd` must be {truth.shape[1]} positive numbers; got {prior_sd}. Leave out parameters that never change")
    variance = draws.var(1, dtype=np.float64, ddof=1)
    error = draws.mean(1, dtype=np.float64) - truth
    # draws that are all the same claim no error at all: the z-score stays finite, and huge
    return Sharpness(1 - variance / prior_sd**2, error / np.maximum(np.sqrt(variance), 1e-9 * prior_sd))
