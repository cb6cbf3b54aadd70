"""From stamps to what the network sees: the one function used by training, validation, catalogs and queries.

- `image` ``(N, H, W, 3B)``: asinh(image / rms), which shows faint wings; image / rms divided by its own root mean square, which
  keeps the shape of bright ones exact; and the mask. Masked and non-finite pixels are zero, whatever they hold.
- `psf` ``(N, h, w, B)``: signed square root of the PSF over its peak, so that wings count.
- `scalars` ``(N, 3B + 1)``: log rms, log of that root mean square, log of the sky's electrons per pixel, log2 of the binning.
"""

__all__ = ["input_shapes", "network_inputs"]

import numpy as np

from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Stamps

MAX_LOG_ELECTRONS = 14.0


def input_shapes(stamp: StampSpec, bands: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the shape of one object's array for each input."""
    return {
        "image": (stamp.size, stamp.size, 3 * bands),
        "psf": (stamp.psf_size, stamp.psf_size, bands),
        "scalars": (3 * bands + 1,),
    }


def network_inputs(stamps: Stamps) -> dict[str, Array]:
    """Return the network's inputs for stamps that are framed already.

    Parameters
    ----------
    stamps : Stamps
        Of the network's size, with tidy PSFs at the stamp's scale.
    """
    mask = stamps.mask | ~np.isfinite(stamps.images) | ~np.isfinite(stamps.rms) | (stamps.rms <= 0) | ~stamps.band_present[..., None, None]
    rms = np.where(mask, 1.0, stamps.rms)
    x = np.where(mask, 0.0, stamps.images / rms).astype(np.float32)
    good = np.maximum((~mask).sum((2, 3)), 1)
    scale = np.sqrt((x**2).sum((2, 3)) / good + 1.0)
    level = np.exp(np.where(mask, 0.0, np.log(rms)).sum((2, 3)) / good)
    with np.errstate(over="ignore"):
        electrons = np.log(np.minimum(stamps.gain * level**2, np.exp(MAX_LOG_ELECTRONS)))
    image = np.concatenate([np.arcsinh(x), x / scale[..., None, None], mask.astype(np.float32)], axis=1)
    peak = stamps.psf.max((-1, -2), keepdims=True)
    psf = stamps.psf / np.where(peak > 0, peak, 1.0)
    scalars = np.concatenate([np.log(level), np.log(scale), electrons, np.log2(stamps.binning)[:, None]], axis=1)
    return {
        "image": np.ascontiguousarray(np.moveaxis(image, 1, -1), np.float32),
        "psf": np.ascontiguousarray(np.moveaxis(np.sign(psf) * np.sqrt(np.abs(psf)), 1, -1), np.float32),
        "scalars": scalars.astype(np.float32),
    }
