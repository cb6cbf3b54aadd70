import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from astroflow.sims.fourier.compose import ellipse
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.wings import sersic_b, wrapped_light
from astroflow.sims.sersics import Sersic


def brightness(c, dx, dy):
    """Surface brightness of a Sersic profile by the book, in double precision."""
    n, re, e1, e2 = (float(v[0]) for v in (c.n, c.re, c.e1, c.e2))
    e = np.hypot(e1, e2)
    q, angle = (1 - e) / (1 + e), 0.5 * np.arctan2(e2, e1)
    major = dx * np.cos(angle) + dy * np.sin(angle)
    minor = dy * np.cos(angle) - dx * np.sin(angle)
    b = special.gammaincinv(2 * n, 0.5)
    peak = float(c.flux[0]) * b ** (2 * n) / (2 * np.pi * n * special.gamma(2 * n) * q * re**2)
    return peak * np.exp(-b * (np.hypot(major, minor / q) / re) ** (1 / n))


@pytest.mark.parametrize(
    ("n", "re", "e1", "e2"), [(6.0, 10.0, 0.3, -0.4), (6.0, 10.0, 0.0, 0.0), (4.0, 9.0, -0.6, 0.1), (2.0, 14.0, 0.1, 0.5)]
)
def test_the_light_of_all_copies(n, re, e1, e2):
    grid = ModeGrid(64, 1.5)
    c = Sersic(*(tf.constant([v], tf.float32) for v in (100.0, re, n, e1, e2, 0.7, -1.2)))
    found = wrapped_light(*ellipse(c), grid).numpy()[0]
    reach = 40
    i, j = (grid.period * v for v in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    others = (i != 0) | (j != 0)
    peak = brightness(c, 0.5, 0.5)
    for px, py in ((0, 0), (63, 0), (31, 32), (63, 63), (5, 40)):
        x, y = px - 31.5 - 0.7, py - 31.5 + 1.2
        truth = brightness(c, (x - j)[others], (y - i)[others]).sum()
        assert abs(found[py, px] - truth) < 0.01 * truth + 1e-7 * peak


def test_compact_galaxies_have_no_wrapped_light():
    grid = ModeGrid(32, 1.5)
    c = Sersic(*(tf.constant([v], tf.float32) for v in (1.0, 1.0, 1.0, 0.1, 0.0, 0.0, 0.0)))
    assert np.abs(wrapped_light(*ellipse(c), grid)).max() < 1e-9


def test_b_is_where_half_the_light_is():
    n = np.geomspace(0.26, 7.9, 200)
    found = sersic_b(tf.constant(n, tf.float32)).numpy()
    assert np.abs(found / special.gammaincinv(2 * n, 0.5) - 1).max() < 3e-6
