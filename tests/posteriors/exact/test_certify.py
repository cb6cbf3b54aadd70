"""Certificates of galaxies whose posteriors are nearly known, right and with a fault in each: the whole path from stamps to verdicts."""

import numpy as np
import pytest
from scipy import stats

import astroflow.posteriors.exact.certify as certify_module
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.exact.density import candidates, log_normal

DRAWS = 512


@pytest.fixture(scope="module")
def known(followed_posterior, followed_simulator):
    """Twelve galaxies of S/N 30 to 100 and a normal approximation to each exact posterior, from refined draws."""
    rng = np.random.default_rng(9)
    simulation = followed_simulator.observe(followed_simulator.draw_block(rng, 400), rng)
    chosen = np.flatnonzero((simulation.snr > 30) & (simulation.snr < 100) & (simulation.stamps.binning == 1))[:12]
    stamps = simulation.stamps[chosen]
    refined = followed_posterior.refine(stamps, n_draws=512, seed=1, budget=40_000)
    good = refined.method > 0
    assert good.sum() > 9
    encoded = followed_posterior.encode(stamps[good])
    shift = encoded.framed.shift_arcsec
    assert not shift.any(), "draws of the frame are draws of the sky"
    u = followed_posterior.parameters.prior.inverse(refined.draws[good].astype(np.float64))
    return encoded, [stats.multivariate_normal(one.mean(0), np.cov(one.T)) for one in u]


def certified(posterior, known, monkeypatch, width=1.0, shift=0.0):
    """Certify draws of the normal approximations, so many times as wide, moved by so many of their sigmas in every parameter."""
    encoded, normals = known
    prior = posterior.parameters.prior
    dimensions = len(posterior.parameters)

    def faulty(posterior, encoded, n_draws, n_prior, seed):
        theta, density = candidates(posterior, encoded, n_draws, n_prior, seed)
        rng = np.random.default_rng(3)
        theta, density = theta.astype(np.float64), density.copy()
        for i, normal in enumerate(normals):
            factor = np.linalg.cholesky(normal.cov)
            z = shift + width * rng.normal(size=(n_draws, dimensions))
            theta[i, :n_draws] = prior.forward(normal.mean + z @ factor.T)
            u = prior.inverse(theta[i])
            white = np.linalg.solve(factor, (u - normal.mean).T).T
            log_q = stats.norm(shift, width).logpdf(white).sum(-1) - np.log(np.diag(factor)).sum()
            density[i] = log_q + prior.log_prob(theta[i]) - log_normal(u)
        return theta.astype(np.float32), density

    monkeypatch.setattr(certify_module, "candidates", faulty)
    return posterior.certify(encoded, n_draws=DRAWS, seed=2)


def test_good_draws_pass(followed_posterior, known, monkeypatch):
    found = certified(followed_posterior, known, monkeypatch)
    assert (found.inference == Verdict.OK).mean() > 0.7
    assert np.median(found.efficiency) > 0.6


@pytest.mark.parametrize(("width", "shift"), [(0.7, 0.0), (1.5, 0.0), (1.0, 1.0)], ids=["width x0.7", "width x1.5", "moved by one sigma"])
def test_faults_fail(followed_posterior, known, monkeypatch, width, shift):
    found = certified(followed_posterior, known, monkeypatch, width, shift)
    assert (found.inference == Verdict.FAILED).all()
    assert (found.model != Verdict.FAILED).mean() > 0.8, "the model is not to blame"


def test_images_that_any_model_fits_have_no_model_verdict(followed_posterior, known):
    """As many parameters as pixels: a stamp whose mask leaves no more of them."""
    encoded, _ = known
    stamps = encoded.framed.stamps[[0, 1]]
    stamps.mask[0] = True
    stamps.mask[0, 0, 30:32, 31:34] = False
    found = followed_posterior.certify(followed_posterior.encode(stamps), seed=1)
    assert found.model[0] == Verdict.NOT_APPLICABLE
    assert found.model[1] != Verdict.NOT_APPLICABLE


def test_of_what_is_no_number_nothing_is_said():
    p = np.array([0.5, np.nan, 0.5, 1e-6])
    found = certify_module._model_verdict({"chi_squared_p": p, "residual_p": np.full(4, 0.5), "dof": np.array([9, 9, 0, 9])})
    assert list(found) == [Verdict.OK, Verdict.NOT_APPLICABLE, Verdict.NOT_APPLICABLE, Verdict.FAILED]
