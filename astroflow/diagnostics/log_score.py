"""The held-out log score: one number for the whole joint posterior.

The mean of ``log q(truth | image)`` over fresh simulations is largest for the exact posterior, and each nat that q falls short is a
nat of Kullback-Leibler divergence. Calibration asks whether a posterior is honest, the log score whether it is also informative: the
prior itself is perfectly calibrated. Its value depends on the parameters' units, so only differences on the same truths mean
something; they are taken image by image, which removes the scatter that both posteriors share.

Reference: Gneiting & Raftery 2007, "Strictly proper scoring rules", https://doi.org/10.1198/016214506000001437
"""

__all__ = ["LogScore", "log_score", "log_score_gain"]

from typing import NamedTuple

import numpy as np

from astroflow.errors import InputError
from astroflow.types import Array


class LogScore(NamedTuple):
    """A mean log density, or a mean difference of two, in nats per image."""

    mean: float
    """Mean; minus infinity where a truth has density zero."""
    error: float
    """Standard error of the mean; infinite where the mean is, or with a single image."""
    n_images: int
    """Images."""
    excluded: int
    """Truths to which the posterior gives density zero: it rules out what happened."""


def _checked(log_prob: Array) -> Array:
    values = np.asarray(log_prob, np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"log densities must be one per image; got shape {values.shape}")
    if np.isnan(values).any() or np.isposinf(values).any():
        raise InputError("log densities hold NaN or plus infinity: leave flagged rows out first")
    return values


def log_score(log_prob: Array) -> LogScore:
    """Return the mean log density of the truths, from ``(N,)`` values of ``log q(truth | image)`` in physical units."""
    values = _checked(log_prob)
    excluded, count = int(np.isneginf(values).sum()), len(values)
    if excluded:
        return LogScore(-np.inf, np.inf, count, excluded)
    error = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else np.inf
    return LogScore(float(values.mean()), error, count, 0)


def log_score_gain(log_prob: Array, baseline: Array) -> LogScore:
    """Return how many nats per image a posterior gains over a baseline on the same truths, paired image by image.

    Parameters
    ----------
    log_prob, baseline : ndarray
        ``(N,)`` log densities of the same truths, same units.
    """
    values, reference = _checked(log_prob), _checked(baseline)
    if values.shape != reference.shape:
        raise InputError(f"the two log scores must be of the same images; got {len(values)} and {len(reference)}")
    if np.isneginf(reference).any():
        raise InputError("the baseline gives some truths density zero: a gain over it has no meaning")
    return log_score(values - reference)
