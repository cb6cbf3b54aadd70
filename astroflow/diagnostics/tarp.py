r"""TARP: tests of accuracy with random points, which see any fault of a joint posterior, given points that look at the image.

Draw a ball about a reference point through the truth. The share of the posterior that is inside is uniform if the posterior is exact,
whatever the reference points. Points that do not depend on the image leave faults unseen (a posterior that is the prior passes); for
points that may be anywhere given the image, uniform shares for all of them mean that the posterior is exact. So both are used:
`random_references`, and `image_references` about an estimate that is made from the image. What a set of points sees differs: those on one
side of all posteriors catch with 1000 images a shift that points on all sides miss with 4000.

Distances need one scale for each parameter. It is applied to draws, truths and reference points alike: scaling some of them alone makes a
test that passes biased posteriors.

Reference: Lemos et al. 2023, "Sampling-based accuracy testing of posterior estimators", https://arxiv.org/abs/2302.03026
"""

__all__ = ["image_references", "random_references", "tarp"]

import numpy as np

from astroflow.diagnostics.ranks import BLOCK, checked_draws, smoothed_ranks
from astroflow.errors import InputError
from astroflow.randomness import generator
from astroflow.types import Array


def tarp(draws: Array, truth: Array, references: Array, *, scale: Array | None = None, seed: int = 0) -> Array:
    """Return the share of each posterior that is nearer to its reference point than the truth.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)`` and ``(N, P)``.
    references : ndarray
        ``(N, P)`` a point for each image; it may depend on the image, but not on the truth.
    scale : ndarray, optional
        ``(P,)`` units in which distances are measured; the standard deviations of the truths by default.
    seed : int
        Seeds the jitter that makes the values of an exact posterior exactly uniform (see `ranks`).

    Returns
    -------
    ndarray
        ``(N,)`` float64 in (0, 1).

    Raises
    ------
    InputError
        If shapes disagree, something is not finite, or a scale is not positive: a parameter that is the same for all images has none.
    """
    draws, truth = checked_draws(draws, truth)
    references = np.asarray(references, np.float64)
    if references.shape != truth.shape or not np.isfinite(references).all():
        raise InputError(f"`references` must be a finite point for each image, {truth.shape}; got shape {references.shape}")
    unit = truth.std(0, dtype=np.float64) if scale is None else np.asarray(scale, np.float64)
    if unit.shape != truth.shape[1:] or not (np.isfinite(unit) & (unit > 0)).all():
        raise InputError(f"`scale` must be {truth.shape[1]} positive numbers; got {unit}. Leave out parameters that never change")
    nearer, ties = np.empty(len(truth), np.int64), np.empty(len(truth), np.int64)
    for start in range(0, len(truth), BLOCK):
        rows = slice(start, start + BLOCK)
        to_draws, to_truth = (((points - references[rows, None]) / unit) ** 2 for points in (draws[rows], truth[rows, None]))
        distance, limit = to_draws.sum(-1), to_truth.sum(-1)
        nearer[rows], ties[rows] = (distance < limit).sum(1), (distance == limit).sum(1)
    return smoothed_ranks(nearer, ties, draws.shape[1], seed, "tarp")


def random_references(truth: Array, *, seed: int = 0) -> Array:
    """Return points ``(N, P)`` that know nothing of the images: uniform over the box that the truths ``(N, P)`` fill."""
    truth = np.asarray(truth, np.float64)
    if truth.ndim != 2 or 0 in truth.shape or not np.isfinite(truth).all():
        raise InputError(f"`truth` must be finite numbers, (images, parameters), at least one of each; got shape {truth.shape}")
    low, high = truth.min(0), truth.max(0)
    return np.asarray(low + (high - low) * generator(seed, "random references").random(truth.shape))


def image_references(estimate: Array, spread: Array, direction: Array | None = None, *, seed: int = 0) -> Array:
    """Return points ``(N, P)`` that look at the images.

    Parameters
    ----------
    estimate : ndarray
        ``(N, P)`` made from each image by anything but the posterior under test, such as a regression
        (`astroflow.diagnostics.LinearGaussianBaseline`): the posterior's own faults would move its points along.
    spread : ndarray
        ``(P,)`` or ``(N, P)`` how far the points are from it, for each parameter.
    direction : ndarray, optional
        ``(P,)`` where they lie, in units of `spread`: all on one side, so that shifts along the direction, and correlations of the
        parameters that share in it, add up. Without it they are normal about the estimate, on all sides, where such faults average out.
    seed : int
        Seeds scattered points.

    Raises
    ------
    InputError
        If shapes disagree.
    """
    estimate = np.asarray(estimate, np.float64)
    way = generator(seed, "image references").normal(size=estimate.shape) if direction is None else np.asarray(direction, np.float64)
    try:
        points = np.asarray(estimate + np.asarray(spread, np.float64) * way)
    except ValueError:
        points = np.empty(0)
    if estimate.ndim != 2 or points.shape != estimate.shape:
        raise InputError(
            f"`estimate` must be (images, parameters), `spread` and `direction` one number a parameter; "
            f"got {estimate.shape}, {np.shape(spread)} and {np.shape(way)}"
        )
    return points
