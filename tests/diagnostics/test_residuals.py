import dataclasses

import numpy as np
import pytest

from astroflow.diagnostics import residuals
from astroflow.errors import InputError
from astroflow.sims.noise import add_noise
from astroflow.types import Stamps


def noisy(n=20, gain=5.0, seed=0, **changes):
    """Flat models with sky and photon noise."""
    rng = np.random.default_rng(seed)
    model = np.broadcast_to(np.linspace(0, 40, n)[:, None, None, None], (n, 1, 32, 32)).astype(np.float32)
    images = add_noise(model, np.full(model.shape, 2.0), np.full((n, 1), gain), rng.standard_normal(model.shape))
    arguments = {"images": images, "psf": np.ones((3, 3)), "rms": 2.0, "gain": gain, "zero_point": 25.0, "pixel_scale_arcsec": 0.1}
    return Stamps(**(arguments | changes)), model


def test_residuals_of_the_true_model_are_unit_normal():
    stamps, model = noisy()
    result = residuals(stamps, model)
    np.testing.assert_allclose(result.reduced_chi2, 1, atol=5 * np.sqrt(2 / 1024))
    assert np.nanstd(result.sigma) == pytest.approx(1, abs=0.02)
    assert (result.pixels == 1024).all()


def test_photon_noise_of_the_galaxy_counts():
    stamps, model = noisy()
    without = residuals(dataclasses.replace(stamps, gain=np.inf), model).reduced_chi2
    assert without[-1] == pytest.approx(1 + 40 / 5 / 4, rel=0.2)


def test_masked_and_unusable_pixels_are_left_out():
    stamps, model = noisy()
    mask = np.zeros(stamps.shape, bool)
    mask[..., :8] = True
    images, rms = np.array(stamps.images), np.array(stamps.rms)
    images[mask] = 1e30
    images[..., 9], rms[..., 10], rms[..., 11] = np.nan, 0.0, np.nan
    result = residuals(dataclasses.replace(stamps, images=images, rms=rms, mask=mask), model)
    assert (result.pixels == 32 * 21).all()
    assert np.isnan(result.sigma[..., :12]).sum() == 20 * 32 * 11
    np.testing.assert_allclose(result.reduced_chi2, 1, atol=0.3)


def test_fitted_parameters_take_degrees_of_freedom():
    stamps, model = noisy()
    plain, fitted = residuals(stamps, model), residuals(stamps, model, n_parameters=24)
    np.testing.assert_allclose(fitted.reduced_chi2 * 1000, plain.reduced_chi2 * 1024)


def test_a_stamp_without_pixels_has_no_chi_squared():
    stamps, model = noisy(mask=True)
    result = residuals(stamps, model)
    assert np.isnan(result.reduced_chi2).all()
    assert (result.pixels == 0).all()


def test_models_of_another_shape_are_refused():
    stamps, model = noisy()
    with pytest.raises(InputError, match="must have the stamps' shape"):
        residuals(stamps, model[:, 0])
