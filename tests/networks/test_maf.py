import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.maf import LOG_SCALE_LIMIT, ConditionalMAF, MaskedConditioner

CONTEXT = 4


def normals(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def trained(layer, size=0.5, seed=1):
    """Give weights the size that training gives them: they start so small that any error would hide."""
    rng = np.random.default_rng(seed)
    for v in layer.trainable_variables:
        fan_in = v.shape[0] if len(v.shape) == 2 else 1
        v.assign_add(rng.normal(size=v.shape) * size / np.sqrt(fan_in))
    return layer


def flow(dimensions=5, layers=3, hidden=(16, 16), size=0.5, seed=1):
    return trained(ConditionalMAF(dimensions, CONTEXT, layers, hidden, seed=seed), size)


def conditioner(dimensions=5, hidden=(16, 16), seed=1):
    return trained(MaskedConditioner(dimensions, hidden, CONTEXT, seed=seed, name="layer"), 1.5)


def close(one, other, tolerance=1e-5):
    """Agree to `tolerance` of the other's scale in each dimension."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    scale = np.maximum(np.abs(other).max(tuple(range(other.ndim - 1))), 1.0)
    return (np.abs(one - other) <= tolerance * scale).all()


def test_density_of_a_2d_flow_integrates_to_one_for_every_context():
    maf = flow(dimensions=2, layers=3, size=0.4)
    n = 1201
    x, y = np.linspace(-8, 8, n), np.linspace(-30, 30, n)
    grid = tf.constant(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2), tf.float32)
    for k in range(2):
        context = normals(CONTEXT, seed=k)
        log_prob = np.concatenate([maf.log_prob(part, context).numpy() for part in tf.split(grid, [n * 200] * 6 + [n], 0)]).astype(
            np.float64
        )
        assert abs(np.exp(log_prob).sum() * (x[1] - x[0]) * (y[1] - y[0]) - 1) < 1e-3
        # and it is no standard normal, whose integral would be one as well
        assert np.abs(np.exp(log_prob) - np.exp(-0.5 * (grid.numpy() ** 2).sum(-1)) / (2 * np.pi)).max() > 0.05


def test_density_of_a_1d_flow_integrates_to_one_and_depends_on_the_context():
    maf = flow(dimensions=1)
    x = np.linspace(-80, 80, 40001)[:, None]
    densities = [np.exp(maf.log_prob(tf.constant(x, tf.float32), normals(CONTEXT, seed=k)).numpy().astype(np.float64)) for k in range(2)]
    for density in densities:
        assert abs(density.sum() * (x[1, 0] - x[0, 0]) - 1) < 1e-3
    assert np.abs(densities[0] - densities[1]).max() > 0.01


@pytest.mark.parametrize("dimensions", [1, 2, 3, 7])
@pytest.mark.parametrize("hidden", [(16,), (16, 24), (7, 32, 9)])
def test_sampling_undoes_density_evaluation(dimensions, hidden):
    maf = flow(dimensions, hidden=hidden)
    u, context = normals(64, dimensions), normals(64, CONTEXT, seed=2)
    x = maf.forward(u, context)
    # through the conditioners: a TFP bijector would answer from its cache
    z = x
    for k, layer in enumerate(maf.conditioners):
        shift, log_scale = layer(z, context)
        z = (z - shift) * tf.exp(-log_scale)
        z = z if k == len(maf.conditioners) - 1 else z[..., ::-1]
    assert close(z, u, 1e-4)
    bijector = maf.bijector(context)
    assert close(bijector.inverse(tf.constant(x.numpy())), u, 1e-4)
    assert close(bijector.forward(u), x, 1e-6)


@pytest.mark.parametrize("dimensions", [1, 2, 5, 7])
@pytest.mark.parametrize("hidden", [(16,), (16, 24), (7, 7)])
def test_incremental_sampler_is_tfps_masked_autoregressive_flow(dimensions, hidden):
    layer = conditioner(dimensions, hidden)
    u, context = normals(40, dimensions), normals(40, CONTEXT, seed=2)
    reference = tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=lambda x: layer(x, context))
    expected = reference.forward(u).numpy()
    assert np.abs(expected - u.numpy()).max() > 0.5
    assert close(tf.transpose(layer.sample(tf.transpose(u), tf.transpose(context))), expected)


def test_stack_of_layers_is_tfps_chain():
    maf = flow(dimensions=6, layers=4)
    u, context = normals(40, 6), normals(40, CONTEXT, seed=2)
    steps = []
    for layer in maf.conditioners:
        steps += [
            tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=lambda x, layer=layer: layer(x, context)),
            tfb.Permute(range(5, -1, -1)),
        ]
    reference = tfb.Chain(steps[:-1])
    x = reference.forward(u).numpy()
    assert close(maf.forward(u, context), x)
    base = -0.5 * (u.numpy() ** 2).sum(-1) - 3 * np.log(2 * np.pi)
    expected = base - reference.forward_log_det_jacobian(u, event_ndims=1).numpy()
    assert np.allclose(maf.log_prob(tf.constant(x), context), expected, atol=2e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 6])
def test_log_det_is_that_of_automatic_differentiation(dimensions):
    maf = flow(dimensions)
    u, context = normals(16, dimensions), normals(16, CONTEXT, seed=2)
    with tf.GradientTape() as tape:
        tape.watch(u)
        x = maf.forward(u, context)
    forward = np.linalg.slogdet(tape.batch_jacobian(x, u).numpy().astype(np.float64))
    assert (forward.sign > 0).all() or dimensions > 1  # reversing the order turns the sign of even numbers of dimensions
    base = -0.5 * (u.numpy() ** 2).sum(-1) - 0.5 * dimensions * np.log(2 * np.pi)
    fresh = tf.constant(x.numpy())
    assert np.allclose(maf.log_prob(fresh, context), base - forward.logabsdet, atol=1e-3)
    assert np.allclose(maf.bijector(context).forward_log_det_jacobian(u, 1), forward.logabsdet, atol=1e-3)
    assert np.allclose(maf.bijector(context).inverse_log_det_jacobian(fresh, 1), -forward.logabsdet, atol=1e-3)
    assert np.abs(forward.logabsdet).max() > 0.1


@pytest.mark.parametrize("hidden", [(16,), (16, 24)])
def test_each_layer_is_autoregressive(hidden):
    layer = conditioner(5, hidden)
    x, context = normals(8, 5), normals(8, CONTEXT, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, context])
        shift, log_scale = layer(x, context)
    for output in (shift, log_scale):
        jacobian = tape.batch_jacobian(output, x).numpy()
        above = np.triu(np.ones((5, 5), bool))
        assert np.abs(jacobian[:, above]).max() == 0.0  # not even on the diagonal
        assert (np.abs(jacobian[:, ~above]).max(0) > 1e-3).all()  # and every earlier dimension is used
        assert (np.abs(tape.batch_jacobian(output, context).numpy()).max((0, 2)) > 1e-3).all()  # as is the context, in every dimension


def test_inverse_of_a_layer_has_a_triangular_jacobian():
    layer = conditioner(5)
    x, context = normals(8, 5), normals(8, CONTEXT, seed=2)
    with tf.GradientTape() as tape:
        tape.watch(x)
        shift, log_scale = layer(x, context)
        u = (x - shift) * tf.exp(-log_scale)
    jacobian = tape.batch_jacobian(u, x).numpy()
    assert np.abs(np.triu(jacobian, 1)).max() == 0.0
    assert np.allclose(np.diagonal(jacobian, axis1=1, axis2=2), np.exp(-log_scale), rtol=1e-5)


def test_every_variable_learns():
    maf = flow(dimensions=4, layers=3, hidden=(16, 16))
    # kernel, context kernel and bias of two hidden layers and an output layer, three times
    assert len(maf.trainable_variables) == 3 * 3 * 3
    assert sum(len(layer.trainable_variables) for layer in maf.conditioners) == 27
    assert len({v.path for v in maf.trainable_variables}) == 27
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(maf.log_prob(normals(32, 4), normals(32, CONTEXT, seed=2)))
    for variable, gradient in zip(maf.trainable_variables, tape.gradient(loss, maf.trainable_variables), strict=True):
        assert gradient is not None, variable.path
        assert np.abs(gradient.numpy()).max() > 0, variable.path


def test_gradients_reach_the_variables_through_the_tfp_distribution_too():
    from tensorflow_probability import distributions as tfd

    maf = flow(dimensions=3)
    context = normals(16, CONTEXT)
    with tf.GradientTape() as tape:
        base = tfd.MultivariateNormalDiag(loc=tf.zeros([16, 3]))
        distribution = tfd.TransformedDistribution(base, maf.bijector(context))
        loss = -tf.reduce_mean(distribution.log_prob(normals(16, 3, seed=3)))
    assert all(g is not None and np.abs(g.numpy()).max() > 0 for g in tape.gradient(loss, maf.trainable_variables))
    assert np.isclose(loss, -np.mean(maf.log_prob(normals(16, 3, seed=3), context)), rtol=1e-5)


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_no_context_whatever_gives_a_draw_that_is_not_finite(size):
    maf = flow(dimensions=7, layers=8, size=1.0)
    context = normals(256, CONTEXT) * size
    x = maf.forward(normals(256, 7, seed=2), context)
    assert np.isfinite(x).all()
    assert not np.isnan(maf.log_prob(x, context)).any()


def test_log_scales_are_bounded():
    layer = conditioner(5)
    _, log_scale = layer(normals(64, 5) * 1e3, normals(64, CONTEXT) * 1e4)
    assert np.abs(log_scale).max() <= LOG_SCALE_LIMIT
    assert np.abs(log_scale).max() > 0.9 * LOG_SCALE_LIMIT


@pytest.mark.parametrize("shape", [(), (3,), (16,), (5, 3), (16, 16)])
def test_one_context_serves_many_draws(shape):
    """A context of lower rank broadcasts from the right, as everywhere; (16,) and (16, 16) are as long as a slice of hidden units."""
    maf = flow(dimensions=4)
    context = normals(6, CONTEXT, seed=2)
    u = normals(*shape, 6, 4)
    x = maf.forward(u, context)
    assert x.shape == u.shape
    each = np.stack([maf.forward(tf.reshape(u[..., i, :], (-1, 4)), context[i][None]).numpy().reshape(*shape, 4) for i in range(6)], -2)
    assert close(x, each, 1e-5)
    assert maf.log_prob(x, context).shape == (*shape, 6)


def test_layers_do_not_share_their_first_weights_and_seeds_repeat_them():
    def first(seed):
        return [v.numpy() for v in ConditionalMAF(3, CONTEXT, 2, (8,), seed=seed).trainable_variables if len(v.shape) == 2]

    assert all(np.array_equal(a, b) for a, b in zip(first(1), first(1), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first(1), first(2), strict=True))
    one, other = first(1)[:2], first(1)[4:6]
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("hidden", [(), (3,), (16, 3)])
def test_layers_too_narrow_for_the_dimensions_are_refused(hidden):
    with pytest.raises(ConfigError, match=r"a flow over 4 parameters needs hidden layers of at least 4 units"):
        ConditionalMAF(4, CONTEXT, 2, hidden)
