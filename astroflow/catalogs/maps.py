"""What noise maps and masks mean: from the numbers in a file to an rms and a boolean mask.

Noise with the source in it
---------------------------
Many surveys fold each galaxy's own photon noise into the noise map. The model adds that noise itself, from the gain, so it has
to come out of the map first: ``rms_background^2 = rms^2 - max(image, 0) / gain``. The photon noise in the map was estimated from
noisy or smoothed pixels, so the difference can be too small, or negative, at bright pixels; it is kept above the square of half
the background's rms, taken as the tenth percentile of the map in the cutout. With no gain the map stays as it is, and the
galaxy's photon noise is the map's.
"""

__all__ = ["mask_of", "neighbours_of", "rms_of", "stated_correlation"]

import numpy as np

from astroflow.catalogs.recipe import MaskMap, NoiseMap
from astroflow.sims.noise_correlation import NoiseCorrelation
from astroflow.types import Array

BACKGROUND_PERCENTILE = 10
BACKGROUND_FLOOR = 0.5


def rms_of(noise: NoiseMap, values: Array, image: Array, gain: float) -> tuple[Array, Array]:
    """Turn a noise map into the rms of each pixel without the source's photon noise.

    Parameters
    ----------
    noise : NoiseMap
        What the numbers mean.
    values, image : ndarray
        ``(H, W)`` float32: the map, and the image that it belongs to.
    gain : float
        Electrons per image unit, infinite for none.

    Returns
    -------
    rms : ndarray
        ``(H, W)`` float32; NaN where the map makes no sense.
    no_data : ndarray
        ``(H, W)`` bool: pixels that a weight map leaves out.
    """
    no_data = np.zeros(values.shape, bool)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if noise.kind == "weight":
            no_data = ~(values > 0)
            rms = np.where(no_data, np.nan, 1 / np.sqrt(values))
        elif noise.kind == "variance":
            rms = np.where(values > 0, np.sqrt(values), np.nan)
        else:
            rms = values
        rms = rms / np.float32(noise.scale)
        if noise.includes_source and np.isfinite(gain):
            good = np.isfinite(rms) & (rms > 0)
            floor = BACKGROUND_FLOOR * np.percentile(rms[good], BACKGROUND_PERCENTILE) if good.any() else 0.0
            photon = np.where(np.isfinite(image), np.maximum(image, 0), 0) / gain
            cleaned = np.sqrt(np.maximum(rms.astype(np.float64) ** 2 - photon, floor**2))
            rms = np.where(good, np.minimum(cleaned, rms), rms)
    return rms.astype(np.float32), no_data


def stated_correlation(correlation: NoiseCorrelation | None) -> Array | None:
    """Return a recipe's noise correlation as a cutout has it, ``(1, L, L)`` float32, or None."""
    return None if correlation is None else correlation.map[None].astype(np.float32)


def mask_of(mask: MaskMap, values: Array) -> Array:
    """Turn a mask image into True = ignore: whole numbers, or any for a mask of neither bits nor values, where NaN is not 0."""
    if mask.values is not None:
        limits = np.iinfo(values.dtype)
        return np.asarray(np.isin(values, np.array([v for v in mask.values if limits.min <= v <= limits.max], values.dtype)))
    if mask.bits is not None:
        return np.asarray((values & sum(1 << bit for bit in mask.bits)) != 0)
    return np.asarray(values != 0)


def neighbours_of(labels: Array, own: int) -> Array:
    """Return which pixels of a segmentation map belong to another object; 0 is the sky."""
    return np.asarray((labels != 0) & (labels != own))
