import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.elementwise import LOG_SCALE_LIMIT, AffineTransform
from astroflow.networks.masked import MaskedConditioner
from astroflow.networks.spline import SplineTransform

CONTEXT = 4
TRANSFORMS = [(AffineTransform(), 1.5), (SplineTransform(4, 3.0), 0.5)]
"""Transforms, and the size of weights at which they do much."""


def normals(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def conditioner(dimensions=5, outputs=2, hidden=(16, 16), size=1.5):
    """A layer with weights of the size that training gives them."""
    layer = MaskedConditioner(dimensions, outputs, hidden, CONTEXT, seed=1, name="layer")
    rng = np.random.default_rng(1)
    for v in layer.trainable_variables:
        fan_in = v.shape[0] if len(v.shape) == 2 else 1
        v.assign_add(rng.normal(size=v.shape) * size / np.sqrt(fan_in))
    return layer


@pytest.mark.parametrize(("transform", "size"), TRANSFORMS, ids=["affine", "spline"])
@pytest.mark.parametrize(("dimensions", "hidden"), [(1, (16,)), (2, (16, 24)), (5, (16,)), (7, (16, 24)), (7, (7, 7))])
def test_incremental_sampler_is_tfps_masked_autoregressive_flow(transform, size, dimensions, hidden):
    layer = conditioner(dimensions, transform.outputs, hidden, size)
    u, context = normals(40, dimensions), normals(40, CONTEXT, seed=2)
    reference = tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x: transform.bijector(layer(x, context)))
    expected = reference.forward(u).numpy()
    assert np.abs(expected - u.numpy()).max() > 0.5
    x = tf.transpose(layer.sample(tf.transpose(u), tf.transpose(context), transform))
    assert (np.abs(x - expected) <= 1e-4 * np.maximum(np.abs(expected).max(0), 1.0)).all()


@pytest.mark.parametrize("outputs", [2, 5])
@pytest.mark.parametrize("hidden", [(16,), (16, 24)])
def test_raw_parameters_depend_on_all_earlier_dimensions_and_the_context_alone(outputs, hidden):
    layer = conditioner(5, outputs, hidden)
    x, context = normals(8, 5), normals(8, CONTEXT, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, context])
        raw = layer(x, context)
    assert raw.shape == (8, 5, outputs)
    jacobian = tape.batch_jacobian(raw, x, experimental_use_pfor=False).numpy()  # (8, 5, outputs, 5)
    later = np.triu(np.ones((5, 5), bool))
    for k in range(outputs):
        assert np.abs(jacobian[:, :, k][:, later]).max() == 0.0  # not even on the diagonal
        assert (np.abs(jacobian[:, :, k][:, ~later]).max(0) > 1e-3).all()  # and every earlier dimension is used
    by_context = tape.batch_jacobian(raw, context, experimental_use_pfor=False).numpy()
    assert (np.abs(by_context).max((0, 3)) > 1e-3).all()


@pytest.mark.parametrize(("transform", "size"), TRANSFORMS, ids=["affine", "spline"])
def test_a_layer_has_a_triangular_jacobian(transform, size):
    layer = conditioner(5, transform.outputs, size=size)
    x, context = normals(8, 5), normals(8, CONTEXT, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        u, log_det = transform.inverse(x, layer(x, context))
    jacobian = tape.batch_jacobian(u, x, experimental_use_pfor=False).numpy()
    assert np.abs(np.triu(jacobian, 1)).max() == 0.0
    assert np.allclose(np.diagonal(jacobian, axis1=1, axis2=2), np.exp(log_det), rtol=1e-3)
    assert np.abs(np.tril(jacobian, -1)).max() > 1e-2


def test_log_scales_are_bounded():
    layer, transform = conditioner(5), AffineTransform()
    x = normals(64, 5) * 1e3
    _, log_det = transform.inverse(x, layer(x, normals(64, CONTEXT) * 1e4))
    assert 0.9 * LOG_SCALE_LIMIT < np.abs(log_det).max() <= LOG_SCALE_LIMIT


@pytest.mark.parametrize("hidden", [(), (3,), (16, 3)])
def test_layers_too_narrow_for_the_dimensions_are_refused(hidden):
    with pytest.raises(ConfigError, match=r"a flow over 4 parameters needs hidden layers of at least 4 units"):
        conditioner(4, 2, hidden)
