"""PSFs on the modes of a stamp: from images of any sampling, and from GalSim profiles.

An image is taken as GalSim takes it: as samples joined by its quintic interpolant, so that both engines draw the same PSF. Moffat,
Kolmogorov and Gaussian profiles under any linear map are evaluated here, whole populations at once; any other GalSim
profile (an optical one, a sum) is sampled by GalSim itself, once per PSF. All are cut to the period of the modes (`cropping`).
"""

__all__ = [
    "PSFFamily",
    "describe_profile",
    "grids_of_family",
    "grids_of_images",
    "image_transform",
    "kolmogorov_scale",
    "moffat_family",
    "quadratic",
]

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.sims.fourier.cropping import copies_of_kolmogorov, copies_of_moffat, cropped_modes
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.radial import moffat_reach, moffat_table
from astroflow.sims.fourier.wide import wide_images, wide_profile, wide_profiles
from astroflow.sims.fourier.xla import settled
from astroflow.types import Array

MOFFAT_BINS = (1.5, 2.0, 4.5, 20.0)
"""Slopes are tabulated in these ranges."""
PSF_FLOOR = 5e-4
"""A PSF's transform below this is left out."""
BANDS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Bands that are chosen from, in Nyquist frequencies: each is compiled once."""


def image_transform(images: Any, oversampling: int, grid: ModeGrid) -> Any:
    """Transform PSF images that include the pixel.

    Parameters
    ----------
    images : tensor
        ``(N, h, w)`` of unit sum, centred on ``((w-1)/2, (h-1)/2)``.
    oversampling : int
        PSF samples per pixel of the stamp.
    grid : ModeGrid
        Where it is wanted.

    Returns
    -------
    tensor
        ``(N, 2, Mx, My)`` float32: real and imaginary part.
    """
    import tensorflow as tf

    # beyond the period an image would come round it
    margins = [max(0, -(-(side - grid.period * oversampling) // 2)) for side in images.shape[1:]]
    images = images[:, margins[0] : images.shape[1] - margins[0], margins[1] : images.shape[2] - margins[1]]
    height, width = images.shape[1:]
    kx, ky = grid.kx / oversampling, grid.ky / oversampling  # radians per PSF sample

    def waves(k: Array, side: int) -> tuple[Any, Any]:
        angle = np.outer(np.arange(side) - (side - 1) / 2, k)
        kernel = _quintic(tuple(k.tolist()))
        return tf.constant(np.cos(angle) * kernel, tf.float32), tf.constant(np.sin(angle) * kernel, tf.float32)

    (cos_x, sin_x), (cos_y, sin_y) = waves(kx, width), waves(ky, height)
    turned = tf.transpose(tf.cast(images, tf.float32), [0, 2, 1])  # (N, w, h)
    real, imaginary = tf.linalg.matmul(cos_x, turned, transpose_a=True), tf.linalg.matmul(sin_x, turned, transpose_a=True)
    # exp(-ikx x) exp(-iky y) = (cx cy - sx sy) - i (sx cy + cx sy)
    return tf.stack(
        [
            tf.linalg.matmul(real, cos_y) - tf.linalg.matmul(imaginary, sin_y),
            -tf.linalg.matmul(imaginary, cos_y) - tf.linalg.matmul(real, sin_y),
        ],
        1,
    )


@functools.lru_cache(maxsize=32)
def _quintic(k: tuple[float, ...]) -> Array:
    """Transform of GalSim's quintic interpolant at wavenumbers in radians per sample."""
    import galsim

    kernel = galsim.Quintic()
    return np.array([kernel.kval(value) for value in k])


@dataclass(frozen=True)
class PSFFamily:
    """PSFs that are transformed in the same way, so that they can share a batch.

    `kind` is "image", "moffat", "kolmogorov", "gaussian" or "sampled"; `detail` is the oversampling of images, the range of Moffat
    slopes, and nothing otherwise.
    """

    kind: str
    detail: tuple[float, ...] = ()

    def transform(self, arrays: Mapping[str, Any], grid: ModeGrid) -> Any:
        """Transform the PSFs that `arrays` hold, each ``(N, ...)``.

        Returns
        -------
        tensor
            ``(N, 1 or 2, Mx, My)`` float32, pixel included, cut to the period, about the PSFs' own centres (`offset`): real part, and
            imaginary part unless the family is symmetric.
        """
        import tensorflow as tf

        if self.kind == "image":
            return image_transform(arrays["image"], int(self.detail[0]), grid)
        if self.kind == "sampled":
            return arrays["modes"] * tf.constant(_pixel(grid), tf.float32)
        k_squared = quadratic(arrays["metric"], grid)
        if self.kind == "moffat":
            values = moffat_table(*self.detail).evaluate(arrays["shape"], k_squared)
            values -= copies_of_moffat(arrays["metric"], arrays["shape"], grid)
        elif self.kind == "kolmogorov":
            values = tf.exp(-(tf.maximum(k_squared, 1e-12) ** (5 / 6))) - copies_of_kolmogorov(arrays["metric"], grid)
        else:
            values = tf.exp(-0.5 * k_squared)
        return (values * tf.constant(_pixel(grid), tf.float32))[:, None]


def describe_profile(profile: Any, step: float, size: int) -> tuple[PSFFamily, ModeGrid, dict[str, Array]]:
    """Describe a GalSim profile without the pixel, for stamps of ``size x size`` pixels of `step` arcsec: family, modes and arrays."""
    import galsim

    moved = isinstance(profile, galsim.Transformation)
    original = profile.original if moved else profile
    jacobian = (profile.jac if moved else np.eye(2)) / step  # arcsec of the round profile to pixels
    offset = np.array([profile.offset.x, profile.offset.y] if moved else [0.0, 0.0], np.float32) / np.float32(step)
    metric = jacobian @ jacobian.T  # |J^T k|^2 = k^T (J J^T) k
    if isinstance(original, galsim.Moffat) and original.trunc == 0 and MOFFAT_BINS[0] <= original.beta < MOFFAT_BINS[-1]:
        family = moffat_family(original.beta)
        arrays = {"metric": metric * original.scale_radius**2, "shape": np.asarray(original.beta, np.float32), "offset": offset}
    elif isinstance(original, galsim.Kolmogorov):
        family, arrays = PSFFamily("kolmogorov"), {"metric": metric * original.fwhm**2 * kolmogorov_scale() ** 2, "offset": offset}
    elif isinstance(original, galsim.Gaussian):
        family, arrays = PSFFamily("gaussian"), {"metric": metric * original.sigma**2, "offset": offset}
    else:
        maxk = profile.withGSParams(galsim.GSParams(maxk_threshold=PSF_FLOOR)).maxk
        grid = ModeGrid(size, float(rounded_band(maxk * step / np.pi)), wide_profile(profile, step, size))
        return PSFFamily("sampled"), grid, {"modes": cropped_modes(profile, step, grid), "offset": np.zeros(2, np.float32)}
    return family, grids_of_family(family, {name: values[None] for name, values in arrays.items()}, size)[0], arrays


def moffat_family(beta: float) -> PSFFamily:
    """Return the family of Moffat profiles of a slope within `MOFFAT_BINS`."""
    place = int(np.searchsorted(MOFFAT_BINS, beta, side="right"))
    return PSFFamily("moffat", MOFFAT_BINS[place - 1 : place + 1])


@functools.cache
def kolmogorov_scale() -> float:
    """Return the scale radius r of ``exp(-(r k)^(5/3))`` for a Kolmogorov profile of unit FWHM."""
    import galsim

    # from the profile's own value at one wavenumber
    return float((-math.log(galsim.Kolmogorov(fwhm=1.0).kValue(1.0, 0).real)) ** 0.6)


def grids_of_family(family: PSFFamily, arrays: Mapping[str, Array], size: int) -> list[ModeGrid]:
    """Return the modes that profiles of `arrays`, each ``(N, ...)``, need for stamps of side `size`."""
    metric = np.asarray(arrays["metric"], np.float64)
    mean, difference = 0.5 * (metric[:, 0, 0] + metric[:, 1, 1]), 0.5 * (metric[:, 0, 0] - metric[:, 1, 1])
    smallest = np.sqrt(mean - np.hypot(difference, metric[:, 0, 1]))  # scale radius along the minor axis
    if family.kind == "moffat":
        slopes, reach = moffat_reach(*family.detail, PSF_FLOOR)
        edge = np.interp(np.log(arrays["shape"]), np.log(slopes), reach)
    elif family.kind == "kolmogorov":
        edge = np.asarray((-math.log(PSF_FLOOR)) ** 0.6)
    else:
        edge = np.asarray(math.sqrt(-2 * math.log(PSF_FLOOR)))
    wide = wide_profiles(family.kind, metric, arrays.get("shape"), size)
    return [ModeGrid(size, *kind) for kind in zip(rounded_band(edge / smallest / np.pi).tolist(), wide.tolist(), strict=True)]


def _pixel(grid: ModeGrid) -> Array:
    """Transform of a square pixel."""
    return np.asarray(np.sinc(grid.kx / (2 * np.pi))[:, None] * np.sinc(grid.ky / (2 * np.pi))[None, :])


def grids_of_images(images: Array, oversampling: int, size: int) -> list[ModeGrid]:
    """Return the modes that PSF images ``(N, h, w)`` need for stamps of side `size`.

    They reach so many Nyquist frequencies of the stamp that transforms along the axes stay below `PSF_FLOOR` beyond.
    """
    k = np.linspace(0, np.pi, 65)  # radians per PSF sample; an image knows nothing beyond its own Nyquist frequency
    kernel = np.abs(_quintic(tuple(k.tolist())))
    highest = np.zeros(len(images))
    total = np.asarray(images, np.float64).sum((1, 2))[:, None]
    for axis in (1, 2):
        profile = np.asarray(images, np.float64).sum(axis)
        waves = np.exp(-1j * np.outer(k, np.arange(profile.shape[1]) - (profile.shape[1] - 1) / 2))
        above = np.abs(profile @ waves.T) * kernel > PSF_FLOOR * total
        highest = np.maximum(highest, np.where(above, k, 0).max(1))
    bands = np.minimum(rounded_band(highest * oversampling / np.pi), float(oversampling))
    return [ModeGrid(size, *kind) for kind in zip(bands.tolist(), wide_images(images, oversampling, size).tolist(), strict=True)]


def rounded_band(band: Any) -> Array:
    """Return the smallest of `BANDS` that suffices, or the largest."""
    return np.asarray(np.take(BANDS, np.minimum(np.searchsorted(BANDS, band), len(BANDS) - 1)))


def quadratic(metric: Any, grid: ModeGrid) -> Any:
    """Return ``k^T metric k`` on the grid, ``(N, Mx, My)`` float32, for symmetric ``metric`` ``(N, 2, 2)`` in pixels squared."""
    import tensorflow as tf

    m = settled(tf.cast(metric, tf.float32))[:, :, :, None, None]
    kx, ky = tf.constant(grid.kx[:, None], tf.float32), tf.constant(grid.ky[None, :], tf.float32)
    return m[:, 0, 0] * kx**2 + 2 * m[:, 0, 1] * (kx * ky) + m[:, 1, 1] * ky**2
