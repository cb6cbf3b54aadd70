"""Certifying rows: draws, weighed by the exact likelihood, and the residual at the optimum that the best one leads to."""

__all__ = ["certify", "recertified"]

from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.posteriors.exact.certificate import LEAST_P, MOST_MISSED, Certificate, Verdict, likelihood_gaps, missed_mass, weigh
from astroflow.posteriors.exact.density import candidates, log_prior
from astroflow.posteriors.exact.optimum import most_probable
from astroflow.posteriors.exact.residuals import DIRECTIONS, chi_squared_p, core_p, neighbour_p, normal_p, profile_score, structure_p
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.likelihood import PixelLikelihood
from astroflow.sims.likelihood.correlated import impossible
from astroflow.sims.priors import JointPrior
from astroflow.sims.psf_errors import psf_errors
from astroflow.types import Array, Stamps

if TYPE_CHECKING:
    from astroflow.posteriors.encoded import Encoded
    from astroflow.posteriors.exact.refine import Refinement
    from astroflow.posteriors.posterior import Posterior

BATCH = 64
"""Rows whose draws are in memory together."""
BLOCK = 8
"""Rows whose models are."""
PSF_STEP = 0.1
"""Of derivatives along errors of the PSF, in which galaxies are linear."""
PRIOR_SHARE = 8
"""One draw of the prior is weighed beside so many of the posterior."""
FIGURES = ("efficiency", "k_hat", "missed", "log_evidence", "log_evidence_error", "chi_squared", "dof", "chi_squared_p", "residual_p")


def certify(posterior: "Posterior", encoded: "Encoded", n_draws: int, seed: int) -> Certificate:
    """Certify encoded stamps; see `Posterior.certify`."""
    n = len(encoded)
    figures = {name: np.full(n, np.nan) for name in FIGURES}
    figures["nuisances"] = np.full((n, len(DIRECTIONS), 2), np.nan)
    verdicts = {name: np.full(n, Verdict.NOT_APPLICABLE, np.int8) for name in ("inference", "model")}
    rows = np.flatnonzero(applicable(posterior, encoded))
    batches = [same[start : start + BATCH] for same in encoded.framed.alike(rows) for start in range(0, len(same), BATCH)]
    for batch in batches:
        chosen = encoded[batch]
        stamps = chosen.framed.fine_stamps()
        theta, density = candidates(posterior, chosen, n_draws, max(1, n_draws // PRIOR_SHARE), seed)
        for first in range(0, len(batch), BLOCK):
            places = _filled(np.arange(first, min(first + BLOCK, len(batch))))
            found = _block(posterior, stamps.repeated(places), theta[places], density[places], n_draws)
            rows, found = batch[first : first + BLOCK], {name: value[: len(batch) - first] for name, value in found.items()}
            for name in figures:
                figures[name][rows] = found[name]
            verdicts["inference"][rows] = found["verdict"]
            verdicts["model"][rows] = _model_verdict(found)
    return Certificate(**figures, **verdicts)


def applicable(posterior: "Posterior", encoded: "Encoded") -> Array:
    """Say which rows the likelihood can follow, ``(N,)``.

    Usable ones that did not come binned, whose noise correlation, if one is stated, some noise can have; of a forward model without gaps.
    """
    if likelihood_gaps(posterior.forward_model):
        return np.zeros(len(encoded), bool)
    can = encoded.framed.usable & (encoded.framed.fine_sampling > 0)
    maps = encoded.framed.stamps.noise_correlation
    if maps is not None:
        can &= ~impossible(maps[:, 0].astype(np.float64), *encoded.framed.stamps.shape[2:])
    return np.asarray(can)


def _filled(places: Array) -> Array:
    """Repeat the last of some places until there are BLOCK: products of fewer rows would round in another way, for a row that is alone."""
    return np.concatenate([places, np.repeat(places[-1:], BLOCK - len(places))])


def _block(posterior: "Posterior", stamps: Stamps, theta: Array, density: Array, n_draws: int) -> dict[str, Any]:
    """Certify stamps by `n_draws` draws of their posteriors and, after them, some of the prior."""
    models = posterior.engine.render_draws(theta, stamps)
    likelihood = PixelLikelihood(stamps, models[:, :n_draws], dtype="float32")
    prior = log_prior(posterior, theta.astype(np.float64), stamps)
    target = likelihood.log_prob(models).numpy() + prior
    missed = missed_mass(target, density, prior, n_draws)
    weighed = weigh((target - density)[:, :n_draws])
    weighed["verdict"] = np.where(missed > MOST_MISSED, Verdict.FAILED, weighed["verdict"])
    best = np.argmax(target[:, :n_draws], 1)
    found = residual_figures(posterior.engine, posterior.parameters.prior, theta[np.arange(len(stamps)), best], likelihood, stamps)
    return weighed | {"missed": missed} | found


def recertified(posterior: "Posterior", encoded: "Encoded", amortized: Certificate, refined: "Refinement") -> Certificate:
    """Return the certificates of refined draws: those of the amortized ones where nothing better was found."""
    rows = np.flatnonzero(refined.method > 0)
    new = {name: np.array(value) for name, value in vars(amortized).items()}
    for name in ("efficiency", "k_hat", "missed", "log_evidence", "log_evidence_error"):
        new[name][rows] = getattr(refined, name)[rows]
    new["inference"][rows] = Verdict.OK
    for same in encoded.framed.alike(rows):
        for start in range(0, len(same), BLOCK):
            block = same[start : start + BLOCK]
            places = _filled(np.arange(len(block)))
            stamps = encoded.framed[block].fine_stamps().repeated(places)
            start_point = refined.best[block][places]
            models = posterior.engine.render_draws(start_point[:, None].astype(np.float32), stamps)
            likelihood = PixelLikelihood(stamps, models, dtype="float32")
            found = residual_figures(posterior.engine, posterior.parameters.prior, start_point, likelihood, stamps)
            found = {name: value[: len(block)] for name, value in found.items()}
            for name, value in found.items():
                new[name][block] = value
            new["model"][block] = _model_verdict(found)
    return Certificate(**new)


def _model_verdict(found: dict[str, Any]) -> Array:
    p = np.minimum(found["chi_squared_p"], found["residual_p"])
    verdict = np.where(p > LEAST_P, Verdict.OK, Verdict.FAILED)
    # with no more pixels than parameters any image fits, and of what is no number nothing can be said
    return np.where((found["dof"] > 0) & np.isfinite(p), verdict, Verdict.NOT_APPLICABLE)


def residual_figures(
    engine: FourierEngine, prior: JointPrior, start: Array, likelihood: PixelLikelihood, stamps: Stamps
) -> dict[str, Array]:
    """Test the residuals of the optima near points ``(N, P)`` of the frame; each figure ``(N,)``, `nuisances` ``(N, K, 2)``."""
    optimum = most_probable(engine, prior, likelihood, prior.inverse(start.astype(np.float64)), stamps)
    model, parameters = optimum.model, start.shape[1]
    chi_squared = likelihood.chi_squared(model[:, None]).numpy()[:, 0]
    dof = likelihood.dof - parameters
    white = likelihood.whitened_residuals(model[:, None]).numpy()[:, 0, 0]
    psfs = stamps.psf[:, None] - PSF_STEP * np.pad(np.moveaxis(psf_errors(stamps.psf), 2, 1), [(0, 0), (1, 0)] + [(0, 0)] * 3)
    theta = np.repeat(prior.forward(optimum.u)[:, None], psfs.shape[1], 1)
    through = engine.render_through(theta, stamps, psfs)
    # where the PSF in use is wider, the image lacks what a wider one would add
    errors = (through[:, 1:] - through[:, :1]) / PSF_STEP
    rms = np.nanmedian(np.where(stamps.mask, np.nan, stamps.rms), (2, 3))
    level = np.broadcast_to(rms[:, None, :, None, None], errors[:, :1].shape)
    fisher = likelihood.fisher(np.concatenate([optimum.slopes, errors, level], 1), model)
    found = profile_score(fisher.information.numpy(), fisher.score.numpy(), parameters, aside=1)
    structure = structure_p(
        core_p(white, model[:, 0], stamps.rms[:, 0], parameters),
        neighbour_p(white),
        normal_p(found.amplitude[:, 0] / found.error[:, 0]),
        found.p,
    )
    return {
        "chi_squared": chi_squared, "dof": dof, "chi_squared_p": chi_squared_p(chi_squared, dof), "residual_p": structure,
        "nuisances": np.stack([found.amplitude, found.error], -1),
    }  # fmt: skip
