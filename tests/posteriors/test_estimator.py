import numpy as np
import pytest
import tensorflow as tf

from astroflow.networks.targets import box_bijector
from astroflow.posteriors.batches import BATCH
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import Architecture

SHAPES = {"image": (12, 12, 1), "scalars": (3,)}
BOUNDS = [(-2.0, 1.0), None, (0.0, 1e-3)]
ARCHITECTURE = Architecture.model_validate(
    {
        "summary": {"channels": {"image": (4, 8)}, "dense": (16, 16), "context": 6},
        "flow": {"layers": 3, "hidden": (16, 16)},
    }
)


def build(bounds=BOUNDS, shapes=SHAPES, auxiliary=("brightness",), seed=0, size=0.25):
    """An estimator with weights of the size that training gives them."""
    estimator = Estimator(ARCHITECTURE, shapes, box_bijector(bounds), len(bounds), auxiliary, seed)
    rng = np.random.default_rng(1)
    for v in estimator.trainable_variables:
        fan_in = int(np.prod(v.shape[:-1])) if len(v.shape) > 1 else 1
        v.assign_add(rng.normal(size=v.shape) * size / np.sqrt(fan_in))
    estimator.standardise.mean.assign(np.linspace(-0.3, 0.3, len(bounds)).astype(np.float32))
    estimator.standardise.scale.assign(np.linspace(0.5, 1.5, len(bounds)).astype(np.float32))
    return estimator


def arrays(n, seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(n, *shape)).astype(np.float32) for name, shape in shapes.items()}


def normals(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def estimator():
    return build()


@pytest.fixture(scope="module")
def many(estimator):
    """A hundred rows, more than one call of the network, with everything that the estimator says of them."""
    inputs, noise = arrays(100), normals(100, 7, 3)
    context, extra = estimator.encode(inputs)
    draws = estimator.sample(context, noise)
    return {
        "inputs": inputs,
        "noise": noise,
        "context": context,
        "extra": extra,
        "draws": draws,
        "log_prob": estimator.log_prob(draws, context),
    }


def test_everything_has_the_shapes_and_kinds_of_the_conventions(many):
    assert many["context"].shape == (100, 6)
    assert many["extra"]["brightness"].shape == (100,)
    assert many["draws"].shape == (100, 7, 3)
    assert many["log_prob"].shape == (100, 7)
    assert {many[name].dtype for name in ("context", "draws", "log_prob")} == {np.dtype(np.float32)}
    assert np.isfinite(many["draws"]).all()
    assert np.isfinite(many["log_prob"]).all()
    assert many["draws"].std(1).min() > 0
    assert np.median(many["draws"], 1).std(0).min() > 0


@pytest.mark.parametrize(
    "rows",
    [[0], [63], [64], [99], [5, 4, 3], list(range(99, -1, -1)), list(range(BATCH)), list(range(30, 100)), [99, 0, 99, 0]],
    ids=["first", "last of a call", "first of the next", "last", "three", "turned", "one call", "others gone", "twice"],
)
def test_a_row_gives_the_same_bits_alone_in_any_company_and_at_any_place(estimator, many, rows):
    context, extra = estimator.encode({name: value[rows] for name, value in many["inputs"].items()})
    assert np.array_equal(context, many["context"][rows])
    assert np.array_equal(extra["brightness"], many["extra"]["brightness"][rows])
    draws = estimator.sample(context, many["noise"][rows])
    assert np.array_equal(draws, many["draws"][rows])
    assert np.array_equal(estimator.log_prob(draws, context), many["log_prob"][rows])


@pytest.mark.parametrize("n_draws", [1, 5, 64])
def test_company_does_not_matter_for_any_number_of_draws(estimator, many, n_draws):
    noise = normals(100, n_draws, 3, seed=2)
    draws = estimator.sample(many["context"], noise)
    for row in (0, 37, 63, 64, 99):
        assert np.array_equal(estimator.sample(many["context"][row : row + 1], noise[row : row + 1])[0], draws[row])
    rows = np.random.default_rng(0).permutation(100)
    assert np.array_equal(estimator.sample(many["context"][rows], noise[rows]), draws[rows])
    assert np.array_equal(estimator.log_prob(draws[rows], many["context"][rows]), estimator.log_prob(draws, many["context"])[rows])


def test_the_first_draws_are_the_same_however_many_there_are(estimator, many):
    """Blocks of other widths are other compiled graphs; a catalog's draws that are made again are not to know."""
    noise, context = normals(3, 700, 3), many["context"][:3]
    every = estimator.sample(context, noise)
    for n_draws in (1, 64, 128, 256, 300):
        assert np.array_equal(estimator.sample(context, noise[:, :n_draws]), every[:, :n_draws]), n_draws


def test_no_rows_are_no_rows(estimator):
    context, extra = estimator.encode(arrays(0))
    assert context.shape == (0, 6)
    assert extra["brightness"].shape == (0,)
    assert estimator.sample(context, normals(0, 7, 3)).shape == (0, 7, 3)
    assert estimator.log_prob(normals(0, 7, 3), context).shape == (0, 7)


def test_it_is_the_tfp_distribution_that_it_hands_out(estimator, many):
    context = many["context"][:5]
    distribution = estimator.distribution(context)
    assert distribution.batch_shape == (5,)
    assert distribution.event_shape == (3,)
    theta = np.swapaxes(many["draws"][:5], 0, 1)  # TFP has draws first
    assert np.allclose(distribution.log_prob(tf.constant(theta)), many["log_prob"][:5].T, atol=2e-4)
    drawn = distribution.sample(4000, seed=1)
    assert drawn.shape == (4000, 5, 3)
    ours = estimator.sample(context, normals(5, 4000, 3))
    spread = ours.std(1)
    assert np.allclose(drawn.numpy().mean(0), ours.mean(1), atol=0.1 * spread.max(0))
    assert np.allclose(drawn.numpy().std(0), spread, rtol=0.15)
    assert np.allclose(distribution.log_prob(drawn).numpy().mean(0), estimator.log_prob(ours, context).mean(1), atol=0.1)


@pytest.mark.parametrize("bounds", [[(-2.0, 1.0), (0.0, 1e-3)], [(3.0, 3.5), (-1.0, 1.0)]])
def test_density_integrates_to_one_over_the_box(bounds):
    estimator = build(bounds, size=0.3)
    context, _ = estimator.encode(arrays(3))
    n = 512
    # the middles of cells, in the units of the box
    axes = [low + (np.arange(n) + 0.5) / n * (high - low) for low, high in bounds]
    cell = np.prod([(high - low) / n for low, high in bounds])
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(BATCH, -1, 2)
    for row in context:
        density = np.exp(estimator.log_prob(grid, np.tile(row, (BATCH, 1))).astype(np.float64))
        assert abs(density.sum() * cell - 1) < 5e-3


def test_density_is_that_of_the_draws():
    """By change of variables, entirely apart from `log_prob`: log p(x) = log p(u) - log |dx/du|."""
    estimator = build()
    context, _ = estimator.encode(arrays(8))
    noise = tf.constant(normals(8, 3))
    with tf.GradientTape() as tape:
        tape.watch(noise)
        draws = estimator.target.forward(estimator.flow.forward(noise, context) * estimator.standardise.scale + estimator.standardise.mean)
    jacobian = np.linalg.slogdet(tape.batch_jacobian(draws, noise).numpy().astype(np.float64)).logabsdet
    expected = -0.5 * (noise.numpy() ** 2).sum(-1) - 1.5 * np.log(2 * np.pi) - jacobian
    assert np.allclose(estimator.sample(context, noise.numpy()[:, None])[:, 0], draws, rtol=1e-4, atol=1e-6)
    assert np.allclose(estimator.log_prob(draws.numpy()[:, None], context)[:, 0], expected, atol=5e-3)


def test_no_draw_leaves_the_bounds_whatever_the_context(estimator):
    for size in (1.0, 1e3, 1e6):
        draws = estimator.sample(normals(64, 6) * np.float32(size), normals(64, 64, 3, seed=3) * 3)
        assert np.isfinite(draws).all()
        for k in (0, 2):
            assert draws[..., k].min() >= np.float32(BOUNDS[k][0])
            assert draws[..., k].max() <= np.float32(BOUNDS[k][1])


@pytest.mark.parametrize(
    "outside", [(1.1, 0, 5e-4), (-2.1, 0, 5e-4), (0, 0, -1e-6), (0, 0, 2e-3), (1e30, 0, 5e-4), (0, np.nan, 5e-4), (0, np.inf, 5e-4)]
)
def test_what_is_impossible_has_no_density(estimator, many, outside):
    theta = np.array([[outside, (0, 0, 5e-4)]], np.float32)
    log_prob = estimator.log_prob(theta, many["context"][:1])[0]
    assert log_prob[0] == -np.inf
    assert np.isfinite(log_prob[1])


def test_no_variable_is_lost(estimator):
    # two convolutions of a stage's blocks and one between stages; two dense layers and the context's; three flow layers of nine; the head's four
    expected = 2 * (2 * 3) + 2 * 3 + 3 * 9 + 4
    assert len(estimator.trainable_variables) == expected
    frozen = {"standardise_image/mean", "standardise_image/scale", "standardise_scalars/mean", "standardise_scalars/scale"}
    frozen |= {"target/mean", "target/scale", "auxiliary/mean", "auxiliary/scale"}
    assert len(estimator.variables) == expected + len(frozen)
    assert frozen <= set(estimator.variables)
    trainable = {id(v) for v in estimator.trainable_variables}
    assert {name for name, v in estimator.variables.items() if id(v) not in trainable} == frozen
    with tf.GradientTape() as tape:
        inputs = {name: tf.constant(value) for name, value in arrays(16).items()}
        context = estimator.summary(inputs)
        theta = tf.constant(np.random.default_rng(0).uniform([-2, -1, 0], [1, 1, 1e-3], (16, 3)), tf.float32)
        loss = -tf.reduce_mean(estimator.log_prob_graph(theta, context)) + tf.reduce_mean(estimator.head(context) ** 2)
    for variable, gradient in zip(estimator.trainable_variables, tape.gradient(loss, estimator.trainable_variables), strict=True):
        assert gradient is not None, variable.path
        assert np.abs(gradient.numpy()).max() > 0, variable.path


def test_the_auxiliary_head_sends_no_gradient_into_the_context(estimator):
    with tf.GradientTape() as tape:
        context = estimator.summary({name: tf.constant(value) for name, value in arrays(16).items()})
        loss = tf.reduce_mean((estimator.head(context) - 1.0) ** 2)
    gradients = tape.gradient(loss, [*estimator.summary.model.trainable_variables, *estimator.head.trainable_variables])
    assert all(g is None for g in gradients[:-4])
    assert all(np.abs(g.numpy()).max() > 0 for g in gradients[-4:])


def test_names_of_the_variables_depend_on_the_architecture_alone():
    assert list(build(seed=0).variables) == list(build(seed=5).variables)
    assert all(np.array_equal(a, b) for a, b in zip(build(seed=3).variables.values(), build(seed=3).variables.values(), strict=True))


def test_adapting_measures_inputs_target_and_auxiliary():
    estimator = build()
    rng = np.random.default_rng(0)
    inputs = arrays(400)
    inputs["scalars"] = inputs["scalars"] * 4 + 2
    theta = np.stack([rng.uniform(-2, 1, 400), rng.normal(5e-9, 1e-9, 400), rng.uniform(0, 1e-3, 400)], -1).astype(np.float32)
    estimator.adapt(inputs, theta, rng.normal(7, 3, (400, 1)))
    real = estimator.target.inverse(tf.constant(theta)).numpy()
    assert np.allclose(estimator.standardise.mean, real.mean(0), rtol=1e-3, atol=1e-12)
    assert np.allclose(estimator.standardise.scale, real.std(0), rtol=1e-3)
    assert np.isclose(estimator.standardise.scale.numpy()[1], 1e-9, rtol=0.1), "small units are units too"
    assert np.allclose((estimator.head.mean, estimator.head.scale), [[7], [3]], atol=0.5)
    assert np.allclose(estimator.summary.standardise["scalars"].scale, 4, rtol=0.1)


def test_an_estimator_without_auxiliaries_has_none():
    estimator = build(auxiliary=())
    _, extra = estimator.encode(arrays(3))
    assert extra == {}
    assert estimator.head is None


SPLINES = {"layers": 1, "bins": 4, "bound": 4.0}
KINDS = [{"kind": "spline_maf", **SPLINES}, {"kind": "spline_coupling", **SPLINES}, {"kind": "mixture", "components": 3}]


@pytest.mark.parametrize("flow", KINDS, ids=lambda flow: flow["kind"])
def test_a_flow_of_another_kind_works_like_any_other(flow):
    """Company, bounds, densities and weights, through the compiled sampler."""
    summary = {"channels": {}, "dense": (8,), "context": 4}
    architecture = Architecture.model_validate({"summary": summary, "flow": flow | {"hidden": (8,)}})
    estimator, other = (Estimator(architecture, {"scalars": (3,)}, box_bijector(BOUNDS[:2]), 2, (), seed) for seed in (1, 2))
    rng = np.random.default_rng(1)
    for v in estimator.flow.trainable_variables:
        v.assign_add(0.3 * rng.normal(size=v.shape))
    context, _ = estimator.encode(arrays(70, shapes={"scalars": (3,)}))
    noise = normals(70, 5, 2)
    draws = estimator.sample(context, noise)
    assert np.array_equal(estimator.sample(context[[3, 69]], noise[[3, 69]]), draws[[3, 69]])
    wide = normals(3, 300, 2)
    assert np.array_equal(estimator.sample(context[:3], wide)[:, :60], estimator.sample(context[:3], wide[:, :60]))
    assert np.isfinite(draws).all()
    assert (np.abs(draws[..., 0] + 0.5) < 1.5).all()
    assert np.isfinite(estimator.sample(1e6 * context, 3 * noise)).all()
    jitless = estimator.target.forward(estimator.flow.forward(noise, context[:, None]))
    assert np.allclose(draws, jitless, atol=1e-4)
    expected = estimator.distribution(context).log_prob(np.swapaxes(draws, 0, 1)).numpy().T
    assert np.allclose(estimator.log_prob(draws, context), expected, atol=1e-3)
    outside = np.full((70, 1, 2), 1.5, np.float32)
    assert (estimator.log_prob(outside, context) == -np.inf).all()
    assert list(other.variables) == list(estimator.variables)
    for name, variable in other.variables.items():
        variable.assign(estimator.variables[name])
    assert np.array_equal(other.log_prob(draws, context), estimator.log_prob(draws, context))
