"""L-C2ST as a validation runs it: how large from how many simulations, and one verdict of all its p-values.

A share of the images is asked about, the rest trains the classifier. More features of the data make it see faults in more places, and need
more pairs, so features are taken in the order they are given in as long as the pairs are enough. With too few pairs for a single one
there is no test, and `judge_images` says so in words: that is no pass.

Two questions are asked of an exact posterior, each at half of `LOCAL_ALARM`: is the mean over all images larger than chance makes it, and
is any image's statistic larger than chance makes the largest of all?
"""

__all__ = ["LOCAL_ALARM", "LocalVerdict", "judge_images"]

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from astroflow.diagnostics.local import Outcome
from astroflow.diagnostics.local_c2st import ASKED_SHARE, LocalC2ST, fewest_pairs, local_c2st
from astroflow.diagnostics.ranks import checked_draws
from astroflow.errors import InputError
from astroflow.randomness import generator
from astroflow.types import Array

LOCAL_ALARM = 0.005
"""Probability that an exact posterior fails."""
SWAPS = 399
"""The smallest p-value is then just half of `LOCAL_ALARM`."""
MOST_ASKED = 200
MOST_PAIRS = 4000
MOST_PRODUCTS = 300
"""Of the classifier; these three bound the time."""
DRAWS = 48
"""Draws of each posterior that are looked at."""


class LocalVerdict(NamedTuple):
    """What L-C2ST says of M images."""

    rows: Array
    """``(M,)`` positions of the images that were asked about."""
    features: tuple[str, ...]
    """What the classifier knows of an image."""
    values: Array
    """``(M, F)`` these features of the M images."""
    pairs: int
    """That it was trained on."""
    result: LocalC2ST

    @property
    def suspicious(self) -> Array:
        """``(M,)`` bool: images where truths and draws can be told apart, all images taken together."""
        return np.asarray(self.result.adjusted <= LOCAL_ALARM / 2)

    @property
    def outcome(self) -> Outcome:
        """Failed if truths and draws can be told apart anywhere, or on average."""
        return Outcome.FAILED if self.result.overall <= LOCAL_ALARM / 2 or self.suspicious.any() else Outcome.PASSED


def judge_images(draws: Array, truth: Array, features: Mapping[str, Array], *, swaps: int = SWAPS, seed: int = 0) -> LocalVerdict | str:
    """Ask where truths and draws can be told apart, or say why that cannot be asked.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)`` and ``(N, P)``.
    features : mapping of str to ndarray
        ``(N,)`` functions of the data, of any size, the most telling first: only their order among the images counts. None may be made
        from these draws. One that is the same for all images is left out.
    swaps : int
        Trainings with swapped labels; fewer than `SWAPS` can never fail.
    seed : int
        Seeds the choice of images and the swaps.

    Raises
    ------
    InputError
        If shapes disagree, or something is not finite.
    """
    draws, truth = checked_draws(draws, truth)
    n, _, parameters = draws.shape
    known = {name: _normal_scores(name, values, n) for name, values in features.items()}
    known = {name: values for name, values in known.items() if np.ptp(values) > 0}
    if not known:
        return "nothing is known of the images that differs between them"
    draws = draws[:, :DRAWS]
    flat = int((np.ptp(draws[:, 1:], axis=1) == 0).any(1).sum())
    if flat:
        return f"{flat} posteriors have no spread: all draws of some parameter are the same"
    rng = generator(seed, "local verdict")
    rows = rng.permutation(n)
    asked = rows[: min(MOST_ASKED, round(ASKED_SHARE * n))]
    pairs = min(MOST_PAIRS, n - len(asked))
    most = min(pairs, MOST_PRODUCTS * fewest_pairs(0, 0))
    used = [name for k, name in enumerate(known, 1) if fewest_pairs(parameters, k) <= most]
    if not used:
        needed = fewest_pairs(parameters, 1)
        return f"not enough data: {pairs} simulations to train on, {needed} are needed, so about {needed / (1 - ASKED_SHARE):.0f} in all"
    kept = np.sort(rows[: len(asked) + pairs])
    at = np.flatnonzero(np.isin(kept, asked))
    table = np.stack([known[name][kept] for name in used], 1)
    result = local_c2st(draws[kept], truth[kept], table, at, swaps=swaps, seed=seed)
    values = np.stack([np.asarray(features[name], np.float64)[kept[at]] for name in used], 1)
    return LocalVerdict(kept[at], tuple(used), values, pairs, result)


def _normal_scores(name: str, values: Array, n: int) -> Array:
    values = np.asarray(values, np.float64)
    if values.shape != (n,) or not np.isfinite(values).all():
        raise InputError(f"{name} must be one finite number per image, {n} in all; got shape {values.shape}")
    return np.asarray(stats.norm.ppf((stats.rankdata(values) - 0.5) / n))
