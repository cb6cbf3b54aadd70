"""Wide PSFs are told from others by their second moments, however they are given."""

import galsim
import numpy as np
import pytest

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import describe_profile
from astroflow.sims.fourier.wide import WIDEST, wide_images, wide_profile, wide_profiles

SIZE = 64
NARROW, WIDE = (factor * WIDEST * SIZE for factor in (0.9, 1.1))


@pytest.mark.parametrize(("sigma", "wide"), [(NARROW, False), (WIDE, True)])
def test_a_gaussian_is_wide_when_its_sigma_is(sigma, wide):
    profile = galsim.Gaussian(sigma=sigma)
    assert wide_profile(profile, 1.0, SIZE) == wide
    assert wide_profile(profile.dilate(0.2).shift(0.1, -0.05) * 3.0, 0.2, SIZE) == wide
    assert wide_profiles("gaussian", sigma**2 * np.eye(2)[None], None, SIZE).tolist() == [wide]
    for oversampling in (1, 3):
        image = profile.drawImage(nx=101 * oversampling, ny=97 * oversampling, scale=1 / oversampling, method="no_pixel").array
        assert wide_images(np.stack([image, 5 * image]), oversampling, SIZE).tolist() == [wide, wide]


@pytest.mark.parametrize("fwhm", [3.0, 4.5, 6.0, 9.0])
@pytest.mark.parametrize("kind", ["moffat", "kolmogorov"])
def test_formulas_agree_with_galsim(kind, fwhm):
    profile = galsim.Moffat(beta=2.4, fwhm=fwhm) if kind == "moffat" else galsim.Kolmogorov(fwhm=fwhm)
    family, grid, _ = describe_profile(profile, 1.0, SIZE)
    assert family.kind == kind
    assert grid.wide == wide_profile(profile, 1.0, SIZE)


def test_wings_make_a_psf_wide():
    core = galsim.Gaussian(fwhm=3.5)
    assert not wide_profile(core, 1.0, SIZE)
    assert wide_profile(0.85 * core + 0.15 * galsim.Gaussian(sigma=16), 1.0, SIZE)
    assert ModeGrid(SIZE, 1.0, wide=True).period > ModeGrid(SIZE, 1.0).period
