"""From astroflow's parameters to pysersic's and back. Plain NumPy: both environments import it.

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

`renders.py` compares the pixels of both.
"""

import numpy as np

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


def compared_from_astroflow(theta: dict[str, np.ndarray]) -> np.ndarray:
    """``(..., 4)`` compared quantities of astroflow's parameters, each ``(...)``."""
    e = np.hypot(theta["e1"], theta["e2"])
    return np.stack([theta["mag"], np.log10(theta["re_arcsec"]), np.log10(theta["n"]), (1 - e) / (1 + e)], -1)


def compared_from_pysersic(found: dict[str, np.ndarray], zero_point: float, scale: float) -> np.ndarray:
    """``(..., 4)`` compared quantities of pysersic's parameters, each ``(...)``."""
    mag = zero_point - 2.5 * np.log10(found["flux"])
    return np.stack([mag, np.log10(found["r_eff"] * scale), np.log10(found["n"]), 1 - np.asarray(found["ellip"])], -1)
