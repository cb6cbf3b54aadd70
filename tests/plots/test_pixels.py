import numpy as np
import pytest

from astroflow.plots.pixels import Stretch, masked_colours


def test_stretch_spans_noise_to_peak():
    image = np.array([[0.0, 1.0], [np.nan, 1000.0]])
    stretch = Stretch.of(image, image, 2.0)
    assert stretch.knee == 2.0
    assert stretch.low == -5.0
    assert stretch.high == pytest.approx(1000, rel=0.01)
    norm = stretch.norm()
    assert norm(stretch.low) == pytest.approx(0)
    assert norm(stretch.high) == pytest.approx(1)
    # Linear about zero: one knee above zero is as far as one below.
    assert norm(0) - norm(-0.2) == pytest.approx(norm(0.2) - norm(0), rel=1e-6)


@pytest.mark.parametrize("noise", [np.nan, 0.0, -1.0])
def test_stretch_of_nothing_is_usable(noise):
    empty = np.full((3, 3), np.nan)
    stretch = Stretch.of(empty, empty, noise)
    assert stretch.low < 0 < stretch.high


def test_masked_pixels_have_a_colour_that_the_map_does_not_hold():
    import matplotlib

    for name in ("gray", "RdBu_r"):
        colours = masked_colours(name)
        bad = np.array(colours(np.ma.masked_invalid([np.nan]))[0])
        every = colours(np.linspace(0, 1, 256))
        assert np.abs(every - bad).max(1).min() > 0.08
        assert matplotlib.colormaps[name](np.nan) != tuple(bad)
