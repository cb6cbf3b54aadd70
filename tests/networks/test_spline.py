import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.elementwise import LOG_SCALE_LIMIT
from astroflow.networks.spline import LEAST_SHARE, SplineTransform

SIZES = [0.1, 1.0, 10.0, 1e4]
"""Of raw parameters: new, trained, extreme, and beyond all reason."""


def raw_of(transform, n, size, seed=0, dtype=tf.float32):
    return tf.constant(np.random.default_rng(seed).normal(size=(n, transform.outputs)) * size, dtype)


def line(transform, n, dtype=tf.float32):
    """Numbers across the interval and some way beyond it."""
    return tf.constant(np.random.default_rng(1).uniform(-1.4, 1.4, n) * transform.bound, dtype)


def knots(transform, raw):
    """Knots and slopes, in float64 NumPy, by the formulas of the paper."""
    raw, n = np.asarray(raw, np.float64), transform.bins

    def positions(logits):
        share = np.exp(logits - logits.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        share = LEAST_SHARE / n + (1 - LEAST_SHARE) * share
        return np.concatenate([np.zeros((len(raw), 1)), np.cumsum(share, -1)], -1) * 2 * transform.bound - transform.bound

    slopes = np.exp(LOG_SCALE_LIMIT * np.tanh(raw[:, 2 * n :] / LOG_SCALE_LIMIT))
    return positions(raw[:, :n]), positions(raw[:, n : 2 * n]), np.pad(slopes, [(0, 0), (1, 1)], constant_values=1.0)


@pytest.mark.parametrize("bins", [2, 3, 16])
@pytest.mark.parametrize("size", SIZES)
def test_the_samplers_formula_is_tfps(bins, size):
    """In float64, where neither loses digits."""
    transform = SplineTransform(bins, 3.0)
    raw, u = raw_of(transform, 500, size, dtype=tf.float64), line(transform, 500, tf.float64)
    x = transform.forward(u, tf.transpose(raw))
    assert np.abs(x - u).max() > 0.01
    # a little before the bound the sampler stops bending, hence not to the last digit
    assert np.abs(x - transform.bijector(raw).forward(u)).max() < 1e-7


def test_the_samplers_draws_are_tfps_in_float32():
    transform = SplineTransform()
    raw, u = raw_of(transform, 20_000, 0.2), line(transform, 20_000)
    x = transform.forward(u, tf.transpose(raw))
    assert np.abs(x - u).max() > 0.2
    assert np.abs(x - transform.bijector(raw).forward(u)).max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_float32_is_enough_for_any_parameters(size):
    """Going back is as exact as rounding allows: where draws are packed, errors grow with the slope back."""
    transform = SplineTransform()
    raw, u = raw_of(transform, 20_000, size), line(transform, 20_000)
    x = transform.forward(u, tf.transpose(raw))
    again, log_det = transform.inverse(tf.constant(x.numpy()), raw)
    assert np.isfinite(x).all()
    assert (np.abs(again - u) <= 5e-6 * (1 + np.exp(log_det))).all()
    assert np.abs(log_det).max() < 12


@pytest.mark.parametrize("bins", [2, 8])
def test_knots_slopes_and_values_are_those_of_the_paper(bins):
    """Each knot is mapped to its partner, with its slope; between them the rational quadratic of Durkan et al. 2019, eq. 4."""
    transform = SplineTransform(bins, 4.0)
    raw = raw_of(transform, 50, 1.5, dtype=tf.float64)
    x_k, y_k, slopes = knots(transform, raw)
    per_knot = tf.repeat(raw[:, None], bins - 1, 1)
    u, log_det = transform.inverse(tf.constant(x_k[:, 1:-1]), per_knot)
    assert np.allclose(u, y_k[:, 1:-1], atol=1e-12)
    assert np.allclose(log_det, np.log(slopes[:, 1:-1]), atol=1e-9)
    xi, w, h = 0.3, np.diff(x_k), np.diff(y_k)
    s, left, right = h / w, slopes[:, :-1], slopes[:, 1:]
    expected = y_k[:, :-1] + h * (s * xi**2 + left * xi * (1 - xi)) / (s + (left + right - 2 * s) * xi * (1 - xi))
    u, _ = transform.inverse(tf.constant(x_k[:, :-1] + xi * w), tf.repeat(raw[:, None], bins, 1))
    assert np.allclose(u, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_knots_themselves_are_no_trap(dtype):
    """At every knot, where bins meet, both directions are finite and undo each other."""
    transform = SplineTransform()
    raw = raw_of(transform, 2000, 1.0, dtype=dtype)
    x_k, y_k, _ = knots(transform, raw)
    wide = tf.repeat(raw[:, None], transform.bins + 1, 1)
    u, log_det = transform.inverse(tf.constant(x_k, dtype), wide)
    x = transform.forward(tf.constant(y_k, dtype), tf.transpose(wide, [2, 0, 1]))
    tolerance = 1e-4 if dtype == tf.float32 else 1e-8
    assert np.allclose(u, y_k, rtol=0, atol=tolerance)
    assert np.abs(x - x_k).max() < 10 * tolerance
    assert np.isfinite(log_det).all()


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_tails_are_the_identity(size):
    transform = SplineTransform(8, 3.0)
    outside = np.array([-1e30, -100, -3.5, -3.0, 3.0, 3.0001, 50, 1e30], np.float32)
    raw = raw_of(transform, len(outside), size)
    u, log_det = transform.inverse(tf.constant(outside), raw)
    assert np.array_equal(u, outside)
    assert not log_det.numpy().any()
    assert np.array_equal(transform.forward(tf.constant(outside), tf.transpose(raw)), outside)
    assert np.allclose(transform.bijector(raw).forward(tf.constant(outside)), outside, rtol=1e-6)  # its last knots are rounded sums


@pytest.mark.parametrize("size", SIZES[:2])
def test_it_rises_and_joins_its_tails(size):
    transform = SplineTransform(8, 3.0)
    u = tf.linspace(-3.2, 3.2, 4001)
    for seed in range(3):
        raw = tf.transpose(tf.repeat(raw_of(transform, 1, size, seed), 4001, 0))
        steps = np.diff(transform.forward(u, raw))
        assert steps.min() >= 0
        assert steps.max() < 0.5


def test_log_det_is_that_of_automatic_differentiation_and_of_tfp():
    transform = SplineTransform()
    raw, x = raw_of(transform, 400, 1.0, dtype=tf.float64), line(transform, 400, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        u, log_det = transform.inverse(x, raw)
    assert np.allclose(np.log(tape.gradient(u, x)), log_det, atol=1e-9)
    assert np.allclose(transform.bijector(raw).inverse_log_det_jacobian(x, 0), log_det, atol=1e-3)
    assert np.abs(log_det).max() > 1


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_finite_everywhere(size):
    """Beyond the interval too, where TFP's formula has poles whose NaN `tf.where` would pass on."""
    transform = SplineTransform()
    raw = tf.Variable(raw_of(transform, 5000, size))
    for x in (line(transform, 5000), 1e12 * line(transform, 5000), tf.fill([5000], transform.bound), tf.zeros([5000])):
        with tf.GradientTape() as tape:
            tape.watch(x)
            u, log_det = transform.inverse(x, raw)
            loss = tf.reduce_mean(u) + tf.reduce_mean(log_det)
        assert all(np.isfinite(g).all() for g in tape.gradient(loss, [x, raw]))


def test_tfp_alone_has_the_poles_that_are_guarded_against():
    """The reason for the guard: if this fails, TFP has become safe and the guard can go."""
    spline = tfb.RationalQuadraticSpline(bin_widths=[1.0, 1.0], bin_heights=[1.0, 1.0], knot_slopes=[2.0], range_min=-1.0)
    # the denominator 1 + xi (1 - xi) of the first bin has its root at the golden ratio; huge numbers overflow as well
    x = tf.constant([1e25])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = spline.forward(x)
    assert y.numpy() == x.numpy()
    assert not np.isfinite(tape.gradient(y, x)).all()


def test_zero_parameters_are_the_identity():
    transform = SplineTransform()
    u = line(transform, 1000)
    raw = tf.zeros([1000, transform.outputs])
    assert np.allclose(transform.forward(u, tf.transpose(raw)), u, atol=2e-6)
    back, log_det = transform.inverse(u, raw)
    assert np.allclose(back, u, atol=2e-6)
    assert np.allclose(log_det, 0, atol=2e-6)


def test_what_is_no_number_stays_none():
    transform = SplineTransform()
    raw = raw_of(transform, 1, 1.0)
    nothing = tf.constant([np.nan], tf.float32)
    assert np.isnan(transform.forward(nothing, tf.transpose(raw)))
    assert np.isnan(transform.inverse(nothing, raw)[0])


@pytest.mark.parametrize(("bins", "bound"), [(1, 5.0), (0, 5.0), (8, 0.0), (8, -1.0), (8, float("nan"))])
def test_impossible_splines_are_refused(bins, bound):
    with pytest.raises(ConfigError, match="a spline needs at least 2 bins and a positive bound"):
        SplineTransform(bins, bound)
