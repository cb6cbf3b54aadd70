from itertools import islice, pairwise

import numpy as np
import pytest
import tensorflow as tf

from astroflow.sims.likelihood.photon import Series, conjugate_gradient_forms, fitted, log_det_change, scattered, stationary_log, terms


def example(seed=0, n=30, change=0.3):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    C0 = root @ root.T / n + np.eye(n)
    delta = change * rng.uniform(-1, 1, (2, n))
    x = rng.normal(size=(2, 3, n))
    solve = tf.constant(np.linalg.inv(C0))
    return C0, delta, x, lambda r: tf.matmul(r, solve)


def test_conjugate_gradients_come_quadratically_closer_and_are_exact_in_the_end():
    C0, delta, x, solve = example()
    steps = islice(conjugate_gradient_forms(tf.constant(x[None]), tf.constant(delta[None]), solve), 12)
    truth = np.array([y @ np.linalg.solve(C0 + np.diag(d), y.T) for d, y in zip(delta, x, strict=True)])
    errors = [np.abs(forms[0] - truth).max() for forms in steps]
    assert errors[0] < 1
    assert all(after < 0.2 * before for before, after in pairwise(errors[:5]))
    assert errors[-1] < 1e-10


def test_no_change_takes_one_step_and_zero_has_no_norm():
    C0, delta, x, solve = example()
    x[:, 0] = 0
    first, second = islice(conjugate_gradient_forms(tf.constant(x[None]), tf.constant(0 * delta[None]), solve), 2)
    np.testing.assert_allclose(first[0], x @ np.linalg.solve(C0, x.transpose(0, 2, 1)), atol=1e-12)
    np.testing.assert_array_equal(first, second)


def one_block(S, third=0.0, fourth=0.0, pairs=1.0, variance=1.0, power=(1.0,)):
    """The series of an inverse S in one block, so every pair is in: what is left is of third order."""
    squares = tf.constant((S * S * (1 - np.eye(len(S))))[None])
    moments = (tf.fill((1, 1, len(S)), tf.constant(moment, tf.float64)) for moment in (third, fourth))
    levels = (tf.fill((1, 1, len(S)), tf.constant(value, tf.float64)) for value in (fourth**0.25, variance))
    table = tf.constant(stationary_log(np.array(power))[None])
    return Series(tf.constant(np.diag(S)[None, None]), [squares], [], *moments, tf.constant([[pairs]], tf.float64), *levels, table)


def whole(x):
    return [x]


def test_the_determinant_is_exact_in_pairs():
    for change in (0.3, 0.03):
        C0, delta, _, _ = example(change=change)
        found = log_det_change(tf.constant(delta[None]), whole, one_block(np.linalg.inv(C0))).numpy()[0]
        truth = [np.linalg.slogdet(C0 + np.diag(d))[1] - np.linalg.slogdet(C0)[1] for d in delta]
        size = np.sum(np.abs(delta) ** 3)
        assert np.abs(found - truth).max() < 0.2 * size
    unmixed = log_det_change(tf.constant(delta[None]), whole, one_block(np.eye(len(C0))))
    np.testing.assert_allclose(unmixed[0], np.log1p(delta).sum(1), rtol=1e-12)


def test_the_series_is_scaled_to_what_it_missed_and_left_alone_where_it_missed_nothing():
    C0, *_ = example()
    rng = np.random.default_rng(5)
    delta = tf.constant(0.4 * rng.uniform(0, 1, (1, 30, 1)) * rng.uniform(0.5, 1.5, (1, 30, len(C0))))
    truth, start = (one_block(np.linalg.inv(C0), *moments) for moments in ((0.9, 0.5, 1.1), (0.6, 1.0)))
    missed = (log_det_change(delta, whole, truth) - log_det_change(delta, whole, start)).numpy()
    assert np.abs(missed).max() > 0.05
    some = scattered(terms(delta, whole, start)[0], 8)
    found = fitted(start, terms(delta, whole, start)[:, some], missed[:, some])
    np.testing.assert_allclose(log_det_change(delta, whole, found), log_det_change(delta, whole, truth), atol=0.002)
    same = fitted(start, terms(delta, whole, start)[:, some], 0 * missed[:, some])
    np.testing.assert_array_equal(log_det_change(delta, whole, same), log_det_change(delta, whole, start))


@pytest.mark.parametrize("factor", [0.0, 0.2, 30.0, 1e4])
def test_changes_too_large_for_the_series_are_those_of_stationary_noise(factor):
    """A ring of pixels of one variance is stationary: its determinant is known, and the series is nonsense there."""
    n, middle = 64, 3.0
    row = np.zeros(n)
    row[[0, 1, 2, -1, -2]] = (1, 0.6, 0.2, 0.6, 0.2)
    power = np.fft.fft(row).real
    assert power.min() > 0
    C0 = np.array([np.roll(row, k) for k in range(n)]) + middle * np.eye(n)
    inverse, spectrum = np.linalg.inv(C0), 1 / (power + middle)
    third, fourth = (((spectrum - spectrum.mean()) ** k).mean() for k in (3, 4))
    series = one_block(inverse, third, fourth, 1.0, middle, power)
    delta = np.full((1, 1, n), (factor - 1) * middle)
    truth = np.log((power + factor * middle) / (power + middle)).sum()
    assert np.isclose(log_det_change(tf.constant(delta), whole, series)[0, 0], truth, rtol=0.02, atol=0.05)
    # and a part of the ring alone: right to some per cent
    delta[..., n // 3 :] = 0
    truth = np.linalg.slogdet(C0 + np.diag(delta[0, 0]))[1] - np.linalg.slogdet(C0)[1]
    assert np.isclose(log_det_change(tf.constant(delta), whole, series)[0, 0], truth, rtol=0.1, atol=0.1)


def test_terms_are_what_the_series_adds_to_pixels_on_their_own():
    C0, delta, _, _ = example()
    series = one_block(np.linalg.inv(C0), 0.6, 1.0, 0.9)
    alone = np.log1p(np.diag(np.linalg.inv(C0)) * delta).sum(1)
    added = terms(tf.constant(delta[None]), whole, series)
    np.testing.assert_allclose(added.sum(-1)[0] + alone, log_det_change(tf.constant(delta[None]), whole, series)[0], rtol=1e-12)


def test_scattered_points_are_the_ends_of_what_there_is():
    points = np.stack([np.linspace(-1, 2, 50), np.zeros(50)], 1)
    assert scattered(points, 3).tolist()[:2] == [49, 0]
    assert len(set(scattered(np.random.default_rng(0).normal(size=(40, 3)), 8).tolist())) == 8
    assert len(scattered(np.zeros((5, 3)), 4)) == 4
