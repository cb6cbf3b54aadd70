"""From weighed draws to draws of equal weight, none of them twice.

Where no draw carries more than one n-th of the weight, systematic resampling takes n distinct ones, each with the probability that its
weight asks for. Heavier weights are cut to that, and the share that is cut says how much this bends the result.
"""

__all__ = ["MOST_CLIPPED", "clipped_share", "resample", "tempered"]

import numpy as np

from astroflow.types import Array

MOST_CLIPPED = 0.01
"""So much of the weight may be cut from draws that would be wanted more than once."""


def normalized(log_weights: Array) -> Array:
    """Return weights ``(M,)`` of unit sum; equal ones where all are zero.

    Raises
    ------
    ValueError
        If a log weight is NaN or plus infinity.
    """
    largest = log_weights.max()
    if not largest < np.inf:
        raise ValueError("log weights must be numbers, or minus infinity")
    if largest == -np.inf:
        return np.full(len(log_weights), 1 / len(log_weights))
    weights = np.exp(log_weights - largest)
    return np.asarray(weights / weights.sum())


def _inclusion(weights: Array, n: int) -> Array:
    """Return the probability of each draw to be among n distinct ones: in proportion to its weight, but at most one."""
    if n > len(weights):
        raise ValueError(f"cannot choose {n} distinct draws of {len(weights)}")
    if n == len(weights):
        return np.ones(n)
    weights = np.maximum(weights, 1e-12 / len(weights))  # were too few draws possible, others fill their places
    sure = np.zeros(len(weights), bool)
    while True:
        left = n - sure.sum()
        chance = np.where(sure, 1.0, left * weights / weights[~sure].sum())
        more = chance > 1
        if not more.any():
            return np.asarray(chance)
        sure |= more


def clipped_share(log_weights: Array, n: int) -> float:
    """Return the share of the weight that `n` distinct draws of those weighed cannot carry.

    Parameters
    ----------
    log_weights : ndarray
        ``(M,)``.
    n : int
        How many are wanted.
    """
    weights = normalized(log_weights)
    chance = _inclusion(weights, n)
    return float(np.maximum(weights - chance / chance.sum(), 0).sum())


def resample(log_weights: Array, n: int, rng: np.random.Generator) -> Array:
    """Choose distinct draws by their weights.

    Parameters
    ----------
    log_weights : ndarray
        ``(M,)`` with M at least `n`.
    n : int
        How many.
    rng : numpy.random.Generator
        Chooses, and shuffles.

    Returns
    -------
    ndarray
        ``(n,)`` positions.
    """
    order = rng.permutation(len(log_weights))
    edges = np.cumsum(_inclusion(normalized(log_weights), n)[order])
    marks = (np.arange(n) + rng.uniform()) * (edges[-1] / n)
    return np.asarray(order[np.minimum(np.searchsorted(edges, marks, side="right"), len(order) - 1)])


def tempered(log_weights: Array, effective: float) -> Array:
    """Return weights ``(M,)`` of unit sum, raised to the power up to one at which so many draws are effective."""
    finite = np.isfinite(log_weights)

    def weights(power: float) -> Array:
        return normalized(np.where(finite, power * np.where(finite, log_weights, 0), -np.inf))

    low, high = 0.0, 1.0
    if 1 / (weights(1.0) ** 2).sum() >= effective:
        return weights(1.0)
    for _ in range(30):
        middle = (low + high) / 2
        if 1 / (weights(middle) ** 2).sum() < effective:
            high = middle
        else:
            low = middle
    return weights(low)
