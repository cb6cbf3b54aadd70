from dataclasses import replace

import numpy as np
import pytest

from astroflow.posteriors.inputs import input_shapes, network_inputs
from astroflow.types import Stamps


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_shapes_are_those_that_the_network_is_built_for(galaxies, small_simulator):
    inputs = network_inputs(galaxies.stamps)
    assert {name: value.shape[1:] for name, value in inputs.items()} == input_shapes(small_simulator.stamp)
    assert all(value.dtype == np.float32 and len(value) == 70 for value in inputs.values())
    assert all(np.isfinite(value).all() for value in inputs.values())


def test_bands_are_channels():
    rng = np.random.default_rng(0)
    stamps = Stamps(images=rng.normal(size=(5, 2, 32, 32)), psf=rng.random((5, 2, 17, 17)), rms=1, zero_point=27, pixel_scale_arcsec=0.2)
    from astroflow.sims.stamp import StampSpec

    spec = StampSpec(size=32, psf_size=17, zero_point=27, pixel_scale_arcsec=0.2)
    assert {name: value.shape[1:] for name, value in network_inputs(stamps).items()} == input_shapes(spec, bands=2)


@pytest.mark.parametrize("rows", [[0], [69], [5, 4, 3], list(range(69, -1, -1)), list(range(64))], ids=lambda rows: str(len(rows)))
def test_a_row_has_the_same_bits_in_any_company(galaxies, rows):
    together = network_inputs(galaxies.stamps)
    assert same(network_inputs(galaxies.stamps[rows]), {name: value[rows] for name, value in together.items()})


@pytest.mark.parametrize("junk", [np.nan, np.inf, -1e30, 5.0])
def test_masked_pixels_carry_nothing(galaxies, junk):
    stamps = galaxies.stamps
    spoilt = replace(stamps, images=np.where(stamps.mask, junk, stamps.images), rms=np.where(stamps.mask, junk, stamps.rms))
    assert same(network_inputs(spoilt), network_inputs(stamps))


@pytest.mark.parametrize(("part", "value"), [("images", np.nan), ("images", np.inf), ("rms", np.nan), ("rms", 0.0), ("rms", -1.0)])
def test_bad_pixels_are_masked_pixels(galaxies, part, value):
    stamps = galaxies.stamps[:4]
    array, mask = getattr(stamps, part).copy(), stamps.mask.copy()
    array[:, :, 3, 5], mask[:, :, 3, 5] = value, True
    assert same(network_inputs(replace(stamps, **{part: array})), network_inputs(replace(stamps, mask=mask)))


def test_only_the_logarithms_know_the_unit(galaxies):
    stamps = galaxies.stamps
    # powers of two are exact
    other = network_inputs(replace(stamps, images=stamps.images * 4, rms=stamps.rms * 4, gain=stamps.gain / 4))
    here = network_inputs(stamps)
    for name in ("image", "psf", "moments"):
        assert np.array_equal(other[name], here[name])
    difference = other["scalars"] - here["scalars"]
    assert np.allclose(difference[:, 0], np.log(4), atol=1e-5)
    # electrons per pixel of the sky, gain * rms**2, grow as the unit does
    assert np.allclose(difference[:, 2], np.log(4), atol=1e-5)
    assert np.allclose(difference[:, [1, 3]], 0, atol=1e-5)


def test_an_infinite_gain_is_a_large_number_and_the_binning_a_logarithm(galaxies):
    stamps = galaxies.stamps[:4]
    inputs = network_inputs(replace(stamps, gain=np.inf, binning=[1, 2, 4, 8]))
    assert np.allclose(inputs["scalars"][:, 2], 14.0)
    assert inputs["scalars"][:, 3].tolist() == [0, 1, 2, 3]


def test_a_blank_psf_is_no_division_by_zero(galaxies):
    assert not network_inputs(replace(galaxies.stamps[:2], psf=np.zeros((17, 17))))["psf"].any()


def test_wings_of_the_psf_keep_their_sign(galaxies):
    psf = np.full((17, 17), -0.01, np.float32)
    psf[8, 8] = 4.0
    seen = network_inputs(replace(galaxies.stamps[:1], psf=psf))["psf"][0, ..., 0]
    assert seen[8, 8] == 1.0
    assert np.allclose(seen[0, 0], -0.05)


def blob(x=0.0, y=0.0, a=3.0, b=3.0, peak=100.0):
    yy, xx = np.mgrid[:32, :32] - 15.5
    return Stamps(
        images=peak * np.exp(-0.5 * ((xx - x) ** 2 / a**2 + (yy - y) ** 2 / b**2)),
        psf=np.ones((17, 17)),
        rms=1,
        zero_point=27,
        pixel_scale_arcsec=0.2,
    )


def moments(**shape):
    return network_inputs(blob(**shape))["moments"].reshape(4, 6)


def test_moments_are_flux_centroid_ellipticity_and_size_under_each_window():
    round_one = moments()
    assert np.allclose(round_one[:, 1:5], 0, atol=1e-4)
    assert (moments(x=1.0)[:, 1] > 0.05).all()
    assert (moments(y=-1.0)[:, 2] < -0.05).all()
    assert (moments(a=4.0, b=2.5)[1:, 3] > 0.02).all()
    assert np.allclose(moments(a=4.0, b=2.5)[:, 3], -moments(a=2.5, b=4.0)[:, 3], atol=1e-4)
    assert (moments(a=5.0, b=5.0)[:, 5] > round_one[:, 5]).all()
    assert (moments(peak=200.0)[:, 0] > round_one[:, 0]).all()
    assert np.allclose(moments(peak=200.0)[:, 1:], round_one[:, 1:], atol=1e-2), "ratios do not know the flux of what is bright"
