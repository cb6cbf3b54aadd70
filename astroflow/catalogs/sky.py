"""From the image to the sky: positions, position angles and ellipticities of fits.

A `SkyFrame` is the local linear map between pixels and the tangent plane at each object, east and north in arcsec. It comes from
the WCS, distortions included, and is all that is needed to say where a fit lies and how it is oriented.

Conventions: position angles run from north through east, 0 to 180 degrees. Sky-frame ellipticities are
``e1_sky + i e2_sky = |e| exp(2 i PA)``, the IAU convention: e1_sky > 0 is elongated north-south, e2_sky > 0 north-east to south-west.
Lensing codes whose x axis points west have both signs flipped.
"""

__all__ = ["SkyFrame", "position_angle", "sky_ellipticity", "sky_position"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from astroflow.types import Array

STEP_PIXELS = 0.5


@dataclass(frozen=True)
class SkyFrame:
    """Where objects are and how their pixels lie on the sky; NaN where that is not known.

    Parameters
    ----------
    ra, dec : ndarray
        ``(N,)`` degrees, of the reference positions.
    x, y : ndarray
        ``(N,)`` the same positions in 0-based pixels of the tile or stamp.
    jacobian : ndarray
        ``(N, 2, 2)``: d(east, north) / d(x, y), arcsec per pixel.
    pixel_scale_arcsec : float
        The nominal side of a pixel, which offsets in arcsec along x and y refer to.
    """

    ra: Array
    dec: Array
    x: Array
    y: Array
    jacobian: Array
    pixel_scale_arcsec: float

    def __len__(self) -> int:
        return len(self.ra)

    @classmethod
    def unknown(cls, n: int, pixel_scale_arcsec: float) -> "SkyFrame":
        """Return a frame of `n` objects of which nothing is known."""
        ra, dec, x, y = np.full((4, n), np.nan)
        return cls(ra, dec, x, y, np.full((n, 2, 2), np.nan), pixel_scale_arcsec)

    @classmethod
    def of(cls, wcs: WCS, x: Array, y: Array, pixel_scale_arcsec: float) -> "SkyFrame":
        """Return the frame at pixel positions ``(N,)`` of an image with a WCS in RA and Dec, in either order."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        ra, dec = _world(wcs, x, y)
        jacobian = np.empty((len(x), 2, 2))
        for axis, (dx, dy) in enumerate(((STEP_PIXELS, 0.0), (0.0, STEP_PIXELS))):
            ahead = np.stack(_tangent_offsets(ra, dec, *_world(wcs, x + dx, y + dy)))
            behind = np.stack(_tangent_offsets(ra, dec, *_world(wcs, x - dx, y - dy)))
            jacobian[:, :, axis] = ((ahead - behind) / (2 * STEP_PIXELS)).T
        return cls(ra, dec, x, y, jacobian, pixel_scale_arcsec)

    def put(self, rows: Array | Sequence[int], frame: "SkyFrame") -> None:
        """Fill some of this frame's objects from another one."""
        for name in ("ra", "dec", "x", "y", "jacobian"):
            getattr(self, name)[rows] = getattr(frame, name)


def sky_position(frame: SkyFrame, dx_arcsec: Array, dy_arcsec: Array) -> tuple[Array, Array]:
    """Return RA and Dec (degrees) at offsets along +x and +y from the frame's positions.

    Parameters
    ----------
    frame : SkyFrame
        ``N`` objects.
    dx_arcsec, dy_arcsec : ndarray
        ``(N,)`` or ``(N, S)`` offsets in nominal arcsec, that is pixels times `frame.pixel_scale_arcsec`.
    """
    jacobian, extra = _aligned(frame.jacobian, dx_arcsec)
    dx, dy = (np.asarray(d, np.float64) / frame.pixel_scale_arcsec for d in (dx_arcsec, dy_arcsec))
    east = np.deg2rad((jacobian[..., 0, 0] * dx + jacobian[..., 0, 1] * dy) / 3600)
    north = np.deg2rad((jacobian[..., 1, 0] * dx + jacobian[..., 1, 1] * dy) / 3600)
    ra0, dec0 = (np.deg2rad(angle).reshape(angle.shape + extra) for angle in (frame.ra, frame.dec))
    across = np.cos(dec0) - north * np.sin(dec0)
    ra = ra0 + np.arctan2(east, across)
    dec = np.arctan2(np.sin(dec0) + north * np.cos(dec0), np.hypot(east, across))
    return np.rad2deg(ra) % 360, np.rad2deg(dec)


def sky_ellipticity(frame: SkyFrame, e1: Array, e2: Array) -> tuple[Array, Array]:
    """Turn image-frame ellipticities ``(N,)`` or ``(N, S)`` into sky-frame ones, parity and distortion included."""
    jacobian, _ = _aligned(frame.jacobian, e1)
    e1, e2 = np.asarray(e1, np.float64), np.asarray(e2, np.float64)
    # Second moments of an ellipse with axes 1 + |e| and 1 - |e|, then J M J^T written out: products of matrices this small take longer.
    size = 1 + e1**2 + e2**2
    xx, yy, xy = size + 2 * e1, size - 2 * e1, 2 * e2
    (a, b), (c, d) = ((jacobian[..., i, 0], jacobian[..., i, 1]) for i in (0, 1))
    east, north = (p**2 * xx + 2 * p * q * xy + q**2 * yy for p, q in ((a, b), (c, d)))
    cross = a * c * xx + (a * d + b * c) * xy + b * d * yy
    total = east + north + 2 * np.sqrt(np.maximum(east * north - cross**2, 0))
    return (north - east) / total, 2 * cross / total


def position_angle(e1_sky: Array, e2_sky: Array) -> Array:
    """Return the position angle east of north, degrees in [0, 180)."""
    return np.rad2deg(0.5 * np.arctan2(e2_sky, e1_sky)) % 180


def _aligned(jacobian: Array, like: Array) -> tuple[Array, tuple[int, ...]]:
    """Give the Jacobian and coordinates the axes of ``(N,)`` or ``(N, S)`` values."""
    extra = (1,) * (np.ndim(like) - 1)
    return jacobian.reshape(jacobian.shape[0], *extra, 2, 2), extra


def _world(wcs: WCS, x: Array, y: Array) -> tuple[Array, Array]:
    ra, dec = wcs.all_pix2world(x, y, 0, ra_dec_order=True) if len(x) else (x, y)
    return np.asarray(ra), np.asarray(dec)


def _tangent_offsets(ra0: Array, dec0: Array, ra: Array, dec: Array) -> tuple[Array, Array]:
    """Return gnomonic offsets (east, north) in arcsec."""
    ra0, dec0, ra, dec = (np.deg2rad(angle) for angle in (ra0, dec0, ra, dec))
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    east = np.cos(dec) * np.sin(ra - ra0) / cosine
    north = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cosine
    return np.rad2deg(east) * 3600, np.rad2deg(north) * 3600
