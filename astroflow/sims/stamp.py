"""The stamp: what pictures the simulator makes and the network takes.

Galaxies span a factor of fifty in size, a network sees one number of pixels. So stamps come in binnings of the native
pixels: the binning of a simulation is drawn first, at random, then a galaxy from the prior cut to the sizes that this
binning serves (`re_pixels`). Given its binning, the posterior is therefore the one under that cut prior.
"""

__all__ = ["StampSpec", "size_names"]

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
import pydantic

from astroflow.config import Recipe
from astroflow.errors import ConfigError


def size_names(names: Iterable[str]) -> list[str]:
    """Return the parameters that are half-light radii in arcsec: `re_arcsec`, or several ``*_re_arcsec``."""
    return [name for name in names if name == "re_arcsec" or name.endswith("_re_arcsec")]


class StampSpec(Recipe):
    """Size, sampling and units of the stamps."""

    size: Annotated[int, pydantic.Field(ge=16, le=256)] = 64
    """Side of a stamp, pixels; a multiple of 16."""
    pixel_scale_arcsec: pydantic.PositiveFloat
    """Side of a native pixel, arcsec."""
    zero_point: float
    """AB magnitude of one image unit."""
    psf_size: Annotated[int, pydantic.Field(ge=5, le=129)] = 33
    """Side of the PSF image that the network sees, stamp pixels; odd."""
    binning: tuple[int, ...] = (1,)
    """Binnings, drawn with equal probability: some of 1, 2, 4, 8."""
    re_pixels: tuple[float, float] = (1.5, 16.0)
    """Half-light radii, in stamp pixels, that a binning serves. The lower limit is not applied to the finest binning, nor
    the upper one to a single binning."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "StampSpec":
        if self.size % 16:
            raise ValueError(f"`size` (={self.size}) must be a multiple of 16")
        if self.psf_size % 2 == 0:
            raise ValueError(f"`psf_size` (={self.psf_size}) must be odd, so that the PSF has a middle pixel")
        if not self.binning or set(self.binning) - {1, 2, 4, 8} or list(self.binning) != sorted(set(self.binning)):
            raise ValueError(f"`binning` (={list(self.binning)}) must be rising members of 1, 2, 4, 8")
        if not 0 <= self.re_pixels[0] < self.re_pixels[1]:
            raise ValueError(f"`re_pixels` (={self.re_pixels}) must be two rising numbers")
        return self

    def draw_binning(self, rng: np.random.Generator) -> int:
        """Draw one of the binnings."""
        return self.binning[int(rng.integers(len(self.binning)))]

    def re_limits_arcsec(self, binning: int) -> tuple[float, float]:
        """Return the half-light radii that a binning serves, arcsec."""
        if binning not in self.binning:
            raise ConfigError(f"binning {binning} is not one of {list(self.binning)}")
        step = self.pixel_scale_arcsec * binning
        low = 0.0 if binning == self.binning[0] else self.re_pixels[0] * step
        high = np.inf if len(self.binning) == 1 else self.re_pixels[1] * step
        return low, float(high)

    def serves(self, theta: Mapping[str, Any], binning: Any) -> Any:
        """Say which galaxies' sizes suit binnings: their `re_arcsec`, or the largest ``*_re_arcsec``. Without any they suit every one.

        Values of `theta` and `binning` are numbers, or arrays of one shape.
        """
        sizes = [theta[name] for name in size_names(theta)]
        if not sizes:
            return np.ones(np.shape(binning), bool)
        limits = {b: self.re_limits_arcsec(b) for b in np.unique(binning).tolist()}
        low, high = (np.vectorize(lambda b, k=k: limits[b][k], otypes=[np.float64])(binning) for k in (0, 1))
        largest = np.maximum.reduce(sizes)
        return (low <= largest) & (largest <= high)
