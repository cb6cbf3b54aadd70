import galsim
import numpy as np
import pytest

from astroflow.sims.correlation import (
    LEAST_POWER,
    aperture_scatter,
    binned_correlation,
    binned_noise,
    correlated_normals,
    correlated_snr,
    power_of,
    repaired,
)
from astroflow.sims.noise_correlation import CosmosCorrelation, GaussianCorrelation

ONES = np.ones((1, 1))


def lopsided():
    """A map that is no mirror image of itself along x or y: noise smoothed by a kernel that is none."""
    kernel = np.array([[0.0, 0.3, 0.6], [0.1, 1.0, 0.2], [0.0, -0.2, 0.1]])
    covariance = np.fft.ifft2(np.abs(np.fft.fft2(kernel, (5, 5))) ** 2).real
    return np.roll(covariance, (2, 2), (0, 1)) / covariance[0, 0]


MAPS = {
    "cosmos": CosmosCorrelation().map,
    "gaussian": repaired(GaussianCorrelation(sigma_pixels=0.7).map)[0],
    "lopsided": repaired(lopsided())[0],
}


def dense(correlation, height, width):
    """The correlation of all pixels of an image, ``(height * width, height * width)``."""
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width])
    dy, dx = y - y[:, None], x - x[:, None]
    middle = len(correlation) // 2
    near = (np.abs(dy) <= middle) & (np.abs(dx) <= middle)
    return np.where(near, correlation[np.where(near, dy, 0) + middle, np.where(near, dx, 0) + middle], 0.0)


def at(correlation, dy, dx):
    middle = correlation.shape[-1] // 2
    return correlation[middle + dy, middle + dx] if max(abs(dy), abs(dx)) <= middle else 0.0


def worst_lag(noise, correlation, reach=5):
    """The largest difference between the autocorrelation of noise ``(N, H, W)`` and a map, at any lag up to `reach`."""
    height, width = noise.shape[-2:]
    differences = []
    for dy in range(reach + 1):
        for dx in range(-reach, reach + 1):
            first = noise[:, : height - dy, max(0, -dx) : width - max(0, dx)]
            second = noise[:, dy:, max(0, dx) : width - max(0, -dx)]
            differences.append(float((first * second).mean() / noise.var()) - at(correlation, dy, dx))
    return np.abs(differences).max()


@pytest.mark.parametrize("name", MAPS)
def test_power_is_the_transform_of_the_map(name):
    correlation = MAPS[name]
    power = power_of(correlation, (40, 27))
    middle = len(correlation) // 2
    lags = np.arange(-middle, middle + 1)
    for ky, kx in ((0, 0), (3, 5), (20, 13), (39, 1)):
        phase = 2 * np.pi * (ky * lags[:, None] / 40 + kx * lags / 27)
        assert power[ky, kx] == pytest.approx((correlation * np.cos(phase)).sum(), abs=1e-12)
    assert np.allclose(power_of(ONES, (4, 6)), 1)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("b", [2, 4])
def test_binned_noise_is_that_of_sums_of_pixels(name, b):
    """Against the covariance matrix of all pixels, summed in blocks."""
    side = 5 * b
    blocks = np.kron(np.eye(25), np.ones((1, b * b)))
    order = np.arange(side * side).reshape(5, b, 5, b).swapaxes(1, 2).ravel()
    covariance = blocks @ dense(MAPS[name], side, side)[np.ix_(order, order)] @ blocks.T
    binned, scatter = binned_correlation(MAPS[name], b)
    assert scatter**2 == pytest.approx(covariance[0, 0])
    assert np.allclose(dense(binned, 5, 5), covariance / covariance[0, 0])
    assert aperture_scatter(MAPS[name], b, b) == pytest.approx(scatter)
    assert aperture_scatter(MAPS[name], 1, side) ** 2 == pytest.approx(dense(MAPS[name], 1, side).sum())


def test_independent_pixels_stay_independent():
    binned, scatter = binned_correlation(ONES, 4)
    assert (binned.tolist(), scatter) == ([[1.0]], 4.0)
    binning = np.array([1, 2, 8])
    scatter, maps = binned_noise(None, binning)
    assert maps is None
    assert scatter is binning


def test_blocks_of_mixed_binnings_have_each_their_own_noise():
    binning = np.array([1, 4, 2, 1])
    scatter, maps = binned_noise(MAPS["cosmos"], binning)
    assert maps.shape == (4, 1, 21, 21)
    assert maps.dtype == np.float32
    for b, s, m in zip(binning.tolist(), scatter, maps, strict=True):
        expected, factor = binned_correlation(MAPS["cosmos"], b)
        assert s == factor
        assert np.allclose(m[0], expected, atol=1e-7)


@pytest.mark.parametrize("name", MAPS)
def test_drawn_noise_has_the_correlation_at_every_lag(name):
    rng = np.random.default_rng(1)
    binning = np.tile([1, 2, 1], 300)
    noise = correlated_normals(rng, MAPS[name], binning, (32, 24))[:, 0]
    assert noise.dtype == np.float32
    for b in (1, 2):
        of_b = noise[binning == b]
        assert of_b.std() == pytest.approx(1, abs=0.01)
        assert worst_lag(of_b, binned_correlation(MAPS[name], b)[0]) < 0.02
        # also at the edges, of which a periodic grid might make neighbours, and between stamps that share a transform
        assert abs((of_b[:, 0] * of_b[:, -1]).mean()) < 0.03
        assert abs((of_b[:, :, 0] * of_b[:, :, -1]).mean()) < 0.03
        assert abs((of_b[:-1] * of_b[1:]).mean()) < 0.02


def test_a_correlation_that_was_forgotten_is_found():
    """The planted fault of the statistic above."""
    white = np.random.default_rng(2).standard_normal((600, 32, 24))
    for name, correlation in MAPS.items():
        assert worst_lag(white, correlation) > 0.1, name
    assert worst_lag(white, ONES) < 0.02


def test_a_lopsided_correlation_is_not_drawn_mirrored():
    noise = correlated_normals(np.random.default_rng(3), MAPS["lopsided"], np.ones(600, int), (32, 24))[:, 0]
    assert worst_lag(noise, MAPS["lopsided"][:, ::-1]) > 0.1


def test_draws_are_a_function_of_the_generator():
    draws = [correlated_normals(np.random.default_rng(k), MAPS["cosmos"], np.ones(3, int), (16, 16)) for k in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.isclose(draws[0], draws[2]).any(axis=(1, 2, 3)).all()


def test_a_stamp_smaller_than_the_map_is_drawn_too():
    noise = correlated_normals(np.random.default_rng(0), MAPS["cosmos"], np.ones(20_000, int), (3, 3))[:, 0]
    expected = dense(MAPS["cosmos"], 3, 3)
    assert np.abs(np.cov(noise.reshape(-1, 9).T) - expected).max() < 0.04


@pytest.mark.parametrize("name", MAPS)
def test_snr_is_that_of_the_covariance_matrix(name):
    rng = np.random.default_rng(4)
    signal = rng.normal(size=(3, 1, 12, 9)) ** 2
    signal[:, :, 2:4, 3:] = 0  # masked
    binning = np.array([1, 2, 1])
    found = correlated_snr(signal, MAPS[name], binning)
    for value, x, b in zip(found, signal.reshape(3, -1), binning.tolist(), strict=True):
        covariance = dense(binned_correlation(MAPS[name], b)[0], 12, 9)
        assert value == pytest.approx((x @ x) / np.sqrt(x @ covariance @ x), rel=1e-5)
        used = x > 0
        optimum = np.sqrt(x[used] @ np.linalg.solve(covariance[np.ix_(used, used)], x[used]))
        assert value <= optimum
    assert np.allclose(correlated_snr(signal, ONES, binning), np.sqrt((signal**2).sum((1, 2, 3))))
    assert correlated_snr(np.zeros((1, 1, 5, 5)), MAPS[name], np.ones(1, int)) == 0


def test_a_usable_map_is_left_alone():
    for correlation in (*MAPS.values(), ONES):
        same, change = repaired(correlation)
        assert change == 0
        assert np.array_equal(same, correlation)


def test_negative_power_is_taken_out_by_a_small_change():
    # neighbours of 0.52 and nothing beyond: the power at the highest frequency would be 1 - 4 * 0.52 / 2 < 0
    bad = np.zeros((9, 9))
    bad[4, 4], bad[4, 3], bad[4, 5] = 1.0, 0.52, 0.52
    assert power_of(bad, (72, 72)).min() < 0
    good, change = repaired(bad)
    assert 0.001 < change < 0.03
    assert change == np.abs(good - bad).max()
    assert good[4, 4] == pytest.approx(1)
    assert np.array_equal(good, good[::-1, ::-1])
    assert power_of(good, (200, 200)).min() > 0.5 * LEAST_POWER
    assert np.linalg.eigvalsh(dense(good, 9, 9)).min() > 0.5 * LEAST_POWER
    assert repaired(np.round(good, 6))[1] == 0, "once is enough"


def test_what_is_far_from_any_noise_changes_much():
    box = np.full((5, 5), 0.9)
    box[2, 2] = 1
    box[0] = box[-1] = box[:, 0] = box[:, -1] = 0
    assert repaired(box)[1] > 0.2


def test_galsim_draws_the_same_cosmos_noise():
    galsim_noise = galsim.getCOSMOSNoise(rng=galsim.BaseDeviate(5), variance=1.0)
    drawn = []
    for _ in range(16):
        image = galsim.ImageD(96, 96, scale=0.03)
        image.addNoise(galsim_noise)
        drawn.append(image.array)
    assert worst_lag(np.array(drawn), MAPS["cosmos"]) < 0.02
    ours = correlated_normals(np.random.default_rng(6), MAPS["cosmos"], np.ones(60, int), (48, 48))[:, 0]
    assert worst_lag(ours, MAPS["cosmos"]) < 0.02


def test_galsim_measures_on_our_noise_what_was_asked_for():
    noise = correlated_normals(np.random.default_rng(7), MAPS["lopsided"], np.ones(1, int), (512, 512))[0, 0]
    measured = galsim.CorrelatedNoise(galsim.ImageD(noise.astype(float), scale=1.0), subtract_mean=True)
    image = measured.drawImage(galsim.ImageD(11, 11), scale=1.0).array / measured.getVariance()
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            assert image[5 + dy, 5 + dx] == pytest.approx(at(MAPS["lopsided"], dy, dx), abs=0.02), (dy, dx)
