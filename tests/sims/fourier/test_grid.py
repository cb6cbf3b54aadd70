import numpy as np
import pytest
import tensorflow as tf

from astroflow.errors import ConfigError
from astroflow.sims.fourier.grid import ModeGrid


def gaussian_modes(grid, sigma):
    """Transform of unit Gaussians sampled at points, whose pixel values are known in closed form."""
    k2 = grid.kx[:, None] ** 2 + grid.ky[None, :] ** 2
    return tf.constant(np.exp(-0.5 * np.asarray(sigma)[:, None, None] ** 2 * k2)[:, None], tf.float32)


def placed(grid, sigma, x, y):
    return grid.to_pixels(gaussian_modes(grid, sigma), tf.constant(x, tf.float32), tf.constant(y, tf.float32)).numpy()


def gaussian_pixels(size, sigma, x, y):
    p = np.arange(size) - (size - 1) / 2
    r2 = (p[None, None, :] - np.asarray(x)[:, None, None]) ** 2 + (p[None, :, None] - np.asarray(y)[:, None, None]) ** 2
    s2 = np.asarray(sigma)[:, None, None] ** 2
    return np.exp(-0.5 * r2 / s2) / (2 * np.pi * s2)


@pytest.mark.parametrize("band", [1.0, 1.25, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("size", [16, 24, 48, 64])
def test_gaussians_land_where_and_as_they_should(size, band):
    sigma, x, y = [1.6, 2.5, 1.5], [0.0, 1.3, -2.25], [0.0, -0.7, 1.5]
    grid = ModeGrid(size, band)
    drawn = placed(grid, sigma, x, y)
    truth = gaussian_pixels(size, sigma, x, y)
    assert np.abs(drawn - truth).max() < 2e-5 * truth.max()


@pytest.mark.parametrize(("sigma", "band"), [(0.6, 3.0), (0.4, 4.0), (0.25, 6.0)])
def test_what_lies_beyond_the_nyquist_frequency_folds_down_as_in_a_camera(sigma, band):
    """A Gaussian too narrow for its pixels: right with modes to its own limit, wrong without."""
    x, y = [0.2, -0.4], [0.4, 0.1]
    truth = gaussian_pixels(32, [sigma] * 2, x, y)
    enough, few = (ModeGrid(32, b) for b in (band, 1.0))
    folded, cut = (placed(grid, [sigma] * 2, x, y) for grid in (enough, few))
    assert np.abs(folded - truth).max() < 1e-4 * truth.max()
    assert np.abs(cut - truth).max() > 1e-2 * truth.max()


def test_grids_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="multiples of 4"):
        ModeGrid(30, 1.5)
    with pytest.raises(ConfigError, match="between 1 and 16"):
        ModeGrid(32, 0.5)
