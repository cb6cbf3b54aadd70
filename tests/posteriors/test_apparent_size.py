"""How large a galaxy looks: near the half-light radius, whatever the sky and the masks."""

import galsim
import numpy as np
import pytest

from astroflow.posteriors.apparent_size import apparent_radius as apparent_radii

RMS = 0.1
PSF = galsim.Moffat(beta=3.0, fwhm=0.7)


def apparent_radius(image, rms, mask, x, y):
    """Of one galaxy."""
    (radius,) = apparent_radii(image[None], rms[None], mask[None], np.array([x]), np.array([y]))
    return radius


def picture(height, width, re_pixels, flux, n=1.0):
    """A galaxy in the middle, with noise."""
    scene = galsim.Convolve(galsim.Sersic(n, half_light_radius=re_pixels * 0.2, flux=flux), PSF)
    image = scene.drawImage(nx=width, ny=height, scale=0.2, dtype=np.float64).array
    return (image + np.random.default_rng(0).normal(0, RMS, (height, width)))[None].astype(np.float32)


@pytest.mark.parametrize("n", [0.7, 1.0, 4.0])
@pytest.mark.parametrize("re_pixels", [6.0, 10.0, 15.0])
def test_apparent_radius_is_near_the_half_light_radius_of_bright_galaxies(n, re_pixels):
    image = picture(256, 256, re_pixels, flux=1e7, n=n)[0]
    found = apparent_radius(image, np.full_like(image, RMS), np.zeros(image.shape, bool), 127.5, 127.5)
    assert 0.7 * re_pixels < found < 1.3 * re_pixels


def test_apparent_radius_of_nothing_is_small():
    image = np.random.default_rng(0).normal(0, RMS, (64, 64))
    assert apparent_radius(image, np.full_like(image, RMS), np.zeros(image.shape, bool), 31.5, 31.5) <= 3
    assert apparent_radius(image * 0 - 1, np.full_like(image, RMS), np.zeros(image.shape, bool), 31.5, 31.5) == 1.0


@pytest.mark.parametrize("sky", [-0.2, 0.1, 0.2])
def test_a_residual_sky_does_not_make_a_small_galaxy_large(sky):
    noise = np.random.default_rng(1).normal(0, RMS, (512, 512)).astype(np.float32)
    image = picture(512, 512, 5.0, flux=1e4)[0] + noise
    clean, lifted = (
        apparent_radius(i, np.full_like(image, RMS), np.zeros(image.shape, bool), 255.5, 255.5) for i in (image, image + sky * RMS)
    )
    assert 3.0 < clean < 7.0
    assert abs(lifted - clean) < 1.5


def test_masks_do_not_change_the_apparent_radius_much():
    image = picture(128, 128, 8.0, flux=1e5)[0]
    mask = np.random.default_rng(0).random(image.shape) < 0.3
    spoilt = np.where(mask, 1e6, image)
    whole, holes = (apparent_radius(i, np.full_like(image, RMS), m, 63.5, 63.5) for i, m in ((image, mask & False), (spoilt, mask)))
    assert abs(whole - holes) < 0.1 * whole


def test_company_does_not_matter():
    rng = np.random.default_rng(2)
    image = np.concatenate([picture(50, 41, re, flux=1e4) for re in (2.0, 4.0, 7.0, 1.0)])
    rms, mask = rng.uniform(0.05, 0.2, image.shape).astype(np.float32), rng.random(image.shape) < 0.1
    x, y = np.array([20.0, 17.3, 1.2, 41.5]), np.array([24.5, 30.1, 44.0, 3.0])
    together = apparent_radii(image, rms, mask, x, y)
    assert together.tolist() == [apparent_radius(*(array[i] for array in (image, rms, mask, x, y))) for i in range(4)]
    assert together[3] == 1.0, "off the image"
    assert len(set(together)) == 4
