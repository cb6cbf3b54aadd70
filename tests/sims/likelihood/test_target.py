"""The density that samplers see, against the pixel likelihood, and its gradient against differences."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from astroflow.errors import InputError
from astroflow.sims.bulge_disc import BulgeDiscGalaxy
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import image_transform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.likelihood import PixelLikelihood
from astroflow.sims.likelihood.target import LogPosterior
from astroflow.types import Stamps

GAIN = 30.0
N = 3


def observed(galaxy, gain=GAIN):
    """An engine, parameters u on the prior's scale, and observations of them, partly masked."""
    rng = np.random.default_rng(8)
    engine, prior = FourierEngine(galaxy, galaxy.parameters.names), galaxy.parameters.prior
    y, x = np.mgrid[-12:13, -12:13]
    star = np.exp(-0.5 * (x**2 + y**2) / 1.5**2)
    stamps = Stamps(
        images=np.zeros((N, 1, 32, 32), np.float32), psf=(star / star.sum()).astype(np.float32), rms=0.3,
        mask=rng.random((N, 1, 32, 32)) < 0.05, gain=gain, zero_point=27.0, pixel_scale_arcsec=0.2,
    )  # fmt: skip
    u = 0.5 * rng.normal(size=(N, len(prior.names)))
    clean = render(engine, prior.forward(u[:, None]), stamps)[:, 0]
    noise = rng.normal(size=clean.shape) * np.sqrt(0.3**2 + np.maximum(clean, 0) / gain)
    return engine, prior, u, replace(stamps, images=(clean + noise).astype(np.float32))


def render(engine, theta, stamps):
    """Draw noiseless stamps ``(N, S, 1, H, W)`` without a compiled graph."""
    n, draws, size = theta.shape
    grid = ModeGrid(32, 1.0)
    planes = image_transform(np.repeat(stamps.psf[:, 0], draws, 0), 1, grid)
    fill = tf.ones(n * draws)
    flat = tf.constant(theta.reshape(-1, size), tf.float32)
    return engine.images(flat, planes, 27.0 * fill, 0.2 * fill, tf.zeros((n * draws, 2)), grid).numpy().reshape(n, draws, 1, 32, 32)


@pytest.mark.parametrize(
    ("galaxy", "gain"), [(SersicGalaxy(), GAIN), (BulgeDiscGalaxy(), np.inf)], ids=["sersic, photons", "bulge and disc"]
)
def test_it_is_the_pixel_likelihood_times_the_prior(galaxy, gain):
    engine, prior, middle, stamps = observed(galaxy, gain)
    u = middle[:, None] + 0.1 * np.random.default_rng(1).normal(size=(N, 8, middle.shape[1]))
    expected = PixelLikelihood(stamps).log_prob(render(engine, prior.forward(u), stamps)).numpy() + stats.norm.logpdf(u).sum(-1)
    target = LogPosterior(engine, prior, stamps)
    found = target.graph(tf.constant(u.reshape(8 * N, -1)), *target.rows(np.repeat(np.arange(N), 8))).numpy().reshape(N, 8)
    np.testing.assert_allclose(found, expected, atol=2e-2, rtol=1e-6)


def test_its_gradient_is_the_slope():
    engine, prior, middle, stamps = observed(SersicGalaxy())
    target = LogPosterior(engine, prior, stamps)
    size, step = middle.shape[1], 1e-3
    u = tf.constant(middle + 0.05)
    with tf.GradientTape() as tape:
        tape.watch(u)
        value = target.graph(u, *target.rows(np.arange(N)))
    gradient = tape.gradient(value, u).numpy()
    moved = (u.numpy()[:, None, None] + step * np.array([1, -1])[:, None, None] * np.eye(size)).reshape(-1, size)
    values = target.graph(tf.constant(moved), *target.rows(np.repeat(np.arange(N), 2 * size))).numpy().reshape(N, 2, size)
    np.testing.assert_allclose(gradient, (values[:, 0] - values[:, 1]) / (2 * step), rtol=0.02, atol=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((N, 1, 32, 28)), "rms": 1.0, "mask": None}, "stamps must be square.*got 1 bands of 32 x 28"),
        ({"noise_correlation": np.array([[0.1, 0.2, 0.1], [0.2, 1, 0.2], [0.1, 0.2, 0.1]])}, "must be that of independent pixels"),
        ({"psf_oversampling": 2}, "PSF oversampling 2"),
    ],
    ids=["not square", "correlated", "oversampled"],
)
def test_stamps_that_it_cannot_follow_are_refused(change, message):
    engine, prior, _, stamps = observed(SersicGalaxy())
    with pytest.raises(InputError, match=message):
        LogPosterior(engine, prior, replace(stamps, **change))
