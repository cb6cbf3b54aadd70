import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.coupling import ConditionalCoupling
from astroflow.networks.spline import SplineTransform

CONTEXT = 4
TRANSFORM = SplineTransform(3, 4.0)


def normals(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def coupling(dimensions, layers=2, hidden=(16, 16), size=0.3):
    """A flow with weights of the size that training gives them."""
    flow = ConditionalCoupling(dimensions, CONTEXT, layers, hidden, 1, TRANSFORM)
    rng = np.random.default_rng(1)
    for v in flow.trainable_variables:
        fan_in = v.shape[0] if len(v.shape) == 2 else 1
        v.assign_add(rng.normal(size=v.shape) * size / np.sqrt(fan_in))
    return flow


@pytest.mark.parametrize("dimensions", [2, 5])
def test_a_stack_of_steps_is_tfps_real_nvp(dimensions):
    """Draws and densities, coupling and permutations all being TensorFlow Probability's own."""
    flow = coupling(dimensions)
    u, context = normals(40, dimensions), normals(40, CONTEXT, seed=2)
    steps = []
    for step in flow.conditioners:
        order = [*step.kept, *step.moved]  # RealNVP keeps the first dimensions

        def spline(kept, _, step=step):
            whole = np.zeros((len(kept), dimensions), np.float32)
            whole[:, step.kept] = kept
            return TRANSFORM.bijector(step(tf.constant(whole), context))

        permute = tfb.Permute(order)
        steps += [tfb.Invert(permute), tfb.RealNVP(num_masked=len(step.kept), bijector_fn=spline), permute]
    reference = tfb.Chain(steps)
    x = reference.forward(u).numpy()
    assert np.abs(x - u.numpy()).max() > 0.5
    assert np.abs(flow.forward(u, context) - x).max() < 1e-4 * np.abs(x).max()
    expected = -0.5 * (u.numpy() ** 2).sum(-1) - 0.5 * dimensions * np.log(2 * np.pi)
    expected -= reference.forward_log_det_jacobian(u, event_ndims=1).numpy()
    assert np.allclose(flow.log_prob(tf.constant(x), context), expected, atol=5e-3)


@pytest.mark.parametrize("dimensions", [2, 5])
def test_a_step_moves_some_dimensions_given_all_the_others(dimensions):
    for step in coupling(dimensions, layers=1, size=1.0).conditioners:
        assert sorted([*step.moved, *step.kept]) == list(range(dimensions))
        x, context = normals(16, dimensions), normals(16, CONTEXT, seed=2)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, context])
            raw = step(x, context)
        jacobian = np.abs(tape.batch_jacobian(raw, x, experimental_use_pfor=False).numpy()).max(0)  # (moved, outputs, dimensions)
        assert jacobian[:, :, step.moved].max() == 0.0
        assert jacobian[:, :, step.kept].min() > 1e-3
        assert np.abs(tape.batch_jacobian(raw, context, experimental_use_pfor=False).numpy()).max((0, 3)).min() > 1e-3
        u = normals(*x.shape, seed=3)
        moved = step.sample(tf.transpose(u), tf.transpose(context), TRANSFORM)
        unchanged = np.equal(tf.transpose(moved), u).all(0)
        assert unchanged[step.kept].all()
        assert not unchanged[step.moved].any()


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 7, 13])
def test_every_layer_moves_everything_once_and_soon_separates_every_pair(dimensions):
    layers = max(1, (dimensions - 1).bit_length())
    flow = ConditionalCoupling(dimensions, CONTEXT, layers, (4,), 0, SplineTransform(2))
    moved = [set(step.moved.tolist()) for step in flow.conditioners]
    per_layer = len(moved) // layers
    assert per_layer == (1 if dimensions == 1 else 2)
    for k in range(layers):
        assert sorted(i for half in moved[per_layer * k : per_layer * (k + 1)] for i in half) == list(range(dimensions))
    for one, other in itertools.combinations(range(dimensions), 2):
        assert any((one in half) != (other in half) for half in moved)


def test_all_dimensions_depend_on_each_other_after_enough_layers():
    flow = coupling(5, layers=3, size=0.5)
    u, context = normals(64, 5), normals(64, CONTEXT, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(u)
        x = flow.forward(u, context)
    assert (np.abs(tape.batch_jacobian(x, u, experimental_use_pfor=False).numpy()).max(0) > 1e-3).all()


def test_one_dimension_alone_sees_the_context():
    flow = coupling(1, layers=2, size=1.0)
    assert [step.kept.size for step in flow.conditioners] == [0, 0]
    u = tf.zeros([30, 1])
    assert np.std(flow.forward(u, normals(30, CONTEXT))) > 0.05
    assert np.ptp(flow.forward(u, tf.repeat(normals(1, CONTEXT), 30, 0))) == 0.0


def test_no_hidden_layers_are_refused():
    with pytest.raises(ConfigError, match="a coupling flow needs at least one hidden layer"):
        ConditionalCoupling(4, CONTEXT, 2, (), 0, TRANSFORM)
