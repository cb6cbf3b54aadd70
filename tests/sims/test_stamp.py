import numpy as np
import pydantic
import pytest

from astroflow.errors import ConfigError
from astroflow.sims.stamp import StampSpec


def spec(**changes):
    return StampSpec(**({"size": 32, "pixel_scale_arcsec": 0.1, "zero_point": 25.0} | changes))


def test_binnings_share_the_sizes_between_them():
    stamp = spec(binning=(1, 2, 4), re_pixels=(2.0, 10.0))
    assert stamp.re_limits_arcsec(1) == (0.0, 1.0)
    assert stamp.re_limits_arcsec(2) == (0.4, 2.0)
    assert stamp.re_limits_arcsec(4) == (0.8, 4.0)
    assert stamp.serves({"re_arcsec": 0.5}, 2)
    assert not stamp.serves({"re_arcsec": 0.3}, 2)
    assert not stamp.serves({"re_arcsec": 1.1}, 1)


def test_a_single_binning_serves_every_size_and_so_does_a_galaxy_without_one():
    assert spec().re_limits_arcsec(1) == (0.0, np.inf)
    assert spec(binning=(1, 2)).serves({"mag": 20.0}, 2)


def test_an_unknown_binning_is_refused():
    with pytest.raises(ConfigError, match=r"binning 2 is not one of \[1\]"):
        spec().re_limits_arcsec(2)


def test_binnings_are_drawn_equally_often():
    stamp = spec(binning=(1, 4, 8))
    rng = np.random.default_rng(0)
    values, counts = np.unique([stamp.draw_binning(rng) for _ in range(3000)], return_counts=True)
    assert values.tolist() == [1, 4, 8]
    assert np.abs(counts - 1000).max() < 130


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 40}, r"`size` \(=40\) must be a multiple of 16"),
        ({"psf_size": 20}, r"`psf_size` \(=20\) must be odd"),
        ({"binning": (2, 1)}, "must be rising members of 1, 2, 4, 8"),
        ({"binning": (1, 3)}, "must be rising members"),
        ({"binning": ()}, "must be rising members"),
        ({"re_pixels": (5.0, 2.0)}, "must be two rising numbers"),
        ({"pixel_scale_arcsec": 0.0}, "greater than 0"),
        ({"zero_point": float("inf")}, "finite number"),
    ],
)
def test_stamps_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        spec(**changes)
