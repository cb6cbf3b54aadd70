"""How large a galaxy looks: the rough half-light radius from which framing chooses a binning."""

__all__ = ["apparent_radius"]

import numpy as np

from astroflow.types import Array

FAINTEST_RING = 0.3


def apparent_radius(image: Array, rms: Array, mask: Array, x: float, y: float) -> float:
    """Guess a half-light radius in pixels from the curve of growth about (x, y).

    Rings are added until their mean brightness falls below twice its error, or below `FAINTEST_RING` of a pixel's noise: wide rings average
    their own noise away, but not a residual sky. Half of the light within is the answer. Deliberately simple: it only chooses the binning.
    """
    height, width = image.shape
    if not (0 <= x < width and 0 <= y < height):
        return 1.0
    yy, xx = np.ogrid[:height, :width]
    ring = np.sqrt((xx - x) ** 2 + (yy - y) ** 2).astype(np.int64)
    good = ~mask
    rings = int(ring.max()) + 1
    count = np.bincount(ring[good], minlength=rings)
    flux = np.bincount(ring[good], weights=image[good], minlength=rings)
    variance = np.bincount(ring[good], weights=rms[good].astype(np.float64) ** 2, minlength=rings)
    # rings of growing width, so that faint outskirts are averaged before they are judged
    edges = np.unique(np.concatenate([[0, 1, 2, 3, 4], np.geomspace(4, max(rings, 6), 24).astype(int)]))
    mean_flux = np.add.reduceat(np.append(flux, 0.0), np.minimum(edges, rings))[:-1]
    error = np.sqrt(np.add.reduceat(np.append(variance, 0.0), np.minimum(edges, rings))[:-1])
    noise = np.bincount(ring[good], weights=rms[good], minlength=rings)
    noise = np.add.reduceat(np.append(noise, 0.0), np.minimum(edges, rings))[:-1]
    faint = np.flatnonzero(mean_flux < np.maximum(2 * error, FAINTEST_RING * noise))
    last = int(edges[faint[0]]) if len(faint) else rings
    if last < 2:
        return 1.0
    full = np.pi * (np.arange(rings) * 2 + 1)
    growth = np.cumsum(np.where(count > 0, flux / np.maximum(count, 1), 0) * full)[:last]
    total = growth.max()
    inside = int(np.argmax(growth >= 0.5 * total))
    before = growth[inside - 1] if inside else 0.0
    return float(inside + (0.5 * total - before) / max(growth[inside] - before, 1e-12))
