import errno
import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from astroflow.catalogs.fits_files import FitsFile
from astroflow.catalogs.fits_images import read_fits_image
from astroflow.errors import AstroflowError, InputError
from astroflow.posteriors.flags import UNUSABLE, Flag


def centroid(image):
    yy, xx = np.mgrid[: image.shape[0], : image.shape[1]]
    return (image * xx).sum() / image.sum(), (image * yy).sum() / image.sum()


def test_cutouts_hold_the_object_at_the_position_they_say(survey):
    cutouts = survey.cutouts(side=24)
    assert sorted(cutouts) == [0, 1, 2, 3, 100, 101, 102, 103]
    for identity, cutout in cutouts.items():
        assert cutout.flags == 0
        assert cutout.image.shape == cutout.rms.shape == cutout.mask.shape == (1, 24, 24)
        assert cutout.image.dtype == cutout.rms.dtype == np.float32
        assert cutout.psf.shape == (1, 21, 21)
        x, _ = survey.pixels["A" if identity < 100 else "B"][identity % 100]
        # As near to the middle as the pixel grid allows, and sub-pixel.
        assert abs(cutout.x - 11.5) <= 0.5
        assert (cutout.x - x) % 1 == pytest.approx(0, abs=1e-5) or (cutout.x - x) % 1 == pytest.approx(1, abs=1e-5)
        near = cutout.image[0][int(cutout.y) - 6 : int(cutout.y) + 8, int(cutout.x) - 6 : int(cutout.x) + 8]
        mx, my = centroid(near)
        assert mx + int(cutout.x) - 6 == pytest.approx(cutout.x, abs=0.05)
        assert my + int(cutout.y) - 6 == pytest.approx(cutout.y, abs=0.05)
        assert cutout.rms[~cutout.mask].max() == np.float32(0.01)


def test_a_galsim_source_at_a_sky_position_is_where_its_cutout_says(survey):
    galsim = pytest.importorskip("galsim")
    survey.single()
    wcs = galsim.AstropyWCS(wcs=survey.wcs["A"])
    image = galsim.ImageF(survey.width, survey.height, wcs=wcs)
    coordinates = [(150.0 + 8e-4, 2.0 + 3e-4), (150.0 - 1.1e-3, 2.0 - 6e-4)]
    for ra, dec in coordinates:
        world = galsim.CelestialCoord(ra * galsim.degrees, dec * galsim.degrees)
        galsim.Gaussian(sigma=0.4, flux=100).drawImage(image, center=wcs.toImage(world), add_to_image=True)
    survey.write("tile_A.fits", image.array, survey.wcs["A"].to_header())
    survey.table = Table({"ID": [1, 2], "RA": [c[0] for c in coordinates], "DEC": [c[1] for c in coordinates]})
    for cutout in survey.cutouts(side=25).values():
        assert centroid(cutout.image[0].astype(float)) == pytest.approx((cutout.x, cutout.y), abs=0.01)
        assert abs(cutout.x - 12) <= 0.5
        assert abs(cutout.y - 12) <= 0.5


def test_rows_come_in_partition_order_each_tile_side_by_side(survey):
    source = survey.open()
    assert source.n_rows == 8
    assert source.row_keys().tolist() == [0, 100, 1, 101, 2, 102, 3, 103]
    assert np.isfinite(source.positions().ra).all()
    partitions = source.partitions(3)
    assert [p.tiles for p in partitions] == [("A",), ("A",), ("B",), ("B",)]
    assert all(len(p) <= 3 for p in partitions)
    assert sorted(row for p in partitions for row in p.rows) == list(range(8))
    for partition in partitions:
        read = [c.identity for c in source.read(partition, 16)]
        assert read == source.row_keys()[partition.rows].tolist()
    whole = source.partitions(100)
    assert [p.tiles for p in whole] == [("A", "B")]
    assert whole[0].tiles == ("A", "B")


def test_a_tile_is_opened_once_per_partition(survey, monkeypatch):
    source = survey.open()
    opened = []
    start = FitsFile.__init__

    def counted(self, path, what="FITS file"):
        opened.append(str(path).rsplit("/", 1)[-1])
        start(self, path, what)

    monkeypatch.setattr(FitsFile, "__init__", counted)
    assert len(list(source.read(source.partitions(100)[0], 16))) == 8
    assert [name for name in opened if name.startswith("tile")] == ["tile_A.fits", "tile_B.fits"]


def test_sources_travel_whole_or_as_one_partition(survey):
    source = survey.open()
    for partition in source.partitions(3):
        expected = list(source.read(partition, 16))
        for travelled in (pickle.loads(pickle.dumps(source)), pickle.loads(pickle.dumps(source.only(partition)))):
            for a, b in zip(expected, travelled.read(partition, 16), strict=True):
                assert a.identity == b.identity
                np.testing.assert_array_equal(a.image, b.image)
                assert (a.x, a.y) == (b.x, b.y)
        small = source.only(partition)
        assert small.n_rows == len(partition)
        np.testing.assert_array_equal(small.sky_frame(partition).ra, source.sky_frame(partition).ra)
    other = source.partitions(3)[0]
    with pytest.raises(InputError, match="which this source does not hold"):
        list(source.only(source.partitions(3)[1]).read(other))


def test_pixel_positions_with_either_origin(survey):
    survey.single()
    pixels = survey.pixels["A"]
    for origin in (0, 1):
        survey.table = Table({"ID": [10, 11, 12, 13], "X": pixels[:, 0] + origin, "Y": pixels[:, 1] + origin})
        survey.changed(columns={"id": "ID", "x": "X", "y": "Y", "origin": origin})
        for k, cutout in enumerate(survey.cutouts(side=16).values()):
            x, y = pixels[k]
            left = np.floor(x - 7.5 + 0.5)
            assert cutout.x == pytest.approx(x - left)
            assert cutout.y == pytest.approx(y - np.floor(y - 7.5 + 0.5))


def test_beyond_the_tile_is_masked(survey):
    survey.single()
    survey.table = Table({"ID": [1, 2], "X": [2.0, 60.0], "Y": [88.0, 45.0]})
    survey.changed(columns={"id": "ID", "x": "X", "y": "Y"})
    corner, middle = survey.cutouts(side=20).values()
    assert corner.image.shape == (1, 20, 20)
    expected = np.ones((20, 20), bool)
    expected[:11, 7:] = False
    np.testing.assert_array_equal(corner.mask[0], expected)
    assert (corner.image[0][expected] == 0).all()
    assert not middle.mask.any()
    whole = survey.cutouts(side=200)[2]
    assert (~whole.mask).sum() == survey.width * survey.height


@pytest.mark.parametrize(
    ("ra", "dec", "flag", "note"),
    [
        (150.3, 2.0, Flag.NO_DATA, r"is off the tile of 120 x 90 pixels"),
        (330.0, -2.0, Flag.NO_DATA, "far outside its projection"),
        (150.0, -60.0, Flag.NO_DATA, "far outside its projection"),
        (np.nan, 2.0, Flag.BAD_POSITION, "RA, Dec = nan, 2: missing or not finite"),
        (150.0, np.inf, Flag.BAD_POSITION, "missing or not finite"),
        (400.0, 2.0, Flag.BAD_POSITION, "expected 0 to 360 and -90 to 90"),
        (-10.0, 2.0, Flag.BAD_POSITION, "expected 0 to 360 and -90 to 90"),
        (150.0, 95.0, Flag.BAD_POSITION, "expected 0 to 360 and -90 to 90"),
    ],
)
def test_positions_that_lead_nowhere(survey, ra, dec, flag, note):
    survey.single()
    survey.table["RA"][1], survey.table["DEC"][1] = ra, dec
    cutouts = list(survey.cutouts(side=16).values())
    assert [c.flags for c in cutouts] == [0, int(flag), 0, 0]
    assert cutouts[1].image is None
    assert note.replace("\\", "") in cutouts[1].note


def test_a_missing_or_broken_tile_flags_its_rows(survey):
    (survey.folder / "tile_B.fits").unlink()
    cutouts = survey.cutouts(side=16)
    assert all(cutouts[k].flags == 0 for k in range(4))
    assert all(cutouts[100 + k].flags == Flag.READ_ERROR and "tile_B.fits does not exist" in cutouts[100 + k].note for k in range(4))
    (survey.folder / "tile_A.fits").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"none of the 2 tiles can be used; the first: image .*tile_A.fits is not FITS"):
        survey.open()


def test_a_tile_that_breaks_after_the_source_was_opened_flags_its_rows(survey):
    source = survey.open()
    path = survey.folder / "tile_A.fits"
    path.write_bytes(path.read_bytes()[:9000])
    cutouts = list(source.read(source.partitions(100)[0], 16))
    assert [c.flags for c in cutouts] == [int(Flag.READ_ERROR)] * 4 + [0] * 4
    assert "is truncated" in cutouts[0].note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image__path": "absent.fits"}, r"image .*absent.fits does not exist"),
        ({"noise__path": "absent.fits"}, r"noise map .*absent.fits does not exist"),
        ({"mask__path": "psf.fits"}, r"mask .*psf.fits .* has 21 x 21 pixels; its image .* has 120 x 90"),
        ({"psf__path": "absent.fits"}, r"PSF file .*absent.fits does not exist"),
        ({"table__path": "absent.fits"}, r"catalog table .*absent.fits does not exist"),
        ({"columns__ra": "RAJ2000"}, "has no column 'RAJ2000', which `columns.ra` asks for"),
        ({"pixel_scale_arcsec": 0.262}, r'has pixels of 0.2" by its WCS; the recipe says `pixel_scale_arcsec: 0.262`'),
        ({"zero_point": "MAGZER"}, "has no keyword 'MAGZER'. Did you mean 'MAGZERO'"),
        ({"gain": "EGAIN"}, "has no keyword 'EGAIN'. Did you mean 'GAIN'"),
        ({"image__hdu": 3}, "has no HDU 3"),
        ({"image__path": "https://example.org/a.fits"}, "is an address"),
        ({"image__path": "rms_A.fits"}, "has no usable WCS, so RA and Dec lead nowhere"),
    ],
)
def test_what_is_wrong_with_the_whole_source_is_one_error(survey, changes, message):
    survey.single().changed(**changes)
    with pytest.raises(InputError, match=message):
        survey.open()


def test_duplicate_ids_are_refused(survey):
    survey.table["ID"][3] = survey.table["ID"][0]
    with pytest.raises(InputError, match=r"has 1 ids that come more than once: 0; ids must be unique"):
        survey.open()


def test_zero_rows_are_a_valid_catalog(survey):
    survey.single()
    survey.table = survey.table[:0]
    source = survey.open()
    assert source.n_rows == 0
    assert source.partitions(10) == []


def test_calibration_from_keywords_differs_by_tile(survey):
    survey.changed(zero_point="MAGZERO", gain="GAIN")
    cutouts = survey.cutouts(side=16)
    assert (cutouts[0].zero_point, cutouts[100].zero_point) == (25.0, 26.0)
    assert cutouts[0].gain == 100.0


def test_gain_size_and_noise_from_columns(survey):
    survey.single()
    survey.table["G"], survey.table["R"], survey.table["S"] = [1.0, np.nan, 3.0, -4.0], [0.4, np.nan, 0.8, 1.0], [1.0, 2.0, np.nan, 4.0]
    survey.changed(gain=50.0, columns__gain="G", columns__size="R", columns__size_scale=0.5, columns__noise="S", noise={"kind": "constant"})
    cutouts = list(survey.cutouts(side=16).values())
    assert [c.gain for c in cutouts[:2]] == [1.0, 50.0]
    assert cutouts[0].size_pixels == pytest.approx(1.0)
    assert cutouts[1].size_pixels is None
    assert (cutouts[1].rms[~cutouts[1].mask] == 2.0).all()
    assert cutouts[2].flags == Flag.BAD_RMS
    assert "the noise of this object is nan" in cutouts[2].note
    assert cutouts[3].flags == Flag.BAD_RMS
    assert "gain is -4 electrons per image unit; it must be positive" in cutouts[3].note


def test_masks_and_segments(survey):
    survey.single()
    x, y = survey.pixels["A"][0]
    mask = np.zeros((survey.height, survey.width), "i4")
    mask[round(y) + 3, round(x)] = 2
    mask[round(y) - 3, round(x)] = 4
    survey.write("mask_A.fits", mask)
    labels = np.zeros_like(mask)
    labels[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = 2**24 + 1
    labels[round(y), round(x) + 5] = 2**24
    survey.write("seg.fits", labels)

    def masked():
        cutout = survey.cutouts(side=16)[0]
        rows, columns = np.nonzero(cutout.mask[0])
        return {(int(r - round(cutout.y)), int(c - round(cutout.x))) for r, c in zip(rows, columns, strict=True)}

    assert masked() == {(3, 0), (-3, 0)}
    survey.changed(mask__bits=[1])
    assert masked() == {(3, 0)}
    survey.changed(segmentation={"path": "seg.fits"})
    assert masked() == {(3, 0), (0, 5)}
    survey.table["L"] = [2**24, 1, 2, 3]
    others = {(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    survey.changed(columns__label="L")
    assert masked() == {(3, 0)} | others


def test_a_psf_per_object_from_planes_hdus_or_files(survey, blob):
    survey.single()
    planes = np.stack([blob(11, 11, 5, 5, sigma) for sigma in (1.0, 1.5, 2.0)]).astype("f4")
    survey.write("planes.fits", planes)
    fits.HDUList([fits.PrimaryHDU(), *[fits.ImageHDU(p) for p in planes]]).writeto(survey.folder / "hdus.fits")
    for k, plane in enumerate(planes):
        survey.write(f"p{k}.fits", plane)
    survey.table["K"] = [2, 0, 7, -1]
    survey.table["F"] = ["p2.fits", "p0.fits", "p7.fits", ""]

    def check(cutouts, notes):
        np.testing.assert_array_equal(cutouts[0].psf[0], planes[2])
        np.testing.assert_array_equal(cutouts[1].psf[0], planes[0])
        for cutout, note in zip(cutouts[2:], notes, strict=True):
            assert cutout.flags == Flag.BAD_PSF
            assert cutout.image is None
            assert note in cutout.note

    no_index = "the table gives no PSF index"
    survey.changed(columns__psf_index="K", psf={"path": "planes.fits"})
    check(list(survey.cutouts(16).values()), ["holds 3 planes; plane 7 was asked for", no_index])
    survey.table["K"] = [3, 1, 8, -1]
    survey.changed(psf={"path": "hdus.fits", "index": "hdu", "oversampling": 2})
    cutouts = list(survey.cutouts(16).values())
    check(cutouts, ["has no HDU 8", no_index])
    assert cutouts[0].psf_oversampling == 2
    survey.changed(columns__psf_index=None, psf={"path": "{F}"})
    check(list(survey.cutouts(16).values()), ["p7.fits does not exist", "should be a file"])


def test_one_row_in_one_row_out_whatever_is_broken(survey):
    rng = np.random.default_rng(5)
    ra, dec = np.array(survey.table["RA"]), np.array(survey.table["DEC"])
    survey.changed(psf={"path": "psf_{tile}_{ID}.fits"})
    psf = fits.getdata(survey.folder / "psf.fits")
    for trial in range(12):
        n = int(rng.integers(1, 30))
        tiles = rng.choice(["A", "B", "C", ""], n, p=[0.4, 0.4, 0.15, 0.05])
        tiles[0] = "A"
        pick = rng.integers(0, 8, n)
        kind = rng.integers(0, 6, n)
        kind[0] = 0
        survey.table = Table({"ID": 1000 * trial + np.arange(n), "RA": ra[pick], "DEC": dec[pick], "TILE": tiles})
        survey.table["RA"][kind == 1] = np.nan
        survey.table["DEC"][kind == 2] = 91.0
        survey.table["RA"][kind == 3] += 1.0
        for identity, tile, what in zip(survey.table["ID"], tiles, kind, strict=True):
            if what != 4 and tile:
                survey.write(f"psf_{tile}_{identity}.fits", psf)
        source = survey.open()
        seen = {}
        for partition in source.partitions(int(rng.integers(1, 12))):
            cutouts = list(source.read(partition, 12))
            assert [c.identity for c in cutouts] == source.row_keys()[partition.rows].tolist()
            seen |= {c.identity: c for c in cutouts}
        assert len(seen) == n
        for identity, tile, what in zip(survey.table["ID"], tiles, kind, strict=True):
            cutout = seen[int(identity)]
            usable = cutout.image is not None
            assert usable == (cutout.flags & UNUSABLE == 0) == (cutout.note == "")
            if what in (1, 2):
                assert cutout.flags == Flag.BAD_POSITION
            elif tile not in "AB" or not tile:
                assert cutout.flags == Flag.READ_ERROR
            elif what == 3:
                assert cutout.flags == Flag.NO_DATA
            elif what == 4 and not cutout.flags & Flag.NO_DATA:
                assert cutout.flags == Flag.BAD_PSF


def test_sky_frames_give_back_the_catalog_positions(survey):
    survey.table["RA"][2] = np.nan
    source = survey.open()
    (partition,) = source.partitions(100)
    frame = source.sky_frame(partition)
    expected = source.positions().ra[partition.rows]
    np.testing.assert_allclose(frame.ra, expected, rtol=0, atol=1e-9)
    assert np.isnan(frame.jacobian[np.isnan(expected)]).all()
    known = np.isfinite(expected)
    np.testing.assert_allclose(np.abs(np.linalg.det(frame.jacobian[known])), 0.04, rtol=1e-6)
    x = [survey.pixels["A" if i < 100 else "B"][i % 100][0] for i in source.row_keys()[partition.rows]]
    np.testing.assert_allclose(frame.x[known], np.array(x)[known], atol=1e-5)


def test_one_psf_file_is_open_at_a_time(survey, monkeypatch):
    survey.single()
    for identity in survey.table["ID"]:
        survey.write(f"p{identity}.fits", fits.getdata(survey.folder / "psf.fits"))
    source = survey.changed(psf__path="p{id}.fits").open()
    held = []
    start = FitsFile.__init__

    def kept(self, path, what="FITS file"):
        start(self, path, what)
        if what == "PSF file":
            held.append(self)

    monkeypatch.setattr(FitsFile, "__init__", kept)
    cutouts = source.read(source.partitions(100)[0], 16)
    for count in range(1, 5):
        assert next(cutouts).flags == 0
        assert len(held) == count
        assert [file._stream.closed for file in held] == [True] * (count - 1) + [False]
    assert list(cutouts) == []
    assert held[-1]._stream.closed


@pytest.mark.parametrize(("name", "code"), [("psf.fits", errno.EMFILE), ("mask_A.fits", errno.ENFILE)])
def test_too_many_open_files_are_no_fault_of_the_row(survey, monkeypatch, name, code):
    source = survey.open()

    def full(path, mode):
        if Path(path).name == name:
            raise OSError(code, "too many")
        return open(path, mode)

    monkeypatch.setattr("astroflow.catalogs.fits_files.open", full, raising=False)
    with pytest.raises(AstroflowError, match=rf"{name} cannot be opened: .*[Tt]oo many open files.* `ulimit -n 4096`") as caught:
        list(source.read(source.partitions(100)[0], 16))
    assert not isinstance(caught.value, InputError)


def swap(header):
    """Exchange the world axes of a header."""
    cards = {f"{key}{axis}": header[f"{key}{3 - axis}"] for key in ("CTYPE", "CRVAL") for axis in (1, 2)}
    cards |= {f"PC{axis}_{k}": header.get(f"PC{3 - axis}_{k}", 0.0) for axis in (1, 2) for k in (1, 2)}
    header.update(cards)


def test_tiles_with_declination_first_are_cut_at_the_same_places(survey):
    expected = survey.cutouts(side=24)
    for name in "AB":
        with fits.open(survey.folder / f"tile_{name}.fits", mode="update") as file:
            swap(file[0].header)
    for identity, cutout in survey.cutouts(side=24).items():
        assert cutout.flags == 0
        np.testing.assert_array_equal(cutout.image, expected[identity].image)
        assert (cutout.x, cutout.y) == pytest.approx((expected[identity].x, expected[identity].y), abs=1e-6)
    test_sky_frames_give_back_the_catalog_positions(survey)


def test_places_on_a_distorted_tile_do_not_depend_on_the_company(survey):
    """A distortion is inverted by iterating, and objects far from the centre need more steps than those near it."""
    survey.single()
    with fits.open(survey.folder / "tile_A.fits", mode="update") as file:
        header = file[0].header
        header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3, "B_1_1": -1e-3})
        wcs = WCS(header)
    x, y = np.array([[59.3, 30.2, 92.7, 61.8], [44.1, 60.3, 26.4, 43.2]])
    survey.table["RA"], survey.table["DEC"] = wcs.all_pix2world(x, y, 0)
    together, source = survey.cutouts(side=24), survey.open()
    alone = {c.identity: c for p in source.partitions(1) for c in source.only(p).read(p, 24)}
    for identity, cutout in together.items():
        assert (cutout.x, cutout.y) == (alone[identity].x, alone[identity].y)
    left = np.array([round(a - together[i].x) for a, i in zip(x, survey.table["ID"], strict=True)])
    np.testing.assert_allclose([together[i].x for i in survey.table["ID"]] + left, x, atol=1e-3)


def test_tiles_in_galactic_coordinates_have_no_usable_wcs(survey):
    survey.single()
    with fits.open(survey.folder / "tile_A.fits", mode="update") as file:
        file[0].header.update({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"})
    with pytest.raises(InputError, match="has no usable WCS, so RA and Dec lead nowhere; expected one in RA and Dec, ICRS or J2000"):
        survey.open()


@pytest.mark.parametrize("names", [("0501", "0502"), ("0501", "A7"), ("501", "502"), ("5.10", "5.2")])
def test_tile_names_of_a_csv_table_are_what_is_written(survey, names):
    for tile, name in zip("AB", names, strict=True):
        for part in ("tile", "rms", "mask"):
            (survey.folder / f"{part}_{tile}.fits").rename(survey.folder / f"{part}_{name}.fits")
    survey.table["TILE"] = [names["AB".index(tile)] for tile in survey.table["TILE"]]
    survey.table.write(survey.folder / "objects.csv")
    survey.changed(table__path="objects.csv")
    assert {cutout.flags for cutout in survey.cutouts(side=16).values()} == {0}


def test_csv_columns_fill_path_templates_as_written_and_stay_numbers_elsewhere(survey, blob):
    survey.single()
    pixels = [(30.0, 28.0), (88.0, 28.5), (30.25, 62.0), (88.0, 62.0)]
    numbers = ["007", "08", "9", "10"]
    rows = [f"{k},{x:.2f},{y:.2f},{n},{k + 0.5},{k}" for k, ((x, y), n) in enumerate(zip(pixels, numbers, strict=True))]
    (survey.folder / "objects.csv").write_text("\n".join(["ID,X,Y,N,Z,P", *rows]) + "\n")
    planes = np.stack([blob(11, 11, 5, 5, sigma) for sigma in (1.0, 1.5, 2.0, 2.5)]).astype("f4")
    for k, ((x, y), n) in enumerate(zip(pixels, numbers, strict=True)):
        survey.write(f"p_{x:.2f}_{y:.2f}_{n}_{k + 0.5:.3f}_{k}_{k:03d}.fits", planes)
    survey.changed(
        table__path="objects.csv",
        columns={"id": "ID", "x": "X", "y": "Y", "psf_index": "P"},
        psf__path="p_{X}_{Y}_{N}_{Z:.3f}_{P}_{P:03d}.fits",
    )
    cutouts = survey.cutouts(side=16)
    assert [(cutouts[k].flags, cutouts[k].note) for k in range(4)] == [(0, "")] * 4
    for k in range(4):
        np.testing.assert_array_equal(cutouts[k].psf[0], planes[k])


@pytest.mark.parametrize("rule", [{}, {"bits": [0]}, {"values": [1]}])
def test_pixels_of_which_the_mask_says_nothing_are_ignored(survey, rule):
    survey.single().changed(mask=survey.recipe["mask"] | rule)
    x, y = (round(value) for value in survey.pixels["A"][0])

    def masked():
        cutout = survey.cutouts(side=16)[0]
        rows, columns = np.nonzero(cutout.mask[0])
        return {(int(r - round(cutout.y)), int(c - round(cutout.x))) for r, c in zip(rows, columns, strict=True)}

    mask = np.zeros((survey.height, survey.width))
    mask[y, x + 2], mask[y, x + 3], mask[y, x + 4] = 1, np.nan, np.inf
    survey.write("mask_A.fits", mask)
    assert masked() == {(0, 2), (0, 3), (0, 4)}
    whole = np.where(np.isfinite(mask), mask, -99).astype("i2")
    survey.write("mask_A.fits", whole, fits.Header({"BLANK": -99}))
    assert masked() == {(0, 2), (0, 3), (0, 4)}
    survey.write("mask_A.fits", np.where(mask == 1, 2**63 + 1, 0).astype("u8"))
    assert masked() == (set() if "values" in rule else {(0, 2)})


def test_undefined_labels_belong_to_no_object(survey):
    survey.single().changed(segmentation={"path": "seg.fits"})
    labels = np.full((survey.height, survey.width), np.nan)
    survey.write("seg.fits", labels)
    assert not survey.cutouts(side=16)[0].mask.any()


def test_tiles_and_queries_mask_alike(survey):
    survey.single()
    mask = np.array([0, 0.3, np.nan, 1e30, -1, 2**40])[np.arange(survey.width * survey.height) % 6].reshape(survey.height, survey.width)
    survey.write("mask_A.fits", mask)
    survey.changed(columns={"id": "ID", "x": "X", "y": "Y"})
    survey.table = Table({"ID": [1], "X": [59.0], "Y": [44.0]})
    (cutout,) = survey.cutouts(side=31).values()
    queried = read_fits_image(survey.folder / "mask_A.fits")[0] != 0
    np.testing.assert_array_equal(cutout.mask[0], queried[29:60, 44:75])


def test_pixel_positions_are_known_without_a_wcs(survey):
    survey.single().changed(columns={"id": "ID", "x": "X", "y": "Y", "origin": 1})
    survey.write("tile_A.fits", fits.getdata(survey.folder / "tile_A.fits"))
    survey.table = Table({"ID": [1, 2, 3], "X": [31.5, 500.0, np.nan], "Y": [29.0, 3.0, 4.0]})
    source = survey.open()
    (partition,) = source.partitions(10)
    frame = source.sky_frame(partition)
    np.testing.assert_array_equal(frame.x, [30.5, 499.0, np.nan])
    np.testing.assert_array_equal(frame.y, [28.0, 2.0, 3.0])
    assert np.isnan(frame.ra).all()


def test_the_recipe_says_how_the_noise_is_correlated(survey):
    assert all(cutout.noise_correlation is None for cutout in survey.cutouts().values())
    values = [[0.0, 0.1, 0.0], [0.3, 1.0, 0.3], [0.0, 0.1, 0.0]]
    survey.changed(noise__correlation={"kind": "values", "values": values})
    for cutout in survey.cutouts().values():
        assert cutout.noise_correlation.dtype == np.float32
        assert np.array_equal(cutout.noise_correlation, np.array([values], np.float32))
