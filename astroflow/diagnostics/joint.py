"""Tests of the joint posterior together: each looks at all parameters at once, and each is blind to something that another sees.

Highest-density regions need densities (`highest_density`), TARP needs reference points (`tarp`). Each gives one number per image,
uniform for an exact posterior, and one p-value; Holm's rule says which of all of them, taken together, are more than chance.
"""

__all__ = ["HIGHEST_DENSITY", "JointTests", "joint_tests"]

from typing import NamedTuple

import numpy as np

from astroflow.diagnostics.highest_density import density_credibility
from astroflow.diagnostics.local import ALARM, FEWEST, Outcome, holm, uniform_p
from astroflow.diagnostics.ranks import checked_draws
from astroflow.diagnostics.tarp import image_references, random_references, tarp
from astroflow.types import Array

HIGHEST_DENSITY, RANDOM, AROUND, ASIDE = (
    "highest density",
    "TARP, random points",
    "TARP, points about an estimate",
    "TARP, points on one side",
)


class JointTests(NamedTuple):
    """What J tests say of N joint posteriors."""

    names: tuple[str, ...]
    values: Array
    """``(N, J)``, uniform for an exact posterior."""
    p: Array
    """``(J,)`` that they are uniform; NaN of fewer than `FEWEST` images."""
    outcome: Array
    """``(J,)`` of `Outcome`, all tests taken together."""


def joint_tests(
    draws: Array,
    truth: Array,
    *,
    log_prob_draws: Array | None = None,
    log_prob_truth: Array | None = None,
    estimate: Array | None = None,
    scale: Array | None = None,
    seed: int = 0,
) -> JointTests:
    """Run every test that the input allows.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)`` and ``(N, P)``.
    log_prob_draws, log_prob_truth : ndarray, optional
        ``(N, D)`` the posterior's log density at D of its draws, and ``(N,)`` at the truths: for highest-density regions.
    estimate : ndarray, optional
        ``(N, P)`` made from each image by anything but the posterior under test: for reference points that look at the image.
    scale : ndarray, optional
        ``(P,)`` units of distances; by default, the standard deviations of the truths.
    seed : int
        Seeds reference points and jitter.

    Raises
    ------
    InputError
        If shapes disagree, something is not finite, or a parameter is the same for all images.
    """
    draws, truth = checked_draws(draws, truth)
    columns: dict[str, Array] = {}
    if log_prob_draws is not None and log_prob_truth is not None:
        columns[HIGHEST_DENSITY] = density_credibility(log_prob_draws, log_prob_truth, seed=seed)
    columns[RANDOM] = tarp(draws, truth, random_references(truth, seed=seed), scale=scale, seed=seed)
    if estimate is not None:
        # as far off as the estimate itself errs: nearer points see less of a posterior's tails, further ones less of its core
        spread = (estimate - truth).std(0, dtype=np.float64)
        columns[AROUND] = tarp(draws, truth, image_references(estimate, spread, seed=seed), scale=scale, seed=seed)
        aside = image_references(estimate, spread, np.ones(truth.shape[1]))
        columns[ASIDE] = tarp(draws, truth, aside, scale=scale, seed=seed)
    values = np.stack(list(columns.values()), 1)
    p = np.array([uniform_p(column) if len(column) >= FEWEST else np.nan for column in values.T])
    failed = holm(p, ALARM)
    outcome = np.where(np.isnan(p), Outcome.UNKNOWN.value, np.where(failed, Outcome.FAILED.value, Outcome.PASSED.value))
    return JointTests(tuple(columns), values, p, outcome)
