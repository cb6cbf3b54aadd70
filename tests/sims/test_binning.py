import numpy as np
import pytest

from astroflow.errors import InputError
from astroflow.sims.binning import bin_images, bin_mask, bin_rms


@pytest.mark.parametrize("b", [1, 2, 4, 8])
def test_sums_noise_and_masks_of_blocks(b):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 2, 16, 24)).astype(np.float32)
    rms = rng.uniform(1, 2, (3, 2, 16, 24)).astype(np.float32)
    mask = rng.random((3, 2, 16, 24)) < 0.05
    binned = [bin_images(images, b), bin_rms(rms, b), bin_mask(mask, b)]
    for i in range(16 // b):
        for j in range(24 // b):
            block = np.s_[..., i * b : (i + 1) * b, j * b : (j + 1) * b]
            assert np.allclose(binned[0][..., i, j], images[block].sum((-1, -2)), atol=1e-5)
            assert np.allclose(binned[1][..., i, j], np.sqrt((rms[block].astype(float) ** 2).sum((-1, -2))), rtol=1e-6)
            assert np.array_equal(binned[2][..., i, j], mask[block].any((-1, -2)))
    assert binned[0].dtype == binned[1].dtype == np.float32


def test_the_rms_of_binned_noise_is_what_it_scatters():
    rms = np.random.default_rng(1).uniform(0.5, 3, (8, 8))
    noise = np.random.default_rng(2).normal(size=(20_000, 8, 8)) * rms
    assert np.allclose(bin_images(noise, 4).std(0), bin_rms(rms, 4), rtol=0.03)


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="sides 6 x 8 are not multiples of the binning 4"):
        bin_images(np.ones((1, 6, 8)), 4)
