r"""PSFs so wide that the copies of a galaxy must stand further off.

The light of copies is taken off as if a PSF changed it by its second moments (`wings`), which holds as long as the PSF is narrow beside
the copies' distance. A PSF's width is that of the Gaussian that falls as much as its transform does at the lowest mode,

.. math:: \sigma = \sqrt{-2 \ln |P(k)|} / k,\qquad k = 2 \pi / \text{period}.

Wings of apertures make it large: that of an obscured optical PSF is twice that of a Kolmogorov PSF with the same core.
"""

__all__ = ["wide_images", "wide_profile", "wide_profiles"]

from typing import Any

import numpy as np

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.radial import moffat_transform
from astroflow.types import Array

WIDEST = 0.07
"""Widths up to here, in sides of the stamp, leave the copies at the usual distance."""
TURNS = np.pi * np.arange(4) / 4


def wide_profiles(kind: str, metric: Array, shape: Array | None, size: int) -> Array:
    """Tell which profiles are wide, ``(N,)`` bool, for stamps of side `size`.

    `kind` is "moffat", "kolmogorov" or "gaussian", as of `PSFFamily`; `metric` ``(N, 2, 2)`` the matrix of the ellipse at the scale radius,
    pixels squared; `shape` ``(N,)`` the slope of a Moffat profile.
    """
    k = _lowest(size)
    # an ellipse's mean over directions
    k_squared = 0.5 * k**2 * np.trace(np.asarray(metric, np.float64), axis1=1, axis2=2)
    if kind == "moffat":
        value = moffat_transform(np.asarray(shape, np.float64), np.sqrt(k_squared))
    else:
        value = np.exp(-(k_squared ** (5 / 6))) if kind == "kolmogorov" else np.exp(-0.5 * k_squared)
    return _wide(value, size)


def wide_profile(profile: Any, step: float, size: int) -> bool:
    """Tell whether a GalSim profile is wide, for stamps of side `size` and pixels of `step` arcsec."""
    k = _lowest(size) / step
    values = [abs(profile.kValue(k * np.cos(turn), k * np.sin(turn))) / profile.flux for turn in TURNS]
    return bool(_wide(np.mean(values), size))


def wide_images(images: Array, oversampling: int, size: int) -> Array:
    """Tell which PSF images are wide, ``(N,)`` bool, for stamps of side `size`.

    `images` ``(N, h, w)`` have `oversampling` samples per stamp pixel.
    """
    images = np.asarray(images, np.float64)
    y, x = (np.arange(side) - (side - 1) / 2 for side in images.shape[1:])
    k = _lowest(size) / oversampling
    waves = [np.exp(-1j * k * (np.cos(turn) * x + np.sin(turn) * y[:, None])) for turn in TURNS]
    sizes = np.mean([np.abs(np.tensordot(images, wave, 2)) for wave in waves], 0)
    return _wide(sizes / images.sum((1, 2)), size)


def _lowest(size: int) -> float:
    return float(ModeGrid(size, 1.0).kx[1])


def _wide(value: Any, size: int) -> Array:
    return np.asarray(np.sqrt(-2 * np.log(np.clip(value, 1e-30, 1.0))) > WIDEST * size * _lowest(size))
