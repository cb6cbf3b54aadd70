r"""L-C2ST: can a classifier tell truths from draws, and on which images?

For each simulation the truth and one draw of the posterior are a pair, which an exact posterior makes exchangeable. A classifier looks
at one of them, and at what the data say (features such as the estimated S/N), and learns to tell them apart. On an image without known
truth, the mean of :math:`(d - 1/2)^2` over the posterior's draws, d the classifier's probability, says how sure it is there. What chance
alone gives is found by swapping labels within pairs at random and training again, which for an exact posterior changes nothing: p-values
are exact.

Parameters are seen in units of each posterior's own mean and spread, as other draws have them. The classifier is a logistic regression on
products: shifts, widths and correlations, each of them free to change with each feature. Faults that leave all of these right, such as a
missing second peak, need another test.

Among many images some p-values are small by chance. The same swaps say how large the largest of all statistics gets, each in units of its
own scatter, and from it come p-values that hold for all images at once, whichever of them are picked afterwards (Westfall & Young).

References
----------
Linhart, Gramfort & Rodrigues 2023, https://arxiv.org/abs/2306.03580; Westfall & Young 1993, "Resampling-Based Multiple Testing", chapter 2
"""

__all__ = ["ASKED_SHARE", "LocalC2ST", "fewest_pairs", "local_c2st"]

from typing import Any, NamedTuple

import numpy as np

from astroflow.diagnostics.ranks import checked_draws
from astroflow.errors import InputError
from astroflow.randomness import generator
from astroflow.types import Array

ASKED_SHARE = 0.2
"""Of the images are asked about, unless it is said which."""
FEWEST_PER_COLUMN = 5
"""Pairs for each product that the classifier weighs: fewer teach it nothing but chance."""
STRENGTH = 0.1
"""Inverse strength of the penalty on weights (scikit-learn's C)."""


class LocalC2ST(NamedTuple):
    """What a classifier makes of M images."""

    statistic: Array
    """``(M,)`` mean of (d - 1/2)^2 over the draws of each image; 0 where it can only guess, 1/4 where it is sure."""
    p: Array
    """``(M,)`` probability of a statistic as large for an exact posterior."""
    adjusted: Array
    """``(M,)`` the same of all M together: an exact posterior has one at or below ``a`` anywhere with a probability of at most ``a``."""
    overall: float
    """The same for the mean over the images."""
    swaps: int
    """Trainings with swapped labels: no p-value is below 1 / (swaps + 1)."""


def local_c2st(draws: Array, truth: Array, features: Array, at: Array | None = None, *, swaps: int = 200, seed: int = 0) -> LocalC2ST:
    """Train a classifier on pairs, and ask it about images.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)`` and ``(N, P)``. The first draw of each image is one of the pair, the others give mean and spread.
    features : ndarray
        ``(N, F)`` functions of the data, of moderate size: logarithms of what spans orders of magnitude.
    at : ndarray, optional
        Positions of the images to be asked about, or a mask ``(N,)`` of them; they are left out of the training. By default a fifth of
        all: what is left to learn from decides what it sees.
    swaps : int
        Trainings with swapped labels.
    seed : int
        Seeds the choice of images and the swaps.

    Raises
    ------
    InputError
        If shapes disagree, something is not finite, a posterior has no spread, `at` is not some different images of these, `swaps` is
        not positive, or pairs are too few for a classifier.
    """
    draws, truth = checked_draws(draws, truth)
    features = np.asarray(features, np.float64)
    n, s, parameters = draws.shape
    if features.ndim != 2 or len(features) != n or not np.isfinite(features).all():
        raise InputError(f"`features` must be finite numbers, (images, features) of {n} images; got shape {features.shape}")
    if s < 10:
        raise InputError(f"mean and spread need at least 10 draws of each posterior; got {s}")
    if swaps < 1:
        raise InputError(f"`swaps` must be at least 1, or nothing says what chance makes; got {swaps}")
    rng = generator(seed, "local c2st")
    asked = np.sort(rng.permutation(n)[: round(ASKED_SHARE * n)]) if at is None else _positions(at, n)
    pairs = np.setdiff1d(np.arange(n), asked)
    needed = fewest_pairs(parameters, features.shape[1])
    if len(pairs) < needed:
        raise InputError(
            f"not enough data: {len(pairs)} pairs for a classifier of {needed // FEWEST_PER_COLUMN} products; "
            f"give {needed}, or fewer features"
        )
    mean, sd = draws[:, 1:].mean(1, dtype=np.float64), draws[:, 1:].std(1, dtype=np.float64, ddof=1)
    if not np.ptp(draws[:, 1:], axis=1).all():  # rounding leaves equal draws a standard deviation
        raise InputError("some posteriors have no spread: their draws are all the same")
    known = features[pairs]
    scaled = (features - known.mean(0)) / np.where(known.std(0) > 0, known.std(0), 1.0)
    both = [(theta[pairs] - mean[pairs]) / sd[pairs] for theta in (draws[:, 0], truth)]
    clouds = (draws[asked, 1:] - mean[asked, None]) / sd[asked, None]
    seen = [_products(z, scaled[pairs]) for z in both]
    shown = _products(clouds.reshape(-1, parameters), np.repeat(scaled[asked], s - 1, 0))
    spread = np.concatenate(seen).std(0)
    spread[spread == 0] = 1.0
    taught, shown = np.concatenate(seen) / spread, shown / spread

    def statistic(swapped: Array) -> Array:
        model = _classifier()
        model.fit(taught, np.concatenate([swapped, ~swapped]))
        sure = (model.predict_proba(shown)[:, 1] - 0.5) ** 2
        return np.asarray(sure.reshape(len(asked), -1).mean(1))

    found = statistic(np.zeros(len(pairs), bool))
    by_chance = np.array([statistic(rng.random(len(pairs)) < 0.5) for _ in range(swaps)])
    p = (1 + (by_chance >= found).sum(0)) / (1 + swaps)
    overall = (1 + (by_chance.mean(1) >= found.mean()).sum()) / (1 + swaps)
    return LocalC2ST(found, p, _adjusted(found, by_chance), float(overall), swaps)


def _positions(at: Array, n: int) -> Array:
    """Return positions among `n` images, given as such or as a mask; in the order that they are given in."""
    at = np.asarray(at)
    if at.dtype == bool and at.shape == (n,):
        at = np.flatnonzero(at)
    whole = at.ndim == 1 and len(at) > 0 and np.issubdtype(at.dtype, np.integer)
    if not whole or at.min() < 0 or at.max() >= n or len(np.unique(at)) < len(at):
        raise InputError(f"`at` must be different positions from 0 to {n - 1}, one at least, or a mask of {n} images; got {at}")
    return at


def fewest_pairs(parameters: int, features: int) -> int:
    """Return how many pairs a classifier needs that looks at so many parameters and features."""
    return FEWEST_PER_COLUMN * (1 + parameters + parameters * (parameters + 1) // 2) * (1 + features)


def _adjusted(found: Array, by_chance: Array) -> Array:
    """Compare each image's statistic with the largest that chance makes of any, in units that treat all trainings alike."""
    every = np.sqrt(np.concatenate([found[None], by_chance]))  # of a width, so that both tails are alike
    spread = every.std(0)
    every = (every - every.mean(0)) / np.where(spread > 0, spread, 1.0)
    return np.asarray((1 + (every[1:].max(1)[:, None] >= every[0]).sum(0)) / len(every))


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=STRENGTH, max_iter=200)


def _products(z: Array, features: Array) -> Array:
    """Return 1, z and its squares and products, times 1 and each feature; the constant left out."""
    rows, columns = np.triu_indices(z.shape[1])
    shapes = np.concatenate([np.ones((len(z), 1)), z, z[:, rows] * z[:, columns]], 1)
    by = np.concatenate([np.ones((len(z), 1)), features], 1)
    return np.asarray((shapes[:, :, None] * by[:, None]).reshape(len(z), -1)[:, 1:])
