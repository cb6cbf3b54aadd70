"""Mixtures of t distributions: their density, and what a fit makes of weighed draws."""

import numpy as np
import pytest
from scipy import stats

from astroflow.posteriors.exact.mixture import FREEDOM, PRIOR_SHARE, StudentMixture, fit_mixture

MEANS = np.array([[1.0, -0.5, 0.2], [-1.0, 0.5, 0.0]])
SCALES = np.array([[[0.3, 0.1, 0.0], [0.1, 0.2, 0.05], [0.0, 0.05, 0.1]], 0.04 * np.eye(3)])
SHARES = np.array([0.7, 0.3])


def mixture():
    return StudentMixture(SHARES, MEANS, np.linalg.cholesky(SCALES))


def test_the_density_is_scipys():
    u = np.random.default_rng(1).normal(size=(50, 3))
    parts = [(1 - PRIOR_SHARE) * s * stats.multivariate_t(m, c, FREEDOM).pdf(u) for s, m, c in zip(SHARES, MEANS, SCALES, strict=True)]
    expected = sum(parts) + PRIOR_SHARE * stats.multivariate_normal(np.zeros(3)).pdf(u)
    np.testing.assert_allclose(mixture().log_prob(u), np.log(expected))


def test_draws_have_the_density():
    """Their weights against a known density integrate to one, whatever the density is."""
    u = mixture().draw(np.random.default_rng(2), 200_000)
    wide = stats.multivariate_normal([0.2, 0.0, 0.1], 0.8 * np.eye(3))
    assert np.exp(wide.logpdf(u) - mixture().log_prob(u)).mean() == pytest.approx(1, abs=0.02)
    assert (np.exp(wide.logpdf(u) - mixture().log_prob(u))[:, None] * u).mean(0) == pytest.approx([0.2, 0.0, 0.1], abs=0.03)


def test_a_fit_finds_the_modes_of_weighed_draws():
    rng = np.random.default_rng(3)
    u = rng.normal(size=(20_000, 3))
    logs = np.logaddexp(
        np.log(0.7) + stats.multivariate_normal(MEANS[0], SCALES[0]).logpdf(u),
        np.log(0.3) + stats.multivariate_normal(MEANS[1], SCALES[1]).logpdf(u),
    )
    weights = np.exp(logs - stats.multivariate_normal(np.zeros(3)).logpdf(u))
    fitted = fit_mixture(u, weights / weights.sum(), 3, rng)
    fresh = fitted.draw(rng, 20_000)
    target = np.logaddexp(
        np.log(0.7) + stats.multivariate_normal(MEANS[0], SCALES[0]).logpdf(fresh),
        np.log(0.3) + stats.multivariate_normal(MEANS[1], SCALES[1]).logpdf(fresh),
    )
    ratio = np.exp(target - fitted.log_prob(fresh))
    assert ratio.sum() ** 2 / (ratio**2).sum() / len(fresh) > 0.75
    assert ratio.mean() == pytest.approx(1, abs=0.03)


def test_a_fit_to_a_handful_of_draws_is_not_too_narrow():
    rng = np.random.default_rng(4)
    u = rng.normal(size=(12, 7))
    fitted = fit_mixture(u, np.full(12, 1 / 12), 4, rng)
    fresh = rng.normal(size=(4000, 7))
    assert np.median(fitted.distances(fresh).min(0)) < 5 * 7
