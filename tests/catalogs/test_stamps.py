import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from astroflow.catalogs import open_source
from astroflow.catalogs.recipe import parse_catalog
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag


class Stamps:
    """A folder of stamps of several sizes with maps and PSFs, and a table of their names."""

    def __init__(self, folder, write, wcs_of, blob):
        self.folder = folder
        for k, (height, width) in enumerate(((31, 41), (50, 50), (200, 150))):
            image = blob(height, width, (width - 1) / 2, (height - 1) / 2, 2.0, 10).astype("f4")
            write(f"g{k}_image.fits", image, wcs_of(width, height, ra=10.0 + k).to_header())
            write(f"g{k}_weight.fits", np.full((height, width), 4.0, "f4"))
            write(f"g{k}_seg.fits", np.full((height, width), 5, "i4"))
            write(f"g{k}_psf.fits", blob(15, 15, 7, 7, 1.0).astype("f4"))
        self.table = Table({"ID": ["a", "b", "c"], "FILE": [f"g{k}_image.fits" for k in range(3)], "N": [0, 1, 2]})
        self.data = {
            "kind": "stamps",
            "table": {"path": "t.ecsv"},
            "columns": {"id": "ID"},
            "image": {"path": "{FILE}"},
            "noise": {"path": "g{N}_weight.fits", "kind": "weight"},
            "segmentation": {"path": "g{N}_seg.fits"},
            "psf": {"path": "g{N}_psf.fits"},
            "zero_point": 27.0,
            "pixel_scale_arcsec": 0.2,
        }

    def open(self, **changes):
        self.table.write(self.folder / "t.ecsv", overwrite=True)
        data = {key: value for key, value in (self.data | changes).items() if value is not None}
        return open_source(parse_catalog(data, "stamps", self.folder))

    def read(self, side=512, **changes):
        source = self.open(**changes)
        return [c for p in source.partitions(2) for c in source.read(p, side)]


@pytest.fixture
def stamps(tmp_path, survey, wcs_of, blob):
    return Stamps(tmp_path, survey.write, wcs_of, blob)


def test_stamps_of_every_size_with_their_own_maps(stamps):
    cutouts = stamps.read()
    assert [c.identity for c in cutouts] == ["a", "b", "c"]
    assert [c.image.shape for c in cutouts] == [(1, 31, 41), (1, 50, 50), (1, 200, 150)]
    assert [(c.x, c.y) for c in cutouts] == [(20.0, 15.0), (24.5, 24.5), (74.5, 99.5)]
    for cutout in cutouts:
        assert (cutout.rms == 0.5).all()
        assert not cutout.mask.any()
        assert cutout.flags == 0


def test_large_stamps_are_cut_about_the_object(stamps):
    for cutout in stamps.read(side=40):
        yy, xx = np.indices(cutout.image.shape[1:])
        assert max(cutout.image.shape) <= 40
        total = cutout.image.sum()
        assert (cutout.image[0] * xx).sum() / total == pytest.approx(cutout.x, abs=1e-3)
        assert (cutout.image[0] * yy).sum() / total == pytest.approx(cutout.y, abs=1e-3)


def test_every_file_of_a_pattern(stamps):
    cutouts = stamps.read(
        table=None,
        columns=None,
        image={"path": "*_image.fits"},
        noise={"kind": "constant", "value": 0.3},
        segmentation=None,
        psf={"path": "g0_psf.fits"},
    )
    assert [c.identity for c in cutouts] == ["g0_image", "g1_image", "g2_image"]
    assert (cutouts[0].rms == np.float32(0.3)).all()
    with pytest.raises(InputError, match=r"no file matches .*absent_\*.fits; check `image.path`"):
        stamps.open(table=None, columns=None, image={"path": "absent_*.fits"}, noise={"kind": "constant", "value": 1.0}, segmentation=None)


def test_positions_from_sky_or_pixel_columns(stamps):
    stamps.table["RA"], stamps.table["DEC"] = [10.0, 11.0, np.nan], [2.0, 2.0, 2.0]
    cutouts = stamps.read(columns={"id": "ID", "ra": "RA", "dec": "DEC"})
    assert (cutouts[0].x, cutouts[0].y) == pytest.approx((20.0, 15.0), abs=1e-6)
    assert cutouts[2].flags == Flag.BAD_POSITION
    stamps.table["X"], stamps.table["Y"] = [21.0, 60.0, np.nan], [11.0, 3.0, 2.0]
    cutouts = stamps.read(columns={"id": "ID", "x": "X", "y": "Y", "origin": 1})
    assert (cutouts[0].x, cutouts[0].y) == (20.0, 10.0)
    assert [c.flags for c in cutouts] == [0, Flag.NO_DATA, Flag.BAD_POSITION]
    assert "pixel (59.0, 2.0) is off the stamp of 50 x 50 pixels" in cutouts[1].note


@pytest.mark.parametrize(
    ("broken", "flag", "note"),
    [
        ("g1_image.fits", Flag.READ_ERROR, "image .*g1_image.fits is not FITS: it looks like a PNG picture"),
        ("g1_weight.fits", Flag.READ_ERROR, "noise map .*g1_weight.fits is not FITS"),
        ("g1_seg.fits", Flag.READ_ERROR, "segmentation map .*g1_seg.fits is not FITS"),
        ("g1_psf.fits", Flag.BAD_PSF, "PSF file .*g1_psf.fits is not FITS"),
    ],
)
def test_a_broken_file_flags_its_row_alone(stamps, broken, flag, note):
    (stamps.folder / broken).write_bytes(b"\x89PNG")
    cutouts = stamps.read()
    assert [c.flags for c in cutouts] == [0, int(flag), 0]
    assert cutouts[1].image is None
    with pytest.raises(AssertionError, match=note):
        raise AssertionError(cutouts[1].note)


def test_names_that_are_missing_or_lead_nowhere(stamps):
    stamps.table["FILE"] = ["g0_image.fits", "", "absent.fits"]
    cutouts = stamps.read()
    assert [c.flags for c in cutouts] == [0, Flag.READ_ERROR, Flag.READ_ERROR]
    assert "the table gives no 'FILE' for this object" in cutouts[1].note
    assert "absent.fits does not exist" in cutouts[2].note
    stamps.table["FILE"] = ["x.fits", "y.fits", "z.fits"]
    with pytest.raises(InputError, match=r"none of the 3 image files exists; the first: .*x.fits"):
        stamps.open()
    with pytest.raises(InputError, match="has no column 'FIEL', which `image.path` asks for; .* Did you mean 'FILE'"):
        stamps.open(image={"path": "{FIEL}"})


def test_a_contradicting_pixel_scale_is_one_error(stamps):
    message = r'none of the first 3 image files can be used; the first: .*g0_image.fits .* has pixels of 0.2" by its WCS; the recipe says'
    with pytest.raises(InputError, match=message):
        stamps.open(pixel_scale_arcsec=0.3)


def test_sky_frames_from_the_stamps_headers(stamps):
    source = stamps.open()
    (stamps.folder / "g1_image.fits").unlink()
    frame = source.sky_frame(source.partitions(10)[0])
    np.testing.assert_allclose(frame.ra, [10.0, np.nan, 12.0], atol=1e-9)
    assert np.linalg.det(frame.jacobian[0]) == pytest.approx(-0.04, rel=1e-6)


@pytest.mark.parametrize("header", [{"CTYPE1": None, "CTYPE2": None}, {"CRVAL1": "east"}, {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}])
def test_sky_positions_need_a_usable_wcs(stamps, header):
    stamps.table["RA"], stamps.table["DEC"] = [10.0, 11.0, 12.0], [2.0, 2.0, 2.0]
    with fits.open(stamps.folder / "g1_image.fits", mode="update") as file:
        for key, value in header.items():
            if value is None:
                del file[0].header[key]
            else:
                file[0].header[key] = value
    cutouts = stamps.read(columns={"id": "ID", "ra": "RA", "dec": "DEC"})
    assert [c.flags for c in cutouts] == [0, Flag.BAD_POSITION, 0]
    assert "g1_image.fits [HDU 0 PRIMARY] has no usable WCS, so RA and Dec lead nowhere" in cutouts[1].note
    assert [c.flags for c in stamps.read()] == [0, 0, 0]


def test_pixel_positions_are_known_without_a_wcs(stamps):
    for k in range(3):
        path = stamps.folder / f"g{k}_image.fits"
        fits.writeto(path, fits.getdata(path), overwrite=True)
    source = stamps.open()
    (partition,) = source.partitions(10)
    (stamps.folder / "g1_image.fits").unlink()
    frame = source.sky_frame(partition)
    np.testing.assert_array_equal([frame.x, frame.y], [[20.0, np.nan, 74.5], [15.0, np.nan, 99.5]])
    assert np.isnan(frame.ra).all()
    stamps.table["X"], stamps.table["Y"] = [21.0, 60.0, 3.0], [11.0, 3.0, 2.0]
    frame = stamps.open(columns={"id": "ID", "x": "X", "y": "Y"}).sky_frame(partition)
    np.testing.assert_array_equal([frame.x, frame.y], [[21.0, 60.0, 3.0], [11.0, 3.0, 2.0]])


def test_the_recipe_says_how_the_noise_is_correlated(stamps):
    noise = stamps.data["noise"] | {"correlation": {"kind": "gaussian", "sigma_pixels": 0.5}}
    for cutout in stamps.read(noise=noise):
        middle = cutout.noise_correlation.shape[-1] // 2
        assert cutout.noise_correlation[0, middle, middle + 1] == pytest.approx(np.exp(-1), abs=1e-3)
