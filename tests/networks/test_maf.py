import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.networks.elementwise import AffineTransform
from astroflow.networks.maf import ConditionalMAF
from astroflow.networks.spline import SplineTransform

CONTEXT = 4


def normals(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


@pytest.mark.parametrize(("transform", "size"), [(AffineTransform(), 0.5), (SplineTransform(), 0.25)], ids=["affine", "spline"])
def test_stack_of_layers_is_tfps_chain(transform, size):
    """Draws and densities, layers and permutations all being TensorFlow Probability's own."""
    maf = ConditionalMAF(6, CONTEXT, 4, (16, 16), seed=1, transform=transform)
    rng = np.random.default_rng(1)
    for v in maf.trainable_variables:
        fan_in = v.shape[0] if len(v.shape) == 2 else 1
        v.assign_add(rng.normal(size=v.shape) * size / np.sqrt(fan_in))
    u, context = normals(40, 6), normals(40, CONTEXT, seed=2)
    steps = []
    for layer in maf.conditioners:
        steps += [
            tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x, layer=layer: transform.bijector(layer(x, context))),
            tfb.Permute(range(5, -1, -1)),
        ]
    reference = tfb.Chain(steps[:-1])
    x = reference.forward(u).numpy()
    assert np.abs(x - u.numpy()).max() > 1
    assert np.allclose(maf.forward(u, context), x, rtol=0, atol=1e-4 * np.abs(x).max())
    expected = -0.5 * (u.numpy() ** 2).sum(-1) - 3 * np.log(2 * np.pi) - reference.forward_log_det_jacobian(u, event_ndims=1).numpy()
    assert np.allclose(maf.log_prob(tf.constant(x), context), expected, atol=5e-3)


def test_it_is_affine_where_nothing_else_is_asked_for():
    maf = ConditionalMAF(2, CONTEXT)
    assert isinstance(maf.transform, AffineTransform)
    assert [v.shape[-1] for v in maf.conditioners[0].biases] == [64, 64, 4]
