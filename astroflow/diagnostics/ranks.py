"""Where the truth falls among a posterior's draws: ranks, PIT values, and tests that they are uniform.

If theta is drawn from the prior, an image is simulated with it, and draws come from the *exact* posterior of that image, then
theta and the draws are exchangeable: the truth's rank among S draws is uniform on 0 .. S, whatever the prior and the image. A
posterior that is too narrow leaves the truth outside too often (ranks pile up at both ends, a U); one that is too wide gives a
hump; one that is shifted, a slope.

The *PIT* (probability integral transform) is ``(rank + v) / (S + 1)`` with v uniform on (0, 1). The jitter v spreads the S + 1
possible ranks over the unit interval, so that the PIT of an exact posterior is exactly uniform at any S, and tests for continuous
numbers (Kolmogorov-Smirnov) hold. Draws equal to the truth share its place: the rank is drawn among them.

References
----------
Cook, Gelman & Rubin 2006; Talts et al. 2018, https://arxiv.org/abs/1804.06788; Säilynoja, Bürkner & Vehtari 2022,
https://arxiv.org/abs/2103.10522
"""

__all__ = [
    "ECDFDifference",
    "RankHistogram",
    "checked_draws",
    "ecdf_difference",
    "joint_pit",
    "ks_uniform",
    "pit",
    "rank_histogram",
    "smoothed_ranks",
]

from typing import NamedTuple

import numpy as np
from scipy import stats

from astroflow.diagnostics.bands import simultaneous_band
from astroflow.errors import InputError
from astroflow.randomness import generator
from astroflow.types import Array

BLOCK = 256
"""Images at once, which bounds memory."""


class RankHistogram(NamedTuple):
    """How many truths fall in each slice of their posteriors, with the counts that chance allows."""

    edges: Array
    """``(B + 1,)`` edges in PIT."""
    counts: Array
    """``(B, P)``."""
    expected: float
    """Mean count of an exact posterior."""
    low: float
    """Smallest count inside the simultaneous band."""
    high: float
    """Largest count inside it."""
    level: float
    """Probability that all bins of one parameter of an exact posterior are inside."""

    @property
    def outside(self) -> Array:
        """``(P,)`` bool: some bin leaves the band."""
        return np.asarray(((self.counts < self.low) | (self.counts > self.high)).any(0))


class ECDFDifference(NamedTuple):
    """Empirical distribution of the PIT minus the uniform one, with its simultaneous band."""

    at: Array
    """``(K,)`` where, in PIT."""
    difference: Array
    """``(K, P)``; positive where too many PITs are small: the posterior lies too high there."""
    low: Array
    """``(K,)`` lower limit of the band."""
    high: Array
    """``(K,)`` upper limit."""
    level: float
    """Probability that one parameter of an exact posterior stays inside everywhere."""

    @property
    def outside(self) -> Array:
        """``(P,)`` bool: the curve leaves the band."""
        # Equal to a limit is inside; the subtraction rounds.
        low, high = self.low[:, None] - 1e-12, self.high[:, None] + 1e-12
        return np.asarray(((self.difference < low) | (self.difference > high)).any(0))


def checked_draws(draws: Array, truth: Array) -> tuple[Array, Array]:
    """Return `draws` ``(N, S, P)`` and `truth` ``(N, P)`` as arrays that agree and are finite, or raise InputError."""
    draws, truth = np.asarray(draws), np.asarray(truth)
    if draws.ndim != 3 or truth.ndim != 2 or draws.shape[::2] != truth.shape or 0 in draws.shape:
        raise InputError(f"`draws` must be (images, draws, parameters) and `truth` (images, parameters); got {draws.shape}, {truth.shape}")
    bad = ~(np.isfinite(draws).all((1, 2)) & np.isfinite(truth).all(1))
    if bad.any():
        raise InputError(f"{bad.sum()} of {len(bad)} images have draws or truths that are not finite: leave flagged rows out first")
    return draws, truth


def pit(draws: Array, truth: Array, *, seed: int = 0, jitter: bool = True) -> Array:
    """Return the PIT of each truth among its draws.

    Parameters
    ----------
    draws : ndarray
        ``(N, S, P)`` posterior draws.
    truth : ndarray
        ``(N, P)`` the parameters that each image was simulated with.
    seed : int
        Seeds the jitter.
    jitter : bool
        False puts every rank in the middle of its step instead, which is deterministic and uniform only to 1 / S.

    Returns
    -------
    ndarray
        ``(N, P)`` float64 in (0, 1).
    """
    draws, truth = checked_draws(draws, truth)
    below = (draws < truth[:, None, :]).sum(1)
    ties = (draws == truth[:, None, :]).sum(1)
    return smoothed_ranks(below, ties, draws.shape[1], seed if jitter else None, "pit")


def joint_pit(draws: Array, truth: Array, *, seed: int = 0) -> Array:
    """Return the PIT of the truth's Mahalanobis distance, which tests the *joint* posterior.

    Every marginal can be exact while the joint posterior is wrong. The distance of the truth from the cloud, ranked among the
    distances of the draws, sees correlations that are not there: they make the posterior overconfident across the ridge. Correlations
    that are missing waste information, which shows in the log score.

    Centre and covariance are those of the draws *and* the truth together, so that the truth is exchangeable with the draws and the
    PIT of an exact posterior is exactly uniform. Near 1: the truth is too far out.

    Returns
    -------
    ndarray
        ``(N,)`` float64 in (0, 1).
    """
    draws, truth = checked_draws(draws, truth)
    n, s, p = draws.shape
    below, ties = np.empty(n, np.int64), np.empty(n, np.int64)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        cloud = np.concatenate([truth[rows, None], draws[rows]], axis=1).astype(np.float64)
        cloud -= cloud.mean(1, keepdims=True)
        spread = cloud.std(1, keepdims=True)
        cloud /= np.where(spread > 0, spread, 1.0)
        covariance = np.einsum("nsp,nsq->npq", cloud, cloud) / (s + 1) + 1e-9 * np.eye(p)
        distance = np.einsum("nsp,npq,nsq->ns", cloud, np.linalg.inv(covariance), cloud, optimize=True)
        below[rows] = (distance[:, 1:] < distance[:, :1]).sum(1)
        ties[rows] = (distance[:, 1:] == distance[:, :1]).sum(1)
    return smoothed_ranks(below, ties, s, seed, "joint pit")


def smoothed_ranks(below: Array, ties: Array, s: int, seed: int | None, purpose: str) -> Array:
    """Turn ranks ``(...)`` among `s` draws, and how many draws tie, into PIT values.

    A rank among ties is drawn at random; without a seed it lies in their middle. `purpose` names the random stream.
    """
    v = 0.5 if seed is None else generator(seed, purpose).random(below.shape)
    # v * (ties + 1) is a uniform rank among the ties plus a uniform jitter, in one number.
    return np.asarray((below + v * (ties + 1)) / (s + 1))


def rank_histogram(values: Array, *, bins: int = 20, level: float = 0.95) -> RankHistogram:
    """Count PIT values ``(N, P)`` in equal bins, with the band that one parameter's bins leave with probability ``1 - level``."""
    values = np.asarray(values)
    edges = np.linspace(0, 1, bins + 1)
    counts = np.stack([np.histogram(column, edges)[0] for column in values.T], axis=-1)
    band = simultaneous_band(len(values), bins, cumulative=False, level=level)
    return RankHistogram(edges, counts, len(values) / bins, float(band.low[0]), float(band.high[0]), level)


def ecdf_difference(values: Array, *, points: int = 100, level: float = 0.95) -> ECDFDifference:
    """Return the ECDF of PIT values ``(N, P)`` minus that of uniform numbers, at ``points - 1`` inner points, with its band."""
    values = np.asarray(values)
    n = len(values)
    at = np.arange(1, points) / points
    ecdf = np.stack([np.searchsorted(np.sort(column), at, side="right") for column in values.T], axis=-1) / n
    band = simultaneous_band(n, points, cumulative=True, level=level)
    return ECDFDifference(at, ecdf - at[:, None], band.low / n - at, band.high / n - at, level)


def ks_uniform(values: Array) -> Array:
    """Return the Kolmogorov-Smirnov p-value of each column of PIT values ``(N, P)`` against uniform; ``(P,)``."""
    return np.array([stats.kstest(column, "uniform").pvalue for column in np.asarray(values).T])
