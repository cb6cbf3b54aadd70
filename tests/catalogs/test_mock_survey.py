from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from pyarrow import parquet

from astroflow.catalogs import load_catalog, open_source
from astroflow.catalogs.fits_images import pixel_scale_of, read_fits_image
from astroflow.catalogs.mock_survey import TROUBLES, write_mock_survey
from astroflow.errors import ConfigError
from astroflow.posteriors.flags import Flag
from astroflow.sims.blank_sky import measure_noise_correlation
from astroflow.sims.distributions import Fixed
from astroflow.sims.noise import RMSNoise
from astroflow.sims.noise_correlation import CosmosCorrelation


@pytest.fixture(scope="module")
def mock(small_simulator, tmp_path_factory):
    return write_mock_survey(small_simulator, tmp_path_factory.mktemp("mock"), n_objects=100, seed=3)


@pytest.fixture(scope="module")
def truth(mock):
    return Table(parquet.read_table(mock.truth).to_pydict())


@pytest.fixture(scope="module")
def cutouts(mock):
    source = open_source(load_catalog(mock.recipe))
    return [c for p in source.partitions(40) for c in source.read(p, 32)]


def test_one_cutout_per_row_and_troubles_are_what_they_are_called(cutouts, truth):
    assert [c.identity for c in cutouts] == truth["id"].tolist()
    assert {name: int((truth["trouble"] == name).sum()) for name in TROUBLES} == dict.fromkeys(TROUBLES, 1)
    for cutout, trouble in zip(cutouts, truth["trouble"], strict=True):
        if trouble == "off the tile":
            assert cutout.flags == Flag.NO_DATA
        elif trouble == "no position":
            assert cutout.flags == Flag.BAD_POSITION
        elif trouble == "under a mask":
            assert cutout.mask[0, 12:20, 12:20].all()
        elif trouble == "dead pixels":
            assert np.isnan(cutout.image[0, 12:20, 12:20]).all()
        else:
            assert cutout.flags == 0
            assert not cutout.mask[0, 14:18, 14:18].any()
    assert [c.mask.any() for c in cutouts[-2:]] == [True, True]


def test_galaxies_are_where_their_offsets_from_the_frame_say(cutouts, truth, small_simulator):
    """True offsets count from the catalog's position, as a posterior's do."""
    good = (truth["trouble"] == "") & (truth["mag"] < 21)
    assert good.sum() > 3
    for cutout, row in zip(cutouts, truth, strict=True):
        if row["trouble"] or row["mag"] >= 21:
            continue
        assert abs(cutout.x - 15.5) <= 0.5
        box = np.where(cutout.mask[0], 0, cutout.image[0])[9:23, 9:23].astype(float)
        yy, xx = np.mgrid[9:23, 9:23] - np.array([cutout.y, cutout.x])[:, None, None]
        weight = np.exp(-0.5 * (xx**2 + yy**2) / 9) * box
        assert 2 * (weight * xx).sum() / weight.sum() == pytest.approx(row["dx_arcsec"] / 0.2, abs=0.6)
        assert abs((weight * xx).sum() / weight.sum()) < 3


def test_the_noise_map_says_how_the_pixels_scatter(mock):
    image, header = read_fits_image(mock.image)
    rms, _ = read_fits_image(mock.noise)
    sky = np.concatenate([(image / rms)[:4].ravel(), (image / rms)[-4:].ravel()])
    assert np.std(sky[np.isfinite(sky)]) == pytest.approx(1, abs=0.08)
    assert 1.1 < rms.max() / rms.min() < 1.6
    assert pixel_scale_of(header) == pytest.approx(0.2)


def test_the_seed_decides_everything(mock, small_simulator, tmp_path):
    again = write_mock_survey(small_simulator, tmp_path / "again", n_objects=100, seed=3)
    other = write_mock_survey(small_simulator, tmp_path / "other", n_objects=100, seed=4)
    for name in ("image", "noise", "mask", "psf", "catalog", "truth"):
        assert getattr(again, name).read_bytes() == getattr(mock, name).read_bytes(), name
    assert other.image.read_bytes() != mock.image.read_bytes()


def test_noise_without_a_gain(small_simulator, tmp_path):
    simulator = replace(small_simulator, noise=RMSNoise(rms=Fixed(value=0.1)))
    mock = write_mock_survey(simulator, tmp_path, n_objects=25)
    source = open_source(load_catalog(mock.recipe))
    cutout = next(c for c in source.read(source.partitions(25)[0], 32) if not c.flags)
    assert cutout.gain == np.inf


def test_a_survey_of_correlated_noise_says_so(small_simulator, tmp_path):
    correlation = CosmosCorrelation()
    simulator = replace(small_simulator, noise=RMSNoise(rms=Fixed(value=0.1), correlation=correlation))
    mock = write_mock_survey(simulator, tmp_path, n_objects=36, seed=2)
    (image, _), (rms, _) = read_fits_image(mock.image), read_fits_image(mock.noise)
    measured = measure_noise_correlation(image, None, 3, rms=rms)
    assert measured.rms == pytest.approx(1, abs=0.05)
    assert np.abs(measured.correlation - correlation.map[7:14, 7:14]).max() < 0.03
    source = open_source(load_catalog(mock.recipe))
    cutout = next(c for c in source.read(source.partitions(36)[0], 32) if not c.flags)
    assert np.allclose(cutout.noise_correlation[0], correlation.map, atol=1e-6)


def test_a_survey_needs_some_objects(small_simulator, tmp_path):
    with pytest.raises(ConfigError, match="`n_objects` is 3; a survey needs at least 25"):
        write_mock_survey(small_simulator, tmp_path, n_objects=3)
