"""Light that is known at every pixel, worked out at the nodes alone."""

import numpy as np
import pytest
import tensorflow as tf

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.lattice import FURTHEST, Square

REACH = 12.0


def light(dx, dy):
    """Even, elongated and as steep as copies come, with its slopes."""
    rho_squared = 0.3 + (dx * dx + 0.8 * dx * dy + 3 * dy * dy) / REACH**2
    value = rho_squared**-1.5
    rate = -1.5 * rho_squared**-2.5 / REACH**2
    return value, rate * (2 * dx + 0.8 * dy), rate * (0.8 * dx + 6 * dy)


@pytest.mark.parametrize(("centre", "allowed"), [((0.0, 0.0), 2e-3), ((0.05, -0.03), 2e-3), ((-0.25, 0.15), 2e-2)])
@pytest.mark.parametrize("grid", [ModeGrid(32, 1.0), ModeGrid(64, 1.5), ModeGrid(64, 1.0, wide=True)])
def test_pixels_and_slopes_are_the_sum_of_all_copies(grid, centre, allowed):
    x, y = (grid.size * value for value in centre)  # what is left far from the stamp's own centre are the corners of a larger square
    square = Square(tf.constant([x, 0.0]), tf.constant([y, 0.0]), grid)
    terms = square.terms(light(*square.distances())[0])
    picture, slopes = square.to_pixels(terms[:, None])[0, 0].numpy(), square.to_slopes(terms)[0].numpy()
    pixels = np.arange(grid.size) - (grid.size - 1) / 2
    span = range(-FURTHEST, FURTHEST + 1)
    places = [(i * grid.period, j * grid.period) for i in span for j in span if (i, j) != (0, 0)]
    truth = sum(np.array(light(pixels[None] - x - i, pixels[:, None] - y - j)) for i, j in places)
    assert np.abs(picture - truth[0]).max() < allowed * np.ptp(truth[0])
    assert np.abs(slopes - truth[1:]).max() < 4 * allowed * np.abs(truth[1:]).max()


def test_half_of_the_copies_are_worked_out_each_once():
    lattice = Square(tf.zeros(1), tf.zeros(1), ModeGrid(32, 1.0)).lattice
    places = {tuple(place) for place in (lattice.places / 48).astype(int).tolist()}
    assert len(places) == ((2 * FURTHEST + 1) ** 2 - 1) // 2
    assert not places & {(-i, -j) for i, j in places}
