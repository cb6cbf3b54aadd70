"""The most probable parameters of each stamp, by Gauss-Newton steps of the pixel likelihood from a good start, and derivatives there.

A residual is tested where the model fits best; the best of some draws is a few nats away from that. Derivatives are differences of models
that are drawn like a posterior's draws, so nothing else has to be compiled. (`astroflow.sims.fitting` fits whole batches as one graph.)
"""

__all__ = ["Optimum", "draw_through", "most_probable"]

from typing import NamedTuple

import numpy as np

from astroflow.sims.fitting import FURTHEST, LONGEST_STEP
from astroflow.sims.fourier.engine import FourierEngine, frame_of
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import grids_of_images, image_transform
from astroflow.sims.likelihood import PixelLikelihood
from astroflow.sims.priors import JointPrior
from astroflow.types import Array, Stamps

STEPS = 2
SHORTER = 0.3
"""A step that made things worse is tried again at this share of its length."""
DIFFERENCE = 0.02
"""On either side, for derivatives; in standard deviations of the prior."""


class Optimum(NamedTuple):
    """The best point found: `u` ``(N, P)`` on the prior's scale, its `model` ``(N, B, H, W)`` and `slopes` ``(N, P, B, H, W)`` along u."""

    u: Array
    model: Array
    slopes: Array


def most_probable(
    engine: FourierEngine, prior: JointPrior, likelihood: PixelLikelihood, start: Array, stamps: Stamps, steps: int = STEPS
) -> Optimum:
    """Climb towards the mode of the posterior; no row ends worse than it began.

    Parameters
    ----------
    engine : FourierEngine
        Draws.
    prior : JointPrior
        Of the engine's parameters.
    likelihood : PixelLikelihood
        Of the stamps.
    start : ndarray
        ``(N, P)``, on the prior's scale.
    stamps : Stamps
        The observations.
    steps : int
        How many.

    Returns
    -------
    Optimum
        The most probable points found, with their models and slopes.
    """
    start = np.clip(start, -FURTHEST, FURTHEST)
    best = _drawn(engine, prior, start, stamps)
    cost = _cost(likelihood, best)
    share = np.ones(len(start))
    for _ in range(steps):
        fisher = likelihood.fisher(best.slopes, best.model)
        curvature = fisher.information.numpy() + np.eye(start.shape[1])
        move = np.linalg.solve(curvature, (fisher.score.numpy() - best.u)[..., None])[..., 0]
        largest = np.abs(move).max(1)
        move *= (share * np.minimum(1, LONGEST_STEP / np.maximum(largest, 1e-6)))[:, None]
        tried = _drawn(engine, prior, np.clip(best.u + move, -FURTHEST, FURTHEST), stamps)
        new = _cost(likelihood, tried)
        better = new < cost
        best = Optimum(*(np.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(tried, best, strict=True)))
        cost, share = np.where(better, new, cost), np.where(better, 1.0, SHORTER * share)
    return best


def draw_through(engine: FourierEngine, theta: Array, stamps: Stamps, psf: Array) -> Array:
    """Draw galaxies through other PSF images than their own.

    Parameters
    ----------
    engine : FourierEngine
        Draws.
    theta : ndarray
        ``(N, P)``.
    stamps : Stamps
        Give everything but the PSF.
    psf : ndarray
        ``(N, K, B, h, w)`` of unit sum, which the engine takes for granted; sampled as those of the stamps.

    Returns
    -------
    ndarray
        ``(N, K, B, H, W)``.
    """
    import tensorflow as tf

    size, window, shift = frame_of(stamps)
    n, count, bands = psf.shape[:3]
    given = (theta, np.full(n, stamps.zero_point), stamps.stamp_scale_arcsec, np.broadcast_to(shift, (n, 2)))
    inputs = [np.asarray(values, np.float32) for values in given]
    out = np.empty((n, count, *stamps.shape[1:]))
    # galaxy by galaxy: arithmetic that is not compiled rounds a number as its place in the batch has it
    for i in range(n):
        needed = grids_of_images(psf[i].reshape(-1, *psf.shape[3:]), stamps.psf_oversampling, size)
        grid = ModeGrid(size, max(one.band for one in needed), any(one.wide for one in needed))
        galaxy, zero_point, step, centre = (tf.constant(np.repeat(values[i : i + 1], count, 0)) for values in inputs)
        for band in range(bands):
            planes = image_transform(tf.constant(psf[i, :, band].astype(np.float32)), stamps.psf_oversampling, grid)
            out[i, :, band] = engine.images(galaxy, planes, zero_point, step, centre, grid).numpy()[(slice(None), *window)]
    return out


def _cost(likelihood: PixelLikelihood, at: Optimum) -> Array:
    return np.asarray((at.u**2).sum(1) - 2 * likelihood.log_prob(at.model[:, None]).numpy()[:, 0])


def _drawn(engine: FourierEngine, prior: JointPrior, u: Array, stamps: Stamps) -> Optimum:
    count = u.shape[1]
    steps = DIFFERENCE * np.concatenate([np.zeros((1, count)), np.eye(count), -np.eye(count)])
    models = engine.render_draws(prior.forward(u[:, None] + steps).astype(np.float32), stamps)
    return Optimum(u, models[:, 0], (models[:, 1 : count + 1] - models[:, count + 1 :]) / (2 * DIFFERENCE))
