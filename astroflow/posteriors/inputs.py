"""From stamps to what the network sees: the one function used by training, validation, catalogs and queries.

- `image` ``(N, H, W, 3B)``: asinh(image / rms), which shows faint wings; image / rms divided by its own root mean square, which
  keeps the shape of bright ones exact; and the mask. Masked and non-finite pixels are zero, whatever they hold.
- `psf` ``(N, h, w, B)``: signed square root of the PSF over its peak, so that wings count.
- `scalars` ``(N, 3B + 1)``: log rms, log of that root mean square, log of the sky's electrons per pixel, log2 of the binning.
- `moments` ``(N, 24B)``: flux, centroid, ellipticity and size under four round Gaussian windows. A network learns these only slowly and
  never to the per cent that bright galaxies deserve; given them, it starts from a decent measurement and learns the rest.
"""

__all__ = ["input_shapes", "network_inputs"]

import functools

import numpy as np

from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Stamps

MAX_LOG_ELECTRONS = 14.0
LARGEST = 1e15
AT_ONCE = 64
WINDOWS = (0.03, 0.06, 0.12, 0.24)
"""Widths (sigma) of the windows of the moments, as shares of the stamp's side."""


def input_shapes(stamp: StampSpec, bands: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the shape of one object's array for each input."""
    return {
        "image": (stamp.size, stamp.size, 3 * bands),
        "psf": (stamp.psf_size, stamp.psf_size, bands),
        "scalars": (3 * bands + 1,),
        "moments": (6 * len(WINDOWS) * bands,),
    }


def network_inputs(stamps: Stamps) -> dict[str, Array]:
    """Return the network's inputs for stamps that are framed already.

    Parameters
    ----------
    stamps : Stamps
        Of the network's size, with tidy PSFs at the stamp's scale.
    """
    # some rows at a time: temporary arrays of thousands of stamps would leave the processor's cache
    parts = [_inputs(stamps[start : start + AT_ONCE]) for start in range(0, max(len(stamps), 1), AT_ONCE)]
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _inputs(stamps: Stamps) -> dict[str, Array]:
    n, bands, height, width = stamps.shape
    with np.errstate(invalid="ignore"):
        good = ~stamps.mask & np.isfinite(stamps.images) & (stamps.rms > 0) & (stamps.rms < np.inf) & stamps.band_present[..., None, None]
    rms = np.where(good, stamps.rms, 1)
    x = np.where(good, stamps.images, 0) / rms
    count = np.maximum(good.sum((2, 3)), 1)
    scale = np.sqrt((x**2).sum((2, 3)) / count + 1.0)
    level = np.exp(np.log(rms).sum((2, 3), dtype=np.float64) / count)
    with np.errstate(over="ignore"):
        electrons = np.log(np.minimum(stamps.gain * level**2, np.exp(MAX_LOG_ELECTRONS)))
    image = np.empty((n, height, width, 3 * bands), np.float32)
    for k, values in enumerate((_arcsinh(x), x / scale[..., None, None], ~good)):
        image[..., k * bands : (k + 1) * bands] = np.moveaxis(values, 1, -1)
    peak = stamps.psf.max((-1, -2), keepdims=True)
    psf = stamps.psf / np.where(peak > 0, peak, 1.0)
    scalars = np.concatenate([np.log(level), np.log(scale), electrons, np.log2(stamps.binning)[:, None]], axis=1)
    return {
        "image": image,
        "psf": np.ascontiguousarray(np.moveaxis(np.copysign(np.sqrt(np.abs(psf)), psf), 1, -1), np.float32),
        "scalars": scalars.astype(np.float32),
        "moments": np.concatenate([_moments(x[:, band], good[:, band]) for band in range(bands)], axis=1),
    }


def _arcsinh(x: Array) -> Array:
    """Return arcsinh to 1e-6, of at most LARGEST: in passes that NumPy has vectorised, a sixth of the time of its own."""
    size = np.minimum(np.abs(x), LARGEST)
    return np.asarray(np.copysign(np.log(size + np.sqrt(size * size + 1)), x))


@functools.cache
def _windows(height: int, width: int) -> tuple[Array, Array]:
    """Return templates and squared windows.

    The templates ``(H W, K, 6)`` are a window times 1, x, y, xx - yy, 2 xy, rr - 2, in window widths; the squares are ``(H W, K)``.
    """
    y, x = np.mgrid[:height, :width]
    templates, squares = [], []
    for share in WINDOWS:
        sigma = share * max(height, width)
        u, v = (x - (width - 1) / 2) / sigma, (y - (height - 1) / 2) / sigma
        window = np.exp(-0.5 * (u**2 + v**2))
        shapes = (1 + 0 * u, u, v, u**2 - v**2, 2 * u * v, u**2 + v**2 - 2)
        templates.append(np.stack([window * shape for shape in shapes], -1).reshape(height * width, -1))
        squares.append((window**2).ravel())
    return np.stack(templates, 1).astype(np.float32), np.stack(squares, 1).astype(np.float32)


def _moments(x: Array, good: Array) -> Array:
    """Return ``(N, 6 K)`` moments of images in units of their noise.

    They are the asinh of the window's S/N, and ratios to it that vanish with the signal.
    """
    n, height, width = x.shape
    templates, squares = _windows(height, width)
    # one product per row, in one call: a product of all rows at once would round each row as its company has it
    sums = (x.reshape(n, 1, height * width) @ templates.reshape(height * width, -1)).reshape(n, len(WINDOWS), 6)
    noise = np.sqrt((good.reshape(n, 1, height * width).astype(np.float32) @ squares)[:, 0]) + 1e-3
    flux = sums[..., 0]
    ratios = sums[..., 1:] / np.sqrt(flux**2 + noise**2)[..., None]
    out = np.concatenate([np.arcsinh(flux / noise)[..., None], np.clip(ratios, -8, 8)], axis=-1)
    return np.ascontiguousarray(out.reshape(n, 6 * len(WINDOWS)), np.float32)
