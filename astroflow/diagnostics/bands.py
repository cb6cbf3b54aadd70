"""How far an exact posterior strays by chance: simultaneous bands for counts of uniform numbers.

A rank histogram has many bins and an ECDF many points. A 95 % interval drawn at each of them is left somewhere by most exact
posteriors, so looking at the picture raises false alarms. A *simultaneous* band is left anywhere by 5 % of them.

At one place the count of N uniform numbers is binomial. So the band is binomial everywhere, with one pointwise tail ``gamma``,
chosen so that the smallest tail probability over all places falls below it in 5 % of simulated uniform samples.

Reference: Säilynoja, Bürkner & Vehtari 2022, "Graphical test for discrete uniformity", algorithm 1, https://arxiv.org/abs/2103.10522
"""

__all__ = ["Band", "simultaneous_band"]

import functools
from typing import NamedTuple

import numpy as np
from scipy import stats

from astroflow.errors import InputError
from astroflow.randomness import generator
from astroflow.types import Array

SIMULATIONS = 4000


class Band(NamedTuple):
    """The counts that chance allows at each of K places; a count equal to a limit is inside."""

    low: Array
    """``(K,)`` smallest count."""
    high: Array
    """``(K,)`` largest count."""
    gamma: float
    """Two-sided tail probability of the band at each single place."""


@functools.lru_cache(maxsize=64)
def simultaneous_band(n: int, pieces: int, *, cumulative: bool, level: float = 0.95, seed: int = 0) -> Band:
    """Return the band that counts of `n` uniform numbers leave anywhere with probability ``1 - level`` at most.

    Parameters
    ----------
    n : int
        How many numbers.
    pieces : int
        The unit interval is cut into this many equal pieces.
    cumulative : bool
        True: counts of numbers below each of the ``pieces - 1`` inner cuts (an ECDF). False: counts in each piece (a histogram).
    level : float
        Probability that a uniform sample stays inside everywhere. Counts are discrete, so the true one is this or a little more.
    seed : int
        Seeds the simulated samples that calibrate the band.
    """
    if n < 1 or pieces < 2 or not 0 < level < 1:
        raise InputError(f"a band needs n >= 1, pieces >= 2 and a level between 0 and 1; got {n}, {pieces}, {level}")
    places = np.arange(1, pieces) / pieces if cumulative else np.full(pieces, 1 / pieces)
    counts = generator(seed, "simultaneous band").multinomial(n, np.full(pieces, 1 / pieces), size=SIMULATIONS)
    if cumulative:
        counts = counts.cumsum(1)[:, :-1]
    # Both tails as lower tails, of the count and of its complement, so that ties compare alike here and in the limits below.
    below, above = stats.binom.cdf(counts, n, places), stats.binom.cdf(n - counts, n, 1 - places)
    smallest = 2 * np.minimum(below, above).min(1)
    gamma = float(np.sort(smallest)[int((1 - level) * SIMULATIONS)])
    tail = 0.5 * gamma * (1 - 1e-9)
    low, high = stats.binom.ppf(tail, n, places), n - stats.binom.ppf(tail, n, 1 - places)
    return Band(low=low, high=high, gamma=gamma)
