"""Noise: how uncertain each pixel is, and one realisation of it.

Pixels are Gaussian with variance ``rms**2 + max(model, 0) / gain``: sky and read noise in the rms map,
the galaxy's own photon noise through the gain (electrons per image unit). The Gaussian form of photon noise is what the
likelihood of this project uses; it differs from Poisson only where a pixel holds a few electrons in all, sky included.
Pixels are independent unless a model has a `correlation`, which is that of the rms part; photon noise stays independent.

`CCDNoise` starts from sky level, gain and read noise; `RMSNoise` from the rms itself, as measured on a survey's images.
Your own model is any class with `levels`, and a `correlation` if its noise has one.
"""

__all__ = ["CCDNoise", "NoiseLevels", "NoiseModel", "RMSNoise", "add_noise"]

from typing import Literal, NamedTuple, Protocol

import numpy as np
import pydantic

from astroflow.config import Recipe
from astroflow.sims.distributions import Fixed, PositiveScalar, Scalar, quantile
from astroflow.sims.noise_correlation import NoiseCorrelation


class NoiseLevels(NamedTuple):
    """The noise of each stamp: `rms` ``(N, B)`` in image units per native pixel, `gain` ``(N, B)`` electrons per image unit."""

    rms: np.ndarray
    gain: np.ndarray


class NoiseModel(Protocol):
    """What a noise model owes. It may have a `correlation`, a `ValuesCorrelation` of native pixels or None."""

    def levels(self, rng: np.random.Generator, n: int) -> NoiseLevels:
        """Draw the noise levels of `n` one-band objects."""


class RMSNoise(Recipe):
    """Noise given by its rms, drawn per object."""

    kind: Literal["rms"] = "rms"
    rms: PositiveScalar
    """Standard deviation of a native pixel without the galaxy, image unit."""
    gain: PositiveScalar | None = None
    """Electrons per image unit; leave out where the galaxy's photon noise is negligible."""
    correlation: NoiseCorrelation | None = None
    """Correlation of native pixels' noise without the galaxy; kinds: values, image, power_spectrum, gaussian, cosmos. None if left out."""

    def levels(self, rng: np.random.Generator, n: int) -> NoiseLevels:
        rms = quantile(self.rms, rng, n)[:, None]
        gain = np.full((n, 1), np.inf) if self.gain is None else quantile(self.gain, rng, n)[:, None]
        return NoiseLevels(rms, gain)


class CCDNoise(Recipe):
    """Noise of a detector: sky photons, read noise and gain."""

    kind: Literal["ccd"] = "ccd"
    sky: Scalar
    """Sky level under the galaxy, image unit per native pixel; it is subtracted, its photon noise is not."""
    gain: PositiveScalar
    """Electrons per image unit."""
    read_noise_electrons: Scalar = Fixed(value=0.0)
    """Read noise per native pixel, electrons."""
    correlation: NoiseCorrelation | None = None
    """Correlation of native pixels' noise without the galaxy; kinds: values, image, power_spectrum, gaussian, cosmos. None if left out."""

    @pydantic.model_validator(mode="after")
    def _has_noise(self) -> "CCDNoise":
        sky, read = self.sky.low, self.read_noise_electrons.low
        if sky < 0 or read < 0 or sky == read == 0:
            raise ValueError(
                "`sky` and `read_noise_electrons` must not be negative, nor both zero, or a pixel has no noise; "
                f"the smallest are {sky:g} and {read:g}"
            )
        return self

    def levels(self, rng: np.random.Generator, n: int) -> NoiseLevels:
        sky, gain, read = (quantile(d, rng, n)[:, None] for d in (self.sky, self.gain, self.read_noise_electrons))
        return NoiseLevels(np.sqrt(sky / gain + (read / gain) ** 2), gain)


def add_noise(clean: np.ndarray, rms: np.ndarray, gain: np.ndarray, normals: np.ndarray, sky: np.ndarray | None = None) -> np.ndarray:
    """Add one noise realisation to noiseless stamps.

    Parameters
    ----------
    clean, normals : ndarray
        ``(N, B, H, W)`` noiseless stamps and standard normals.
    rms : ndarray
        Broadcasts to ``(N, B, H, W)``; per stamp pixel.
    gain : ndarray
        ``(N, B)`` electrons per image unit; infinite for no photon noise.
    sky : ndarray, optional
        ``(N, B, H, W)`` correlated noise of unit rms, which then makes the noise that `rms` says, and `normals` the photons' alone.
    """
    photon = np.maximum(clean, 0) * (1 / gain)[..., None, None].astype(np.float32)
    if sky is not None:
        return np.asarray(clean + rms * sky + np.sqrt(photon) * normals, np.float32)
    return np.asarray(clean + np.sqrt(rms**2 + photon) * normals, np.float32)
