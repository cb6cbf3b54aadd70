"""The stationary correlation R of the noise, as what linear algebra needs: checked, and cut into Toeplitz blocks.

Correlations reach a few pixels, so with the stamp's rows taken a few at a time, R is block tridiagonal. All its
diagonal blocks are one matrix, and all those below another.
"""

__all__ = ["ToeplitzBlocks", "central_moments", "checked_correlation", "power", "toeplitz_blocks"]

from dataclasses import dataclass

import numpy as np

from astroflow.errors import InputError
from astroflow.sims.correlation import power_of
from astroflow.types import Array

MIN_ROWS = 2
"""Fewest rows of a block: shorter blocks only add steps."""


@dataclass(frozen=True)
class ToeplitzBlocks:
    """R over stamps whose rows are taken a few at a time: b pixels a block, the last filled up with pixels to be masked.

    `diagonal` ``(n, b, b)``: the blocks on the diagonal; `lower` ``(n, b, b)``: each one's correlation, as rows, with the one
    before; `count` blocks.
    """

    diagonal: Array
    lower: Array
    count: int

    def split(self, pixels: Array) -> Array:
        """Cut ``(..., P)`` into ``(..., count, b)``, filled up with zeros."""
        size = self.diagonal.shape[-1]
        padding = [(0, 0)] * (pixels.ndim - 1) + [(0, self.count * size - pixels.shape[-1])]
        return np.pad(pixels, padding).reshape(*pixels.shape[:-1], self.count, size)


def checked_correlation(correlation: Array, shape: tuple[int, int, int, int]) -> Array:
    """Return ``(n, 2 h + 1, 2 w + 1)`` float64 correlations, one per object and band, cut to the lags that matter.

    Parameters
    ----------
    correlation : ndarray
        ``(N, B, L, L)``, L odd; element ``[L // 2 + dy, L // 2 + dx]`` is that of pixels (dy, dx) apart.
    shape : tuple of int
        ``(N, B, H, W)`` of the stamps.

    Raises
    ------
    InputError
        If the shape is another, a centre is not 1, or a correlation is not symmetric under (dy, dx) -> (-dy, -dx).
    """
    n, bands, height, width = shape
    given = np.asarray(correlation, np.float64)
    if given.ndim != 4 or given.shape[:2] != (n, bands) or given.shape[2] != given.shape[3] or given.shape[2] % 2 == 0:
        raise InputError(f"`noise_correlation` must be {(n, bands)} + (L, L) with L odd; got shape {given.shape}")
    given = given.reshape(n * bands, *given.shape[2:])
    middle = given.shape[1] // 2
    turned = given[:, ::-1, ::-1]
    good = np.isfinite(given).all((1, 2)) & (np.abs(given[:, middle, middle] - 1) < 1e-4)
    good &= np.abs(np.nan_to_num(given - turned)).max((1, 2)) < 1e-4
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"`noise_correlation` of stamp {row // bands}, band {row % bands} is no correlation: it must be finite, 1 at its centre "
            "[L // 2, L // 2] and the same at (dy, dx) and (-dy, -dx)"
        )
    given = (given + turned) / 2
    given[:, middle, middle] = 1
    lags = np.abs(np.arange(-middle, middle + 1))
    given = given * ((lags < height)[:, None] & (lags < width))
    there = (given != 0).any(0)
    tall, wide = lags[there.any(1)].max(), lags[there.any(0)].max()
    return np.ascontiguousarray(given[:, middle - tall : middle + tall + 1, middle - wide : middle + wide + 1])


def toeplitz_blocks(correlations: Array, height: int, width: int) -> ToeplitzBlocks:
    """Cut R of checked correlations ``(n, h, w)`` over ``height x width`` pixels into blocks."""
    tall, wide = (side // 2 for side in correlations.shape[1:])
    rows = min(height, max(tall, MIN_ROWS))
    y, x = np.divmod(np.arange(rows * width), width)
    dx = x[:, None] - x

    def block(dy: Array) -> Array:
        inside = (np.abs(dy) <= tall) & (np.abs(dx) <= wide)
        return np.where(inside, correlations[:, np.clip(dy + tall, 0, 2 * tall), np.clip(dx + wide, 0, 2 * wide)], 0.0)

    dy = y[:, None] - y
    return ToeplitzBlocks(block(dy), block(dy + rows), -(-height // rows))


def power(correlation: Array) -> Array:
    """Return the power spectrum of the noise, ``(K,)``: the eigenvalues of R on a periodic stamp much larger than the correlation."""
    side = max(32, 4 * max(correlation.shape))
    return power_of(correlation, (side, side)).ravel()


def central_moments(spectrum: Array, q: Array) -> tuple[Array, Array]:
    """Third and fourth central moments, over modes, of 1 / (power + q), for each of `q`.

    They are what log det(R + diag(q)) needs beyond second order where q varies slowly: locally the noise is stationary.
    """
    low, high = max(q.min(), 1e-4), max(q.max(), 1e-3)
    grid = np.geomspace(low, high, 2 + int(12 * np.log10(high / low)))
    inverse = 1 / (np.maximum(spectrum, 0)[:, None] + grid)
    centred = inverse - inverse.mean(0)
    square = centred * centred
    at = np.log(np.maximum(q, low))
    third, fourth = (np.interp(at, np.log(grid), each) for each in ((square * centred).mean(0), (square * square).mean(0)))
    return third, fourth
