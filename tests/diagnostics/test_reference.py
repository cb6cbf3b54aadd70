"""The reference posteriors in the repository, held against a quick computation of their own, and planted faults."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from astroflow.diagnostics.reference import LEVELS_PER_RMS, load_reference, wasserstein
from astroflow.errors import InputError
from astroflow.sims.likelihood import PixelLikelihood

DRAWS = 1024


@pytest.fixture(scope="module")
def reference(root):
    return load_reference(root / "benchmarks" / "reference_posteriors" / "sersic_v1.npz")


@pytest.fixture(scope="module")
def few(reference):
    """Positions of galaxies of low, middle and high S/N."""
    return np.argsort(reference.snr)[[len(reference) // 8, len(reference) // 2, -2]]


def test_the_file_is_complete_and_small(reference, root):
    assert reference.theta.shape == (len(reference), 2000, len(reference.names))
    assert (root / "benchmarks" / "reference_posteriors" / "sersic_v1.npz").stat().st_size < 2e6
    assert np.histogram(reference.snr, (4.9, 10, 30, 100, 300, 1010))[0].min() >= 4
    assert np.mean(reference.rhat.max(1) < 1.01) > 0.95
    assert reference.rhat.max() < 1.02
    assert np.isfinite(reference.log_evidence).all()
    assert reference.simulator.parameters.prior.contains(reference.theta).all()


def test_the_data_are_what_is_stored(reference):
    stamps = reference.stamps
    levels = stamps.images / stamps.rms * LEVELS_PER_RMS
    np.testing.assert_allclose(levels, np.rint(levels), atol=2e-3)
    np.testing.assert_allclose(stamps.psf.sum((1, 2, 3)), 1, rtol=1e-6)


def test_truths_are_draws_of_the_posteriors(reference):
    """Ranks of the truths are uniform but for the choice of galaxies by size and index, which the other parameters do not feel."""
    ranks = (reference.theta < reference.truth[:, None]).mean(1)
    for name in ("e1", "e2", "dx_arcsec", "dy_arcsec"):
        assert stats.kstest(ranks[:, reference.names.index(name)], "uniform").pvalue > 1e-3


def weighed(reference, few, stamps):
    """Draws about the stored mean and covariance, weighed by the likelihood: distances to the reference, and log evidences."""
    size = len(reference.names)
    rng = np.random.default_rng(3)
    z = stats.multivariate_t(np.zeros(size), np.eye(size), df=5, seed=rng).rvs((len(few), DRAWS))
    u = reference.u[few]
    mean, factor = u.mean(1), np.linalg.cholesky([1.3 * np.cov(one.T) for one in u])
    x = mean[:, None] + np.einsum("nij,nsj->nsi", factor, z)
    theta = reference.simulator.parameters.prior.forward(x)
    log_likelihood = PixelLikelihood(stamps).log_prob(reference.simulator.fourier.render_draws(theta.astype(np.float32), stamps)).numpy()
    proposal = stats.multivariate_t(np.zeros(size), np.eye(size), df=5).logpdf(z) - np.log(np.linalg.det(factor))[:, None]
    log_weights = log_likelihood + stats.norm.logpdf(x).sum(-1) - proposal
    evidence = special.logsumexp(log_weights, 1) - np.log(DRAWS)
    weights = special.softmax(log_weights, 1)
    return wasserstein(theta, reference.theta[few], weights), evidence, np.sqrt((weights**2).sum(1))


def test_weighed_draws_agree_with_them(reference, few):
    distances, evidence, error = weighed(reference, few, reference.stamps[few])
    assert error.max() < 0.15
    assert distances.max() < 0.2
    error = np.hypot(error, reference.log_evidence_error[few])
    assert (np.abs(evidence - reference.log_evidence[few]) < 4 * error + 0.02).all()


def test_a_wrong_point_spread_function_is_noticed(reference, few):
    """A little wider: the posterior of what is bright moves away from the reference."""
    stamps = reference.stamps[few]
    psf = stamps.psf + 0.02 * sum(np.roll(stamps.psf, shift, axis) - stamps.psf for shift in (1, -1) for axis in (2, 3))
    distances, _, error = weighed(reference, few, replace(stamps, psf=psf))
    assert distances[-1].max() > 0.5
    assert error[-1] > 0.15, "the weights are far from even"


def test_wide_draws_and_shifted_ones_fail_the_score(reference):
    halves = reference.theta[:, ::2], reference.theta[:, 1::2]
    same = wasserstein(*halves)
    assert np.median(same) < 0.07
    assert same.max() < 0.2
    mean, sd = halves[0].mean(1, keepdims=True), halves[0].std(1, keepdims=True)
    wide = wasserstein(mean + 1.3 * (halves[0] - mean), halves[1])
    assert np.median(wide) == pytest.approx(0.3 * np.sqrt(2 / np.pi), abs=0.03)
    assert (wide.max(1) > same.max()).all()
    np.testing.assert_allclose(wasserstein(halves[0] + 0.5 * sd, halves[0]), 0.5 * sd[:, 0] / halves[0].std(1))


def test_the_distance_is_known_for_shifted_and_weighed_draws():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(1, 4000, 2)) * [1.0, 3.0] + 5
    np.testing.assert_allclose(wasserstein(one + np.array([0.4, 0.9]), one), [[0.4, 0.3]], rtol=0.03)
    weights = np.exp(-0.5 * (one[..., 0] - 5) ** 2)  # narrows the first to sd 1 / sqrt 2, leaves the second
    weights /= weights.sum()
    narrow = wasserstein(one, one, weights)[0]
    assert narrow[0] == pytest.approx((1 - np.sqrt(0.5)) * np.sqrt(2 / np.pi), abs=0.03)
    assert narrow[1] < 0.05
    one[0, 0, 0] = np.nan
    assert np.isnan(wasserstein(one, one)[0]).tolist() == [True, False]


def test_what_is_no_file_of_reference_posteriors_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="no file of reference posteriors at"):
        load_reference(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="is no file of reference posteriors"):
        load_reference(tmp_path / "other.npz")
    with pytest.raises(InputError, match="of the same N and P"):
        wasserstein(np.zeros((2, 5, 3)), np.zeros((2, 5, 4)))
