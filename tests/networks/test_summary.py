import numpy as np
import pytest
import tensorflow as tf

from astroflow.networks.summary import CLIP, Standardise, SummaryNetwork

SHAPES = {"image": (16, 16, 2), "psf": (9, 9, 1), "scalars": (3,)}
CHANNELS = {"image": (4, 8), "psf": (4,)}


def network(shapes=SHAPES, channels=CHANNELS, seed=0, **changes):
    options = {"blocks": 1, "dense": (12, 12), "context": 5} | changes
    return SummaryNetwork(shapes, channels, seed=seed, **options)


def arrays(shapes=SHAPES, n=6, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(n, *shape)).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "shapes",
    [
        SHAPES,
        {"x": (4,)},
        {"x": (1,)},
        {"picture": (20, 20, 1)},
        {"picture": (7, 13, 3), "a": (2,), "b": (5,)},
        # names that layers of the network have themselves
        {"context": (3,), "dense0": (2,), "join": (4,), "skip": (1,), "image": (8, 8, 1)},
    ],
    ids=lambda shapes: "-".join(shapes),
)
def test_arrays_of_any_names_and_shapes_become_one_context(shapes):
    channels = {name: (4, 8) for name, shape in shapes.items() if len(shape) == 3}
    context = network(shapes, channels)(arrays(shapes))
    assert context.shape == (6, 5)
    assert np.isfinite(context).all()
    assert len({tuple(row) for row in context.numpy().tolist()}) == 6


def test_blocks_may_differ_from_stage_to_stage():
    def blocks(number, channels=(8, 8, 8)):
        names = {layer.name for layer in network(blocks=number, channels=CHANNELS | {"image": channels}).model.layers}
        return [sum(f"image_stage{stage}_block{b}" in names for b in range(5)) for stage in range(len(channels))]

    assert blocks(2) == [2, 2, 2]
    assert blocks([0, 1]) == [0, 1, 1]
    assert blocks([0, 1, 3, 2]) == [0, 1, 3]
    assert blocks([2, 0], (8,)) == [2]


@pytest.mark.parametrize(("dense", "blocks"), [((), 0), ((12,), 0), ((12, 7, 7), 2)])
def test_any_depth_works(dense, blocks):
    assert network(dense=dense, blocks=blocks)(arrays()).shape == (6, 5)


@pytest.mark.parametrize("name", SHAPES)
def test_the_context_depends_on_every_number_of_every_input(name):
    summary = network()
    inputs = {key: tf.constant(value) for key, value in arrays().items()}
    with tf.GradientTape() as tape:
        tape.watch(inputs[name])
        context = summary(inputs)
    assert (np.abs(tape.batch_jacobian(context, inputs[name]).numpy()).max((0, 1)) > 0).all()


def test_order_of_the_inputs_does_not_matter_and_further_ones_are_ignored():
    summary, inputs = network(), arrays()
    turned = dict(reversed(inputs.items())) | {"theta": np.zeros(6)}
    assert np.array_equal(summary(inputs), summary(turned))
    again = SummaryNetwork(dict(reversed(SHAPES.items())), CHANNELS, 1, (12, 12), 5, seed=0)
    assert np.array_equal(again(inputs), summary(inputs))


def test_the_seed_fixes_the_first_weights():
    inputs = arrays()
    assert np.array_equal(network(seed=3)(inputs), network(seed=3)(inputs))
    assert not np.isclose(network(seed=3)(inputs), network(seed=4)(inputs)).all()
    kernels = [v.numpy() for v in network().model.trainable_variables if len(v.shape) > 1]
    assert all(k.std() > 0 for k in kernels)


@pytest.mark.parametrize("name", SHAPES)
def test_nan_is_not_swallowed(name):
    inputs = arrays()
    inputs[name][2].flat[0] = np.nan
    context = network()(inputs).numpy()
    assert np.isnan(context[2]).all()
    assert np.isfinite(np.delete(context, 2, 0)).all()


def test_inputs_are_standardised_in_any_unit():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 4, 4, 3)) * [1e-17, 1.0, 1e8] + [3e-17, -5.0, 2e8]
    layer = Standardise(3, "s")
    layer.adapt(values.astype(np.float32))
    out = layer(tf.constant(values, tf.float32)).numpy().reshape(-1, 3)
    assert np.allclose(out.mean(0), 0, atol=1e-3)
    assert np.allclose(out.std(0), 1, atol=1e-3)


def test_a_channel_that_never_changes_is_only_shifted():
    layer = Standardise(2, "s")
    layer.adapt(np.full((50, 2), [7.3, 0.0], np.float32))
    assert np.allclose(layer(tf.constant([[7.3, 0.0], [8.3, 2.0]])), [[0, 0], [1, 2]], atol=1e-5)


def test_the_unheard_of_is_limited():
    layer = Standardise(1, "s")
    layer.adapt(np.random.default_rng(0).normal(size=(100, 1)))
    assert np.abs(layer(tf.constant([[1e30], [-1e30]]))).max() == CLIP
    summary = network()
    assert np.abs(summary({name: value * 1e30 for name, value in arrays().items()})).max() < 1e4


def test_adapting_the_network_adapts_every_input():
    summary, inputs = network(), arrays(n=200)
    inputs["scalars"] = inputs["scalars"] * 30 + 100
    summary.adapt(inputs)
    assert np.allclose(summary.standardise["scalars"].mean, inputs["scalars"].mean(0), rtol=1e-4)
    assert np.allclose(summary.standardise["image"].scale, inputs["image"].std((0, 1, 2)), rtol=1e-4)
    assert not {v.path for v in summary.model.trainable_variables} & {v.path for s in summary.standardise.values() for v in s.variables}
