r"""Light that a periodic pattern carries round its edges, and how it is taken off.

On a grid of modes every galaxy stands in an endless lattice of its copies. A Sersic profile of high index has wings as long as
a stamp, so the copies shine into it: at n = 6 and an effective radius of ten pixels, seven per cent of the flux is spread over the period.
That far from its centre a profile is smooth and the PSF no longer changes it, so its surface brightness is known in closed form. It is
summed over the nearer copies at a few Chebyshev nodes (fewer, the further away a copy is), interpolated to the pixels and subtracted; all
further copies together are a constant: the flux outside the square that the summed ones fill, over the area of the period.
"""

__all__ = ["wrapped_light"]

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.xla import settled
from astroflow.types import Array

RINGS = ((1, 9), (3, 4))
"""Copies out to the first number of periods are summed at squares of so many nodes."""
DIRECTIONS = 32
B_TERMS = 16
N_RANGE = (0.25, 8.0)


def wrapped_light(flux: Any, inverse: Any, n: Any, x: Any, y: Any, grid: ModeGrid) -> Any:
    """Return the surface brightness of all copies of Sersic profiles inside the stamp.

    Parameters
    ----------
    flux, n, x, y : tensor
        ``(N,)``: flux, index, centre from the stamp's centre in pixels.
    inverse : tensor
        ``(N, 2, 2)``: from pixels to units of the half-light radius in the frame where the profile is round.
    grid : ModeGrid
        Gives stamp and period.

    Returns
    -------
    tensor
        ``(N, size, size)``, flux per pixel.
    """
    import tensorflow as tf

    scale = sersic_b(n)
    area = tf.abs(inverse[:, 0, 0] * inverse[:, 1, 1] - inverse[:, 0, 1] * inverse[:, 1, 0])  # per pixel, in half-light radii squared
    log_peak = tf.math.log(area) - math.log(2 * math.pi) - tf.math.log(n) - tf.math.lgamma(2 * n) + 2 * n * tf.math.log(scale)
    rows = [inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 0], inverse[:, 1, 1], x, y, log_peak, scale, 0.5 / n]
    columns = tf.unstack(settled(tf.stack(rows))[:, :, None, None, None])
    far = _outside(inverse, area, n, scale, (RINGS[-1][0] + 0.5) * grid.period) / grid.period**2
    smooth = far[:, None, None]
    inner = 0
    for outer, count in RINGS:
        nodes, to_pixels = _interpolation(grid.size, count)
        matrix = tf.constant(to_pixels, tf.float32)
        values = settled(_copies(columns, _ring(inner, outer) * grid.period, nodes))
        smooth += tf.linalg.matmul(matrix, tf.linalg.matmul(values, matrix, transpose_b=True))
        inner = outer
    return flux[:, None, None] * smooth


def _ring(inner: int, outer: int) -> Array:
    """Return the places ``(copies, 2)`` of a lattice that lie more than `inner` and at most `outer` steps from its origin."""
    span = range(-outer, outer + 1)
    return np.array([(i, j) for i in span for j in span if max(abs(i), abs(j)) > inner])


def _copies(columns: Sequence[Any], places: Array, nodes: Array) -> Any:
    """Sum the light of copies at `places` over the square of `nodes`, ``(N, y, x)``."""
    import tensorflow as tf

    a0, a1, b0, b1, x, y, log_peak, scale, half_power = columns
    dx = tf.constant((nodes - places[:, :1])[:, None, :], tf.float32) - x  # (N, copies, 1, x)
    dy = tf.constant((nodes - places[:, 1:])[:, :, None], tf.float32) - y
    a, b = a0 * dx + a1 * dy, b0 * dx + b1 * dy
    # log_peak - b rho^(1/n), with rho^2 = a^2 + b^2
    return tf.reduce_sum(tf.exp(log_peak - scale * tf.exp(half_power * tf.math.log(a * a + b * b))), 1)


def _outside(inverse: Any, area: Any, n: Any, scale: Any, half_side: float) -> Any:
    """Return the share of flux ``(N,)`` outside a square of half side `half_side`: along a direction it is an incomplete gamma function."""
    import tensorflow as tf

    angles = np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS  # half a turn: profiles are symmetric
    ux, uy = np.cos(angles), np.sin(angles)
    edge = half_side / np.maximum(np.abs(ux), np.abs(uy))
    ux, uy, edge = (tf.constant(v[None, :], tf.float32) for v in (ux, uy, edge))
    a = inverse[:, 0, 0, None] * ux + inverse[:, 0, 1, None] * uy
    b = inverse[:, 1, 0, None] * ux + inverse[:, 1, 1, None] * uy
    squeeze = a * a + b * b  # squared length of a unit step, in half-light radii
    beyond = tf.math.igammac(2 * n[:, None], scale[:, None] * (edge * tf.sqrt(squeeze)) ** (1 / n[:, None]))
    return area * tf.reduce_mean(beyond / squeeze, -1)


def sersic_b(n: Any) -> Any:
    """Return b(n), for which the half-light radius is one: ``P(2n, b) = 1/2``, to 1e-6."""
    import tensorflow as tf

    low, high = N_RANGE
    v = (tf.math.log(n) - math.log(low)) / math.log(high / low) * 2 - 1
    previous, current = tf.zeros_like(v), tf.zeros_like(v)
    coefficients = _b_coefficients()
    for j in range(B_TERMS - 1, 0, -1):
        previous, current = current, 2 * v * current - previous + float(coefficients[j])
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
