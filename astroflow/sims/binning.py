"""Binning of observed stamps: sums of b x b pixels, with their noise and masks.

A galaxy too large for the network's stamp is binned by 2, 4 or 8. A binned pixel is masked when any of its pixels is;
independent noise adds in quadrature.
"""

__all__ = ["bin_images", "bin_mask", "bin_rms", "centre_shift", "crop_or_pad"]

import numpy as np

from astroflow.errors import InputError


def _blocks(array: np.ndarray, b: int) -> np.ndarray:
    *lead, h, w = array.shape
    if h % b or w % b:
        raise InputError(f"sides {h} x {w} are not multiples of the binning {b}")
    return array.reshape(*lead, h // b, b, w // b, b)


def bin_images(images: np.ndarray, b: int) -> np.ndarray:
    """Sum ``b x b`` pixels of ``(..., H, W)``."""
    return images if b == 1 else _blocks(images, b).sum((-3, -1), dtype=np.float64).astype(images.dtype)


def bin_rms(rms: np.ndarray, b: int) -> np.ndarray:
    """Add the rms of ``b x b`` independent pixels in quadrature."""
    return rms if b == 1 else np.sqrt(bin_images(rms.astype(np.float64) ** 2, b)).astype(rms.dtype)


def bin_mask(mask: np.ndarray, b: int) -> np.ndarray:
    """Mask a binned pixel when any of its pixels is masked."""
    return mask if b == 1 else np.asarray(_blocks(mask, b).any((-3, -1)))


def crop_or_pad(array: np.ndarray, size: int, fill: float | bool) -> np.ndarray:
    """Crop or pad ``(..., H, W)`` to ``(..., size, size)`` about the stamp's centre ``((W-1)/2, (H-1)/2)``.

    A side whose parity differs from `size` cannot keep its centre: it then lies half a pixel off, by `centre_shift`.
    """
    h, w = array.shape[-2:]
    out = np.full((*array.shape[:-2], size, size), fill, array.dtype)
    (ty, sy), (tx, sx) = (_overlap(side, size) for side in (h, w))
    out[..., ty, tx] = array[..., sy, sx]
    return out


def _overlap(side: int, size: int) -> tuple[slice, slice]:
    """Return the slices (target, source) that put a side of `side` pixels into `size` pixels."""
    # Floor division also rounds the odd half pixel down when cropping: source pixel `side//2` lands on `size//2`.
    start = size // 2 - side // 2
    length = min(side + min(start, 0), size - max(start, 0))
    return slice(max(start, 0), max(start, 0) + length), slice(max(-start, 0), max(-start, 0) + length)


def centre_shift(side: int, size: int) -> float:
    """Return where the old centre lies relative to the new one, in native pixels, along one axis: 0 or +-0.5."""
    start = size // 2 - side // 2
    return start + (side - 1) / 2 - (size - 1) / 2
