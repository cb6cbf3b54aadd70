"""How large galaxies look: the rough half-light radius from which framing chooses a binning."""

__all__ = ["apparent_radius"]

import functools

import numpy as np

from astroflow.types import Array

FAINTEST_RING = 0.3


def apparent_radius(image: Array, rms: Array, mask: Array, x: Array, y: Array) -> Array:
    """Guess half-light radii in pixels from the curves of growth about (x, y).

    Rings are added until their mean brightness falls below twice its error, or below `FAINTEST_RING` of a pixel's noise: wide rings average
    their own noise away, but not a residual sky. Half of the light within is the answer. Deliberately simple: it only chooses the binning.

    Parameters
    ----------
    image, rms, mask : ndarray
        ``(N, H, W)``.
    x, y : ndarray
        ``(N,)`` pixel positions.

    Returns
    -------
    ndarray
        ``(N,)`` float64; 1 where there is no light, or the position is off the image.
    """
    n, height, width = image.shape
    out = np.ones(n)
    on = np.flatnonzero((x >= 0) & (x < width) & (y >= 0) & (y < height))
    if not len(on):
        return out
    if len(on) < n:
        image, rms, mask, x, y = image[on], rms[on], mask[on], x[on], y[on]
    yy, xx = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    ring = np.sqrt((xx - x[:, None, None]) ** 2 + (yy - y[:, None, None]) ** 2).astype(np.int64)
    rings = ring.max((1, 2)) + 1
    most = int(rings.max())
    good = ~mask
    place = (ring + most * np.arange(len(on))[:, None, None])[good]
    noise = rms[good]

    def sums(weights: Array | None) -> Array:
        return np.bincount(place, weights=weights, minlength=len(on) * most).reshape(len(on), most)

    curves = sums(None), sums(image[good]), sums(noise.astype(np.float64) ** 2), sums(noise)
    for number in np.unique(rings):
        rows = np.flatnonzero(rings == number)
        out[on[rows]] = _half_light(*(curve[rows, :number] for curve in curves))
    return out


def _half_light(count: Array, flux: Array, variance: Array, noise: Array) -> Array:
    """Return half-light radii ``(N,)`` from sums over rings one pixel wide, ``(N, R)``."""
    rings = count.shape[1]
    edges = _edges(rings)

    def wide(values: Array) -> Array:
        return np.asarray(np.add.reduceat(np.pad(values, ((0, 0), (0, 1))), np.minimum(edges, rings), axis=1)[:, :-1])

    faint = wide(flux) < np.maximum(2 * np.sqrt(wide(variance)), FAINTEST_RING * wide(noise))
    last = np.where(faint.any(1), edges[faint.argmax(1)], rings)
    full = np.pi * (np.arange(rings) * 2 + 1)
    growth = np.cumsum(np.where(count > 0, flux / np.maximum(count, 1), 0) * full, axis=1)
    within = np.arange(rings) < last[:, None]
    half = 0.5 * np.where(within, growth, -np.inf).max(1)
    inside = ((growth >= half[:, None]) & within).argmax(1)
    row = np.arange(len(growth))
    before = np.where(inside > 0, growth[row, inside - 1], 0.0)
    radius = inside + (half - before) / np.maximum(growth[row, inside] - before, 1e-12)
    return np.where(last < 2, 1.0, radius)


@functools.cache
def _edges(rings: int) -> Array:
    """Return where rings of growing width begin, so that faint outskirts are averaged before they are judged."""
    return np.unique(np.concatenate([[0, 1, 2, 3, 4], np.geomspace(4, max(rings, 6), 24).astype(int)]))
