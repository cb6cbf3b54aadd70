import galsim
import numpy as np
import pytest
import tensorflow as tf

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.grouping import group_images
from astroflow.sims.fourier.psf import describe_profile, grids_of_images

SIZE, STEP = 48, 0.2
TIGHT = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-5, kvalue_accuracy=1e-7)
PROFILES = {
    "moffat": galsim.Moffat(beta=2.9, fwhm=0.75).shear(g1=0.1, g2=-0.05),
    "moffat moved": galsim.Moffat(beta=4.2, fwhm=0.6).shear(g1=0.02, g2=0.2).shift(0.13, -0.21),
    "kolmogorov": galsim.Kolmogorov(fwhm=0.8).shear(g1=-0.1, g2=0.05),
    "gaussian": galsim.Gaussian(sigma=0.4).shear(g1=0.0, g2=0.15),
    "optical": galsim.OpticalPSF(lam_over_diam=0.25, obscuration=0.3, defocus=0.1, coma1=0.15),
    "sum": galsim.Moffat(beta=3.0, fwhm=0.7) * 0.8 + galsim.Gaussian(sigma=0.5) * 0.2,
}


def drawn(family, grid, arrays, blur=0.0):
    """The PSF's image on the stamp, through a Gaussian of `blur` pixels."""
    tensors = {name: tf.constant(np.asarray(v)[None], tf.float32) for name, v in arrays.items()}
    softened = np.exp(-0.5 * blur**2 * (grid.kx[:, None] ** 2 + grid.ky[None, :] ** 2)).astype(np.float32)
    x, y = tensors["offset"][:, 0], tensors["offset"][:, 1]
    return grid.to_pixels(family.transform(tensors, grid) * softened, x, y).numpy()[0]


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_drawn_as_galsim_draws_them(name):
    profile = PROFILES[name]
    found = drawn(*describe_profile(profile, STEP, SIZE))
    truth = profile.withGSParams(TIGHT).drawImage(nx=SIZE, ny=SIZE, scale=STEP, dtype=np.float64).array
    assert np.abs(found - truth).max() < 1e-3 * truth.max()


def test_families_are_told_apart():
    kinds = {name: describe_profile(profile, STEP, SIZE)[0].kind for name, profile in PROFILES.items()}
    assert kinds == {
        "moffat": "moffat", "moffat moved": "moffat", "kolmogorov": "kolmogorov", "gaussian": "gaussian", "optical": "sampled", "sum": "sampled",
    }  # fmt: skip


@pytest.mark.parametrize("oversampling", [1, 2, 3, 5])
@pytest.mark.parametrize("side", [21, 32])
def test_images_are_joined_as_galsim_joins_them(oversampling, side):
    """With the pixel in the image, drawing the PSF at the stamp's sampling is reading it off its interpolation."""
    native = galsim.Convolve(PROFILES["moffat"], galsim.Pixel(STEP))
    image = native.drawImage(nx=side, ny=side, scale=STEP / oversampling, method="no_pixel", dtype=np.float64).array
    image /= image.sum()
    star = 0.15  # arcsec: GalSim joins samples in Fourier space only where there is something to convolve
    (group,) = group_images(image[None], np.array([oversampling]), SIZE)
    found = drawn(group.family, group.grid, {name: values[0] for name, values in group.arrays.items()}, blur=star / STEP)
    joined = galsim.InterpolatedImage(galsim.Image(image), scale=STEP / oversampling, flux=1.0, gsparams=TIGHT)
    scene = galsim.Convolve(galsim.Gaussian(sigma=star, gsparams=TIGHT), joined)
    truth = scene.drawImage(nx=SIZE, ny=SIZE, scale=STEP, method="no_pixel", dtype=np.float64).array
    assert np.abs(found - truth).max() < 2e-4 * truth.max()


def test_a_band_reaches_as_far_as_the_psf():
    wide, narrow = (galsim.Moffat(beta=3.0, fwhm=fwhm) for fwhm in (0.8, 0.25))
    assert describe_profile(wide, STEP, SIZE)[1].band < describe_profile(narrow, STEP, SIZE)[1].band
    images = [
        galsim.Convolve(p, galsim.Pixel(STEP)).drawImage(nx=101, ny=101, scale=STEP / 5, method="no_pixel").array for p in (wide, narrow)
    ]
    coarse, fine = (grid.band for grid in grids_of_images(np.stack(images), 5, SIZE))
    assert coarse < fine <= 5
    # an image at the stamp's own sampling knows nothing beyond its Nyquist frequency
    assert grids_of_images(images[1][None, ::5, ::5], 1, SIZE) == [ModeGrid(SIZE, 1.0)]
