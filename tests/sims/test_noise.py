import numpy as np
import pytest

from astroflow.sims.correlation import correlated_normals
from astroflow.sims.distributions import Fixed, LogUniform, Uniform
from astroflow.sims.noise import CCDNoise, RMSNoise, add_noise


def test_ccd_noise_is_sky_photons_and_read_noise():
    noise = CCDNoise(sky=Fixed(value=3.0), gain=Fixed(value=2.0), read_noise_electrons=Fixed(value=5.0))
    levels = noise.levels(np.random.default_rng(0), 4)
    # In electrons: 6 of sky, 25 of read noise; divided by gain squared.
    assert np.allclose(levels.rms, np.sqrt((6 + 25) / 4))
    assert np.allclose(levels.gain, 2.0)
    assert levels.rms.shape == levels.gain.shape == (4, 1)


def test_ccd_noise_without_read_noise_is_the_scatter_of_poisson_electrons():
    sky, gain = 40.0, 5.0
    rng = np.random.default_rng(1)
    electrons = rng.poisson(sky * gain, 200_000)
    rms = CCDNoise(sky=Fixed(value=sky), gain=Fixed(value=gain)).levels(rng, 1).rms[0, 0]
    assert np.isclose((electrons / gain).std(), rms, rtol=5e-3)


def test_rms_noise_is_as_given_and_has_no_photon_noise_unless_asked():
    levels = RMSNoise(rms=Uniform(low=1, high=2)).levels(np.random.default_rng(0), 1000)
    assert levels.rms.min() >= 1
    assert levels.rms.max() <= 2
    assert abs(levels.rms.mean() - 1.5) < 0.05
    assert np.isinf(levels.gain).all()
    with_gain = RMSNoise(rms=Fixed(value=1), gain=LogUniform(low=1, high=10)).levels(np.random.default_rng(0), 1000)
    assert abs(np.log(with_gain.gain).mean() - np.log(10) / 2) < 0.1


@pytest.mark.parametrize("gain", [0.5, 4.0, np.inf])
def test_variance_is_rms_squared_plus_model_over_gain(gain):
    rng = np.random.default_rng(2)
    clean = np.broadcast_to(np.array([[0.0, 10.0], [300.0, -5.0]], np.float32), (100_000, 1, 2, 2))
    normals = rng.standard_normal(clean.shape, dtype=np.float32)
    noisy = add_noise(clean, np.float32(2.0), np.full((100_000, 1), gain), normals)
    assert noisy.dtype == np.float32
    assert np.isfinite(noisy).all()
    expected = 4.0 + np.maximum(clean[0, 0], 0) / gain
    assert np.allclose(noisy.var(0)[0], expected, rtol=0.03)
    assert np.allclose(noisy.mean(0)[0], clean[0, 0], atol=6 * np.sqrt(expected.max() / 100_000))


@pytest.mark.parametrize("gain", [0.5, np.inf])
def test_only_the_rms_part_is_correlated(gain):
    rng = np.random.default_rng(4)
    n, model, rms = 8000, 4.0, 3.0
    clean = np.full((n, 1, 8, 8), model, np.float32)
    correlation = np.array([[0, 0, 0], [0.4, 1, 0.4], [0, 0, 0]])
    sky = correlated_normals(rng, correlation, np.ones(n, int), (8, 8))
    noisy = add_noise(clean, np.float32(rms), np.full((n, 1), gain), rng.standard_normal(clean.shape, np.float32), sky)[:, 0] - model
    assert noisy.dtype == np.float32
    assert noisy.var() == pytest.approx(rms**2 + model / gain, rel=0.02)
    assert (noisy[:, :, 1:] * noisy[:, :, :-1]).mean() == pytest.approx(0.4 * rms**2, rel=0.05)
    assert (noisy[:, 1:] * noisy[:, :-1]).mean() == pytest.approx(0, abs=0.2)


def test_gaussian_photon_noise_has_the_moments_of_poisson_counts():
    gain, rng = 3.0, np.random.default_rng(3)
    model = 50.0
    ours = add_noise(
        np.full((1, 1, 400, 400), model, np.float32), np.float32(0), np.array([[gain]]), rng.standard_normal((1, 1, 400, 400), np.float32)
    )
    theirs = rng.poisson(model * gain, 160_000) / gain
    assert np.isclose(ours.mean(), theirs.mean(), rtol=2e-3)
    assert np.isclose(ours.std(), theirs.std(), rtol=1e-2)


def test_each_object_and_band_has_its_own_gain_and_rms():
    clean = np.full((2, 2, 64, 64), 100.0, np.float32)
    gain = np.array([[1.0, np.inf], [4.0, 25.0]])
    rms = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)[..., None, None]
    noisy = add_noise(clean, rms, gain, np.random.default_rng(0).standard_normal(clean.shape, np.float32))
    assert np.allclose(noisy.std((2, 3)), np.sqrt(rms[..., 0, 0] ** 2 + 100 / gain), rtol=0.06)
