import warnings

import cdshealpix
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Latitude, Longitude
from hats.pixel_math import compute_spatial_index, generate_alignment
from hypothesis import given
from hypothesis import strategies as st

from astroflow.catalogs.healpix import INDEX_ORDER, sky_tiles, spatial_index

PIXELS = 12 * 4**INDEX_ORDER


def scattered(n, seed=0):
    """Positions that crowd in places, on the seam of right ascension and at the poles too, in degrees."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    near = rng.integers(0, 4, n)
    ra[near == 1], dec[near == 1] = rng.normal(0, 0.05, (2, n))[:, near == 1]
    dec[near == 2] = 90 - np.abs(rng.normal(0, 0.02, n))[near == 2]
    ra[near == 3], dec[near == 3] = rng.normal(0, 1e-4, (2, n))[:, near == 3] + [[150.1], [2.2]]
    return ra % 360, dec


def test_the_index_is_that_of_hats():
    ra, dec = scattered(2000)
    np.testing.assert_array_equal(spatial_index(ra, dec), compute_spatial_index(ra, dec))


def test_a_pixel_holds_its_own_centre():
    pixels = np.random.default_rng(1).integers(0, PIXELS, 500)
    lon, lat = cdshealpix.nested.healpix_to_lonlat(pixels.astype(np.uint64), INDEX_ORDER)
    np.testing.assert_array_equal(spatial_index(lon.deg, lat.deg), pixels)


def test_coarser_pixels_are_prefixes():
    ra, dec = scattered(500, seed=2)
    index = spatial_index(ra, dec)
    for order in (0, 3, 10, 20):
        coarse = cdshealpix.nested.lonlat_to_healpix(Longitude(ra, u.deg), Latitude(dec, u.deg), order).astype(np.int64)
        np.testing.assert_array_equal(index >> 2 * (INDEX_ORDER - order), coarse)


def test_right_ascension_has_a_seam_but_the_sky_has_none():
    dec = np.array([-89.0, -30.0, 0.0, 45.0, 89.9])
    np.testing.assert_array_equal(spatial_index(np.full(5, 360.0), dec), spatial_index(np.zeros(5), dec))
    np.testing.assert_array_equal(spatial_index(np.full(5, -10.0), dec), spatial_index(np.full(5, 350.0), dec))


def test_places_that_are_none_have_no_index():
    nan, inf = np.nan, np.inf
    ra = np.array([nan, 10, inf, 10, 10, 10, 361, -181, -9999, 1e30, 10])
    dec = np.array([10, nan, 10, -inf, 90.1, -91, 0, 0, -9999, 0, 90])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = spatial_index(ra, dec)
    assert index.dtype == np.int64
    assert index[:-1].tolist() == [-1] * 10
    assert index[-1] >= 0
    assert spatial_index(np.zeros(0), np.zeros(0)).shape == (0,)


def check(tiles, index, limit, max_order):
    index = np.asarray(index)
    rows = np.concatenate([t.rows for t in tiles]) if tiles else np.zeros(0, int)
    assert sorted(rows.tolist()) == np.flatnonzero(index >= 0).tolist(), "each placed row is in one tile"
    for tile in tiles:
        shift = 2 * (INDEX_ORDER - tile.order)
        assert len(tile.rows)
        assert (index[tile.rows] >> shift == tile.pixel).all()
        assert tile.order == max_order or len(tile.rows) <= limit
        assert np.lexsort((tile.rows, index[tile.rows])).tolist() == list(range(len(tile.rows))), "by place, then by row"
        if tile.order:  # what is small enough is not split
            assert (index >> (shift + 2) == tile.pixel >> 2).sum() > limit
    shifts = [2 * (INDEX_ORDER - t.order) for t in tiles]
    edges = [edge for t, shift in zip(tiles, shifts, strict=True) for edge in (t.pixel << shift, (t.pixel + 1) << shift)]
    assert edges == sorted(edges), "tiles follow each other and do not overlap"


crowds = st.lists(st.integers(-1, PIXELS - 1), max_size=20).flatmap(
    lambda few: st.lists(st.sampled_from(few) if few else st.integers(0, 2**20), max_size=60).map(lambda many: few + many)
)


@given(index=crowds, limit=st.integers(1, 20), max_order=st.integers(0, 14))
def test_tiles_partition_the_rows(index, limit, max_order):
    check(sky_tiles(np.array(index, np.int64), limit, max_order=max_order), np.array(index, np.int64), limit, max_order)


@given(seed=st.integers(0, 2**32 - 1))
def test_tiles_do_not_depend_on_the_order_of_the_rows(seed):
    index = spatial_index(*scattered(300, seed=seed % 5))
    shuffled = np.random.default_rng(seed).permutation(len(index))
    for one, other in zip(sky_tiles(index, 25), sky_tiles(index[shuffled], 25), strict=True):
        assert one[:2] == other[:2]
        assert sorted(one.rows) == sorted(shuffled[other.rows])


def test_tiles_of_a_crowded_sky():
    index = spatial_index(*scattered(20_000))
    index[::97] = -1
    tiles = sky_tiles(index, 200, max_order=12)
    check(tiles, index, 200, 12)
    assert {t.order for t in tiles} >= {3, 4, 9, 12}
    assert max(len(t.rows) for t in tiles) > 200, "a cluster stays one tile"


def test_tiles_are_those_of_hats():
    index = spatial_index(*scattered(5000, seed=3))
    order = 8
    counts = np.bincount(index >> 2 * (INDEX_ORDER - order), minlength=12 * 4**order)
    limit = int(counts.max()) + 50
    alignment = generate_alignment(counts, highest_order=order, threshold=limit)
    expected = {(o, p): n for o, p, n in (a for a in alignment if a is not None)}
    assert {(t.order, t.pixel): len(t.rows) for t in sky_tiles(index, limit, max_order=order)} == expected


def test_of_no_rows_there_are_no_tiles():
    assert sky_tiles(np.zeros(0, np.int64), 5) == []
    assert sky_tiles(np.full(3, -1), 5) == []


def test_limits_that_are_none():
    with pytest.raises(ValueError, match="`rows_per_tile` must be at least 1; got 0"):
        sky_tiles(np.zeros(1, np.int64), 0)
    with pytest.raises(ValueError, match="`max_order` must be from 0 to 29; got 30"):
        sky_tiles(np.zeros(1, np.int64), 1, max_order=30)
