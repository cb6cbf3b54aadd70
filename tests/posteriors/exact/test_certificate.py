"""Weights on problems whose posterior is known, and faults that they must catch."""

import numpy as np
import pytest
from scipy import stats

from astroflow.posteriors.exact.certificate import LEAST_DRAWS, Verdict, likelihood_gaps, missed_mass, weigh
from astroflow.posteriors.exact.certify import PRIOR_SHARE
from astroflow.sims.distributions import Fixed, LogUniform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.likelihood import PixelLikelihood
from astroflow.sims.noise import RMSNoise
from astroflow.sims.psfs import MoffatPSF
from astroflow.sims.simulator import Simulator
from astroflow.sims.stamp import StampSpec

N, DRAWS, DIMENSIONS = 40, 256, 7


def gaussian_case(width=1.0, shift=0.0, draws=DRAWS, seed=1):
    """Draws of a Gaussian proposal, weighed for a standard normal posterior whose evidence is exp(3)."""
    rng = np.random.default_rng(seed)
    z = shift / np.sqrt(DIMENSIONS) + width * rng.normal(size=(N, draws, DIMENSIONS))
    proposal = stats.norm(shift / np.sqrt(DIMENSIONS), width).logpdf(z).sum(-1)
    return weigh(3.0 + stats.norm.logpdf(z).sum(-1) - proposal), z


def test_the_posterior_itself_passes_whatever_its_evidence():
    found, _ = gaussian_case()
    assert (found["verdict"] == Verdict.OK).all()
    np.testing.assert_allclose(found["efficiency"], 1.0)
    np.testing.assert_allclose(found["log_evidence"], 3.0)
    np.testing.assert_allclose(found["log_evidence_error"], 0.0, atol=1e-6)


@pytest.mark.parametrize(("width", "shift"), [(1.1, 0.2), (1.15, 0.0)])
def test_a_good_approximation_passes_and_its_weights_recover_the_posterior(width, shift):
    rng = np.random.default_rng(3)
    found, _ = gaussian_case(width, shift, draws=1024)
    assert (found["verdict"] == Verdict.OK).mean() > 0.9
    pulls = (found["log_evidence"] - 3.0) / found["log_evidence_error"]
    assert abs(pulls.mean()) < 0.5
    assert 0.6 < pulls.std() < 1.6
    z = shift / np.sqrt(DIMENSIONS) + width * rng.normal(size=(20_000, DIMENSIONS))
    weights = np.exp(stats.norm.logpdf(z).sum(-1) - stats.norm(shift / np.sqrt(DIMENSIONS), width).logpdf(z).sum(-1))
    np.testing.assert_allclose(np.average(z, 0, weights), 0, atol=0.05)
    np.testing.assert_allclose(np.average(z**2, 0, weights), 1, atol=0.08)


@pytest.mark.parametrize(("width", "shift"), [(0.7, 0.0), (1.5, 0.0), (1.0, 1.0)], ids=["width x0.7", "width x1.5", "shifted by one sigma"])
def test_planted_faults_fail(width, shift):
    """In every parameter at once, as a miscalibrated network's would be."""
    found, _ = gaussian_case(width, shift * np.sqrt(DIMENSIONS))
    assert (found["verdict"] == Verdict.FAILED).mean() > 0.95


def test_the_known_efficiency_of_a_wide_gaussian():
    """ESS/N of a Gaussian proposal of width s for a unit one is (s^-2 sqrt(2 s^2 - 1))^D in the limit of many draws."""
    width = 1.2
    found, _ = gaussian_case(width, draws=20_000)
    expected = (np.sqrt(2 * width**2 - 1) / width**2) ** DIMENSIONS
    np.testing.assert_allclose(found["efficiency"].mean(), expected, rtol=0.02)


def test_few_draws_cannot_pass():
    assert (gaussian_case(draws=LEAST_DRAWS - 1)[0]["verdict"] == Verdict.FAILED).all()


def test_weights_of_nothing_fail_without_a_warning():
    found = weigh(np.full((2, DRAWS), -np.inf))
    assert (found["verdict"] == Verdict.FAILED).all()
    assert (found["efficiency"] == 0).all()
    assert (found["log_evidence"] == -np.inf).all()
    single = np.full((1, DRAWS), -np.inf)
    single[0, 3] = 0.0
    assert weigh(single)["verdict"] == Verdict.FAILED


@pytest.mark.parametrize("shape", [0.3, 0.6, 0.9])
def test_k_hat_is_the_shape_of_the_upper_tail(shape):
    """Weights ``u^-k`` of uniform u are Pareto distributed; their inverses are bounded."""
    logs = -shape * np.log(np.random.default_rng(9).uniform(size=(20, 4000)))
    assert weigh(logs)["k_hat"].mean() == pytest.approx(shape, abs=0.1)
    assert (weigh(-logs)["k_hat"] < 0).all()


def test_the_heaviest_tails_fail_without_a_warning():
    found = weigh(300 * np.random.default_rng(6).normal(size=(5, DRAWS)))
    assert (found["k_hat"] > 0.7).all()
    assert (found["verdict"] == Verdict.FAILED).all()


def bimodal(proposal_modes, n_prior=DRAWS // PRIOR_SHARE):
    """A posterior with two equal modes in a square of side 10, and a proposal with one of them or both."""
    rng = np.random.default_rng(4)
    modes = np.array([[-3.0, -3.0], [3.0, 3.0]])
    used = modes[:proposal_modes]

    def density(x, centres):
        return np.logaddexp.reduce([stats.norm(c, 0.8).logpdf(x).sum(-1) for c in centres], 0) - np.log(len(centres))

    draws = used[rng.integers(len(used), size=(N, DRAWS))] + 0.8 * rng.normal(size=(N, DRAWS, 2))
    theta = np.concatenate([draws, rng.uniform(-5, 5, (N, n_prior, 2))], 1)
    prior = np.full(theta.shape[:2], -np.log(100.0))
    return density(theta, modes), density(theta, used), prior


def test_a_missing_mode_is_found_by_draws_of_the_prior():
    target, proposal, prior = bimodal(1)
    assert (weigh((target - proposal)[:, :DRAWS])["verdict"] == Verdict.OK).mean() > 0.5, "weights alone do not see it"
    missed = missed_mass(target, proposal, prior, DRAWS)
    assert (missed > 0.05).mean() > 0.85, "it covers a twelfth of the prior, of which there are few draws"
    assert abs(missed.mean() - 0.5) < 0.1
    assert (missed_mass(*bimodal(2), DRAWS) < 0.05).all()


def test_the_evidence_of_a_galaxy_is_that_of_dense_quadrature():
    """Magnitude and size unknown, all else known: the pixel likelihood on a grid, against weighed draws of a Gaussian."""
    galaxy = SersicGalaxy(n=LogUniform(low=0.7, high=3.0))
    simulator = Simulator(
        galaxy=galaxy, psf=MoffatPSF(fwhm_arcsec=Fixed(value=0.7), image_size=25), noise=RMSNoise(rms=Fixed(value=0.3), gain=Fixed(value=50.0)),
        stamp=StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=25), engine="fourier",
    )  # fmt: skip
    rng = np.random.default_rng(8)
    truth = np.array([22.0, 0.6, 1.5, 0.2, -0.1, 0.02, -0.03], np.float32)
    clean = simulator.draw_block(rng, 1)
    clean.theta[:] = truth
    clean.images[:, 0], clean.psf[:, 0] = simulator.fourier.draw(
        clean.theta, simulator.psf.draw_many(rng, 1), np.array([0.2]), np.ones(1, int), 32, 25, 27.0
    )
    stamps = simulator.observe(clean, rng).stamps

    def log_likelihood(mag, re):
        theta = np.repeat(truth[None], len(mag), 0)
        theta[:, 0], theta[:, 1] = mag, re
        models = simulator.fourier.render_draws(theta[None], stamps)
        return PixelLikelihood(stamps).log_prob(models).numpy()[0]

    low, high, side = np.array([21.7, 0.3]), np.array([22.5, 0.9]), 40  # the prior is uniform in this box
    centres = [lo + (hi - lo) * (np.arange(side) + 0.5) / side for lo, hi in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 2)
    values = log_likelihood(*grid.T)
    expected = np.logaddexp.reduce(values) - np.log(len(values))
    weights = np.exp(values - values.max())
    mean = np.average(grid, 0, weights)
    covariance = 1.3 * np.cov(grid.T, aweights=weights)
    draws = rng.multivariate_normal(mean, covariance, 512)
    inside = ((draws > low) & (draws < high)).all(1)
    target = np.where(inside, log_likelihood(*draws.T) - np.log((high - low).prod()), -np.inf)
    found = weigh((target - stats.multivariate_normal(mean, covariance).logpdf(draws))[None])
    assert found["verdict"] == Verdict.OK
    assert found["log_evidence_error"] < 0.05
    assert abs(found["log_evidence"] - expected) < 4 * found["log_evidence_error"] + 1e-3


MODEL = {"stamp": {"psf_size": 33}, "galaxy": {"kind": "sersic"}, "psf": {"kind": "images"}, "noise": {"kind": "ccd"}}


@pytest.mark.parametrize(
    ("changes", "gaps"),
    [
        ({}, []),
        ({"psf": {"kind": "moffat", "image_size": 33}}, []),
        ({"psf": {"kind": "moffat", "image_size": None}}, ["wings of the PSF beyond its image (set `psf.image_size`)"]),
        (
            {"psf": {"kind": "kolmogorov", "image_size": 41}},
            ["wings of the PSF beyond 33 pixels (`psf.image_size` is larger than `stamp.psf_size`)"],
        ),
        ({"galaxy": {"kind": "rings"}, "noise": {"kind": "spikes"}}, ["galaxy of kind 'rings'", "noise of kind 'spikes'"]),
    ],
)
def test_what_the_likelihood_does_not_follow_is_named(changes, gaps):
    assert likelihood_gaps(MODEL | changes) == gaps


def test_python_code_is_a_gap():
    assert likelihood_gaps({"reference": "mine:simulator"}) == ["the forward model is Python code"]
