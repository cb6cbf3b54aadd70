"""The mixture density network against SciPy's Gaussians: densities, quantiles, tails and covariances."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, special, stats

from astroflow.errors import ConfigError
from astroflow.networks.mixture_density import ConditionalMixture

CONTEXT, COMPONENTS = 3, 4


def mixture(dimensions, size=0.8, components=COMPONENTS, seed=3):
    """Return a mixture with weights of the size that training gives them."""
    flow = ConditionalMixture(dimensions, CONTEXT, components=components, hidden=(16,), seed=seed)
    rng = np.random.default_rng(seed)
    for v in flow.trainable_variables:
        v.assign_add(rng.normal(size=v.shape) * size / np.sqrt(v.shape[0] if len(v.shape) == 2 else 1))
    return flow


def gaussians(flow, context):
    """Return weights, means ``(K, D)`` and covariances ``(K, D, D)`` for one context."""
    parts = flow.conditioners[0].of(tf.constant(context, tf.float32))
    weight, mean, scale, lean = (
        np.asarray(v, np.float64) for v in (tf.exp(parts.log_weight), parts.mean, tf.exp(parts.log_scale), parts.lean)
    )
    dimensions = len(mean)
    covariances = []
    for k in range(len(weight)):
        factor = np.zeros((dimensions, dimensions))
        factor[np.tril_indices(dimensions, -1)] = lean[:, k]
        factor = (factor + np.eye(dimensions)) * scale[:, k][:, None]
        covariances.append(factor @ factor.T)
    return weight, mean.T, np.array(covariances)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_density_is_that_of_a_mixture_of_gaussians(dimensions):
    flow, rng = mixture(dimensions), np.random.default_rng(0)
    for context in rng.normal(size=(4, CONTEXT)):
        weight, mean, covariance = gaussians(flow, context)
        assert np.isclose(weight.sum(), 1, atol=1e-6)
        x = np.concatenate([rng.multivariate_normal(m, c, 20) for m, c in zip(mean, covariance, strict=True)])
        expected = np.log(sum(w * stats.multivariate_normal(m, c).pdf(x) for w, m, c in zip(weight, mean, covariance, strict=True)))
        found = flow.log_prob(tf.constant(x, tf.float32), tf.constant(context, tf.float32)).numpy()
        assert np.allclose(found, expected, atol=2e-3)
        # and the flow's, by its base normals
        u, log_det = flow.inverse(tf.constant(x, tf.float32), tf.constant(context, tf.float32))
        assert np.allclose(stats.norm.logpdf(u).sum(-1) + log_det, expected, atol=2e-3)
    assert np.ptp(expected) > 1


def test_draws_have_the_moments_of_the_mixture():
    flow, context = mixture(3), np.array([0.3, -1.0, 0.5])
    weight, mean, covariance = gaussians(flow, context)
    u = np.random.default_rng(1).normal(size=(20_000, 3))
    x = np.asarray(flow.forward(tf.constant(u, tf.float32), tf.constant(context, tf.float32)), np.float64)
    middle = weight @ mean
    spread = np.einsum("k,kij->ij", weight, covariance + (mean - middle)[:, :, None] * (mean - middle)[:, None, :])
    sd = np.sqrt(np.diag(spread))
    assert (np.abs(x.mean(0) - middle) < 4 * sd / np.sqrt(len(x))).all()
    assert (np.abs(np.cov(x.T) - spread) < 0.06 * np.outer(sd, sd)).all()
    assert np.abs(spread / np.outer(sd, sd) - np.eye(3)).max() > 0.2


@pytest.mark.parametrize("u", [-9.0, -4.0, -0.7, 0.0, 2.0, 8.0])
def test_quantiles_are_those_of_the_mixture_far_out_too(u):
    """Two narrow peaks far apart and a broad one: what lies between them, and in the tails, is as precise as the middle."""
    flow, context = mixture(1, components=3), tf.zeros([1, CONTEXT])
    conditioner = flow.conditioners[0]
    for weights in (*conditioner.weights_c, *(w for w in conditioner.weights_x if w is not None)):
        weights.assign(tf.zeros_like(weights))
    weight, mean, scale = np.array([0.4, 0.3, 0.3]), np.array([-6.0, 7.0, 0.0]), np.array([0.1, 0.05, 1.0])
    conditioner.biases[-1].assign(np.concatenate([np.log(weight), mean, 4 * np.arctanh(np.log(scale) / 4)]).astype(np.float32))

    def log_tail(x):
        return special.logsumexp(np.log(weight) + stats.norm.logcdf(np.sign(-u or 1) * (x - mean) / scale))

    expected = optimize.brentq(lambda x: log_tail(x) - stats.norm.logcdf(-abs(u)), -30, 30, xtol=1e-9)
    point = tf.constant([[u]], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(point)
        x = flow.forward(point, context)
    assert np.isclose(x, expected, atol=3e-5)
    density = np.exp(flow.log_prob(tf.constant(x.numpy()), context))
    assert np.isclose(tape.gradient(x, point), stats.norm.pdf(u) / density, rtol=2e-2)
    assert np.isclose(flow.inverse(tf.constant(x.numpy()), context)[0], u, atol=2e-3)


def test_a_mixture_without_hidden_layers_is_refused():
    with pytest.raises(ConfigError, match="a mixture needs at least one hidden layer; got none"):
        ConditionalMixture(2, CONTEXT, hidden=())
