import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from astroflow.errors import ConfigError
from astroflow.networks.targets import box_bijector, standardised


def numbers(*shape, scale=3.0):
    return tf.constant(np.random.default_rng(0).normal(size=shape) * scale, tf.float32)


def test_free_dimensions_are_left_alone_and_bounded_ones_stay_inside():
    bijector = box_bijector([None, (2.0, 5.0), (-1.0, 1.0)])
    u = numbers(100, 3)
    theta = bijector.forward(u).numpy()
    assert np.array_equal(theta[:, 0], u[:, 0])
    assert ((theta[:, 1] > 2) & (theta[:, 1] < 5)).all()
    assert ((theta[:, 2] > -1) & (theta[:, 2] < 1)).all()
    assert np.allclose(bijector.inverse(tf.constant(theta)), u, atol=1e-3)


@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-2, 1e4))
def test_no_number_whatever_leaves_the_box(low, width):
    low, high = np.float32(low), np.float32(low + width)
    u = tf.constant([[-1e30], [-200.0], [-17.0], [-1.0], [0.0], [1.0], [17.0], [200.0], [1e30]], tf.float32)
    theta = box_bijector([(float(low), float(high))]).forward(u).numpy()
    assert (theta > low).all()
    assert (theta < high).all()
    # the density of what comes out can be evaluated, even out there
    inverse = box_bijector([(float(low), float(high))])
    assert np.isfinite(inverse.inverse(tf.constant(theta))).all()
    assert np.isfinite(inverse.inverse_log_det_jacobian(tf.constant(theta), 1)).all()


@pytest.mark.parametrize("x", [1.9999, 5.0001, -1e30, np.nan, np.inf])
def test_what_lies_outside_has_no_inverse(x):
    assert np.isnan(box_bijector([(2.0, 5.0)]).inverse(tf.constant([x], tf.float32))).all()


@pytest.mark.parametrize("x", [2.0, 5.0])
def test_the_bound_itself_counts_as_the_last_place_before_it(x):
    bijector = box_bijector([(2.0, 5.0)])
    assert np.isfinite(bijector.inverse(tf.constant([x]))).all()


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0), (1e9, 1e9 + 1)])
def test_bounds_that_hold_nothing_are_refused(bounds):
    with pytest.raises(ConfigError, match="two rising numbers"):
        box_bijector([bounds])


@pytest.mark.parametrize("bounds", [[None, None], [(2.0, 5.0), (-1.0, 1.0)], [None, (0.0, 1e-3)]])
def test_log_det_is_that_of_automatic_differentiation(bounds):
    bijector = standardised(box_bijector(bounds), [0.5, -1.0], [2.0, 0.1])
    u = numbers(20, 2, scale=1.0)
    with tf.GradientTape() as tape:
        tape.watch(u)
        theta = bijector.forward(u)
    jacobian = np.linalg.slogdet(tape.batch_jacobian(theta, u).numpy()).logabsdet
    assert np.allclose(bijector.forward_log_det_jacobian(u, 1), jacobian, atol=1e-4)
    assert np.allclose(bijector.inverse_log_det_jacobian(tf.constant(theta.numpy()), 1), -jacobian, atol=1e-3)


def test_shift_and_scale_come_before_the_box():
    u = numbers(20, 2)
    mean, scale = np.array([1.0, 2.0]), np.array([3.0, 0.5])
    box = box_bijector([None, (0.0, 1.0)])
    expected = box.forward(tf.constant(mean + scale * u.numpy(), tf.float32))
    assert np.allclose(standardised(box, mean, scale).forward(u), expected, atol=1e-6)


HALF_LINES = [(0.0, None), (-3.0, None), (None, 2.5), (1e6, None), (None, -1e-6)]


@pytest.mark.parametrize("bounds", HALF_LINES)
def test_one_bound_is_kept_and_the_other_side_is_open(bounds):
    bijector = box_bijector([bounds])
    low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
    u = tf.constant([[-1e30], [-200.0], [-30.0], [0.0], [10.0], [200.0], [1e30]], tf.float32)
    theta = bijector.forward(u).numpy()
    assert (theta > np.float32(low)).all()
    assert (theta < np.float32(high)).all()
    assert np.abs(theta).max() > 1e30
    assert np.isfinite(bijector.inverse(tf.constant(theta))).all()
    assert np.isfinite(bijector.inverse_log_det_jacobian(tf.constant(theta), 1)).all()
    bound = low if bounds[1] is None else high
    outside = np.array([[bound - 1 if bounds[1] is None else bound + 1], [np.inf], [-np.inf], [np.nan]], np.float32)
    assert np.isnan(bijector.inverse(tf.constant(outside))).all()
    assert np.isfinite(bijector.inverse(tf.constant([[bound]], tf.float32))).all(), "the bound counts as the last place before it"


@pytest.mark.parametrize("bounds", [HALF_LINES[:2], [(None, 2.5), None], [(None, None), (0.0, 1.0)]])
def test_half_lines_have_the_jacobian_of_automatic_differentiation(bounds):
    bijector = box_bijector(bounds)
    u = numbers(20, 2, scale=1.0)
    with tf.GradientTape() as tape:
        tape.watch(u)
        theta = bijector.forward(u)
    jacobian = np.linalg.slogdet(tape.batch_jacobian(theta, u).numpy()).logabsdet
    assert np.allclose(bijector.forward_log_det_jacobian(u, 1), jacobian, atol=1e-4)
    assert np.allclose(bijector.inverse_log_det_jacobian(tf.constant(theta.numpy()), 1), -jacobian, atol=1e-3)
    assert np.allclose(bijector.inverse(tf.constant(theta.numpy())), u, atol=1e-3)


def test_a_log_normal_number_is_normal_beyond_its_bound():
    theta = np.random.default_rng(0).lognormal(-3.0, 0.5, (1000, 1))
    assert np.allclose(box_bijector([(0.0, None)]).inverse(tf.constant(theta, tf.float32)), np.log(theta), atol=1e-5)


@pytest.mark.parametrize("bounds", [(np.nan, None), (None, np.inf), (-np.inf, None)])
def test_a_bound_that_is_no_number_is_refused(bounds):
    with pytest.raises(ConfigError, match="a bound must be a finite number of float32, or null"):
        box_bijector([bounds])
