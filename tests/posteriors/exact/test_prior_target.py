import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from astroflow.posteriors.exact.prior_target import prior_bijector


def normals(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_it_is_the_prior_of_numpy(small_simulator):
    prior = small_simulator.parameters.prior
    bijector, u = prior_bijector(prior), normals(200, 7)
    theta = bijector.forward(tf.constant(u)).numpy()
    assert np.allclose(theta, prior.forward(u.astype(np.float64)), rtol=1e-4, atol=1e-5)
    assert np.allclose(bijector.inverse(tf.constant(theta)), u, atol=2e-2)
    inside = np.abs(u).max(-1) < 2.5
    assert np.allclose(bijector.inverse(tf.constant(theta))[inside], u[inside], atol=2e-3)


def test_log_det_is_that_of_automatic_differentiation(small_simulator):
    bijector, u = prior_bijector(small_simulator.parameters.prior), tf.constant(normals(40, 7) * 0.8)
    with tf.GradientTape() as tape:
        tape.watch(u)
        theta = bijector.forward(u)
    jacobian = np.linalg.slogdet(tape.batch_jacobian(theta, u).numpy().astype(np.float64)).logabsdet
    assert np.allclose(bijector.forward_log_det_jacobian(u, 1), jacobian, atol=5e-3)
    assert np.allclose(bijector.inverse_log_det_jacobian(tf.constant(theta.numpy()), 1), -jacobian, atol=5e-3)


def test_standard_normals_become_the_prior(small_simulator):
    prior = small_simulator.parameters.prior
    distribution = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(loc=tf.zeros(7)), prior_bijector(prior))
    theta = prior.forward(normals(100, 7).astype(np.float64))
    assert np.allclose(distribution.log_prob(tf.constant(theta, tf.float32)), prior.log_prob(theta), atol=2e-2)


def test_no_number_whatever_leaves_the_bounds(small_simulator):
    prior = small_simulator.parameters.prior
    u = np.concatenate([normals(200, 7) * 100, np.full((1, 7), 1e20, np.float32), np.full((1, 7), -1e20, np.float32)])
    theta = prior_bijector(prior).forward(tf.constant(u)).numpy()
    assert np.isfinite(theta).all()
    assert prior.contains(theta.astype(np.float64)).all()
    assert np.isfinite(prior_bijector(prior).inverse(tf.constant(theta))).all()
