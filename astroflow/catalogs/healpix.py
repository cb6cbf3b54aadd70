"""Where rows lie on the HEALPix sphere, and tiles of the sky that hold about equally many of them.

HEALPix divides the sphere into 12 pixels of equal area, and each of those, order by order, into four. Nested pixel numbers keep that:
a pixel's number without its last two bits is the number of the pixel around it. So one sorted column of order-29 numbers (a
pixel is 0.4 milliarcsec wide) serves every coarser order, and rows that are close on the sky are close in a file.

`spatial_index` gives that column, `sky_tiles` cuts it into the tiles of a HATS catalog.

References: Gorski et al. 2005, ApJ 622, 759; HATS, https://www.ivoa.net/documents/Notes/HATS/
"""

__all__ = ["INDEX_ORDER", "SkyTile", "sky_tiles", "spatial_index"]

from typing import NamedTuple

import numpy as np

from astroflow.types import Array

INDEX_ORDER = 29
"""The finest order whose numbers fit into 64 bits."""


class SkyTile(NamedTuple):
    """The rows of a table that lie in one HEALPix pixel."""

    order: int
    pixel: int
    """Nested number of the pixel at that order."""
    rows: Array
    """``(n,)`` int64 places in the table, along the spatial index; equal ones in the order of the table."""


def spatial_index(ra: Array, dec: Array) -> Array:
    """Return the nested HEALPix index of order 29 of positions, what HATS calls ``_healpix_29``.

    Parameters
    ----------
    ra, dec : ndarray
        ``(N,)`` ICRS degrees; right ascensions count from 0 to 360 or from -180 to 180.

    Returns
    -------
    ndarray
        ``(N,)`` int64; -1 where the position is not finite or out of range.
    """
    import astropy.units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    index = np.full(ra.shape, -1, np.int64)
    known = (ra >= -180) & (ra <= 360) & (np.abs(dec) <= 90)
    if known.any():
        # one thread: workers have a core each
        index[known] = lonlat_to_healpix(Longitude(ra[known], u.deg), Latitude(dec[known], u.deg), INDEX_ORDER, num_threads=1)
    return index


def sky_tiles(index: Array, rows_per_tile: int, *, max_order: int = 12) -> list[SkyTile]:
    """Cut the sky into the largest pixels that hold at most so many rows.

    A pixel that holds more is split into its four children, down to `max_order`: there a dense cluster stays one tile,
    whatever it holds. Tiles do not overlap and none is empty. They depend on the positions alone, not on the order of the rows.

    Parameters
    ----------
    index : ndarray
        ``(N,)`` int64 of `spatial_index`; rows with -1 are in no tile.
    rows_per_tile : int
        How many rows a tile may hold.
    max_order : int
        Where splitting ends; at order 12 a pixel is 52 arcsec wide.

    Returns
    -------
    list of SkyTile
        Along the spatial index.

    Raises
    ------
    ValueError
        If `rows_per_tile` is not positive or `max_order` is no order.
    """
    if rows_per_tile < 1:
        raise ValueError(f"`rows_per_tile` must be at least 1; got {rows_per_tile}")
    if not 0 <= max_order <= INDEX_ORDER:
        raise ValueError(f"`max_order` must be from 0 to {INDEX_ORDER}; got {max_order}")
    index = np.asarray(index, np.int64)
    rows = np.argsort(index, kind="stable")
    rows = rows[np.searchsorted(index[rows], 0) :]
    ordered = index[rows]
    found: list[tuple[int, int, int, int]] = []
    pixels = np.arange(12)
    for order in range(max_order + 1):
        shift = 2 * (INDEX_ORDER - order)
        start, stop = np.searchsorted(ordered, pixels << shift), np.searchsorted(ordered, (pixels + 1) << shift)
        small = stop - start <= (rows_per_tile if order < max_order else len(ordered))
        final = small & (stop > start)
        found += zip(start[final], stop[final], pixels[final], [order] * int(final.sum()), strict=True)
        pixels = (4 * pixels[~small, None] + np.arange(4)).ravel()
    return [SkyTile(order, int(pixel), rows[start:stop]) for start, stop, pixel, order in sorted(found)]
