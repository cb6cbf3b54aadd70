r"""The modes on which stamps are composed, and the way from modes to pixels.

A stamp of ``W`` pixels is drawn on a period of ``1.5 W``, or ``2 W`` for wide PSFs (`astroflow.sims.fourier.wide`), round which light
would come back into it: PSFs are cut to the period (`astroflow.sims.fourier.cropping`), and the wings of the galaxy's copies are taken off
(`astroflow.sims.fourier.wings`). Modes reach
beyond the pixels' Nyquist frequency by the factor `band`: what lies there is real, pixels sample it, and it folds down as it does in a
camera. Lengths are pixels of the stamp, wavenumbers radians per pixel.

Along y the folded modes go through an FFT; along x, where the stamp needs a fraction of the outputs and the modes are real
pairs, a product with a fixed matrix of cosines and sines is as fast and folds by itself.
"""

__all__ = ["ModeGrid"]

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.errors import ConfigError
from astroflow.sims.fourier.xla import settled
from astroflow.types import Array


@dataclass(frozen=True)
class ModeGrid:
    """Modes of stamps of ``size x size`` pixels, up to `band` times the Nyquist frequency, for a `wide` PSF or another.

    Arrays over modes are ``(N, Mx, My)``: kx from 0 to the limit, ky on both sides of 0.
    """

    size: int
    band: float
    wide: bool = False

    def __post_init__(self) -> None:
        if self.size % 4 or self.size < 8:
            raise ConfigError(f"stamps of {self.size} pixels: the Fourier engine takes multiples of 4, from 8")
        if not 1 <= self.band <= 16:
            raise ConfigError(f"a band of {self.band} Nyquist frequencies: it must lie between 1 and 16")

    @property
    def period(self) -> int:
        """Pixels after which the pattern of modes repeats."""
        return 2 * self.size if self.wide else 3 * self.size // 2

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

    def to_pixels(self, planes: Any, x: Any, y: Any, side: int | None = None) -> Any:
        """Turn modes into pixels.

        Parameters
        ----------
        planes : tensor
            ``(N, 1 or 2, Mx, My)`` float32: real part, and imaginary part where there is one, of patterns about their centres.
        x, y : tensor
            ``(N,)``: where the centres are to lie, pixels from the middle of the picture.
        side : int, optional
            Side of the picture, at most the period; that of the stamp unless given.

        Returns
        -------
        tensor
            ``(N, side, side)`` float32, as ``[y, x]``.
        """
        import tensorflow as tf

        side = side or self.size
        first = (side - 1) / 2  # pixel 0 lies this far from the middle
        cosine, sine = (wave[:, None, :] for wave in _waves(self.ky, y + first))
        real = planes[:, 0]
        if planes.shape[1] == 1:
            turned = tf.complex(self._folded(real * cosine), self._folded(-real * sine))
        else:
            imaginary = planes[:, 1]
            turned = tf.complex(self._folded(real * cosine + imaginary * sine), self._folded(imaginary * cosine - real * sine))
        along_y = tf.signal.ifft(turned)[..., :side]
        cosine, sine = (wave[:, :, None] for wave in _waves(self.kx, x))
        # folded modes start at the lowest frequency, which the inverse transform takes for zero
        start = -2 * np.pi * (self.modes % self.period) * np.arange(side) / self.period
        real, imaginary = tf.math.real(along_y), tf.math.imag(along_y)
        turn, lean = np.cos(start).astype(np.float32), np.sin(start).astype(np.float32)
        real, imaginary = real * turn - imaginary * lean, real * lean + imaginary * turn
        rows = tf.concat([real * cosine + imaginary * sine, imaginary * cosine - real * sine], 1)  # (N, 2 Mx, y)
        angle = (np.arange(side) - first)[:, None] * self.kx
        weight = np.where(self.kx == 0, 1, 2) / self.period
        columns = tf.constant(np.concatenate([weight * np.cos(angle), -weight * np.sin(angle)], 1), tf.float32)
        # a batched product runs threefold faster in XLA than one with a shared matrix, whose operand it would transpose
        drawn = tf.matmul(tf.tile(columns[None], [tf.shape(rows)[0], 1, 1]), rows)
        return tf.transpose(drawn, [0, 2, 1])

    def _folded(self, modes: Any) -> Any:
        """Add up modes along ky that look the same to pixels, ``(..., My)`` to ``(..., period)``."""
        import tensorflow as tf

        total = 0.0
        for start in range(0, len(self.ky), self.period):
            part = modes[..., start : start + self.period]
            total += tf.pad(part, [[0, 0], [0, 0], [0, self.period - part.shape[-1]]])
        return total


def _waves(k: Array, shift: Any) -> tuple[Any, Any]:
    """Return cosine and sine ``(N, M)`` of ``k * shift``."""
    import tensorflow as tf

    angle = tf.constant(k, tf.float32) * shift[:, None]
    return settled(tf.cos(angle)), settled(tf.sin(angle))
