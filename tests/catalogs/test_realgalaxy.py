import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from astroflow.catalogs import open_source
from astroflow.catalogs.fits_files import FitsFile
from astroflow.catalogs.recipe import parse_catalog
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag

SHAPES = ((31, 33), (60, 40), (21, 25))


@pytest.fixture
def folder(tmp_path, blob):
    galaxies = [blob(h, w, (w - 1) / 2, (h - 1) / 2, 3.0, 50).astype("f4") for h, w in SHAPES]
    psfs = [blob(15, 17, 8, 7, 1.5) for _ in SHAPES]
    for name, images in (("gal.fits", galaxies), ("psf.fits", psfs)):
        fits.HDUList([fits.PrimaryHDU(images[0]), *[fits.ImageHDU(i) for i in images[1:]]]).writeto(tmp_path / name)
    catalog(tmp_path)
    return tmp_path


def catalog(folder, **changes):
    columns = {
        "IDENT": [11, 12, 13], "RA": [150.0, 150.1, 150.2], "DEC": [2.0, 2.1, 2.2], "MAG": [20.0, 21.0, 22.0], "GAL_FILENAME": ["gal.fits"] * 3,
        "PSF_FILENAME": ["psf.fits"] * 3, "GAL_HDU": [0, 1, 2], "PSF_HDU": [0, 1, 2], "PIXEL_SCALE": [0.03] * 3, "NOISE_MEAN": [0.0, 1e-3, 0.0],
        "NOISE_VARIANCE": [1e-4, 4e-4, 9e-4],
    }  # fmt: skip
    Table(columns | changes).write(folder / "catalog.fits", overwrite=True)


def read(where, side=512, **changes):
    recipe = parse_catalog({"kind": "realgalaxy", "path": "catalog.fits", "pixel_scale_arcsec": 0.03} | changes, "cosmos", where)
    source = open_source(recipe)
    return [c for p in source.partitions(2) for c in source.read(p, side)]


def test_galaxies_with_their_psfs_and_noise(folder):
    cutouts = read(folder, gain=2028)
    assert [c.identity for c in cutouts] == [11, 12, 13]
    assert [c.image.shape[1:] for c in cutouts] == list(SHAPES)
    assert [float(c.rms[0, 0, 0]) for c in cutouts] == pytest.approx([0.01, 0.02, 0.03])
    assert {(c.zero_point, c.gain, c.pixel_scale_arcsec) for c in cutouts} == {(25.94, 2028.0, 0.03)}
    assert cutouts[0].psf.shape == (1, 15, 17)
    assert (cutouts[1].x, cutouts[1].y) == (19.5, 29.5)
    assert read(folder, side=20)[1].image.shape == (1, 20, 20)
    np.testing.assert_allclose(cutouts[1].image - read(folder, subtract_noise_mean=True)[1].image, 1e-3, atol=1e-6)


def test_gzipped_stamps_are_found_under_either_name(folder):
    (folder / "gal.fits.gz").write_bytes(gzip.compress((folder / "gal.fits").read_bytes()))
    (folder / "gal.fits").unlink()
    assert [c.flags for c in read(folder)] == [0, 0, 0]
    catalog(folder, PSF_FILENAME=["psf.fits.gz"] * 3)
    assert [c.flags for c in read(folder)] == [0, 0, 0]


def test_the_stamps_may_be_in_another_folder(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match="none of the 1 files of galaxy stamps is in .*elsewhere; the first: gal.fits. Set `folder`"):
        read(folder, folder="elsewhere")


@pytest.mark.parametrize(
    ("changes", "flag", "note"),
    [
        ({"GAL_HDU": [0, 9, 2]}, Flag.READ_ERROR, "has no HDU 9"),
        ({"GAL_FILENAME": ["gal.fits", "absent.fits", "gal.fits"]}, Flag.READ_ERROR, "absent.fits does not exist"),
        ({"GAL_FILENAME": ["gal.fits", "", "gal.fits"]}, Flag.READ_ERROR, "gives no file or HDU of the galaxy stamp"),
        ({"PSF_HDU": [0, 9, 2]}, Flag.BAD_PSF, "has no HDU 9"),
        ({"NOISE_VARIANCE": [1.0, 0.0, 1.0]}, Flag.BAD_RMS, "NOISE_VARIANCE = 0; it must be positive and finite"),
        ({"NOISE_VARIANCE": [1.0, np.nan, 1.0]}, Flag.BAD_RMS, "NOISE_VARIANCE = nan"),
    ],
)
def test_a_broken_row_is_flagged_alone(folder, changes, flag, note):
    catalog(folder, **changes)
    cutouts = read(folder)
    assert [c.flags for c in cutouts] == [0, int(flag), 0]
    assert cutouts[1].image is None
    assert note in cutouts[1].note


def test_what_is_wrong_with_the_whole_catalog(folder):
    catalog(folder, PIXEL_SCALE=[0.03, 0.05, 0.05])
    with pytest.raises(InputError, match=r'2 rows of .* have other pixels than `pixel_scale_arcsec: 0.03`, the first 0.05"'):
        read(folder)
    Table({"IDENT": [1]}).write(folder / "catalog.fits", overwrite=True)
    with pytest.raises(InputError, match="has no column 'RA', which `kind: realgalaxy` asks for"):
        read(folder)


def test_closed_files_keep_nothing_in_memory(folder, monkeypatch):
    for k in range(3):
        (folder / f"gal{k}.fits.gz").write_bytes(gzip.compress((folder / "gal.fits").read_bytes()))
    catalog(folder, GAL_FILENAME=[f"gal{k}.fits.gz" for k in range(3)])
    monkeypatch.setattr("astroflow.catalogs.realgalaxy.MAX_OPEN_FILES", 2)
    held = []
    start = FitsFile.__init__

    def kept(self, path, what="FITS file"):
        start(self, path, what)
        held.append(self)

    monkeypatch.setattr(FitsFile, "__init__", kept)
    assert [c.flags for c in read(folder)] == [0, 0, 0]
    assert sum(file.path.suffix == ".gz" for file in held) == 3
    assert all(file._stream.closed and file._bytes is None for file in held)


def test_positions_are_the_middles_of_the_stamps(folder):
    catalog(folder, GAL_HDU=[0, 9, 2])
    recipe = parse_catalog({"kind": "realgalaxy", "path": "catalog.fits", "pixel_scale_arcsec": 0.03}, "cosmos", folder)
    source = open_source(recipe)
    (partition,) = source.partitions(10)
    frame = source.sky_frame(partition)
    np.testing.assert_array_equal([frame.x, frame.y], [[16.0, np.nan, 12.0], [15.0, np.nan, 10.0]])


def test_the_recipe_says_how_the_noise_is_correlated(folder):
    assert read(folder)[0].noise_correlation is None
    cutout = read(folder, noise_correlation={"kind": "cosmos", "max_lag": 2})[0]
    assert cutout.noise_correlation.shape == (1, 5, 5)
    assert 0.45 < cutout.noise_correlation[0, 2, 3] < 0.5
