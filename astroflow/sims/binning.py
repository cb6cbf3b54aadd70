"""Binning of observed stamps: sums of b x b pixels, with their noise and masks.

A galaxy too large for the network's stamp is binned by 2, 4 or 8. A binned pixel is masked when any of its pixels is;
independent noise adds in quadrature, correlated noise with all its covariances.
"""

__all__ = ["bin_images", "bin_mask", "bin_rms"]

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


def bin_rms(rms: np.ndarray, b: int, correlation: np.ndarray | None = None) -> np.ndarray:
    """Return the rms of sums of ``b x b`` pixels of ``(..., H, W)``: in quadrature, or exactly for noise of a `correlation` ``(L, L)``."""
    if b == 1:
        return rms
    if correlation is None:
        return np.asarray(np.sqrt(bin_images(rms.astype(np.float64) ** 2, b)).astype(rms.dtype))
    blocks = np.moveaxis(_blocks(rms, b), -3, -2).astype(np.float64)
    pixels = blocks.reshape(*blocks.shape[:-2], b * b)
    return np.asarray(np.sqrt(np.sum(pixels @ _within(correlation, b) * pixels, axis=-1)).astype(rms.dtype))


def _within(correlation: np.ndarray, b: int) -> np.ndarray:
    """Return the correlations of the pixels of one block, ``(b * b, b * b)``."""
    reach = max(b - 1, len(correlation) // 2)
    wide = np.pad(np.asarray(correlation, np.float64), reach - len(correlation) // 2)
    y, x = (axis.ravel() for axis in np.mgrid[:b, :b])
    return np.asarray(wide[reach + y[:, None] - y, reach + x[:, None] - x])


def bin_mask(mask: np.ndarray, b: int) -> np.ndarray:
    """Mask a binned pixel when any of its pixels is masked."""
    return mask if b == 1 else np.asarray(_blocks(mask, b).any((-3, -1)))
