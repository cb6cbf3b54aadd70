"""From astroflow's parameters to those of the peers and back. NumPy and SciPy alone: all environments import it.

==========  ====================================================  ==============================================================
            astroflow (docs/conventions.md)                       pysersic 0.1.5 (``rendering.render_sersic_2d``)
==========  ====================================================  ==============================================================
flux        ``mag`` of the whole profile, and a zero point        ``flux`` of the whole profile
size        ``re_arcsec``, half-light radius, semi-major axis     ``r_eff``, the same, in pixels (``a = r_eff``)
shape       ``e1, e2``, ``|e| = (1 - q) / (1 + q)``               ``ellip = 1 - q`` (``b = (1 - ellip) r_eff``)
direction   of the major axis, from +x towards +y                 ``theta``, radians from +y towards -x (turned by ``pi / 2``)
centre      offset from the middle, ``((W - 1) / 2, (H - 1) / 2)``  ``xc, yc``, pixels whose centres are 0, 1, ...
PSF         its image includes the pixel                          the same (the Fourier and hybrid renderers sample, not integrate)
==========  ====================================================  ==============================================================

PyImfit 1.1 (``func_sersic.cpp``, ``oversampled_region.cpp`` of Imfit) has pysersic's shape, size and direction, as ``ell``, ``r_e`` and, in
degrees, ``PA``, but

- ``I_e``, the surface brightness per pixel at ``r_e``, instead of the flux, which it fits nowhere;
- ``X0, Y0``, pixels whose centres are 1, 2, ...;
- a PSF *without* the pixel, because it integrates profiles over pixels before it convolves. Where it oversamples, it still integrates over
  whole pixels around each point of a finer grid, convolves, and averages a pixel's points: the pixel counts twice (see `psf_for_pyimfit`).

`renders.py` compares the pixels of all.
"""

import numpy as np
from scipy.special import gamma, gammaincinv

COMPARED = ("mag", "log10 re", "log10 n", "q")
"""What estimates are compared in: magnitude, dex, dex, axis ratio."""


def flux(mag, zero_point: float):
    return 10 ** (0.4 * (zero_point - np.asarray(mag, np.float64)))


def to_pysersic(theta: dict[str, float], zero_point: float, scale: float, size: int) -> dict[str, float]:
    """Translate one galaxy's parameters to those of pysersic's ``sersic`` profile."""
    e = np.hypot(theta["e1"], theta["e2"])
    middle = (size - 1) / 2
    return {
        "xc": middle + theta["dx_arcsec"] / scale,
        "yc": middle + theta["dy_arcsec"] / scale,
        "flux": float(flux(theta["mag"], zero_point)),
        "r_eff": theta["re_arcsec"] / scale,
        "n": theta["n"],
        "ellip": 2 * e / (1 + e),
        "theta": 0.5 * np.arctan2(theta["e2"], theta["e1"]) - np.pi / 2,
    }


def flux_at_unit_brightness(n, q, size):
    """Return the flux of a Sersic profile whose surface brightness is one at the half-light radius `size` (Ciotti & Bertin 1999)."""
    b = gammaincinv(2 * n, 0.5)
    return 2 * np.pi * n * np.exp(b) * b ** (-2 * n) * gamma(2 * n) * q * size**2


def to_pyimfit(theta: dict[str, float], zero_point: float, scale: float, size: int) -> dict[str, float]:
    """Translate one galaxy's parameters to those of PyImfit's ``Sersic`` function, in its order."""
    other = to_pysersic(theta, zero_point, scale, size)
    ell, n, r_e = other["ellip"], other["n"], other["r_eff"]
    return {
        "X0": other["xc"] + 1,
        "Y0": other["yc"] + 1,
        "PA": float(np.degrees(other["theta"])),
        "ell": ell,
        "n": n,
        "I_e": float(other["flux"] / flux_at_unit_brightness(n, 1 - ell, r_e)),
        "r_e": r_e,
    }


def psf_for_pyimfit(psf: np.ndarray, oversampling: int) -> np.ndarray:
    """Take out of a square PSF image of odd size what PyImfit adds itself, and interpolate it to `oversampling` points a pixel.

    That is the pixel, once where it does not oversample. Where it does it is also the mean over the points of a pixel, whose transform is
    ``sinc(f) / sinc(f / oversampling)``. Neither vanishes below the Nyquist frequency, where the PSF has to have no power.
    """
    size, half = len(psf), len(psf) // 2
    f = np.fft.fftfreq(size)
    box = np.sinc(f) ** 2 / np.sinc(f / oversampling)
    fine = oversampling * size
    transform, same = np.zeros((fine, fine), complex), np.r_[: half + 1, fine - half : fine]
    transform[np.ix_(same, same)] = np.fft.fft2(np.fft.ifftshift(psf.astype(np.float64))) / (box[:, None] * box)
    image = np.fft.fftshift(np.fft.ifft2(transform).real)
    return image if fine % 2 else image[1:, 1:]  # its middle has to be a pixel


def compared_from_astroflow(theta: dict[str, np.ndarray]) -> np.ndarray:
    """``(..., 4)`` compared quantities of astroflow's parameters, each ``(...)``."""
    e = np.hypot(theta["e1"], theta["e2"])
    return np.stack([theta["mag"], np.log10(theta["re_arcsec"]), np.log10(theta["n"]), (1 - e) / (1 + e)], -1)


def compared_from_pysersic(found: dict[str, np.ndarray], zero_point: float, scale: float) -> np.ndarray:
    """``(..., 4)`` compared quantities of pysersic's parameters, each ``(...)``."""
    mag = zero_point - 2.5 * np.log10(found["flux"])
    return np.stack([mag, np.log10(found["r_eff"] * scale), np.log10(found["n"]), 1 - np.asarray(found["ellip"])], -1)


def compared_from_pyimfit(found: dict[str, np.ndarray], zero_point: float, scale: float) -> np.ndarray:
    """``(..., 4)`` compared quantities of PyImfit's parameters, each ``(...)``."""
    ellip, n, r_eff = found["ell"], found["n"], found["r_e"]
    total = found["I_e"] * flux_at_unit_brightness(n, 1 - ellip, r_eff)
    return compared_from_pysersic({"flux": total, "r_eff": r_eff, "n": n, "ellip": ellip}, zero_point, scale)
