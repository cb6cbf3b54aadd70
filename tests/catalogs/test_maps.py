import numpy as np
import pytest

from astroflow.catalogs.maps import mask_of, neighbours_of, rms_of
from astroflow.catalogs.recipe import MaskMap, NoiseMap

IMAGE = np.array([[0.0, 4.0], [100.0, -3.0]], "f4")


@pytest.mark.parametrize(
    ("kind", "values"),
    [("rms", [[1.0, 2.0], [3.0, 4.0]]), ("variance", [[1.0, 4.0], [9.0, 16.0]]), ("weight", [[1.0, 1 / 4], [1 / 9, 1 / 16]])],
)
def test_every_kind_of_noise_map_becomes_the_same_rms(kind, values):
    rms, no_data = rms_of(NoiseMap(kind=kind, path="/n.fits"), np.array(values, "f4"), IMAGE, np.inf)
    np.testing.assert_allclose(rms, [[1, 2], [3, 4]], rtol=1e-6)
    assert not no_data.any()
    rms, _ = rms_of(NoiseMap(kind=kind, path="/n.fits", scale=1.47), np.array(values, "f4"), IMAGE, np.inf)
    np.testing.assert_allclose(rms, np.array([[1, 2], [3, 4]]) / 1.47, rtol=1e-6)


def test_zero_weight_is_no_data_and_bad_variance_is_not_a_number():
    rms, no_data = rms_of(NoiseMap(kind="weight", path="/n.fits"), np.array([[0.0, np.nan], [-1.0, 4.0]], "f4"), IMAGE, np.inf)
    assert no_data.tolist() == [[True, True], [True, False]]
    assert rms[1, 1] == 0.5
    rms, no_data = rms_of(NoiseMap(kind="variance", path="/n.fits"), np.array([[0.0, np.nan], [-1.0, 4.0]], "f4"), IMAGE, np.inf)
    assert np.isnan(rms).tolist() == [[True, True], [True, False]]
    assert not no_data.any()


def test_the_sources_photon_noise_is_taken_out():
    rng = np.random.default_rng(0)
    image = np.abs(rng.normal(0, 50, (20, 20))).astype("f4")
    gain, background = 2.0, 3.0
    total = np.sqrt(background**2 + image / gain).astype("f4")
    noise = NoiseMap(kind="rms", path="/n.fits", includes_source=True)
    np.testing.assert_allclose(rms_of(noise, total, image, gain)[0], background, rtol=1e-5)
    np.testing.assert_array_equal(rms_of(noise, total, image, np.inf)[0], total)


def test_what_is_left_of_the_noise_never_vanishes_and_never_grows():
    noise = NoiseMap(kind="rms", path="/n.fits", includes_source=True)
    values = np.full((10, 10), 1.0, "f4")
    values[0, 0], values[0, 1] = np.nan, -1.0
    image = np.full((10, 10), 1e6, "f4")
    image[5, 5] = np.nan
    rms, _ = rms_of(noise, values, image, 1.0)
    np.testing.assert_allclose(rms[1:5], 0.5)
    assert rms[5, 5] == 1.0
    assert np.isnan(rms[0, 0])
    assert rms[0, 1] == -1.0


def test_masks_by_bits_values_or_anything():
    values = np.array([[0, 1, 2, 3, 4, 1 << 40]])
    assert mask_of(MaskMap(path="/m.fits"), values).tolist() == [[False, True, True, True, True, True]]
    assert mask_of(MaskMap(path="/m.fits", bits=[1]), values).tolist() == [[False, False, True, True, False, False]]
    assert mask_of(MaskMap(path="/m.fits", bits=[0, 40]), values).tolist() == [[False, True, False, True, False, True]]
    assert mask_of(MaskMap(path="/m.fits", values=[3, 4]), values).tolist() == [[False, False, False, True, True, False]]


def test_masks_of_unsigned_integers_are_exact():
    values = np.array([[2**63, 2**63 + 1, 1, 2**53 + 1]], "u8")
    assert mask_of(MaskMap(path="/m.fits", values=[2**63 + 1, -1, 2**53]), values).tolist() == [[False, True, False, False]]
    assert mask_of(MaskMap(path="/m.fits", bits=[0]), values).tolist() == [[False, True, True, True]]


def test_neighbours_are_other_labels():
    assert neighbours_of(np.array([[0, 1, 2, 3]]), 2).tolist() == [[False, True, False, True]]
    assert neighbours_of(np.array([[0, 1, 2, 3]]), 0).tolist() == [[False, True, True, True]]
