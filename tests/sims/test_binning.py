import numpy as np
import pytest

from astroflow.errors import InputError
from astroflow.sims.binning import bin_images, bin_mask, bin_rms
from astroflow.sims.correlation import binned_correlation, correlated_normals
from astroflow.sims.noise_correlation import CosmosCorrelation


@pytest.mark.parametrize("b", [1, 2, 4, 8])
def test_sums_noise_and_masks_of_blocks(b):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 2, 16, 24)).astype(np.float32)
    rms = rng.uniform(1, 2, (3, 2, 16, 24)).astype(np.float32)
    mask = rng.random((3, 2, 16, 24)) < 0.05
    binned = [bin_images(images, b), bin_rms(rms, b), bin_mask(mask, b)]
    for i in range(16 // b):
        for j in range(24 // b):
            block = np.s_[..., i * b : (i + 1) * b, j * b : (j + 1) * b]
            assert np.allclose(binned[0][..., i, j], images[block].sum((-1, -2)), atol=1e-5)
            assert np.allclose(binned[1][..., i, j], np.sqrt((rms[block].astype(float) ** 2).sum((-1, -2))), rtol=1e-6)
            assert np.array_equal(binned[2][..., i, j], mask[block].any((-1, -2)))
    assert binned[0].dtype == binned[1].dtype == np.float32


def test_the_rms_of_binned_noise_is_what_it_scatters():
    rms = np.random.default_rng(1).uniform(0.5, 3, (8, 8))
    noise = np.random.default_rng(2).normal(size=(20_000, 8, 8)) * rms
    assert np.allclose(bin_images(noise, 4).std(0), bin_rms(rms, 4), rtol=0.03)


@pytest.mark.parametrize("b", [2, 4])
def test_the_rms_of_binned_correlated_noise_is_that_of_the_covariance_matrix(b):
    rms = np.random.default_rng(1).uniform(0.5, 3, (2, 8, 8))
    lags = np.hypot(*np.mgrid[-3:4, -3:4])
    correlation = np.exp(-(lags**2) / 2)
    y, x = (axis.ravel() for axis in np.mgrid[:b, :b])
    block = np.exp(-((y - y[:, None]) ** 2 + (x - x[:, None]) ** 2) / 2)
    binned = bin_rms(rms, b, correlation)
    for i in range(8 // b):
        for j in range(8 // b):
            sigma = rms[1, i * b : (i + 1) * b, j * b : (j + 1) * b].ravel()
            assert binned[1, i, j] == pytest.approx(np.sqrt(sigma @ block @ sigma))
    assert np.allclose(bin_rms(rms, b, np.ones((1, 1))), bin_rms(rms, b))
    assert bin_rms(rms.astype(np.float32), b, correlation).dtype == np.float32
    even = bin_rms(np.ones((b, b)), b, correlation)
    assert even[0, 0] == pytest.approx(binned_correlation(correlation, b)[1])


def test_binned_noise_scatters_and_correlates_as_it_is_said_to():
    """Native noise, binned, against what is said of binned noise."""
    correlation = CosmosCorrelation().map
    noise = bin_images(correlated_normals(np.random.default_rng(3), correlation, np.ones(500, int), (48, 48)), 2)[:, 0]
    binned, scatter = binned_correlation(correlation, 2)
    assert noise.std() == pytest.approx(scatter, rel=0.01)
    assert scatter > 1.4 * 2, "far from the 2 of independent pixels"
    middle = len(binned) // 2
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2)):
        found = (noise[:, dy:, dx:] * noise[:, : 24 - dy, : 24 - dx]).mean() / noise.var()
        assert found == pytest.approx(binned[middle + dy, middle + dx], abs=0.01)


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="sides 6 x 8 are not multiples of the binning 4"):
        bin_images(np.ones((1, 6, 8)), 4)
