r"""Light that a periodic pattern carries round its edges, and how it is taken off.

On a grid of modes every galaxy stands in an endless lattice of its copies. A Sersic profile of high index has wings as long as
a stamp, so the copies shine into it: at n = 6 and an effective radius of ten pixels, seven per cent of the flux is spread over the period.
That far from its centre a profile is smooth and the PSF no longer changes it, so its surface brightness is known in closed form. It is
summed over the nearer copies at a few Chebyshev nodes, interpolated to the pixels and subtracted; all further copies together
are a constant: the flux outside the square that the summed ones fill, over the area of the period.
"""

__all__ = ["wrapped_light"]

import functools
import math
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.types import Array

NODES = 9
COPIES = 3
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

    nodes, to_pixels = _interpolation(grid.size)
    lattice = np.array([(i, j) for i in range(-COPIES, COPIES + 1) for j in range(-COPIES, COPIES + 1) if (i, j) != (0, 0)])
    gx = (nodes[None, :, None] - grid.period * lattice[:, 0, None, None]).astype(np.float32)  # (copies, x, 1)
    gy = (nodes[None, None, :] - grid.period * lattice[:, 1, None, None]).astype(np.float32)
    column = (slice(None), None, None, None)
    dx, dy = tf.constant(gx) - x[column], tf.constant(gy) - y[column]
    a = inverse[:, 0, 0][column] * dx + inverse[:, 0, 1][column] * dy
    b = inverse[:, 1, 0][column] * dx + inverse[:, 1, 1][column] * dy
    log_rho = 0.5 * tf.math.log(a * a + b * b)
    scale = sersic_b(n)
    area = tf.abs(inverse[:, 0, 0] * inverse[:, 1, 1] - inverse[:, 0, 1] * inverse[:, 1, 0])  # per pixel, in half-light radii squared
    log_peak = tf.math.log(area) - math.log(2 * math.pi) - tf.math.log(n) - tf.math.lgamma(2 * n) + 2 * n * tf.math.log(scale)
    near = tf.exp(log_peak[column] - scale[column] * tf.exp(log_rho / n[column]))
    near = tf.reduce_sum(near, 1)  # (N, x, y) at the nodes
    far = _outside(inverse, area, n, scale, (COPIES + 0.5) * grid.period) / grid.period**2
    matrix = tf.constant(to_pixels, tf.float32)
    smooth = tf.linalg.matmul(matrix, tf.linalg.matmul(tf.transpose(near, [0, 2, 1]), matrix, transpose_b=True))
    return flux[:, None, None] * (smooth + far[:, None, None])


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


@functools.lru_cache(maxsize=16)
def _interpolation(size: int) -> tuple[Array, Array]:
    """Return Chebyshev nodes over the stamp, from its centre, and the matrix ``(size, NODES)`` from values there to pixels."""
    half = size / 2
    nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    pixels = (np.arange(size) - (size - 1) / 2) / half
    matrix = chebyshev.chebvander(pixels, NODES - 1) @ np.linalg.inv(chebyshev.chebvander(nodes, NODES - 1))
    return nodes * half, matrix
