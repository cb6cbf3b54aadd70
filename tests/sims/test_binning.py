import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroflow.errors import InputError
from astroflow.sims.binning import bin_images, bin_mask, bin_rms, centre_shift, crop_or_pad


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


@given(side=st.integers(3, 40), other=st.integers(3, 40), size=st.integers(3, 40))
def test_cropping_and_padding_keeps_every_pixel_where_centre_shift_says(side, other, size):
    image = np.arange(side * other, dtype=float).reshape(side, other) + 1
    out = crop_or_pad(image, size, 0.0)
    assert out.shape == (size, size)
    y, x = np.nonzero(out)
    old_y, old_x = np.divmod(out[y, x].astype(int) - 1, other)
    # Positions from the centre, before and after.
    for new, old, length in ((y, old_y, side), (x, old_x, other)):
        moved = (new - (size - 1) / 2) - (old - (length - 1) / 2)
        assert np.all(moved == centre_shift(length, size))
    assert centre_shift(side, size) == (0 if (side - size) % 2 == 0 else 0.5 if side % 2 else -0.5)
    kept = min(side, size) * min(other, size)
    assert len(y) == kept


def test_the_centroid_of_a_star_moves_by_centre_shift():
    for side, size in [(9, 6), (9, 7), (8, 11), (8, 12), (11, 24), (30, 9)]:
        y, x = np.mgrid[:side, :side] - (side - 1) / 2
        star = np.exp(-0.5 * (x**2 + y**2) / 0.8**2)
        out = crop_or_pad(star, size, 0.0)
        yy, xx = np.mgrid[:size, :size] - (size - 1) / 2
        centroid = np.array([(out * xx).sum(), (out * yy).sum()]) / out.sum()
        assert np.allclose(centroid, centre_shift(side, size), atol=0.02)


def test_padding_has_the_value_asked_for_on_every_leading_axis():
    mask = crop_or_pad(np.zeros((2, 3, 4, 4), bool), 8, True)
    assert mask.shape == (2, 3, 8, 8)
    assert mask.sum() == 2 * 3 * (64 - 16)
