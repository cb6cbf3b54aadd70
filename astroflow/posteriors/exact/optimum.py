"""The most probable parameters of each stamp, by Gauss-Newton steps of the pixel likelihood from a good start, and derivatives there.

A residual is tested where the model fits best; the best of some draws is a few nats away from that. Derivatives are differences of models
that are drawn like a posterior's draws, so nothing else has to be compiled. (`astroflow.sims.fitting` fits whole batches as one graph.)
"""

__all__ = ["Optimum", "most_probable"]

from typing import NamedTuple

import numpy as np

from astroflow.sims.fitting import FURTHEST, LONGEST_STEP
from astroflow.sims.fourier.engine import FourierEngine
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


def _cost(likelihood: PixelLikelihood, at: Optimum) -> Array:
    return np.asarray((at.u**2).sum(1) - 2 * likelihood.log_prob(at.model[:, None]).numpy()[:, 0])


def _drawn(engine: FourierEngine, prior: JointPrior, u: Array, stamps: Stamps) -> Optimum:
    count = u.shape[1]
    steps = DIFFERENCE * np.concatenate([np.zeros((1, count)), np.eye(count), -np.eye(count)])
    models = engine.render_draws(prior.forward(u[:, None] + steps).astype(np.float32), stamps)
    return Optimum(u, models[:, 0], (models[:, 1 : count + 1] - models[:, count + 1 :]) / (2 * DIFFERENCE))
