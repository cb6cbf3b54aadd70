"""Single FITS images: read one, write one, and what its header says of its pixels."""

__all__ = ["header_number", "header_wcs", "pixel_scale_of", "read_fits_image", "write_fits_image"]

import io
import math
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales

from astroflow.catalogs.fits_files import PARSE_ERRORS, FitsFile, card_value
from astroflow.errors import InputError, nearest
from astroflow.files import atomic_write
from astroflow.types import Array

ISOTROPY = 0.01
J2000 = 2000.0
FK5_SINCE = 1984.0
"""The FITS standard reads an equinox before this year as FK4 where the system is not named."""
EQUINOX_TOLERANCE = 1e-3


def read_fits_image(path: str | Path, hdu: int | str | None = None, what: str = "FITS image") -> tuple[Array, fits.Header]:
    """Read one image.

    Parameters
    ----------
    path : str or Path
        A file on disk, plain, gzipped or tile-compressed.
    hdu : int or str, optional
        Number (0 = primary) or name; needed where the file holds several images.
    what : str
        How messages call it.

    Returns
    -------
    image : ndarray
        ``(H, W)`` native float32.
    header : astropy.io.fits.Header
        Its header.

    Raises
    ------
    InputError
        For anything else than one readable two-dimensional image.
    """
    with FitsFile(path, what) as file:
        image = file.image(hdu)
        return image.floats(), image.header


def write_fits_image(path: str | Path, image: Array, header: fits.Header | None = None) -> None:
    """Write one image as the primary HDU, so that the file is either complete or not there."""
    stream = io.BytesIO()
    fits.PrimaryHDU(np.asarray(image), header).writeto(stream)
    atomic_write(Path(path), stream.getvalue())


def header_wcs(header: fits.Header) -> WCS | None:
    """Return the WCS of a header, or None where it has none, a broken one, or one that is not in RA and Dec of ICRS or J2000.

    The axes may come in either order: use it with ``ra_dec_order=True``.
    """
    wcs = _celestial_wcs(header)
    return wcs if wcs is not None and _is_equatorial(wcs) else None


def _is_equatorial(wcs: WCS) -> bool:
    if (wcs.wcs.lngtyp, wcs.wcs.lattyp) != ("RA", "DEC"):
        return False
    equinox = float(wcs.wcs.equinox)
    system = wcs.wcs.radesys or ("ICRS" if math.isnan(equinox) else "FK4" if equinox < FK5_SINCE else "FK5")
    return system == "ICRS" or (system == "FK5" and (math.isnan(equinox) or abs(equinox - J2000) < EQUINOX_TOLERANCE))


def _celestial_wcs(header: fits.Header) -> WCS | None:
    try:
        if not any(str(header.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2)):
            return None
        # WCSLIB takes text for zero.
        if any(isinstance(header.get(f"{key}{axis}"), str) for key in ("CRVAL", "CRPIX") for axis in (1, 2)):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header, naxis=2)
            corner = wcs.all_pix2world([[0.0, 0.0]], 0) if wcs.has_celestial else None
    except PARSE_ERRORS:
        return None
    return wcs if corner is not None and np.isfinite(corner).all() else None


def pixel_scale_of(header: fits.Header) -> float | None:
    """Return the side of a pixel in arcsec from a header's WCS, in whatever celestial coordinates, or None where there is none.

    Raises
    ------
    InputError
        If the two sides of a pixel differ by more than 1 %.
    """
    wcs = _celestial_wcs(header)
    if wcs is None:
        return None
    x, y = (float(side) * 3600 for side in proj_plane_pixel_scales(wcs))
    if abs(x / y - 1) > ISOTROPY:
        raise InputError(f'the WCS has pixels of {x:.4g}" x {y:.4g}"; only square pixels are supported')
    return math.sqrt(x * y)


def header_number(header: fits.Header, keyword: str, where: str) -> float:
    """Return a finite number from a header.

    Raises
    ------
    InputError
        If the keyword is missing (the nearest one is named) or does not hold a number.
    """
    if keyword not in header:
        raise InputError(f"{where} has no keyword {keyword!r}.{nearest(keyword.upper(), header.keys())}")
    value = card_value(header, keyword, where)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where} has {keyword} = {value!r}; expected a finite number")
    return float(value)
