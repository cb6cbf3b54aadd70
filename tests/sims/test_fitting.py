"""Gauss-Newton steps, against the optimum they seek and the curvature by finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chi2

from astroflow.sims.distributions import LogUniform, Uniform
from astroflow.sims.fitting import FURTHEST, LinearFit, gauss_newton
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.noise import RMSNoise
from astroflow.sims.noise_correlation import CosmosCorrelation
from astroflow.sims.psfs import MoffatPSF
from astroflow.sims.simulator import Simulator
from astroflow.sims.stamp import StampSpec

SIZE, N = 32, 6


@pytest.fixture(scope="module")
def simulator():
    return Simulator(
        galaxy=SersicGalaxy(n=LogUniform(low=0.7, high=3.0), mag=Uniform(low=18.0, high=19.0), re_arcsec=LogUniform(low=0.3, high=0.8)),
        psf=MoffatPSF(fwhm_arcsec=Uniform(low=0.6, high=0.9), image_size=25),
        noise=RMSNoise(rms=Uniform(low=0.1, high=0.2), gain=Uniform(low=100, high=200)),
        stamp=StampSpec(size=SIZE, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=25),
        engine="fourier",
    )


@pytest.fixture(scope="module")
def fit(simulator):
    """As arrays, with any number of steps; without a graph, whose making takes longer than all the steps."""

    def fitted(u, stamps, steps=2, **changes):
        graph = gauss_newton(simulator.fourier, simulator.parameters.prior, steps, SIZE, 27.0)
        given = {
            "image": stamps.images[:, 0], "rms": stamps.rms[:, 0], "good": ~stamps.mask[:, 0], "gain": stamps.gain[:, 0],
            "psf": stamps.psf[:, 0], "step": stamps.stamp_scale_arcsec,
        } | changes  # fmt: skip
        found = graph(tf.constant(u, tf.float32), *(tf.constant(np.asarray(v), tf.float32) for v in given.values()))
        return LinearFit(*(part.numpy() for part in found))

    return fitted


@pytest.fixture(scope="module")
def bright(simulator):
    rng = np.random.default_rng(3)
    clean = simulator.draw_block(rng, N)
    simulation = simulator.observe(clean, rng)
    clear = replace(simulation.stamps, images=clean.images, mask=np.zeros_like(simulation.stamps.mask))
    return simulation, clear, simulator.parameters.prior.inverse(simulation.theta.astype(np.float64))


def test_steps_lead_to_the_truth_where_there_is_no_noise(fit, bright):
    _, stamps, truth = bright
    start = truth + 0.15 * np.random.default_rng(1).normal(size=truth.shape)
    distances = []
    for steps in (1, 2, 10):
        found = fit(start, stamps, steps)
        z = np.einsum("nji,nj->ni", found.factor, found.point - truth)  # in widths of the posterior
        distances.append(np.linalg.norm(z, axis=1).max())
    assert distances[0] > distances[1] > distances[2]
    assert (np.abs(found.move) < 0.1).all()
    # there is no noise, so the truth costs the prior's share alone; where it ends must cost no more
    assert (found.chi_squared + (found.point**2).sum(1) < (truth**2).sum(1) + 0.1).all()


def test_the_curvature_is_that_of_the_pixels_and_the_prior(fit, bright, simulator):
    """J by finite differences of the engine, weights by hand, where the last step began."""
    _, stamps, truth = bright
    found = fit(truth, stamps, 1)
    step = 0.01
    moved = [truth + sign * step * np.eye(truth.shape[1])[k] for k in range(truth.shape[1]) for sign in (1, -1)]
    models = [simulator.render(simulator.parameters.prior.forward(u), stamps, engine="fourier")[:, 0].astype(np.float64) for u in moved]
    slopes = np.stack([(a - b) / (2 * step) for a, b in zip(models[::2], models[1::2], strict=True)], 1).reshape(N, truth.shape[1], -1)
    model = simulator.render(simulator.parameters.prior.forward(truth), stamps, engine="fourier")[:, 0]
    variance = stamps.rms[:, 0] ** 2 + model / stamps.gain[:, 0, None, None]
    weighted = slopes / variance.reshape(N, 1, -1)
    expected = weighted @ np.swapaxes(slopes, 1, 2) + np.eye(truth.shape[1])
    curvature = found.factor @ np.swapaxes(found.factor, 1, 2)
    scale = np.sqrt(np.einsum("nii->ni", expected))
    assert (np.abs(curvature - expected) / scale[:, :, None] / scale[:, None]).max() < 0.01


def test_masked_pixels_are_not_looked_at(fit, bright):
    simulation, _, truth = bright
    stamps = simulation.stamps
    mask = stamps.mask.copy()
    mask[:, :, 5:9, 3:12] = True
    spoiled = stamps.images.copy()
    spoiled[mask] = np.nan
    one = fit(truth, replace(stamps, mask=mask))
    other = fit(truth, replace(stamps, mask=mask), image=np.where(mask, 1e6, spoiled)[:, 0])
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.pixels, (~mask).sum((1, 2, 3)))


def test_chi_squared_of_noise_is_as_expected(fit, bright):
    simulation, _, truth = bright
    found = fit(truth, simulation.stamps)
    assert np.abs((found.chi_squared - found.pixels) / np.sqrt(2 * found.pixels)).max() < 4


def test_a_start_from_anywhere_stays_finite_and_inside(fit, bright):
    simulation, _, truth = bright
    found = fit(np.random.default_rng(2).uniform(-8, 8, truth.shape), simulation.stamps)
    assert all(np.isfinite(part).all() for part in found)
    assert np.abs(found.point).max() <= FURTHEST + 1


def test_errors_are_those_that_fits_make_in_correlated_noise(fit, simulator):
    """Fits started at the truth scatter as their curvature says; without the correlation they claim to be a quarter better than they are."""
    noise = RMSNoise(rms=Uniform(low=0.1, high=0.2), gain=Uniform(low=100, high=200), correlation=CosmosCorrelation())
    correlated = replace(simulator, noise=noise)
    rng = np.random.default_rng(5)
    simulation = correlated.observe(correlated.draw_block(rng, 200), rng)
    stamps = simulation.stamps
    truth = simulator.parameters.prior.inverse(simulation.theta.astype(np.float64))

    def distance(**changes):
        """Mean of chi-squared of the truth, per parameter. The prior, which pulls to nought, is taken out."""
        found = fit(truth, stamps, 1, **changes)
        curvature = found.factor @ np.swapaxes(found.factor, 1, 2)
        data = curvature - np.eye(truth.shape[1])
        score = np.einsum("nij,nj->ni", curvature, found.point - truth) + truth
        return np.median(np.einsum("ni,nij,nj->n", score, np.linalg.inv(data), score)) / truth.shape[1]

    expected = chi2.median(truth.shape[1]) / truth.shape[1]
    assert distance(correlation=stamps.noise_correlation[:, 0]) == pytest.approx(expected, abs=0.15)
    assert distance() > 1.7 * expected
