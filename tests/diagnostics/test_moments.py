import dataclasses

import numpy as np
import pytest

from astroflow.diagnostics.moments import image_features
from astroflow.types import Stamps

rng = np.random.default_rng(8)


def gaussian_stamps(sigma_x=3.0, sigma_y=3.0, x=0.0, y=0.0, flux=1000.0, size=49, rms=1e-3, **changes):
    """A noiseless Gaussian galaxy of known moments, with a tiny PSF."""
    yy, xx = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.exp(-0.5 * ((xx - x) / sigma_x) ** 2 - 0.5 * ((yy - y) / sigma_y) ** 2) * flux / (2 * np.pi * sigma_x * sigma_y)
    psf = np.exp(-0.5 * (np.add.outer(np.arange(-4, 5) ** 2, np.arange(-4, 5) ** 2)) / 0.7**2)
    arguments = {"images": image, "psf": psf / psf.sum(), "rms": rms, "zero_point": 25.0, "pixel_scale_arcsec": 0.1}
    return Stamps(**(arguments | changes))


def test_moments_of_a_gaussian_are_recovered():
    features = image_features(gaussian_stamps(sigma_x=3.3, sigma_y=2.7, x=0.6, y=-0.4))[0]
    apertures, centroid, widest = features[:7], features[8:10], features[10 + 8 :][8 : 2 * 8]
    assert apertures[-1] == pytest.approx(25 - 2.5 * np.log10(1000), abs=1e-3)
    np.testing.assert_allclose(centroid, [0.06, -0.04], atol=1e-4)
    size, kurtosis, e1 = np.exp(widest[1]) / 0.1, widest[3], widest[6]
    assert size == pytest.approx(3.0, rel=0.02)
    assert kurtosis == pytest.approx(2.0, rel=0.02)
    # The galaxy alone, without its PSF of 0.7 pixels: variances 3.3**2 - 0.7**2 and 2.7**2 - 0.7**2, in e = (a2 - b2) / (a2 + b2).
    assert e1 == pytest.approx((3.3**2 - 2.7**2) / (3.3**2 + 2.7**2 - 2 * 0.7**2), rel=0.05)


def test_values_of_masked_pixels_do_not_matter(simulation):
    stamps = simulation.stamps[:40]
    features = image_features(stamps)
    for value in (1e30, -1e30, np.nan, np.inf):
        spoilt = dataclasses.replace(stamps, images=np.where(stamps.mask, np.float32(value), stamps.images))
        np.testing.assert_array_equal(image_features(spoilt), features)
    noisy = dataclasses.replace(stamps, rms=np.where(stamps.mask, np.float32(np.nan), stamps.rms))
    np.testing.assert_array_equal(image_features(noisy), features)


def test_pixels_that_are_not_finite_count_as_masked(simulation):
    stamps = dataclasses.replace(simulation.stamps[:5], mask=None)
    hole = np.zeros(stamps.shape, bool)
    hole[..., 10:14, 10:14] = True
    masked = dataclasses.replace(stamps, mask=hole)
    nans = dataclasses.replace(stamps, images=np.where(hole, np.float32(np.nan), stamps.images))
    np.testing.assert_array_equal(image_features(nans), image_features(masked))


def test_masking_a_galaxy_in_part_changes_little():
    stamps = gaussian_stamps()
    mask = np.zeros(stamps.shape, bool)
    mask[..., 26:, 28:] = True
    whole, part = image_features(stamps), image_features(dataclasses.replace(stamps, mask=mask))
    assert (part - whole)[0, -2] == pytest.approx(mask.mean())  # the masked share itself
    np.testing.assert_allclose(part[:, :-2], whole[:, :-2], atol=1e-3)


def test_features_do_not_depend_on_company(simulation):
    features = image_features(simulation.stamps[:30])
    np.testing.assert_allclose(image_features(simulation.stamps[7:9]), features[7:9], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((49, 49))},
        {"images": np.full((49, 49), np.nan)},
        {"images": np.full((49, 49), -1e30)},
        {"images": rng.normal(size=(49, 49)) * 1e30},
        {"rms": 0.0},
        {"rms": 1e-30},
        {"rms": np.nan},
        {"psf": np.zeros((9, 9))},
        {"psf": np.full((9, 9), np.nan)},
        {"psf": np.ones((8, 8))},
        {"mask": True},
        {"band_present": False},
        {"images": -np.ones((3, 3))},
        {"images": np.ones((4, 2, 16, 20)), "psf": np.ones((2, 9, 9))},
    ],
)
def test_features_of_any_stamps_are_finite(changes):
    features = image_features(gaussian_stamps(**changes))
    assert np.isfinite(features).all()


def test_each_band_has_its_features():
    one, two = gaussian_stamps(images=np.ones((4, 1, 16, 16))), gaussian_stamps(images=np.ones((4, 2, 16, 16)))
    assert image_features(two).shape[1] - 1 == 2 * (image_features(one).shape[1] - 1)
