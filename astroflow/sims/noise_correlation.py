"""Noise correlations in recipes: numbers, FITS images, power spectra and smoothing kernels, all of which become numbers.

`NoiseCorrelation` is the type of the key ``correlation`` of noise models and noise maps. Of whatever kind it is in a recipe, once read
it is a `ValuesCorrelation`, so what training sets and bundles store depends on no file. A map with negative power is no correlation
of any noise. Measured and cut ones have a little, which is taken out by a small change (`astroflow.sims.correlation.repaired`) of at
most `REPAIR_TOLERANCE` at any lag; more is refused.
"""

__all__ = [
    "CosmosCorrelation",
    "GaussianCorrelation",
    "ImageCorrelation",
    "NoiseCorrelation",
    "PowerSpectrumCorrelation",
    "ValuesCorrelation",
    "centred_map",
    "read_noise_correlation",
]

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from astroflow.config import Recipe, RecipePath
from astroflow.errors import ConfigError
from astroflow.sims.correlation import repaired
from astroflow.types import Array

REPAIR_TOLERANCE = 0.02
MAX_LAG = 32
DIGITS = 6
"""Decimals that are kept."""

Lag = Annotated[int, pydantic.Field(ge=0, le=MAX_LAG)]


class ValuesCorrelation(Recipe):
    """The numbers themselves."""

    kind: Literal["values"] = "values"
    values: tuple[tuple[float, ...], ...]
    """Square of odd side: rows of correlations at lags from the middle, which is one; the same at opposite lags, zero beyond."""

    @pydantic.field_validator("values")
    @classmethod
    def _of_some_noise(cls, values: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        side = len(values)
        if side % 2 == 0 or side > 2 * MAX_LAG + 1 or any(len(row) != side for row in values):
            lengths = ", ".join(str(n) for n in sorted({len(row) for row in values}))
            raise ValueError(f"expected a square of odd side, at most {2 * MAX_LAG + 1}; got {side} rows of {lengths or 'no'} numbers")
        given = np.array(values)
        if abs(given[side // 2, side // 2] - 1) > 1e-4:
            raise ValueError(f"the middle (lag 0) must be 1; it is {given[side // 2, side // 2]:g}")
        if np.abs(given).max() > 1 + 1e-4:
            raise ValueError(f"correlations lie between -1 and 1; the largest is {np.abs(given).max():g}")
        if np.abs(given - given[::-1, ::-1]).max() > 1e-4:
            raise ValueError("the map must be the same at opposite lags: equal to itself turned by 180 degrees")
        map_, change = repaired(given)
        if change > REPAIR_TOLERANCE:
            raise ValueError(
                f"no noise has this correlation: its power spectrum is negative, and a near map without that differs by {change:.3f} at "
                f"some lag, more than {REPAIR_TOLERANCE:g}. Measure it on more sky, or up to another `max_lag`"
            )
        return tuple(tuple(row) for row in (np.round(map_, DIGITS) + 0.0).tolist())  # no negative zeros

    @cached_property
    def map(self) -> Array:
        """``(L, L)`` float64."""
        return np.array(self.values)

    @classmethod
    def of(cls, correlation: Array) -> "ValuesCorrelation":
        """Return the recipe of a map ``(L, L)``.

        Raises
        ------
        ConfigError
            If it is the correlation of no noise.
        """
        try:
            return cls(values=tuple(tuple(row) for row in np.asarray(correlation, np.float64).tolist()))
        except pydantic.ValidationError as error:
            raise ConfigError("; ".join(str(problem.get("ctx", {}).get("error", problem["msg"])) for problem in error.errors())) from None


class ImageCorrelation(Recipe):
    """A FITS image of a correlation or covariance function, of any normalisation, its peak within a pixel of the middle."""

    kind: Literal["image"] = "image"
    path: RecipePath
    """FITS file; relative paths are looked for beside the recipe first."""
    hdu: int | str = 0
    """Number or name of the image's HDU."""
    max_lag: Lag = 10
    """Lags beyond this, or beyond the image's border, are taken for uncorrelated."""

    @property
    def map(self) -> Array:
        """``(L, L)`` float64, before any repair."""
        return centred_map(_read(self.path, self.hdu), self.max_lag)


class CosmosCorrelation(Recipe):
    """Drizzled HST/ACS F814W images of COSMOS at 0.03 arcsec per pixel, as GalSim measured and ships it."""

    kind: Literal["cosmos"] = "cosmos"
    max_lag: Lag = 10
    """Lags beyond this are taken for uncorrelated."""

    @property
    def map(self) -> Array:
        """``(L, L)`` float64, before any repair."""
        import galsim

        return centred_map(_read(str(Path(galsim.meta_data.share_dir) / "acs_I_unrot_sci_20_cf.fits"), 0), self.max_lag)


class PowerSpectrumCorrelation(Recipe):
    """A FITS image of the noise's power spectrum, of any normalisation, whose sides span one cycle per pixel."""

    kind: Literal["power_spectrum"] = "power_spectrum"
    path: RecipePath
    """FITS file; relative paths are looked for beside the recipe first."""
    hdu: int | str = 0
    """Number or name of the image's HDU."""
    zero_frequency: Literal["corner", "middle"] = "corner"
    """Where frequency zero is: corner, the first pixel, as numpy.fft.fft2 has it; middle, pixel side // 2 along both axes (fftshift)."""
    max_lag: Lag = 10
    """Lags beyond this, or beyond half the image's sides, are taken for uncorrelated."""

    @property
    def map(self) -> Array:
        """``(L, L)`` float64, before any repair."""
        power = _read(self.path, self.hdu)
        if self.zero_frequency == "middle":
            power = np.fft.ifftshift(power)
        covariance = np.fft.ifft2(np.maximum(power, 0)).real
        if covariance[0, 0] <= 0:
            raise ConfigError(f"{self.path} should hold a power spectrum; nothing in it is positive")
        # beyond half the side a lag is another one's mirror image
        lag = min(self.max_lag, (min(power.shape) - 1) // 2)
        lags = np.arange(-lag, lag + 1)
        return _normalised(covariance[np.ix_(lags, lags)])


class GaussianCorrelation(Recipe):
    """White noise smoothed by a circular Gaussian: correlation ``exp(-lag^2 / (4 sigma_pixels^2))``."""

    kind: Literal["gaussian"] = "gaussian"
    sigma_pixels: Annotated[float, pydantic.Field(gt=0, le=4)]
    """Sigma of the smoothing kernel, pixels: 0.35, 0.43, 0.5 and 0.6 give neighbours the correlations 0.13, 0.26, 0.37 and 0.5."""

    @property
    def map(self) -> Array:
        """``(L, L)`` float64, before any repair; cut where it is below 1e-5."""
        lag = math.ceil(2 * self.sigma_pixels * math.sqrt(math.log(1e5)))
        lags = np.arange(-lag, lag + 1) / (2 * self.sigma_pixels)
        return np.asarray(np.exp(-(lags[:, None] ** 2) - lags**2))


Kind = ValuesCorrelation | ImageCorrelation | PowerSpectrumCorrelation | GaussianCorrelation | CosmosCorrelation


def _as_values(given: Kind) -> ValuesCorrelation:
    return given if isinstance(given, ValuesCorrelation) else ValuesCorrelation.of(given.map)


NoiseCorrelation = Annotated[Kind, pydantic.Field(discriminator="kind"), pydantic.AfterValidator(_as_values)]
"""The type of a recipe's key `correlation`; see the module."""


def read_noise_correlation(path: str | Path, hdu: int | str = 0) -> Array:
    """Read a noise correlation from a FITS image, as the kind `image` of recipes does, up to its border.

    Parameters
    ----------
    path : str or Path
        A file such as `astroflow noise-correlation` writes.
    hdu : int or str
        Number or name of the image's HDU.

    Returns
    -------
    ndarray
        ``(L, L)`` float64.

    Raises
    ------
    ConfigError
        If it cannot be read, or is the correlation of no noise.
    """
    try:
        return ValuesCorrelation.of(centred_map(_read(str(path), hdu), MAX_LAG)).map
    except ConfigError as error:
        raise ConfigError(f"noise correlation {path}: {error}") from None


def centred_map(image: Array, max_lag: int) -> Array:
    """Cut a correlation function about its peak, normalise it, and make opposite lags equal.

    Parameters
    ----------
    image : ndarray
        ``(H, W)``, of any normalisation, sides even or odd, its peak within a pixel of the middle.
    max_lag : int
        The longest lag that is kept, unless the image ends before.

    Raises
    ------
    ConfigError
        If it has no peak there, or holds values that are not finite.
    """
    if not np.isfinite(image).all():
        raise ConfigError("a correlation function must be finite everywhere")
    y, x = np.unravel_index(int(np.abs(image).argmax()), image.shape)
    middle = [(side - 1) / 2 for side in image.shape]
    if image[y, x] <= 0 or abs(y - middle[0]) > 1 or abs(x - middle[1]) > 1:
        raise ConfigError(
            f"a correlation function is largest at lag 0, in the middle ({middle[1]:g}, {middle[0]:g}); this one's largest is at ({x}, {y})"
        )
    lag = min(max_lag, y, x, image.shape[0] - 1 - y, image.shape[1] - 1 - x)
    return _normalised(image[y - lag : y + lag + 1, x - lag : x + lag + 1])


def _normalised(covariance: Array) -> Array:
    middle = len(covariance) // 2
    out = np.asarray(covariance, np.float64) / covariance[middle, middle]
    return np.asarray((out + out[::-1, ::-1]) / 2)


def _read(path: str, hdu: int | str) -> Array:
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as hdus:
            data: Any = hdus[hdu].data
            image = np.asarray(data, np.float64)
    except (OSError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ConfigError(f"cannot read a correlation from HDU {hdu!r} of {path}: {error}") from error
    if image.ndim != 2:
        raise ConfigError(f"HDU {hdu!r} of {path} should hold an image of two axes; it has {image.ndim}")
    return image
