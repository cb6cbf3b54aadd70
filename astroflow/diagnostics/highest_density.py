"""Joint credible regions of highest density: how often they hold the truth.

The smallest region that holds a given share of a joint posterior is where its density is above some value. So the share of a
posterior's own draws that are denser than the truth is the credibility of the smallest such region that reaches the truth. For an exact
posterior it is uniform; an overconfident one leaves its truths in thin places, and the values pile up at 1.

It sees all parameters together and needs densities, not distances. It is blind to faults that keep the density's levels right: a
posterior that is the prior passes, and so may one that is mirrored.

References
----------
Hyndman 1996, https://doi.org/10.2307/2684423; Hermans et al. 2022, section 3, https://arxiv.org/abs/2110.06581
"""

__all__ = ["density_credibility"]

import numpy as np

from astroflow.diagnostics.ranks import smoothed_ranks
from astroflow.errors import InputError
from astroflow.types import Array


def density_credibility(log_prob_draws: Array, log_prob_truth: Array, *, seed: int = 0) -> Array:
    """Return the credibility of the smallest region of highest density that reaches each truth.

    Parameters
    ----------
    log_prob_draws : ndarray
        ``(N, S)`` log density of each posterior at its own draws.
    log_prob_truth : ndarray
        ``(N,)`` at the truth, in the same units; minus infinity where the posterior rules it out.
    seed : int
        Seeds the jitter that makes the values of an exact posterior exactly uniform (see `ranks`).

    Returns
    -------
    ndarray
        ``(N,)`` float64 in (0, 1).

    Raises
    ------
    InputError
        If shapes disagree, or a density is NaN.
    """
    draws, truth = np.asarray(log_prob_draws), np.asarray(log_prob_truth)
    if draws.ndim != 2 or truth.shape != draws.shape[:1] or 0 in draws.shape:
        raise InputError(f"log densities must be (images, draws) and (images,); got {draws.shape} and {truth.shape}")
    bad = np.isnan(draws).any(1) | np.isnan(truth)
    if bad.any():
        raise InputError(f"{bad.sum()} of {len(bad)} images have log densities that are NaN: leave flagged rows out first")
    denser, ties = (draws > truth[:, None]).sum(1), (draws == truth[:, None]).sum(1)
    return smoothed_ranks(denser, ties, draws.shape[1], seed, "density")
