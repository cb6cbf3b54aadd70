import json

import galsim
import numpy as np
import pydantic
import pytest
from astropy.io import fits

from astroflow.config import parse_recipe
from astroflow.errors import ConfigError
from astroflow.sims.correlation import LEAST_POWER, power_of
from astroflow.sims.distributions import Fixed
from astroflow.sims.noise import CCDNoise, RMSNoise
from astroflow.sims.noise_correlation import (
    CosmosCorrelation,
    GaussianCorrelation,
    ImageCorrelation,
    PowerSpectrumCorrelation,
    ValuesCorrelation,
    centred_map,
    read_noise_correlation,
)

CROSS = [[0.0, 0.1, 0.0], [0.3, 1.0, 0.3], [0.0, 0.1, 0.0]]


def noise(correlation, folder=None):
    return parse_recipe(RMSNoise, {"rms": 1.0, "correlation": correlation}, "recipe", folder)


def refused(correlation, folder=None):
    with pytest.raises(ConfigError) as caught:
        noise(correlation, folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


def write(path, image):
    fits.PrimaryHDU(np.asarray(image)).writeto(path)
    return path.name


def test_without_a_correlation_there_is_none():
    assert RMSNoise(rms=1.0).correlation is None
    assert CCDNoise(sky=1.0, gain=2.0).correlation is None


def test_numbers_are_taken_as_they_are():
    got = noise({"kind": "values", "values": CROSS}).correlation
    assert isinstance(got, ValuesCorrelation)
    assert np.array_equal(got.map, CROSS)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], "expected a square of odd side, at most 65; got 2 rows of 2 numbers"),
        ([[0.0, 1.0, 0.0]], "expected a square of odd side"),
        ([], "got 0 rows of no numbers"),
        ([[0.0] * 67] * 67, "at most 65; got 67 rows"),
        ([[2.0]], "the middle (lag 0) must be 1; it is 2"),
        ([[0, 0, 0], [1.5, 1, 1.5], [0, 0, 0]], "correlations lie between -1 and 1; the largest is 1.5"),
        ([[0, 0, 0], [0.3, 1, 0.2], [0, 0, 0]], "the same at opposite lags"),
        ([[0, 0, 0], [0.9, 1, 0.9], [0, 0, 0]], "no noise has this correlation: its power spectrum is negative"),
        ([[float("nan")]], "finite number"),
    ],
)
def test_numbers_that_are_no_correlation_are_refused(values, words):
    assert words in refused({"kind": "values", "values": values})


def test_unknown_kinds_are_named():
    assert "known kinds: values, image, power_spectrum, gaussian, cosmos. Did you mean 'gaussian'?" in refused({"kind": "gausian"})
    assert "needs a `kind`" in refused({"values": CROSS})


def test_a_little_negative_power_is_taken_out():
    lag1 = 0.51  # power 1 - 2 * 0.51 < 0 at the highest frequency
    got = noise({"kind": "values", "values": [[0, 0, 0], [lag1, 1, lag1], [0, 0, 0]]}).correlation.map
    assert power_of(got, (64, 64)).min() > LEAST_POWER / 2
    assert np.abs(got[1] - [lag1, 1, lag1]).max() < 0.02


@pytest.mark.parametrize(
    "correlation", [{"kind": "cosmos"}, {"kind": "gaussian", "sigma_pixels": 1.5}, {"kind": "values", "values": CROSS}]
)
def test_the_resolved_recipe_holds_the_numbers_and_makes_the_same_noise(correlation):
    model = noise(correlation)
    stored = json.loads(json.dumps(model.model_dump(mode="json")))
    assert stored["correlation"]["kind"] == "values"
    again = parse_recipe(RMSNoise, stored, "stored")
    assert again == model
    assert again.model_dump(mode="json") == stored


@pytest.mark.parametrize("sides", [(21, 21), (20, 20), (31, 24)])
def test_images_of_any_normalisation_and_parity_are_read_about_their_peak(tmp_path, sides):
    height, width = sides
    y, x = np.mgrid[:height, :width] - np.array([height // 2, width // 2])[:, None, None]
    name = write(tmp_path / "cf.fits", 7e-6 * np.exp(-(x**2 + 2 * y**2 + x * y) / 2.0))
    got = noise({"kind": "image", "path": name, "max_lag": 4}, tmp_path).correlation.map
    dy, dx = np.mgrid[-4:5, -4:5]
    assert np.allclose(got, np.exp(-(dx**2 + 2 * dy**2 + dx * dy) / 2.0), atol=2e-3)


def test_an_image_ends_where_it_ends(tmp_path):
    write(tmp_path / "cf.fits", CROSS)
    assert np.array_equal(ImageCorrelation(path=str(tmp_path / "cf.fits")).map, CROSS)
    assert np.array_equal(read_noise_correlation(tmp_path / "cf.fits"), CROSS)


def test_galsims_cosmos_file_is_what_galsim_reads():
    correlation = CosmosCorrelation().map
    image = galsim.getCOSMOSNoise(variance=1.0).drawImage(galsim.ImageD(11, 11), scale=0.03).array
    assert np.abs(correlation[5:16, 5:16] - image).max() < 5e-3
    assert 0.45 < correlation[10, 11] < 0.5
    assert np.abs(noise({"kind": "cosmos"}).correlation.map - correlation).max() < 1e-6, "it needs no repair"


@pytest.mark.parametrize(("zero", "roll"), [("corner", False), ("middle", True)])
@pytest.mark.parametrize("side", [24, 25])
def test_a_power_spectrum_says_the_same_as_its_correlation(tmp_path, zero, roll, side):
    power = 30 * power_of(np.array(CROSS), (side, side))
    name = write(tmp_path / "ps.fits", np.fft.fftshift(power) if roll else power)
    got = noise({"kind": "power_spectrum", "path": name, "zero_frequency": zero, "max_lag": 1}, tmp_path).correlation.map
    assert np.allclose(got, CROSS, atol=2e-6)
    far = PowerSpectrumCorrelation(path=str(tmp_path / "ps.fits"), zero_frequency=zero, max_lag=32).map
    assert far.shape == ((23, 23) if side == 24 else (25, 25))
    middle = len(far) // 2
    assert np.allclose(far[: middle - 1], 0, atol=1e-12)


def test_gaussian_is_smoothed_white_noise():
    sigma = 0.8
    smoothed = galsim.UncorrelatedNoise(variance=1.0, scale=0.01).convolvedWith(galsim.Gaussian(sigma=sigma))
    expected = smoothed.drawImage(galsim.ImageD(7, 7), scale=1.0).array / smoothed.getVariance()
    middle = len(GaussianCorrelation(sigma_pixels=sigma).map) // 2
    got = GaussianCorrelation(sigma_pixels=sigma).map[middle - 3 : middle + 4, middle - 3 : middle + 4]
    assert np.abs(got - expected).max() < 2e-3
    for width, neighbours in ((0.35, 0.13), (0.43, 0.26), (0.5, 0.37), (0.6, 0.5)):
        found = GaussianCorrelation(sigma_pixels=width).map
        assert found[len(found) // 2, len(found) // 2 + 1] == pytest.approx(neighbours, abs=0.005), "as its description says"
    with pytest.raises(pydantic.ValidationError):
        GaussianCorrelation(sigma_pixels=0)


@pytest.mark.parametrize("kind", ["image", "power_spectrum"])
def test_files_that_cannot_be_used_are_refused(tmp_path, kind):
    text = refused({"kind": kind, "path": "none.fits"}, tmp_path)
    assert "`correlation`" in text
    assert "cannot read a correlation from HDU 0 of" in text
    write(tmp_path / "cube.fits", np.ones((2, 5, 5)))
    assert "should hold an image of two axes; it has 3" in refused({"kind": kind, "path": "cube.fits"}, tmp_path)
    assert "HDU 'SCI'" in refused({"kind": kind, "path": "cube.fits", "hdu": "SCI"}, tmp_path)
    write(tmp_path / "nan.fits", np.full((5, 5), np.nan))
    assert "finite" in refused({"kind": kind, "path": "nan.fits"}, tmp_path)
    write(tmp_path / "low.fits", np.full((5, 5), -1.0))
    assert "largest at lag 0" in refused({"kind": kind, "path": "low.fits"}, tmp_path) or kind == "power_spectrum"


def test_a_correlation_function_peaks_in_the_middle():
    image = np.zeros((11, 11))
    image[2, 5] = 1
    with pytest.raises(ConfigError, match=r"in the middle \(5, 5\); this one's largest is at \(5, 2\)"):
        centred_map(image, 3)


def test_a_file_of_no_correlation_is_named(tmp_path):
    write(tmp_path / "box.fits", np.array([[0, 0, 0], [0.9, 1, 0.9], [0, 0, 0]]))
    with pytest.raises(ConfigError, match=r"noise correlation .*box.fits: no noise has this correlation"):
        read_noise_correlation(tmp_path / "box.fits")


def test_both_noise_models_take_one():
    for model in (RMSNoise(rms=Fixed(value=1.0), correlation=GaussianCorrelation(sigma_pixels=0.5)),
                  CCDNoise(sky=1.0, gain=2.0, correlation=GaussianCorrelation(sigma_pixels=0.5))):  # fmt: skip
        assert isinstance(model.correlation, ValuesCorrelation)
        assert model.correlation.map[model.correlation.map.shape[0] // 2].max() == 1
