"""Where chains begin: fits from draws of the prior, so that no chain knows the truth, nor what another found.

Some draws of the prior are rendered and the likeliest fitted by damped Gauss-Newton steps (`astroflow.sims.fitting`). Fits that ended
somewhere hopeless are dropped; those of other modes stay, and chains that begin there show whether the modes are connected.
"""

__all__ = ["Starts", "dispersed_starts"]

from typing import NamedTuple

import numpy as np

from astroflow.posteriors.batches import in_batches
from astroflow.posteriors.compiled_fit import compiled_fit
from astroflow.randomness import standard_normals
from astroflow.sims.fitting import FURTHEST
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.fourier.observed import unit_psfs
from astroflow.sims.likelihood import PixelLikelihood
from astroflow.sims.priors import JointPrior
from astroflow.types import Array, Stamps

TRIED = 64
"""Draws of the prior that are rendered."""
FITTED = 8
"""Of which so many are fitted."""
STEPS = 25
HOPELESS = 12.0
"""Fits whose posterior density is so many nats below the best are no mode that matters: less than 1e-5 of the mass, at equal widths."""
DISPERSION = 2.0
"""Widths about a fit within which a chain begins, where the posterior has one."""


class Starts(NamedTuple):
    """Starting points of N stamps: `u` ``(N, C, P)`` on the prior's scale, and the best fit, `point` ``(N, P)`` and `factor` ``(N, P, P)``.

    `density` ``(N, FITTED)`` is the log posterior density that each fit reached, likeliest first.
    """

    u: Array
    point: Array
    factor: Array
    density: Array


def dispersed_starts(engine: FourierEngine, prior: JointPrior, stamps: Stamps, chains: int = 4, seed: int = 0) -> Starts:
    """Find starting points for `sample_nuts`.

    Parameters
    ----------
    engine : FourierEngine
        The model.
    prior : JointPrior
        Of its parameters.
    stamps : Stamps
        N observations as of `LogPosterior`.
    chains : int
        Starting points of each, C.
    seed : int
        Of all random numbers, with the objects' ids.

    Returns
    -------
    Starts

    Raises
    ------
    InputError
        If the stamps have no likelihood (see `PixelLikelihood`).
    """
    n, size = len(stamps), len(prior.names)
    likelihood = PixelLikelihood(stamps)

    def density(u: Array) -> Array:
        models = engine.render_draws(prior.forward(u.astype(np.float64)).astype(np.float32), stamps)
        return np.asarray(likelihood.log_prob(models).numpy() - 0.5 * (u.astype(np.float64) ** 2).sum(-1))

    u = standard_normals(seed, "starts", stamps.ids, (TRIED, size))
    u = _likeliest(u, density(u))[0][:, :FITTED]
    one_step = compiled_fit(engine, prior, 1, stamps.shape[-1], stamps.zero_point)
    rows = np.repeat(np.arange(n), FITTED)
    good = ~stamps.mask[rows, 0] & np.isfinite(stamps.images[rows, 0])
    image, rms = (np.where(good, values[rows, 0], other) for values, other in ((stamps.images, 0.0), (stamps.rms, 1.0)))
    given = (image, rms, good, stamps.gain[rows, 0], unit_psfs(stamps, 0)[rows], stamps.stamp_scale_arcsec[rows])
    flat, reached = u.reshape(-1, size), density(u)
    best = flat.copy()
    for _ in range(STEPS):
        stepped = np.asarray(in_batches(one_step, flat, *given)[0])
        flat = np.clip(np.where(np.isfinite(stepped), stepped, best), -FURTHEST, FURTHEST).astype(np.float32)
        found = density(flat.reshape(u.shape))
        better = found > reached
        best = np.where(better.ravel()[:, None], flat, best)
        reached = np.where(better, found, reached)
        flat = np.where(better.ravel()[:, None], flat, 0.5 * (flat + best)).astype(np.float32)
    factor = np.asarray(in_batches(one_step, best, *given)[1]).reshape(n, FITTED, size, size)
    fits, reached, factor = _likeliest(best.reshape(u.shape), reached, factor)
    spread = np.linalg.inv(factor.astype(np.float64)).swapaxes(2, 3)
    hopeful = (reached > reached[:, :1] - HOPELESS).sum(1)
    chosen = np.arange(chains) % hopeful[:, None]
    places = np.arange(n)[:, None]
    normals = standard_normals(seed, "dispersion", stamps.ids, (chains, size))
    moved = fits[places, chosen] + DISPERSION * np.einsum("ncij,ncj->nci", spread[places, chosen], normals)
    return Starts(np.clip(moved, -FURTHEST, FURTHEST), fits[:, 0].astype(np.float64), factor[:, 0].astype(np.float64), reached)


def _likeliest(u: Array, density: Array, *others: Array) -> tuple[Array, ...]:
    """Sort the second axis of arrays by falling density."""
    order = np.argsort(-density, 1)
    places = np.arange(len(u))[:, None]
    return tuple(values[places, order] for values in (u, density, *others))
