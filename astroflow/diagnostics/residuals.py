"""Image minus model in units of the noise, and the reduced chi-squared of it.

The noise of a pixel has variance ``rms**2 + max(model, 0) / gain``: that of the noise map plus the galaxy's own photons. Masked pixels,
and pixels whose value or noise is not usable, are left out.
"""

__all__ = ["Residuals", "residuals"]

from typing import NamedTuple

import numpy as np

from astroflow.errors import InputError
from astroflow.types import Array, Stamps


class Residuals(NamedTuple):
    """What is left of each stamp after its model."""

    sigma: Array
    """``(N, B, H, W)`` (image - model) / noise; NaN where a pixel is left out."""
    reduced_chi2: Array
    """``(N,)`` sum of squares over the degrees of freedom; NaN where there are none."""
    pixels: Array
    """``(N,)`` pixels used."""


def residuals(stamps: Stamps, model: Array, *, n_parameters: int = 0) -> Residuals:
    """Compare stamps with noiseless models.

    Parameters
    ----------
    stamps : Stamps
        What was observed.
    model : ndarray
        ``(N, B, H, W)`` noiseless models, image unit.
    n_parameters : int
        How many parameters were fitted to each stamp; they are taken from the degrees of freedom.
    """
    model = np.asarray(model, np.float64)
    if model.shape != stamps.shape:
        raise InputError(f"`model` must have the stamps' shape {stamps.shape}; got {model.shape}")
    good = ~np.asarray(stamps.mask) & np.isfinite(stamps.images) & np.isfinite(model)
    good &= np.isfinite(stamps.rms) & (np.asarray(stamps.rms) > 0) & np.asarray(stamps.band_present)[..., None, None]
    rms, image, clean = (np.where(good, a, fill).astype(np.float64) for a, fill in ((stamps.rms, 1), (stamps.images, 0), (model, 0)))
    variance = rms**2 + np.maximum(clean, 0) / np.asarray(stamps.gain, np.float64)[..., None, None]
    sigma = np.where(good, (image - clean) / np.sqrt(variance), np.nan)
    pixels = good.sum((1, 2, 3))
    freedom = pixels - n_parameters
    chi2 = np.where(good, sigma, 0) ** 2
    reduced = np.where(freedom > 0, chi2.sum((1, 2, 3)) / np.maximum(freedom, 1), np.nan)
    return Residuals(sigma, reduced, pixels)
