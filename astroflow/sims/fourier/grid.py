r"""The modes on which stamps are composed, and the way from modes to pixels.

A stamp of ``W`` pixels is drawn on a period of ``1.5 W``, so that a PSF cannot carry light round it (the galaxy's own wings are
longer and are taken off by `astroflow.sims.fourier.wings`). Modes reach beyond the pixels' Nyquist frequency by the factor `band`: what
lies there is real, pixels sample it, and it folds down as it does in a camera. Lengths are pixels of the stamp, wavenumbers radians
per pixel.

Along y the folded modes go through an FFT; along x, where the stamp needs a fraction of the outputs and the modes are real
pairs, a product with a fixed matrix of cosines and sines is as fast and folds by itself.
"""

__all__ = ["ModeGrid"]

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.errors import ConfigError
from astroflow.types import Array


@dataclass(frozen=True)
class ModeGrid:
    """Modes of stamps of ``size x size`` pixels, up to `band` times the Nyquist frequency.

    Arrays over modes are ``(N, Mx, My)``: kx from 0 to the limit, ky on both sides of 0.
    """

    size: int
    band: float

    def __post_init__(self) -> None:
        if self.size % 4 or self.size < 8:
            raise ConfigError(f"stamps of {self.size} pixels: the Fourier engine takes multiples of 4, from 8")
        if not 1 <= self.band <= 16:
            raise ConfigError(f"a band of {self.band} Nyquist frequencies: it must lie between 1 and 16")

    @property
    def period(self) -> int:
        """Pixels after which the pattern of modes repeats."""
        return 3 * self.size // 2

    @property
    def modes(self) -> int:
        """Highest mode number."""
        return round(self.band * self.period / 2)

    @functools.cached_property
    def kx(self) -> Array:
        """Wavenumbers along x, ``(Mx,)``, radians per pixel."""
        return 2 * np.pi / self.period * np.arange(self.modes + 1)

    @functools.cached_property
    def ky(self) -> Array:
        """Wavenumbers along y, ``(My,)``, radians per pixel."""
        return 2 * np.pi / self.period * np.arange(-self.modes, self.modes + 1)

    def shifted(self, x: Any, y: Any) -> Any:
        """Return the phases that move a centred pattern by ``x``, ``y`` ``(N,)`` pixels from the stamp's centre, complex64."""
        import tensorflow as tf

        def phases(k: Array, shift: Any) -> Any:
            angle = -tf.constant(k, tf.float32) * shift[:, None]
            return tf.complex(tf.cos(angle), tf.sin(angle))

        return phases(self.kx, x)[:, :, None] * phases(self.ky, y)[:, None, :]

    def to_pixels(self, modes: Any) -> Any:
        """Turn modes of patterns about the stamp's centre into pixel values ``(N, size, size)``, as ``[y, x]``."""
        import tensorflow as tf

        first = (self.size - 1) / 2  # pixel 0 lies this far from the centre
        start = np.exp(-1j * self.ky * first).astype(np.complex64)
        blocks = -(-self.modes // self.period)
        left, right = blocks * self.period - self.modes, (blocks + 1) * self.period - self.modes - 1
        folded = tf.pad(modes * tf.constant(start), [[0, 0], [0, 0], [left, right]])
        folded = tf.reshape(folded, [-1, len(self.kx), 2 * blocks + 1, self.period])
        along_y = tf.signal.ifft(tf.reduce_sum(folded, 2))[..., : self.size]
        angle = self.kx[:, None] * (np.arange(self.size) - first)
        weight = np.where(self.kx == 0, 1, 2)[:, None] / self.period
        cosines, sines = (tf.constant(weight * f(angle), tf.float32) for f in (np.cos, np.sin))
        rows = tf.transpose(along_y, [0, 2, 1])  # (N, y, kx)
        return tf.linalg.matmul(tf.math.real(rows), cosines) - tf.linalg.matmul(tf.math.imag(rows), sines)
