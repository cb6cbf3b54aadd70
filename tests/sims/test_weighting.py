"""Columns weighted by the inverse covariance, against dense algebra."""

import numpy as np
import pytest
import tensorflow as tf

from astroflow.sims.noise_correlation import CosmosCorrelation
from astroflow.sims.weighting import weighted

SIZE, N, K = 20, 3, 4
COSMOS = CosmosCorrelation().map


def dense(correlation, rms, variance, good):
    """Covariances of the pixels that count, and which they are."""
    middle = len(correlation) // 2
    y, x = np.divmod(np.arange(SIZE**2), SIZE)
    dy, dx = y[:, None] - y, x[:, None] - x
    near = (np.abs(dy) <= middle) & (np.abs(dx) <= middle)
    pixels = np.where(near, correlation[np.clip(dy + middle, 0, 2 * middle), np.clip(dx + middle, 0, 2 * middle)], 0.0)
    for r, v, g in zip(rms.reshape(-1, SIZE**2), variance.reshape(-1, SIZE**2), good.reshape(-1, SIZE**2), strict=True):
        there = np.flatnonzero(g)
        yield (pixels * np.outer(r, r) + np.diag(v - r**2))[np.ix_(there, there)], there


@pytest.fixture
def problem():
    """Smooth columns, as the slopes of a source are; noise with photons of a source, and masks, a row at the edge among them."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    widths = rng.uniform(2, 4, (N, K, 1, 1))
    columns = 100 * np.exp(-((x - rng.normal(0, 2, (N, K, 1, 1))) ** 2 + y**2) / (2 * widths**2)) * rng.lognormal(0, 2, (N, K, 1, 1))
    rms = rng.uniform(0.9, 1.1, (N, SIZE, SIZE))
    variance = rms**2 + 5 * np.exp(-(x**2 + y**2) / 18)
    good = np.ones((N, SIZE, SIZE))
    good[0, :4] = 0
    good[1, 9:12, 3:15] = 0
    return columns, rms, variance, good


def of(columns, rms, variance, good, correlation):
    maps = np.broadcast_to(correlation, (N, *np.shape(correlation)))
    return weighted(*(tf.constant(np.asarray(part), tf.float32) for part in (columns, rms, variance, good, maps))).numpy()


def test_curvatures_are_those_of_the_dense_covariance(problem):
    columns = problem[0]
    got = of(*problem, COSMOS)
    for i, (covariance, there) in enumerate(dense(COSMOS, *problem[1:])):
        flat = columns[i].reshape(K, -1)[:, there]
        exact = flat @ np.linalg.solve(covariance, flat.T)
        curvature = flat @ got[i].reshape(K, -1)[:, there].T
        scale = np.sqrt(np.diag(exact))
        np.testing.assert_allclose(curvature / np.outer(scale, scale), exact / np.outer(scale, scale), atol=0.02)
        np.testing.assert_allclose(curvature, curvature.T, rtol=1e-4, atol=1e-5 * scale.max() ** 2)
        # a fit that weighs by variances alone would take its errors for smaller by a quarter and more
        alone = (flat**2 / problem[2][i].ravel()[there]).sum(1)
        assert (alone > 1.5 * np.diag(exact)).all()


def test_independent_noise_needs_no_steps(problem):
    columns, _, variance, good = problem
    delta = np.zeros((5, 5))
    delta[2, 2] = 1.0
    expected = columns * (good / variance)[:, None]
    assert (np.abs(of(*problem, delta) - expected) < 1e-5 * np.abs(expected).max((2, 3), keepdims=True)).all()


def test_pixels_that_do_not_count_weigh_nothing(problem):
    columns, rms, variance, good = problem
    spoiled = np.where(good[:, None] > 0, columns, 1e6)
    np.testing.assert_array_equal(of(columns, rms, variance, good, COSMOS), of(spoiled, rms, variance, good, COSMOS))
    assert (of(columns, rms, variance, good, COSMOS)[np.broadcast_to(good[:, None] == 0, columns.shape)] == 0).all()


def test_nothing_to_weigh_is_no_failure(problem):
    columns, rms, variance, good = problem
    nothing = columns * np.arange(K)[None, :, None, None].clip(0, 1)
    for given in (of(nothing, rms, variance, good, COSMOS), of(columns, rms, variance, np.zeros_like(good), COSMOS)):
        assert np.isfinite(given).all()
    assert (given == 0).all()
