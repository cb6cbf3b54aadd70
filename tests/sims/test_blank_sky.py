import os
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits

from astroflow.errors import InputError
from astroflow.sims.blank_sky import measure_noise_correlation
from astroflow.sims.correlation import correlated_normals, repaired
from astroflow.sims.noise_correlation import CosmosCorrelation, GaussianCorrelation

COSMOS = CosmosCorrelation().map
WHITE = np.ones((1, 1))


def blank(correlation, side=400, seed=0):
    return correlated_normals(np.random.default_rng(seed), correlation, np.ones(1, int), (side, side))[0, 0].astype(float)


def field(side=400, seed=0, sources=90):
    """Galaxies of many sizes, on a background that varies over a few hundred pixels."""
    rng = np.random.default_rng(seed)
    image = galsim.ImageD(side, side, scale=1.0)
    psf = galsim.Moffat(beta=3, fwhm=3.5)
    for _ in range(sources):
        galaxy = galsim.Exponential(half_light_radius=rng.choice([1.0, 2.5, 5.0]), flux=10 ** rng.uniform(1.5, 4))
        stamp = galsim.Convolve(galaxy, psf).drawImage(
            nx=65, ny=65, scale=1.0, center=galsim.PositionD(*rng.uniform(5, side - 5, 2)), method="no_pixel"
        )
        bounds = stamp.bounds & image.bounds
        image[bounds] += stamp[bounds]
    y, x = np.mgrid[:side, :side]
    return image.array + 5 + 0.5 * np.sin(x / 150) + y / side


def whole(correlation, lag=10):
    """A map cut or filled with zeros to a given longest lag."""
    correlation = np.pad(correlation, max(0, lag - len(correlation) // 2))
    middle = len(correlation) // 2
    return correlation[middle - lag : middle + lag + 1, middle - lag : middle + lag + 1]


@pytest.fixture(scope="module")
def sky_with_sources():
    return field()


@pytest.mark.parametrize(
    "correlation", [WHITE, repaired(GaussianCorrelation(sigma_pixels=0.43).map)[0], COSMOS], ids=["white", "gaussian", "cosmos"]
)
def test_the_correlation_is_found_between_galaxies(sky_with_sources, correlation):
    measured = measure_noise_correlation(sky_with_sources + blank(correlation))
    expected = whole(correlation)
    assert measured.correlation.shape == measured.error.shape == (21, 21)
    assert measured.correlation[10, 10] == pytest.approx(1)
    assert np.array_equal(measured.correlation, measured.correlation[::-1, ::-1])
    assert np.abs(measured.correlation - expected)[5:16, 5:16].max() < 0.02
    assert measured.rms == pytest.approx(1, abs=0.03)
    assert 0.4 < measured.pixels / 400**2 < 0.95
    assert measured.is_white == (correlation is WHITE)
    # errors say how far it is off
    others = np.arange(441) != 220
    pulls = ((measured.correlation - expected).ravel() / np.where(others, measured.error.ravel(), 1))[others]
    assert 0.7 < pulls.std() < 1.5


def test_sources_that_are_not_masked_would_be_seen():
    """The planted fault: galaxies in the sky make a correlation of their own."""
    image = field(sources=90) + blank(WHITE)
    values = image - image.mean()
    naive = (values[:, 1:] * values[:, :-1]).mean() / values.var()
    assert naive > 0.3
    assert abs(measure_noise_correlation(image).correlation[10, 11]) < 0.02


def test_a_mask_takes_the_place_of_finding(sky_with_sources):
    """What is masked may hold anything, NaN included; and is masked where the mask is NaN."""
    image, mask = blank(COSMOS, 200), np.zeros((200, 200))
    image[50:90, 30:60], mask[50:90, 30:60] = 1e6, 1
    image[120:130, 10:190], mask[120:130, 10:190] = -3e4, np.nan
    image[150, 150] = np.nan
    measured = measure_noise_correlation(image, mask)
    assert np.abs(measured.correlation - whole(COSMOS))[5:16, 5:16].max() < 0.04
    assert measured.pixels < 200**2 - 40 * 30 - 10 * 180


def test_noise_that_varies_is_divided_by_its_map():
    rms = np.where(np.arange(300) < 150, 1.0, 20.0) * np.ones((300, 1))
    measured = measure_noise_correlation(blank(COSMOS, 300) * rms, rms=rms)
    assert measured.rms == pytest.approx(1, abs=0.03)
    assert np.abs(measured.correlation - whole(COSMOS))[5:16, 5:16].max() < 0.03


def test_stamps_of_one_survey_count_together():
    stamps = [blank(COSMOS, 70, seed) * 3e-12 for seed in range(20)]
    masks = [None] * 19 + [np.ones((70, 70), bool)]
    measured = measure_noise_correlation(stamps, masks, 4)
    assert measured.rms == pytest.approx(3e-12, rel=0.05)
    assert measured.pixels <= 19 * 70**2
    assert np.abs(measured.correlation - whole(COSMOS, 4)).max() < 0.03
    assert 0.001 < measured.error[4, 5] < 0.02


def test_independent_pixels_are_rarely_taken_for_correlated_ones_and_correlated_ones_never_for_independent():
    rng = np.random.default_rng(8)
    white = [measure_noise_correlation(rng.normal(size=(128, 128)), max_lag=3) for _ in range(40)]
    assert sum(not measured.is_white for measured in white) <= 2
    slight = np.array([[0.01, 0.03, 0.01], [0.04, 1, 0.04], [0.01, 0.03, 0.01]])
    assert not any(measure_noise_correlation(blank(slight, 300, seed), max_lag=3).is_white for seed in range(10))


def test_what_the_background_takes_away_is_as_stated():
    correlation = repaired(GaussianCorrelation(sigma_pixels=2.0).map)[0]
    expected = whole(correlation)
    far = expected < 0.05
    lost = [
        (measure_noise_correlation(blank(correlation, 400, seed), background_pixels=40).correlation - expected)[far].mean()
        for seed in range(4)
    ]
    # the mean's covariance with a pixel, twice, less that of two means, which overlap the less the further they are apart
    overlap = np.outer(1 - np.abs(np.arange(-10, 11)) / 40, 1 - np.abs(np.arange(-10, 11)) / 40)
    assert np.mean(lost) == pytest.approx(-(correlation.sum() / 40**2 * (2 - overlap))[far].mean(), abs=0.008)
    assert np.mean(lost) < -0.02


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros((64, 64)),), "the blank sky is constant"),
        ((np.full((64, 64), np.nan),), "too little blank sky: 0 pairs"),
        ((np.ones((9, 9, 9)), None), "expected images|too little"),
        (([],), "expected images"),
        ((np.ones(5),), "two axes"),
        ((np.zeros((64, 64)), np.zeros((5, 5))), r"the mask has shape \(5, 5\), its image \(64, 64\)"),
        ((np.zeros((64, 64)), None, 0), "`max_lag` must be at least 1"),
        ((np.zeros((64, 64)), None, 20), "`background_pixels` must be at least four times"),
        ((np.random.default_rng(0).normal(size=(12, 12)), None, 5), "too little blank sky"),
        (([np.zeros((64, 64))] * 2, [None]), "a mask and an rms map for each; got 2, 1 and 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        measure_noise_correlation(*arguments)


@pytest.fixture
def survey_data(root):
    folder = Path(os.environ.get("ASTROFLOW_DATA", root / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set ASTROFLOW_DATA")
    return folder


def test_drizzled_and_resampled_surveys_have_correlated_noise(survey_data):
    """Lag 1 of KiDS and DECaLS as others measured it: about 0.25 and 0.12."""
    stamps, masks, maps = ([] for _ in range(3))
    for path in sorted((survey_data / "gama_r" / "KiDS").glob("*fitim.fits")):
        stamps.append(fits.getdata(path).astype(float))
        segments, bad = (fits.getdata(path.with_name(path.name.replace("fitim", part))) for part in ("segim", "mskim"))
        masks.append((segments != 0) | (bad != 0))
        maps.append(fits.getdata(path.with_name(path.name.replace("fitim", "sigma"))).astype(float))
    kids = measure_noise_correlation(stamps, masks, 5, rms=maps)
    assert 0.2 < kids.correlation[5, 6] < 0.3
    with fits.open(next((survey_data / "decals_grz").glob("cutout*.fits"))) as hdus:
        image, weight = (hdus[k].data.astype(float) for k in (1, 2))
    decals = measure_noise_correlation(image, weight <= 0, 5, rms=1 / np.sqrt(np.maximum(weight, 1e-9)))
    assert 0.08 < decals.correlation[5, 6] < 0.16
    for survey in (kids, decals):
        assert not survey.is_white
        assert repaired(survey.correlation)[1] < 0.005
