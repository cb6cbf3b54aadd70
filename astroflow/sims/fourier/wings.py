r"""Light that a periodic pattern carries round its edges, and how it is taken off.

On a grid of modes every galaxy stands in an endless lattice of its copies. A Sersic profile of high index has wings as long as
a stamp, so the copies shine into it: at n = 6 and an effective radius of ten pixels, seven per cent of the flux is spread over the period.
That far from its centre a profile is smooth: its surface brightness is known in closed form, and a PSF changes it by its second moments at
most. It is summed over the nearer copies at a few Chebyshev nodes (fewer, the further away a copy is), interpolated to the pixels and
subtracted; all further copies together are a constant: the flux outside the square that the summed ones fill, over the area of the period.
"""

__all__ = ["Blur", "Copies", "blur_of", "far_light", "log_peak", "sersic_b", "wrapped_light"]

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev, laguerre
from scipy import special

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.xla import settled
from astroflow.types import Array

RINGS = ((1, 13), (3, 4))
"""Copies out to the first number of periods are summed at squares of so many nodes."""
DIRECTIONS = 64
LAGUERRE_NODES = 8
B_TERMS = 16
N_RANGE = (0.25, 8.0)


class Blur(NamedTuple):
    """What a PSF does to smooth light, every member ``(N,)``: its flux, the shift `x`, `y` in pixels, and the second moments about it."""

    flux: Any
    x: Any
    y: Any
    xx: Any
    xy: Any
    yy: Any


def blur_of(psf: Any, grid: ModeGrid) -> Blur:
    """Return the blur of PSFs ``(N, 1 or 2, Mx, My)``, see `PSFFamily.transform`.

    The moments of most PSFs diverge. What counts are those on the scale of the light that is blurred, so they are read off the lowest
    modes, as of a Gaussian: ``P(k) = P(0) exp(-i k x - k^T C k / 2)``.
    """
    import tensorflow as tf

    lowest, unit = psf[:, :, :2, grid.modes - 1 : grid.modes + 2], float(grid.kx[1])
    size = tf.sqrt(tf.reduce_sum(lowest**2, 1))  # (N, kx, ky)
    flux = size[:, 0, 1]
    fall = -2 / unit**2 * tf.math.log(size / flux[:, None, None])
    phase = tf.atan2(lowest[:, 1], lowest[:, 0]) / -unit if psf.shape[1] == 2 else tf.zeros_like(size)
    return Blur(flux, phase[:, 1, 1], phase[:, 0, 2], fall[:, 1, 1], 0.25 * (fall[:, 1, 2] - fall[:, 1, 0]), fall[:, 0, 2])


def wrapped_light(flux: Any, n: Any, xx: Any, xy: Any, yy: Any, x: Any, y: Any, blur: Blur, grid: ModeGrid) -> Any:
    """Return the surface brightness of all copies of Sersic profiles inside the stamp.

    Parameters
    ----------
    flux, n, x, y : tensor
        ``(N,)``: flux, index, centre from the stamp's centre in pixels.
    xx, xy, yy : tensor
        ``(N,)``: matrix of the half-light ellipse, pixels squared.
    blur : Blur
        Of the PSF.
    grid : ModeGrid
        Gives stamp and period.

    Returns
    -------
    tensor
        ``(N, size, size)``, flux per pixel.
    """
    import tensorflow as tf

    lattice = Copies(n, xx, xy, yy, x, y, blur, grid)
    smooth = far_light(n, xx, xy, yy, grid)[:, None, None]
    for ring in lattice.rings:
        smooth += ring.to_pixels(tf.reduce_sum(lattice.light(ring)[0], 1))
    return (flux * blur.flux)[:, None, None] * smooth


@dataclass(frozen=True)
class Ring:
    """Copies at like distance: their `places` ``(copies, 2)`` in pixels, and `nodes` ``(count,)`` along a side of the stamp."""

    places: Array
    nodes: Array
    matrix: Array

    def to_pixels(self, values: Any) -> Any:
        """Interpolate values at the nodes, ``(N, y, x)``, to the pixels."""
        import tensorflow as tf

        matrix = tf.constant(self.matrix, tf.float32)
        return tf.linalg.matmul(matrix, tf.linalg.matmul(settled(values), matrix, transpose_b=True))


class Copies:
    """The nearer copies of Sersic profiles of unit flux through PSFs of unit flux; parameters as of `wrapped_light`."""

    def __init__(self, n: Any, xx: Any, xy: Any, yy: Any, x: Any, y: Any, blur: Blur, grid: ModeGrid) -> None:
        import tensorflow as tf

        determinant = xx * yy - xy * xy
        rows = [
            yy / determinant,
            -xy / determinant,
            xx / determinant,
            x + blur.x,
            y + blur.y,
            log_peak(n) - 0.5 * tf.math.log(determinant),
            sersic_b(n),
            0.5 / n,
            *(moment + tf.zeros_like(x) for moment in (blur.xx, blur.xy, blur.yy)),  # galaxies may share one PSF
            (blur.xx * yy - 2 * blur.xy * xy + blur.yy * xx) / determinant,
        ]
        self._columns = tf.unstack(settled(tf.stack(rows))[:, :, None, None, None])
        self.rings = _rings(grid)

    def light(self, ring: Ring) -> tuple[Any, Any, Any, Any]:
        """Return what is needed of a ring's copies at its nodes, each ``(N, copies, y, x)``.

        Returns
        -------
        light : tensor
            Surface brightness.
        exponent : tensor
            ``b rho^(1/n)``, with rho in half-light radii.
        gx, gy : tensor
            The gradient of ``rho^2 / 2``.
        """
        import tensorflow as tf

        qxx, qxy, qyy, x, y, peak, scale, half_power, cxx, cxy, cyy, trace = self._columns
        dx = tf.constant((ring.nodes - ring.places[:, :1])[:, None, :], tf.float32) - x  # (N, copies, 1, x)
        dy = tf.constant((ring.nodes - ring.places[:, 1:])[:, :, None], tf.float32) - y
        gx, gy = qxx * dx + qxy * dy, qxy * dx + qyy * dy
        rho_squared = gx * dx + gy * dy
        exponent = scale * tf.exp(half_power * tf.math.log(rho_squared))
        # C : grad grad I / 2 I with I = exp(-E(rho^2)), grad rho^2 = 2 g and dE / d rho^2 = fall
        fall = exponent * half_power / rho_squared
        along = cxx * gx * gx + 2 * cxy * gx * gy + cyy * gy * gy
        change = fall * (2 * (fall + (1 - half_power) / rho_squared) * along - trace)
        change /= 1 + 2 * tf.abs(change)  # halves what the second order leaves of the blur of sharp ridges
        # a small part of a small part: in derivatives it is held fixed
        return tf.exp(peak - exponent) * (1 + tf.stop_gradient(change)), exponent, gx, gy


def log_peak(n: Any) -> Any:
    """Return the log of a Sersic profile's central brightness for unit flux and an ellipse of unit determinant."""
    import tensorflow as tf

    return 2 * n * tf.math.log(sersic_b(n)) - math.log(2 * math.pi) - tf.math.log(n) - tf.math.lgamma(2 * n)


@functools.lru_cache(maxsize=32)
def _rings(grid: ModeGrid) -> tuple[Ring, ...]:
    inner, rings = 0, []
    for outer, count in RINGS:
        rings.append(Ring(_ring(inner, outer) * grid.period, *_interpolation(grid.size, count)))
        inner = outer
    return tuple(rings)


def _ring(inner: int, outer: int) -> Array:
    """Return the places ``(copies, 2)`` of a lattice that lie more than `inner` and at most `outer` steps from its origin."""
    span = range(-outer, outer + 1)
    return np.array([(i, j) for i in span for j in span if max(abs(i), abs(j)) > inner])


def far_light(n: Any, xx: Any, xy: Any, yy: Any, grid: ModeGrid) -> Any:
    r"""Return the brightness ``(N,)`` of all further copies of profiles of unit flux.

    It is the flux outside a square. Along a direction that is an incomplete gamma function of :math:`x = b \rho^{1/n}` at the edge,

    .. math:: Q = \frac{\Gamma(2n, x)}{\Gamma(2n)} = \frac{e^{-x}}{\Gamma(2n)} \int_0^\infty (x + s)^{2n - 1} e^{-s} ds,

    which a few Gauss-Laguerre nodes give to 1e-8 where the edge is further out than two half-light radii. TensorFlow's own function
    iterates, and its derivatives are slow to compile; here they are written out.
    """
    import tensorflow as tf

    half_side = (RINGS[-1][0] + 0.5) * grid.period
    angles = np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS  # half a turn: profiles are symmetric
    ux, uy = np.cos(angles), np.sin(angles)
    edge = half_side / np.maximum(np.abs(ux), np.abs(uy))
    turns = np.stack([uy * uy, -2 * ux * uy, ux * ux]).astype(np.float32)  # (3, directions), for xx, xy and yy
    nodes, weights = (v.astype(np.float32) for v in laguerre.laggauss(LAGUERRE_NODES))
    area = float(grid.period) ** 2

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def brightness(n: Any, xx: Any, xy: Any, yy: Any) -> Any:
        determinant = xx * yy - xy * xy
        metric = tf.stack([xx, xy, yy], 1) / determinant[:, None]
        columns = tf.stack([0.5 / n, tf.math.log(sersic_b(n)), tf.math.lgamma(2 * n)])
        power, log_b, log_gamma = tf.unstack(settled(columns)[:, :, None])
        squeeze = tf.matmul(metric, turns)  # squared length of a unit step, in half-light radii
        log_rho = tf.math.log(edge.astype(np.float32) ** 2 * squeeze)
        log_x = log_b + power * log_rho
        x = tf.exp(log_x)
        shape = 1 / power
        log_y = tf.math.log(x[:, :, None] + nodes)
        terms = weights * tf.exp((shape - 1)[:, :, None] * log_y - (x + log_gamma)[:, :, None])
        beyond = tf.reduce_sum(terms, -1)
        scale = 1 / (area * tf.sqrt(determinant))
        value = scale * tf.reduce_mean(beyond / squeeze, -1)

        def slopes(upstream: Any) -> tuple[Any, Any, Any, Any]:
            b_rate, gamma_rate = tf.unstack(settled(tf.stack([_b_slope(n) / sersic_b(n), tf.math.digamma(2 * n)]))[:, :, None])
            density = tf.exp(shape * log_x - x - log_gamma)  # -dQ / d log x
            along_x = b_rate - 2 * power * power * log_rho  # d log x / dn
            along_n = 2 * tf.reduce_sum(terms * log_y, -1) - 2 * gamma_rate * beyond - density * along_x
            along_squeeze = -(power * density + beyond) / squeeze**2
            # the squeeze is (xx, xy, yy) / det times the turns, and so is its own slope but for the determinant's
            moments = tf.matmul(along_squeeze, turns, transpose_b=True) / DIRECTIONS
            total = tf.reduce_mean(along_squeeze * squeeze, -1) + 0.5 * tf.reduce_mean(beyond / squeeze, -1)
            parts = [(moments[:, k] - total * own) / determinant for k, own in enumerate((yy, -2 * xy, xx))]
            along = [tf.reduce_mean(along_n / squeeze, -1), *parts]
            return tuple(upstream * scale * slope for slope in along)

        return value, slopes

    return brightness(n, xx, xy, yy)


def sersic_b(n: Any) -> Any:
    """Return b(n), for which the half-light radius is one: ``P(2n, b) = 1/2``, to 1e-6."""
    return _series(n, _b_coefficients())


def _b_slope(n: Any) -> Any:
    return _series(n, chebyshev.chebder(_b_coefficients())) * (2 / math.log(N_RANGE[1] / N_RANGE[0])) / n


def _series(n: Any, coefficients: Array) -> Any:
    """Sum Chebyshev polynomials in log n over `N_RANGE`."""
    import tensorflow as tf

    low, high = N_RANGE
    v = (tf.math.log(n) - math.log(low)) / math.log(high / low) * 2 - 1
    previous, current, twice = tf.zeros_like(v), tf.zeros_like(v), 2 * v
    for coefficient in coefficients[:0:-1].tolist():
        previous, current = current, twice * current - previous + coefficient
    return v * current - previous + float(coefficients[0])


@functools.cache
def _b_coefficients() -> Array:
    v = np.cos(np.pi * (np.arange(B_TERMS) + 0.5) / B_TERMS)
    n = N_RANGE[0] * np.exp((v + 1) / 2 * math.log(N_RANGE[1] / N_RANGE[0]))
    return chebyshev.chebfit(v, special.gammaincinv(2 * n, 0.5), B_TERMS - 1)


@functools.lru_cache(maxsize=32)
def _interpolation(size: int, count: int) -> tuple[Array, Array]:
    """Return Chebyshev nodes over the stamp, from its centre, and the matrix ``(size, count)`` from values there to pixels."""
    half = size / 2
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    pixels = (np.arange(size) - (size - 1) / 2) / half
    matrix = chebyshev.chebvander(pixels, count - 1) @ np.linalg.inv(chebyshev.chebvander(nodes, count - 1))
    return nodes * half, matrix
