import galsim
import numpy as np
import tensorflow as tf

from astroflow.sims.fourier.compose import draw_sersics
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.radial import sersic_table
from astroflow.sims.sersics import Sersic

GRID = ModeGrid(48, 2.0)
TABLE = sersic_table(0.5, 6.0)


def pixel(n):
    """The transform of a square pixel, and of no PSF besides."""
    response = np.sinc(GRID.kx / (2 * np.pi))[:, None] * np.sinc(GRID.ky / (2 * np.pi))[None, :]
    blur = np.exp(-0.5 * (GRID.kx[:, None] ** 2 + GRID.ky[None, :] ** 2))
    return tf.constant(np.repeat((response * blur)[None, None], n, 0), tf.float32)


def component(*values):
    return Sersic(*(tf.constant([v], tf.float32) for v in values))


def test_pixels_as_the_unit_of_length():
    c = component(100.0, 4.0, 1.5, 0.2, -0.3, 0.7, -1.1)
    q = (1 - np.hypot(0.2, 0.3)) / (1 + np.hypot(0.2, 0.3))
    galaxy = galsim.Sersic(1.5, half_light_radius=4.0 * q**0.5, flux=100.0).shear(g1=0.2, g2=-0.3).shift(0.7, -1.1)
    truth = galsim.Convolve(galaxy, galsim.Gaussian(sigma=1.0)).drawImage(nx=48, ny=48, scale=1.0).array
    found = draw_sersics([c], pixel(1), GRID, TABLE).numpy()[0]
    assert np.abs(found - truth).max() < 5e-4 * truth.max()


def test_components_add_up_whether_they_share_a_centre_or_not():
    x, y = tf.constant([0.4]), tf.constant([-0.2])
    disc, bulge = (
        Sersic(*(tf.constant([v], tf.float32) for v in values), x, y) for values in ((60.0, 5.0, 1.0, 0.3, 0.0), (40.0, 2.0, 4.0, 0.0, 0.1))
    )
    apart = component(40.0, 2.0, 4.0, 0.0, 0.1, 0.4, -0.2)
    together, alone = draw_sersics([disc, bulge], pixel(1), GRID, TABLE), [draw_sersics([c], pixel(1), GRID, TABLE) for c in (disc, bulge)]
    separate = draw_sersics([disc, apart], pixel(1), GRID, TABLE)
    for found in (together, separate):
        assert np.abs(found - (alone[0] + alone[1])).max() < 1e-5 * np.abs(found).max()
