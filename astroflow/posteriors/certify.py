"""Certifying rows: draws, weighed by the exact likelihood, and the residual of the best one."""

__all__ = ["certify"]

from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.posteriors.certificate import LEAST_P, MOST_MISSED, Certificate, Verdict, likelihood_gaps, missed_mass, weigh
from astroflow.posteriors.residuals import blur_pictures, chi_squared_p, core_p, neighbour_p, score_p, structure_p
from astroflow.randomness import standard_normals
from astroflow.sims.likelihood import PixelLikelihood
from astroflow.types import Array, Stamps

if TYPE_CHECKING:
    from astroflow.posteriors.posterior import Encoded, Posterior

BLOCK = 8
"""Rows whose models are in memory together."""
STEP = 0.3
"""Of the derivatives of the best model, in standard deviations of the draws."""
PRIOR_SHARE = 8
"""One draw of the prior is weighed beside so many of the posterior."""
FIGURES = ("efficiency", "k_hat", "missed", "log_evidence", "log_evidence_error", "chi_squared", "dof", "chi_squared_p", "residual_p")


def certify(posterior: "Posterior", encoded: "Encoded", n_draws: int, seed: int) -> Certificate:
    """Certify encoded stamps; see `Posterior.certify`."""
    n = len(encoded)
    figures = {name: np.full(n, np.nan) for name in FIGURES}
    verdicts = {name: np.full(n, Verdict.NOT_APPLICABLE, np.int8) for name in ("inference", "model")}
    rows = np.flatnonzero(applicable(posterior, encoded))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        found = _block(posterior, encoded[block], n_draws, seed)
        for name in FIGURES:
            figures[name][block] = found[name]
        verdicts["inference"][block] = found["verdict"]
        right = np.minimum(found["chi_squared_p"], found["residual_p"]) > LEAST_P
        verdicts["model"][block] = np.where(right, Verdict.OK, Verdict.FAILED)
    return Certificate(**figures, **verdicts)


def applicable(posterior: "Posterior", encoded: "Encoded") -> Array:
    """Say which rows the likelihood can follow, ``(N,)``: usable ones of unbinned pixels, of a forward model without gaps."""
    if likelihood_gaps(posterior.forward_model):
        return np.zeros(len(encoded), bool)
    # binned pixels undersample the PSF image, which is all that a stamp has of it
    return np.asarray(encoded.framed.usable & (encoded.framed.stamps.binning == 1))


def log_prior(posterior: "Posterior", theta: Array, stamps: Stamps) -> Array:
    """Log density ``(N, S)`` of the prior at draws of the frame ``(N, S, P)``, up to the constant that a binning's cut leaves out."""
    named = dict(zip(posterior.parameters.names, np.moveaxis(theta, -1, 0), strict=True))
    served = posterior.stamp.serves(named, np.broadcast_to(stamps.binning[:, None], theta.shape[:2]))
    inside = posterior.parameters.prior.contains(theta) & served
    middle = posterior.parameters.prior.forward(np.zeros(theta.shape[-1]))
    return np.where(inside, posterior.parameters.prior.log_prob(np.where(inside[..., None], theta, middle)), -np.inf)


def _block(posterior: "Posterior", encoded: "Encoded", n_draws: int, seed: int) -> dict[str, Any]:
    stamps = encoded.framed.stamps
    draws = posterior.frame_draws(encoded, n_draws, seed)
    normals = standard_normals(seed, "certificate", stamps.ids, (max(1, n_draws // PRIOR_SHARE), draws.shape[-1]))
    anywhere = posterior.parameters.prior.forward(normals.astype(np.float64)).astype(np.float32)
    theta = np.concatenate([draws, anywhere], 1)
    models = posterior.engine.render_draws(theta, stamps)
    likelihood = PixelLikelihood(stamps, models[:, :n_draws], dtype="float32")
    log_likelihood = likelihood.log_prob(models).numpy()
    proposal = posterior.frame_log_prob(theta, encoded).astype(np.float64)
    prior = log_prior(posterior, theta.astype(np.float64), stamps)
    target = log_likelihood + prior
    missed = missed_mass(target, proposal, prior, n_draws)
    weighed = weigh((target - proposal)[:, :n_draws])
    weighed["verdict"] = np.where(missed > MOST_MISSED, Verdict.FAILED, weighed["verdict"])
    models, log_likelihood = models[:, :n_draws], log_likelihood[:, :n_draws]
    best = np.argmax(log_likelihood, 1)
    n = np.arange(len(stamps))
    model, point = models[n, best], draws[n, best]
    chi_squared = likelihood.chi_squared(model[:, None]).numpy()[:, 0]
    dof = likelihood.dof - draws.shape[-1]
    white = likelihood.whitened_residuals(model[:, None]).numpy()[:, 0, 0]
    slopes = _slopes(posterior, point, draws.std(1), stamps)
    pictures = np.concatenate([slopes, blur_pictures(model[:, 0])[:, :, None]], 1)
    fisher = likelihood.fisher(pictures, model)
    structure = structure_p(
        core_p(white, model[:, 0], stamps.rms[:, 0], draws.shape[-1]),
        neighbour_p(white),
        score_p(fisher.information.numpy(), fisher.score.numpy(), draws.shape[-1]),
    )
    return weighed | {
        "missed": missed, "chi_squared": chi_squared, "dof": dof, "chi_squared_p": chi_squared_p(chi_squared, dof), "residual_p": structure,
    }  # fmt: skip


def _slopes(posterior: "Posterior", point: Array, width: Array, stamps: Stamps) -> Array:
    """Return derivatives of models ``(N, P, B, H, W)`` at points ``(N, P)``, one-sided where a bound is near."""
    count = point.shape[1]
    up, down = (
        np.where(posterior.parameters.prior.contains(moved)[..., None], moved, point[:, None])
        for moved in (point[:, None] + sign * STEP * width[:, None] * np.eye(count) for sign in (1, -1))
    )
    span = np.maximum((up - down)[:, range(count), range(count)], 1e-12)
    models = posterior.engine.render_draws(np.concatenate([up, down], 1).astype(np.float32), stamps)
    return np.asarray((models[:, :count] - models[:, count:]) / span[..., None, None, None])
