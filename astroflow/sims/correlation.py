"""Correlated noise: what a stationary correlation does to sums of pixels, and how noise that has it is drawn.

Drizzling and resampling spread each detector pixel over several pixels of an image, so its noise is smooth: neighbouring pixels of
survey images have correlations of 0.1 to 0.5. Such noise scatters more in sums of pixels, hence in every flux and size, than its rms
says. It is described by a map ``(L, L)`` of odd side: element ``[L // 2 + dy, L // 2 + dx]`` is the correlation of pixels ``(dx, dy)``
apart, one in the middle, the same at opposite lags, zero beyond. The noise of a stamp then has the covariance ``D R D``, with
D = diag(rms) and R this correlation.

Noise is drawn by circulant embedding: on a periodic grid that is wider than the stamp by the longest lag, white noise is multiplied
by the root of the power spectrum in Fourier space. Its covariance is exact at every lag within the stamp.

References
----------
Dietrich and Newsam 1997, https://doi.org/10.1137/S1064827592240555 (circulant embedding); Fruchter and Hook 2002,
https://doi.org/10.1086/338393 (noise of drizzled images).
"""

__all__ = ["aperture_scatter", "binned_correlation", "binned_noise", "correlated_normals", "correlated_snr", "power_of", "repaired"]

import numpy as np
from scipy import fft
from scipy.signal import convolve2d

from astroflow.types import Array

LEAST_POWER = 1e-3
"""Least power of a usable map at any frequency, in units of white noise's, so that covariances can be inverted."""
PROJECTIONS = 200


def power_of(correlation: Array, shape: tuple[int, int]) -> Array:
    """Return the power spectrum of a map on a periodic grid, ``shape`` float64, in units of white noise's.

    Frequencies are ordered as `numpy.fft.fft2` orders them; the grid must be at least as large as the map.
    """
    grid = np.zeros(shape)
    height, width = correlation.shape
    grid[:height, :width] = correlation
    return np.asarray(fft.fft2(np.roll(grid, (-(height // 2), -(width // 2)), (0, 1))).real)


def repaired(correlation: Array) -> tuple[Array, float]:
    """Make a map the correlation of some noise: without negative power at any frequency.

    Power below `LEAST_POWER` is raised to it and lags beyond the map are set to zero, in turns, which leads to a near map with
    neither; the rest is a little white noise. A map that needs no repair comes back as it is.

    Parameters
    ----------
    correlation : ndarray
        ``(L, L)``, one in the middle, the same at opposite lags.

    Returns
    -------
    correlation : ndarray
        ``(L, L)`` float64.
    change : float
        The largest change at any lag.
    """
    given = np.asarray(correlation, np.float64)
    side, middle = len(given), len(given) // 2
    fine = (8 * side, 8 * side)
    # half of the least power leaves room for numbers that were rounded after an earlier repair
    if power_of(given, fine).min() >= LEAST_POWER / 2:
        return given, 0.0
    out = given
    for _ in range(PROJECTIONS):
        power = power_of(out, (4 * side, 4 * side))
        if power.min() >= 0:
            break
        lifted = np.roll(fft.ifft2(np.maximum(power, LEAST_POWER)).real, (middle, middle), (0, 1))[:side, :side]
        out = lifted / lifted[middle, middle]
    white = np.zeros_like(given)
    white[middle, middle] = 1.0
    share = max(0.0, (LEAST_POWER - power_of(out, fine).min()) / (1 - LEAST_POWER))
    out = (out + share * white) / (1 + share)
    out = (out + out[::-1, ::-1]) / 2
    return out, float(np.abs(out - given).max())


def _overlap(height: int, width: int) -> Array:
    """Return how many pairs of pixels of a ``height x width`` box are each lag apart, ``(2 height - 1, 2 width - 1)``."""
    rows, columns = (side - np.abs(np.arange(1 - side, side)) for side in (height, width))
    return np.outer(rows, columns).astype(np.float64)


def aperture_scatter(correlation: Array, height: int, width: int) -> float:
    """Return the rms of the sum of ``height x width`` pixels of unit rms; ``sqrt(height width)`` for independent ones."""
    covariance = convolve2d(np.asarray(correlation, np.float64), _overlap(height, width))
    return float(np.sqrt(max(covariance[covariance.shape[0] // 2, covariance.shape[1] // 2], 0.0)))


def binned_correlation(correlation: Array, b: int) -> tuple[Array, float]:
    """Return the correlation of sums of ``b x b`` pixels, and their rms in units of a pixel's.

    Returns
    -------
    correlation : ndarray
        ``(L, L)`` float64, of the same size as the given map and as exact: no binned pixels further apart are correlated.
    scatter : float
        ``b`` for independent pixels.
    """
    given = np.asarray(correlation, np.float64)
    if b == 1:
        return given, 1.0
    middle = len(given) // 2
    covariance = convolve2d(given, _overlap(b, b))
    centre = len(covariance) // 2
    reach = centre // b
    every = covariance[centre - reach * b : centre + reach * b + 1 : b, centre - reach * b : centre + reach * b + 1 : b]
    variance = every[reach, reach]
    out = np.zeros_like(given)
    # (middle + b - 1) // b lags, which is at most `middle` where there is any correlation
    kept = min(reach, middle)
    out[middle - kept : middle + kept + 1, middle - kept : middle + kept + 1] = every[
        reach - kept : reach + kept + 1, reach - kept : reach + kept + 1
    ]
    return out / variance, float(np.sqrt(variance))


def binned_noise(correlation: Array | None, binning: Array) -> tuple[Array, Array | None]:
    """Return the noise of binned stamps: rms of a pixel in units of a native one's ``(N,)``, and correlations ``(N, 1, L, L)`` float32.

    `correlation` is that of native pixels, None for independent ones; so are the binned ones then.
    """
    if correlation is None:
        return binning, None
    scatter = np.empty(len(binning))
    maps = np.empty((len(binning), 1, *correlation.shape), np.float32)
    for b in np.unique(binning).tolist():
        rows = binning == b
        maps[rows], scatter[rows] = binned_correlation(correlation, b)
    return scatter, maps


def correlated_normals(rng: np.random.Generator, correlation: Array, binning: Array, shape: tuple[int, int]) -> Array:
    """Draw Gaussian noise of unit rms on binned stamps.

    Parameters
    ----------
    rng : Generator
        Gives about two numbers per pixel of two stamps, which are drawn as the real and imaginary part of one transform.
    correlation : ndarray
        ``(L, L)``, of native pixels.
    binning : ndarray
        ``(N,)``.
    shape : tuple
        Rows and columns of a stamp.

    Returns
    -------
    ndarray
        ``(N, 1, *shape)`` float32.
    """
    out = np.empty((len(binning), 1, *shape), np.float32)
    for b in np.unique(binning).tolist():
        rows = np.flatnonzero(binning == b)
        amplitude = np.sqrt(np.maximum(_embedded(correlation, b, shape), 0))
        amplitude = (amplitude / np.sqrt(amplitude.size)).astype(np.float32)
        white = rng.standard_normal(((len(rows) + 1) // 2, *amplitude.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        fields = fft.fft2(white * amplitude, overwrite_x=True)[:, : shape[0], : shape[1]]
        out[rows[::2], 0] = fields.real
        out[rows[1::2], 0] = fields.imag[: len(rows) // 2]
    return out


def correlated_snr(signal: Array, correlation: Array, binning: Array) -> Array:
    """Return the signal-to-noise ratio of each stamp with every pixel weighted as if noise were independent.

    With ``x = m / rms`` it is ``x^T x / sqrt(x^T R x)``: what the fit of a flux attains that ignores the correlation, never above the
    optimum ``sqrt(x^T R^-1 x)``, and equal to it for independent noise. Masked pixels are zero and simply do not count.

    Parameters
    ----------
    signal : ndarray
        ``(N, B, H, W)`` noiseless model over rms, zero where masked.
    correlation : ndarray
        ``(L, L)``, of native pixels.
    binning : ndarray
        ``(N,)``.
    """
    square = np.sum(signal**2, axis=(1, 2, 3), dtype=np.float64)
    variance = np.empty(len(signal))
    for b in np.unique(binning).tolist():
        rows = binning == b
        power = _embedded(correlation, b, signal.shape[-2:])
        half = power[:, : power.shape[1] // 2 + 1]
        # a real transform leaves out the frequencies that mirror others
        twice = np.full(half.shape[1], 2.0)
        twice[0] = 1.0
        if power.shape[1] % 2 == 0:
            twice[-1] = 1.0
        spectrum = np.abs(fft.rfft2(signal[rows].astype(np.float32), s=power.shape)) ** 2
        variance[rows] = (spectrum * (half * twice / power.size)).sum((1, 2, 3), dtype=np.float64)
    return np.asarray(square / np.sqrt(np.where(square > 0, variance, 1.0)))


def _embedded(correlation: Array, b: int, shape: tuple[int, ...]) -> Array:
    """Return the power of binned noise on the smallest fast grid whose opposite edges know nothing of each other within a stamp."""
    binned, _ = binned_correlation(correlation, b)
    reach = len(binned) // 2
    height, width = (fft.next_fast_len(max(side + reach, 2 * reach + 1)) for side in shape)
    return power_of(binned, (height, width))
