"""Stamps as the likelihood sees them: float64, in units of each pixel's rms, masked pixels zero.

In these units C = D R D + diag(model / gain) becomes R + diag(q) with q = max(model, 0) / (gain rms^2), and log det C gains
2 sum log rms. One row per object and band: bands are independent.
"""

__all__ = ["Pixels"]

from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.errors import InputError
from astroflow.types import Array, Stamps


@dataclass(frozen=True)
class Pixels:
    """A batch in units of its noise, ``n = N B`` rows of ``P = H W`` pixels.

    `data` ``(n, P)`` in units of rms; `scale` ``(n, P)``: 1 / rms, 0 where masked; `photon` ``(n, P)``: 1 / (gain rms^2), 0 where masked;
    `keep` ``(n, P)`` bool; `log_det` ``(n,)``: 2 sum log rms over kept pixels; `shape` ``(N, B, H, W)``.
    """

    data: Array
    scale: Array
    photon: Array
    keep: Array
    log_det: Array
    shape: tuple[int, int, int, int]

    @classmethod
    def of(cls, stamps: Stamps) -> "Pixels":
        """Prepare stamps.

        Raises
        ------
        InputError
            If an unmasked pixel has no positive rms, a gain is not positive, or an object has no unmasked pixel at all.
        """
        n, bands, height, width = stamps.shape
        keep = ~stamps.mask & np.isfinite(stamps.images) & stamps.band_present[..., None, None]
        bare = np.asarray(~keep.any((1, 2, 3)))
        if bare.any():
            raise InputError(f"these objects have no unmasked pixel, hence no likelihood: {_names(stamps, bare)}; leave them out")
        rms = stamps.rms.astype(np.float64)
        bad = np.asarray((keep & ~(np.isfinite(rms) & (rms > 0))).any((1, 2, 3)))
        if bad.any():
            names = _names(stamps, bad)
            raise InputError(f"`rms` must be positive and finite at every unmasked pixel; it is not for {names}: mask such pixels")
        wrong = np.asarray((stamps.band_present & ~(stamps.gain > 0)).any(1))
        if wrong.any():
            raise InputError(f"`gain` must be positive (infinite for no photon noise); it is not for {_names(stamps, wrong)}")
        rms = np.where(keep, rms, 1.0)
        data = np.where(keep, stamps.images, 0.0) / rms
        gain = np.where(stamps.band_present, stamps.gain, np.inf).astype(np.float64)[..., None, None]

        def flat(array: Array) -> Array:
            return np.ascontiguousarray(array.reshape(n * bands, height * width))

        log_det = 2 * np.log(rms).sum((2, 3)).ravel()
        return cls(flat(data), flat(keep / rms), flat(keep / (gain * rms**2)), flat(keep), log_det, stamps.shape)

    def rows(self, images: Any, dtype: Any) -> Any:
        """Turn ``(N, S, B, H, W)`` into ``(n, S, P)`` of the given kind."""
        import tensorflow as tf

        n, bands, height, width = self.shape
        images = tf.cast(images, dtype)
        if not images.shape.is_compatible_with((n, None, bands, height, width)):
            raise InputError(f"expected images (N, S, B, H, W) with N, B, H, W = {self.shape}; got {tuple(images.shape)}")
        draws = tf.shape(images)[1]
        return tf.reshape(tf.transpose(images, (0, 2, 1, 3, 4)), (n * bands, draws, height * width))

    def images(self, rows: Any) -> Any:
        """Turn ``(n, S, P)`` back into ``(N, S, B, H, W)``."""
        import tensorflow as tf

        n, bands, height, width = self.shape
        return tf.transpose(tf.reshape(rows, (n, bands, -1, height, width)), (0, 2, 1, 3, 4))


def _names(stamps: Stamps, rows: Array) -> str:
    names = [repr(i) for i in stamps.ids[rows].tolist()]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
