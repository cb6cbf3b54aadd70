"""What the Fourier engine takes from given stamps: PSF images of unit sum, and a square grid around stamps of any shape."""

__all__ = ["frame_of", "unit_psfs"]

import numpy as np

from astroflow.errors import InputError
from astroflow.types import Array, Stamps

UNIT_SUM = 1e-5
"""PSF images whose sum is off by less, by rounding, are left alone."""


def unit_psfs(stamps: Stamps, channel: int) -> Array:
    """Return the PSF images ``(N, h, w)`` of one band, of unit sum: a galaxy's flux is what its parameters say, whatever its PSF sums to.

    Raises
    ------
    InputError
        If one has no positive finite sum.
    """
    images = stamps.psf[:, channel]
    total = images.sum((1, 2), dtype=np.float64)
    if not (total > 0).all() or not np.isfinite(total).all():
        row = int(np.argmin((total > 0) & np.isfinite(total)))
        name = repr(stamps.ids[row].item())
        raise InputError(f"the PSF of object {name}, band {channel}, must have a positive finite sum; it is {total[row]:g}")
    off = np.abs(total - 1) > UNIT_SUM
    return np.where(off[:, None, None], images / total[:, None, None], images).astype(np.float32) if off.any() else images


def frame_of(stamps: Stamps) -> tuple[int, tuple[slice, slice], Array]:
    """Return the side of the grid that holds stamps of any shape, their window in it, and their centre's shift from its own, pixels."""
    height, width = stamps.shape[2:]
    size = -(-max(height, width) // 4) * 4
    top, left = (size - height) // 2, (size - width) // 2
    # an odd margin moves the stamp's centre half a pixel off the grid's
    shift = np.array([left + (width - size) / 2, top + (height - size) / 2], np.float32)
    return size, (slice(top, top + height), slice(left, left + width)), shift
