"""What every kind of flow promises, whatever it is made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import distributions as tfd

from astroflow.networks.flow_kinds import FLOWS, build_flow

CONTEXT = 4
SPLINES = ("spline_maf", "spline_coupling")
BOUND = 4.0
SIZE = {"maf": 0.5, "spline_maf": 0.3, "spline_coupling": 0.15, "mixture": 0.5}
"""Of weights, such that the layers together contract by some nats: more would be lost to float32 in any flow."""


def normals(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def new(kind, dimensions, layers=3, hidden=(16, 16), seed=1, bins=5):
    options = {"components": 4} if kind == "mixture" else {"layers": layers}
    options |= {"bins": bins, "bound": BOUND} if kind in SPLINES else {}
    return build_flow(kind, dimensions=dimensions, context=CONTEXT, seed=seed, hidden=hidden, **options)


def trained(flow, size, seed=1):
    """Give weights the size that training gives them: they start so small that any error would hide."""
    rng = np.random.default_rng(seed)
    for v in flow.trainable_variables:
        fan_in = v.shape[0] if len(v.shape) == 2 else 1
        v.assign_add(rng.normal(size=v.shape) * size / np.sqrt(fan_in))
    return flow


def close(one, other, tolerance):
    """Agree to `tolerance` of the other's scale in each dimension."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    scale = np.maximum(np.abs(other).max(tuple(range(other.ndim - 1))), 1.0)
    return (np.abs(one - other) <= tolerance * scale).all()


@pytest.fixture(params=FLOWS)
def kind(request):
    return request.param


def test_density_of_a_1d_flow_integrates_to_one_and_depends_on_the_context(kind):
    flow = trained(new(kind, 1), SIZE[kind])
    edge, n = (80, 40001) if kind == "maf" else (12, 4001)
    x = np.linspace(-edge, edge, n)[:, None]
    one, other = (np.exp(flow.log_prob(tf.constant(x, tf.float32), normals(CONTEXT, seed=k)).numpy().astype(np.float64)) for k in (0, 7))
    assert abs(one.sum() * (x[1, 0] - x[0, 0]) - 1) < 1e-3
    assert np.abs(one - other).max() > 0.01


def test_density_of_a_2d_flow_integrates_to_one(kind):
    flow = trained(new(kind, 2, layers=2), SIZE[kind])
    reach, n = {"maf": ((8, 30), 501), "mixture": ((12, 12), 501)}.get(kind, ((6, 6), 301))
    x, y = (np.linspace(-edge, edge, n) for edge in reach)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)
    density = np.exp(flow.log_prob(tf.constant(grid), normals(CONTEXT)).numpy().astype(np.float64))
    assert abs(density.sum() * (x[1] - x[0]) * (y[1] - y[0]) - 1) < 2e-3
    # and it is no standard normal, whose integral would be one as well
    assert np.abs(density - np.exp(-0.5 * (grid**2).sum(-1)) / (2 * np.pi)).max() > 0.05


@pytest.mark.parametrize(("dimensions", "hidden"), [(1, (16,)), (2, (16,)), (3, (7, 32, 9)), (7, (7, 32, 9))])
def test_drawing_undoes_density_evaluation(kind, dimensions, hidden):
    flow = trained(new(kind, dimensions, hidden=hidden), SIZE[kind])
    u, context = normals(64, dimensions), normals(64, CONTEXT, seed=2)
    x = flow.forward(u, context)
    assert np.abs(x - u).max() > 0.5
    assert close(flow.inverse(x, context)[0], u, 2e-4)


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_density_is_that_of_the_draws_by_change_of_variables(kind, dimensions):
    flow = trained(new(kind, dimensions, layers=2), SIZE[kind])
    u, context = normals(32, dimensions), normals(32, CONTEXT, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(u)
        x = flow.forward(u, context)
    log_det = np.linalg.slogdet(tape.batch_jacobian(x, u, experimental_use_pfor=False).numpy().astype(np.float64)).logabsdet
    assert np.abs(log_det).max() > 0.1
    expected = stats.norm.logpdf(u.numpy()).sum(-1) - log_det
    assert np.allclose(flow.log_prob(tf.constant(x.numpy()), context), expected, atol=5e-3)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_it_is_the_bijector_that_it_hands_out(kind, dimensions):
    flow = trained(new(kind, dimensions), SIZE[kind])
    u, context = normals(32, dimensions), normals(32, CONTEXT, seed=2)
    x = flow.forward(u, context)
    _, log_det = flow.inverse(x, context)
    bijector = flow.bijector(context)
    assert close(bijector.forward(u), x, 1e-4)
    fresh = tf.constant(x.numpy())  # a TFP bijector would answer from its cache
    assert close(bijector.inverse(fresh), u, 2e-4)
    assert np.allclose(bijector.inverse_log_det_jacobian(tf.constant(x.numpy()), 1), log_det, atol=1e-3)
    assert np.allclose(flow.bijector(context).forward_log_det_jacobian(u, 1), -log_det, atol=2e-2)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_every_variable_is_counted_and_learns(kind, dimensions):
    flow = trained(new(kind, dimensions, layers=3, hidden=(16, 16)), SIZE[kind])
    # kernel, context kernel and bias of two hidden layers and an output layer, in each network
    expected = {"maf": 3 * 9, "spline_maf": 3 * 9, "spline_coupling": 6 * 9, "mixture": 8}[kind]
    if kind == "spline_coupling" and dimensions == 1:
        expected = 3 * 8  # one network a layer, which sees the context alone
    assert len(flow.trainable_variables) == expected
    assert sum(len(part.trainable_variables) for part in flow.conditioners) == expected
    assert len({v.path for v in flow.trainable_variables}) == expected
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(flow.log_prob(normals(64, dimensions), normals(64, CONTEXT, seed=2)))
    for variable, gradient in zip(flow.trainable_variables, tape.gradient(loss, flow.trainable_variables), strict=True):
        if "maf" in kind and dimensions == 1 and variable.name.startswith("x"):
            continue  # there is nothing before the first dimension
        assert gradient is not None, variable.path
        assert np.abs(gradient.numpy()).max() > 0, variable.path


def test_gradients_reach_the_variables_through_the_tfp_distribution_too(kind):
    flow, context = trained(new(kind, 3), SIZE[kind]), normals(16, CONTEXT)
    with tf.GradientTape() as tape:
        distribution = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(loc=tf.zeros([16, 3])), flow.bijector(context))
        loss = -tf.reduce_mean(distribution.log_prob(normals(16, 3, seed=3)))
    assert all(g is not None and np.abs(g.numpy()).max() > 0 for g in tape.gradient(loss, flow.trainable_variables))
    assert np.isclose(loss, -np.mean(flow.log_prob(normals(16, 3, seed=3), context)), rtol=1e-4)


def test_no_context_whatever_gives_a_draw_or_a_gradient_that_is_not_finite(kind):
    flow = trained(new(kind, 5, layers=3), 1.0)
    sizes = np.repeat([1.0, 1e3, 1e6], 64)[:, None].astype(np.float32)
    context = normals(192, CONTEXT) * sizes
    x = flow.forward(3 * normals(192, 5, seed=2), context)
    assert np.isfinite(x).all()
    assert not np.isnan(flow.log_prob(x, context)).any()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(flow.log_prob(3 * normals(192, 5, seed=3), context / sizes))
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, flow.trainable_variables))


@pytest.mark.parametrize("shape", [(), (16, 2)])
def test_one_context_serves_many_draws(kind, shape):
    """A context of lower rank broadcasts from the right, as everywhere; (16, 2) is as long as a slice of hidden units."""
    flow = trained(new(kind, 4, layers=2), SIZE[kind])
    context, u = normals(6, CONTEXT, seed=2), normals(*shape, 6, 4)
    x = flow.forward(u, context)
    assert x.shape == u.shape
    each = np.stack([flow.forward(tf.reshape(u[..., i, :], (-1, 4)), context[i][None]).numpy().reshape(*shape, 4) for i in range(6)], -2)
    assert close(x, each, 1e-4)
    assert flow.log_prob(x, context).shape == (*shape, 6)


def test_an_objects_draws_do_not_depend_on_its_company(kind):
    flow = trained(new(kind, 3, layers=1), SIZE[kind])
    u, context = normals(5, 8, 3), normals(5, CONTEXT, seed=2)
    draws = flow.draw(u, context).numpy()
    assert close(draws, flow.forward(u, context[:, None]), 1e-4)
    for rows in ([3], [4, 3]):
        assert np.array_equal(flow.draw(tf.gather(u, rows), tf.gather(context, rows)), draws[rows])


@pytest.mark.parametrize("dimensions", [1, 4])
def test_a_new_flow_is_close_to_the_identity(kind, dimensions):
    flow = new(kind, dimensions, layers=5)
    u = normals(200, dimensions)
    moved = np.abs(flow.forward(u, normals(200, CONTEXT, seed=2)) - u)  # five layers: their order is reversed four times
    assert moved.max() < 0.5
    assert moved.mean() < 0.1


def test_layers_do_not_share_their_first_weights_and_seeds_repeat_them(kind):
    def first(seed):
        return [v.numpy() for v in new(kind, 3, seed=seed).trainable_variables if len(v.shape) == 2]

    assert all(np.array_equal(a, b) for a, b in zip(first(1), first(1), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first(1), first(2), strict=True))
    if kind == "mixture":
        return  # its one network has no layer twice
    one, other = first(1)[1], first(1)[7]
    assert one.shape == other.shape
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", SPLINES)
def test_beyond_the_bound_a_spline_flow_is_the_identity(kind):
    flow = trained(new(kind, 2, layers=3), 1.0)
    u = np.array([[9.0, -7.0], [-BOUND, 4.5], [1e4, BOUND]], np.float32)
    x = flow.forward(tf.constant(u), normals(3, CONTEXT)).numpy()
    assert np.array_equal(x, u)
    assert np.allclose(flow.log_prob(tf.constant(u), normals(3, CONTEXT)), stats.norm.logpdf(u).sum(-1), rtol=1e-6)
    inside = flow.forward(normals(500, 2), normals(500, CONTEXT, seed=2))
    assert np.abs(inside).max() <= max(BOUND, np.abs(normals(500, 2)).max())


def bimodal(n, rng):
    """A pair of peaks whose distance the context says, and a skewed second dimension that depends on the peak."""
    side, half = rng.choice([-1.0, 1.0], n), rng.uniform(0.8, 1.4, n)
    x = side * half + 0.2 * rng.normal(size=n)
    y = rng.gamma(1.5, 0.7, n) - 1 + 0.4 * side
    context = np.zeros((n, CONTEXT))
    context[:, 0] = (half - 1.1) / 0.17
    log_density = np.log(0.5 * sum(stats.norm.pdf(x, s * half, 0.2) * stats.gamma.pdf(y + 1 - 0.4 * s, 1.5, scale=0.7) for s in (-1, 1)))
    return np.stack([x, y], -1).astype(np.float32), context.astype(np.float32), log_density


def test_splines_and_mixtures_fit_two_peaks_and_a_skew_that_an_affine_flow_does_not():
    """Kullback-Leibler divergence from the truth, in nats, after the same short training."""
    x, context, _ = bimodal(4096, np.random.default_rng(0))
    held_x, held_context, truth = bimodal(4000, np.random.default_rng(1))
    divergence = {}
    for kind in FLOWS:
        flow = new(kind, 2, layers=1, hidden=(24,), bins=8)
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-2, 150))
        optimizer.build(flow.trainable_variables)

        @tf.function
        def step(x, context, flow=flow, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(flow.log_prob(x, context))
            optimizer.apply(tape.gradient(loss, flow.trainable_variables), flow.trainable_variables)

        for k in range(150):
            rows = np.random.default_rng(k).integers(0, len(x), 512)
            step(tf.constant(x[rows]), tf.constant(context[rows]))
        divergence[kind] = float(np.mean(truth - flow.log_prob(held_x, held_context).numpy()))
    assert divergence["maf"] > 0.3
    assert divergence["spline_maf"] < 0.25 * divergence["maf"]
    assert divergence["spline_coupling"] < 0.25 * divergence["maf"]
    assert divergence["mixture"] < 0.25 * divergence["maf"]
