import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from astroflow.sims.fourier.brightness import sersic_b
from astroflow.sims.fourier.ellipses import ellipse
from astroflow.sims.fourier.far_light import DIRECTIONS, far_light
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.wings import Blur, blur_of, wrapped_light
from astroflow.sims.sersics import Sersic

SHARP = Blur(*(tf.constant([v], tf.float32) for v in (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)))
"""No PSF at all."""


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
    ("n", "re", "e1", "e2", "everywhere"),
    [(6.0, 10.0, 0.3, -0.4, True), (6.0, 10.0, 0.0, 0.0, True), (4.0, 9.0, -0.6, 0.1, True), (2.0, 14.0, 0.1, 0.5, True),
     (4.0, 9.0, 0.0, 0.8, False)],
)  # fmt: skip
def test_the_light_of_all_copies(n, re, e1, e2, everywhere):
    """To a hundredth of itself everywhere; on the narrowest ridges to a two-hundredth of the brightest place."""
    grid = ModeGrid(64, 1.5)
    c = Sersic(*(tf.constant([v], tf.float32) for v in (100.0, re, n, e1, e2, 0.7, -1.2)))
    found = wrapped_light([ellipse(c)], SHARP, grid).numpy()[0]
    reach = 40
    i, j = (grid.period * v for v in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    others = (i != 0) | (j != 0)
    peak = brightness(c, 0.5, 0.5)
    places = np.array([(0, 0), (63, 0), (31, 32), (63, 63), (5, 40)])
    x, y = places.T - 31.5 - np.array([[0.7], [-1.2]])
    truth = np.array([brightness(c, (px - j)[others], (py - i)[others]).sum() for px, py in zip(x, y, strict=True)])
    allowed = 0.01 * truth if everywhere else 0.005 * truth.max()
    assert (np.abs(found[places[:, 1], places[:, 0]] - truth) < allowed + 1e-7 * peak).all()


def test_a_psf_blurs_and_shifts_the_copies():
    """Against the copies' light averaged over a Gaussian, on the ridges of an elongated galaxy where that matters most."""
    grid = ModeGrid(64, 1.0)
    c = Sersic(*(tf.constant([v], tf.float32) for v in (100.0, 9.0, 5.0, 0.6, 0.0, 0.0, 0.0)))
    covariance, shift, flux = np.array([[6.0, 1.0], [1.0, 8.0]]), np.array([0.6, -0.4]), 0.97
    k = np.stack(np.meshgrid(grid.kx, grid.ky, indexing="ij"), -1)
    psf = flux * np.exp(-1j * (k @ shift) - 0.5 * np.einsum("...i,ij,...j", k, covariance, k))
    blur = blur_of(tf.constant(np.stack([psf.real, psf.imag])[None], tf.float32), grid)
    np.testing.assert_allclose(np.ravel(blur), [flux, *shift, 6.0, 1.0, 8.0], rtol=2e-3)
    blurred, sharp = (wrapped_light([ellipse(c)], b, grid).numpy()[0] for b in (blur, SHARP))
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    u, v = np.meshgrid(nodes, nodes)
    weights = np.outer(weights, weights).ravel() / weights.sum() ** 2
    dx, dy = np.linalg.cholesky(covariance) @ np.stack([u.ravel(), v.ravel()]) + shift[:, None]
    copies = [(i * grid.period, j * grid.period) for i in range(-3, 4) for j in range(-3, 4) if (i, j) != (0, 0)]
    rows = np.arange(64)
    truth = np.zeros(64)
    for i, j in copies:
        truth += flux * weights @ brightness(c, 31.5 - i - dx[:, None], rows - 31.5 - j - dy[:, None])
    far = np.median(truth - blurred[:, 63])  # the copies beyond those summed here: a constant
    better, worse = (np.abs(found[:, 63] + far - truth).max() for found in (blurred, sharp))
    assert better < 0.2 * worse
    assert better < 0.03 * np.ptp(truth)


def test_a_ring_is_not_moved():
    """The transform of a PSF like a defocused star's is negative beyond its first zero, which is no shift."""
    grid = ModeGrid(64, 1.0)
    k = np.hypot(*np.meshgrid(grid.kx, grid.ky, indexing="ij"))
    ring = special.j0(13.0 * k)
    assert ring[3, grid.modes] < 0
    blur = blur_of(tf.constant(np.stack([ring, np.zeros_like(ring)])[None], tf.float32), grid)
    assert float(blur.x[0]) == float(blur.y[0]) == 0
    assert 0 < float(blur.xx[0]) < 13.0**2


def test_compact_galaxies_have_no_wrapped_light():
    grid = ModeGrid(32, 1.5)
    c = Sersic(*(tf.constant([v], tf.float32) for v in (1.0, 1.0, 1.0, 0.1, 0.0, 0.0, 0.0)))
    assert np.abs(wrapped_light([ellipse(c)], SHARP, grid)).max() < 1e-9


def test_b_is_where_half_the_light_is():
    n = np.geomspace(0.26, 7.9, 200)
    found = sersic_b(tf.constant(n, tf.float32)).numpy()
    assert np.abs(found / special.gammaincinv(2 * n, 0.5) - 1).max() < 3e-6


def outside_a_square(n, xx, xy, yy, half_side, directions):
    """The flux of a Sersic profile outside a square, by SciPy's incomplete gamma function along many directions."""
    angles = np.pi * (np.arange(directions) + 0.5) / directions
    ux, uy = np.cos(angles), np.sin(angles)
    determinant = xx * yy - xy * xy
    squeeze = (yy * ux**2 - 2 * xy * ux * uy + xx * uy**2) / determinant
    rho = half_side / np.maximum(np.abs(ux), np.abs(uy)) * np.sqrt(squeeze)
    beyond = special.gammaincc(2 * n, special.gammaincinv(2 * n, 0.5) * rho ** (1 / n))
    return float((beyond / squeeze).mean() / np.sqrt(determinant))


def test_the_light_of_further_copies_and_its_slopes():
    """Over every index and sizes from a pixel to half the stamp, against SciPy and its finite differences."""
    grid, rng = ModeGrid(64, 1.5), np.random.default_rng(2)
    n, re, e1, e2 = np.geomspace(0.3, 6.2, 60), rng.uniform(1, 32, 60), *rng.uniform(-0.49, 0.49, (2, 60))
    shape = [tf.cast(value, tf.float32) for value in (n, *ellipse(Sersic(1.0, re, n, e1, e2, 0.0, 0.0))[2:5])]
    given = [value.numpy().astype(np.float64) for value in shape]
    with tf.GradientTape() as tape:
        tape.watch(shape)
        light = far_light(*shape, grid)
    slopes = tape.gradient(light, shape)
    half_side, area = 3.5 * grid.period, grid.period**2
    truth = np.array([outside_a_square(*row, half_side, 2048) for row in zip(*given, strict=True)])
    assert truth.max() > 0.02
    assert np.abs(light.numpy() * area - truth).max() < 1e-5
    for k, slope in enumerate(slopes):
        step = 1e-5 * np.abs(given[k])
        up, down = ([*given[:k], given[k] + sign * step, *given[k + 1 :]] for sign in (1, -1))
        outer = (np.array([outside_a_square(*row, half_side, DIRECTIONS) for row in zip(*moved, strict=True)]) for moved in (up, down))
        expected = np.subtract(*outer) / (2 * step)
        assert np.abs(slope.numpy() * area - expected).max() < 3e-5 * np.abs(expected).max()
