import galsim
import numpy as np
import pytest
import tensorflow as tf

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import PSFFamily, describe_profile

SIZE, STEP = 32, 0.2
TIGHT = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=1e-4)
PROFILES = {
    "moffat": galsim.Moffat(beta=2.2, fwhm=0.9).shear(g1=0.1, g2=-0.05),
    "kolmogorov": galsim.Kolmogorov(fwhm=1.0).shear(g1=-0.05, g2=0.1),
    "sampled": galsim.Airy(lam_over_diam=0.4, obscuration=0.3).shift(0.03, -0.02),
}


def modes(profile):
    family, grid, arrays = describe_profile(profile, STEP, SIZE)
    tensors = {name: tf.constant(np.asarray(v)[None], tf.float32) for name, v in arrays.items()}
    return family, grid, family.transform(tensors, grid), tensors["offset"]


@pytest.mark.parametrize("name", PROFILES)
def test_no_light_of_a_psf_comes_round_the_period(name):
    """The pixels of the period hold what an endless frame holds there, and mode zero their sum."""
    profile = PROFILES[name].withGSParams(TIGHT)
    family, grid, planes, offset = modes(profile)
    assert family.kind == name
    side = grid.period
    found = grid.to_pixels(planes, offset[:, 0], offset[:, 1], side).numpy()[0]
    truth = profile.drawImage(nx=side, ny=side, scale=STEP, dtype=np.float64).array
    assert np.abs(found - truth).max() < 1e-4 * truth.max()
    stamp = (slice((side - SIZE) // 2, (side + SIZE) // 2),) * 2
    assert abs(found[stamp].sum() - truth[stamp].sum()) < 1e-4
    assert abs(float(planes[0, 0, 0, grid.modes]) - truth.sum()) < 3e-4
    assert truth.sum() < 0.997  # there was light to come round


def test_images_wider_than_the_period_are_cut():
    rng = np.random.default_rng(3)
    image = rng.random((1, 2 * SIZE + 1, 2 * SIZE + 1))
    grid = ModeGrid(SIZE, 1.0)
    edge = (2 * SIZE + 1 - grid.period + 1) // 2
    whole, cut = (PSFFamily("image", (1,)).transform({"image": tf.constant(v)}, grid) for v in (image, image[:, edge:-edge, edge:-edge]))
    np.testing.assert_array_equal(whole, cut)
