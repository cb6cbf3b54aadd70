r"""PSFs cut to the period of the modes, so that their wings carry no light round it.

A PSF on a grid of modes stands in an endless lattice of its copies, and the wings of turbulence and of apertures are so long
(:math:`r^{-11/3}` and :math:`r^{-3}`) that the copies would bring up to a hundredth of the flux back into the stamp. Cut to a square of
the period's side, a PSF has no such copies: each pixel sees light from up to half a period away through the PSF's true wing, and light from
further away, of which a stamp holds next to none, not at all.

Where the PSF is a formula, the copies' light inside the square is smooth. It is interpolated from a few Chebyshev nodes, whose
transforms are known, and subtracted. Where GalSim samples the PSF, it does so on a period that holds all of it, and the cut is a
convolution of the modes with a sinc.
"""

__all__ = ["copies_of_kolmogorov", "copies_of_moffat", "cropped_modes"]

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, legendre

from astroflow.sims.fourier.chebyshev import nodes as nodes_of
from astroflow.sims.fourier.chebyshev import to_coefficients
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.xla import settled
from astroflow.types import Array

TERMS = 6
"""Chebyshev terms of the copies' light along a side of the square."""
FURTHEST = 2
"""Copies beyond the first count as a constant: up to so many periods one by one, then together, by the flux outside a circle."""
EDGE = (2 * FURTHEST + 1) / math.sqrt(math.pi)
"""Radius of that circle in periods: it is as large as the square of the copies within."""
NEAR = 8
"""Copies that touch the first."""
TURNS = 4
"""Places on the circle."""
LONGEST = 6
"""Periods of the modes that GalSim samples, at most."""
KOLMOGOROV_WING = 2 ** (5 / 3) * math.gamma(11 / 6) / (math.pi * -math.gamma(-5 / 6))
"""Brightness of ``exp(-k^(5/3))`` far from its centre, times ``r^(11/3)``: the leading term of its Hankel transform."""


def copies_of_moffat(metric: Any, beta: Any, grid: ModeGrid) -> Any:
    """Return the transform of the light of a Moffat profile's copies within the square, ``(N, Mx, My)``.

    Parameters
    ----------
    metric : tensor
        ``(N, 2, 2)``: matrix of the ellipse at the scale radius, pixels squared.
    beta : tensor
        ``(N,)``: slope.
    grid : ModeGrid
        Gives modes and period.
    """
    import tensorflow as tf

    slope = settled(beta)[:, None]
    return _transform(metric, lambda rho_squared, peak: peak * (slope - 1) * tf.exp(-slope * tf.math.log1p(rho_squared)), 2 * slope, grid)


def copies_of_kolmogorov(metric: Any, grid: ModeGrid) -> Any:
    """Return the transform of the light of a Kolmogorov profile's copies within the square, see `copies_of_moffat`."""
    import tensorflow as tf

    wing = math.pi * KOLMOGOROV_WING
    return _transform(metric, lambda rho_squared, peak: peak * wing * tf.exp(-11 / 6 * tf.math.log(rho_squared)), 11 / 3, grid)


def _transform(metric: Any, brightness: Callable[[Any, Any], Any], power: Any, grid: ModeGrid) -> Any:
    """Return the transform of the copies' light.

    `brightness` takes squared scale radii and ``1 / (pi sqrt(det metric))``, and falls as ``r^-power`` in the end.
    """
    import tensorflow as tf

    m = settled(tf.cast(metric, tf.float32))
    xx, xy, yy = (m[:, i, j][:, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    determinant = xx * yy - xy * xy
    peak = 1 / (math.pi * tf.sqrt(determinant))

    places, to_terms, waves_x, waves_y = _square(grid)
    dx, dy = places
    light = settled(brightness((yy * dx**2 - 2 * xy * (dx * dy) + xx * dy**2) / determinant, peak))
    near, further, circle = tf.split(light, [NEAR * TERMS**2, dx.size - NEAR * TERMS**2 - TURNS, TURNS], 1)
    outside = 2 * math.pi * EDGE**2 / (power - 2) * tf.reduce_mean(circle, 1, keepdims=True)
    far = tf.reduce_sum(further, 1, keepdims=True) + outside
    values = tf.reshape(tf.reduce_sum(tf.reshape(near, [-1, NEAR, TERMS**2]), 1) + far, [-1, TERMS, TERMS])
    terms = tf.matmul(to_terms, tf.matmul(values, to_terms, transpose_b=True)) * _PARITY
    along_y = tf.matmul(settled(terms), tf.tile(waves_y[None], [tf.shape(terms)[0], 1, 1]), transpose_b=True)
    return tf.matmul(tf.tile(waves_x[None], [tf.shape(terms)[0], 1, 1]), along_y)


# PSFs are symmetric about their centres: terms of mixed parity vanish, and those odd in x and y have i^2 from either transform
_PARITY = np.where(np.add.outer(np.arange(TERMS), np.arange(TERMS)) % 2, 0.0, np.where(np.arange(TERMS) % 2, -1.0, 1.0)).astype(np.float32)


@functools.lru_cache(maxsize=32)
def _square(grid: ModeGrid) -> tuple[Array, Array, Array, Array]:
    """Return places, the matrix from values at nodes to terms, and the terms' transforms.

    The places ``(2, count)`` are the nodes as each of the nearest copies sees them, further copies, and some on the circle.
    """
    u = nodes_of(TERMS)
    steps = range(-FURTHEST, FURTHEST + 1)
    lattice = np.array([(i, j) for i in steps for j in steps if (i, j) != (0, 0)])
    near = np.abs(lattice).max(1) == 1
    nodes = np.stack([v.ravel() for v in np.meshgrid(0.5 * u, 0.5 * u, indexing="ij")], 1)
    angles = np.pi * (np.arange(TURNS) + 0.5) / TURNS  # half a turn: profiles are symmetric
    circle = EDGE * np.stack([np.cos(angles), np.sin(angles)], 1)
    places = grid.period * np.concatenate([(nodes - lattice[near][:, None]).reshape(-1, 2), lattice[~near], circle])
    to_terms = to_coefficients(TERMS).astype(np.float32)
    half = grid.period / 2
    at, weights = legendre.leggauss(2 * grid.modes + 40)
    values = half * weights[:, None] * chebyshev.chebvander(at, TERMS - 1)
    odd = np.arange(TERMS) % 2 == 1
    waves = [np.where(odd, np.sin(half * np.outer(k, at)) @ values, np.cos(half * np.outer(k, at)) @ values) for k in (grid.kx, grid.ky)]
    return places.T.astype(np.float32), to_terms, waves[0].astype(np.float32), waves[1].astype(np.float32)


def cropped_modes(profile: Any, step: float, grid: ModeGrid) -> Array:
    """Return the modes ``(2, Mx, My)`` of a GalSim profile of unit flux cut to the square; `step` is the pixel in arcsec."""
    # twice the period that GalSim would take for itself: it lets half a per cent come round
    times = int(np.clip(math.ceil(4 * math.pi / (profile.stepk * step * grid.period)), 1, LONGEST))
    side = 2 * times * grid.modes + 1
    drawn = profile.withFlux(1.0).drawKImage(nx=side, ny=side, scale=float(grid.kx[1]) / (step * times)).array.T
    fine = np.arange(-times * grid.modes, times * grid.modes + 1) / times
    along_x, along_y = (
        np.sinc(np.subtract.outer(k, fine)) / times for k in (np.arange(grid.modes + 1), np.arange(-grid.modes, grid.modes + 1))
    )
    cut = along_x @ drawn @ along_y.T
    return np.stack([cut.real, cut.imag]).astype(np.float32)
