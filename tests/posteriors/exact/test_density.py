"""Certificates and refining in correlated noise with photons, where the likelihood is expanded about reference models: against dense algebra."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import cho_solve_banded, cholesky_banded

from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.exact.refine import Method
from astroflow.sims.distributions import Fixed, Uniform
from astroflow.sims.noise import RMSNoise
from astroflow.sims.noise_correlation import CosmosCorrelation, GaussianCorrelation

COSMOS = CosmosCorrelation().map


@pytest.fixture(scope="module")
def observed(followed_simulator):
    """Twelve galaxies in noise that is as strongly correlated as that of COSMOS images, and at their peaks as much again of photons."""
    noise = RMSNoise(rms=Fixed(value=0.1), gain=Uniform(low=50.0, high=150.0), correlation=CosmosCorrelation())
    simulator = replace(followed_simulator, noise=noise)
    rng = np.random.default_rng(5)
    simulation = simulator.observe(simulator.draw_block(rng, 400), rng)
    chosen = np.flatnonzero((simulation.snr > 10) & (simulation.snr < 60) & (simulation.stamps.binning == 1))[:12]
    assert len(chosen) == 12
    return simulation[chosen]


def same(together, alone, row):
    for name, values in vars(alone).items():
        assert np.isfinite(values.astype(float)).all(), name
        np.testing.assert_array_equal(getattr(together, name)[[row]], values, err_msg=f"{name} of row {row}")


def test_certificates_are_the_same_alone_and_in_company(followed_posterior, observed):
    stamps = observed.stamps
    together = followed_posterior.certify(stamps, n_draws=128, seed=3)
    for row in (0, 7, 11):
        same(together, followed_posterior.certify(stamps[[row]], n_draws=128, seed=3), row)


def test_company_of_other_noise_changes_nothing(followed_posterior, observed):
    """Another gain, another mask, a correlation that reaches less far."""
    stamps = observed.stamps
    maps = stamps.noise_correlation.copy()
    narrow = GaussianCorrelation(sigma_pixels=0.4).map
    edge = (maps.shape[-1] - len(narrow)) // 2
    maps[1] = np.pad(narrow, edge)
    gain = stamps.gain.copy()
    gain[2] = 1e6
    mixed = replace(stamps, noise_correlation=maps, gain=gain)[:6]
    together = followed_posterior.certify(mixed, n_draws=128, seed=3)
    for row in range(3):
        same(together, followed_posterior.certify(mixed[[row]], n_draws=128, seed=3), row)


def test_a_row_of_impossible_noise_costs_itself_alone(followed_posterior, observed):
    """A box of ones is the correlation of nothing: its spectrum has negative power."""
    stamps = observed.stamps[:4]
    maps = stamps.noise_correlation.copy()
    middle = maps.shape[-1] // 2
    maps[2] = 0
    maps[2, 0, middle - 1 : middle + 2, middle - 1 : middle + 2] = 0.9
    maps[2, 0, middle, middle] = 1
    bad = replace(stamps, noise_correlation=maps)
    found = followed_posterior.certify(bad, n_draws=128, seed=3)
    assert found.inference.tolist()[2] == found.model.tolist()[2] == Verdict.NOT_APPLICABLE
    assert (found.inference[[0, 1, 3]] != Verdict.NOT_APPLICABLE).all()
    refined = followed_posterior.refine(bad, n_draws=64, seed=2, where=np.array([False, False, True, False]))
    assert refined.method[2] == Method.NOT_APPLICABLE
    assert np.isfinite(refined.draws).all()


def dense_log_prob(posterior, stamps, row, u):
    """Log of the posterior density of one row, up to a constant, with the whole covariance of each model."""
    middle = COSMOS.shape[0] // 2
    width = stamps.shape[3]
    good = ~stamps.mask[row, 0].ravel()
    y, x = np.divmod(np.flatnonzero(good), width)
    dy, dx = y[:, None] - y, x[:, None] - x
    near = (np.abs(dy) <= middle) & (np.abs(dx) <= middle)
    correlation = np.where(near, COSMOS[np.clip(dy + middle, 0, 2 * middle), np.clip(dx + middle, 0, 2 * middle)], 0.0)
    rms = stamps.rms[row, 0].ravel()[good].astype(np.float64)
    background = correlation * np.outer(rms, rms)
    # pixels that are further apart in reading order than this are not correlated, which LAPACK's Cholesky for bands makes use of
    reach = middle * width + middle
    bands = np.stack([np.pad(np.diagonal(background, -k), (0, k)) for k in range(reach + 1)])
    theta = posterior.parameters.prior.forward(u)
    models = posterior.engine.render_draws(theta[None].astype(np.float32), stamps[[row]])[0, :, 0].reshape(len(u), -1)[:, good]
    out = np.empty(len(u))
    for k, model in enumerate(models.astype(np.float64)):
        covariance = bands.copy()
        covariance[0] += np.maximum(model, 0) / stamps.gain[row, 0]
        factor = cholesky_banded(covariance, lower=True, check_finite=False)
        residual = stamps.images[row, 0].ravel()[good] - model
        chi_squared = residual @ cho_solve_banded((factor, True), residual, check_finite=False)
        out[k] = -0.5 * chi_squared - np.log(factor[0]).sum() - 0.5 * u[k] @ u[k]
    return out


def test_refined_draws_are_those_of_the_dense_likelihood(followed_posterior, observed):
    """Refined draws are weighed anew, by the likelihood without any expansion: from a broader proposal about them, and as they are."""
    rows = np.arange(2)
    refined = followed_posterior.refine(observed.stamps[rows], n_draws=256, seed=2, budget=20_000)
    assert (refined.method > 0).all()
    assert (refined.method == Method.ADAPTED).any(), "expansions about new models were made"
    prior = followed_posterior.parameters.prior
    for row in rows.tolist():
        u = prior.inverse(refined.draws[row].astype(np.float64))
        mean, covariance = u.mean(0), 1.5 * np.cov(u.T)
        proposal = np.random.default_rng(3).multivariate_normal(mean, covariance, size=400)
        white = np.linalg.solve(np.linalg.cholesky(covariance), (proposal - mean).T)
        log_weights = dense_log_prob(followed_posterior, observed.stamps, row, proposal) + 0.5 * (white**2).sum(0)
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        assert 1 / (weights**2).sum() > 70
        expected = weights @ proposal
        spread = np.sqrt(weights @ (proposal - expected) ** 2)
        assert (np.abs(u.mean(0) - expected) < 0.3 * spread).all()
        assert (np.abs(np.log(u.std(0) / spread)) < 0.25).all()
