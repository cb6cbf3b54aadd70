"""Dense products: the right ones, and each row's own business."""

import numpy as np
import pytest
import tensorflow as tf

from astroflow.networks.dense import Dense, affine

SHAPES = [(64, 1376, 64), (64, 2560, 256), (64, 33, 7), (48, 700, 130)]


@pytest.fixture(params=SHAPES, ids=str)
def given(request):
    rows, inputs, units = request.param
    rng = np.random.default_rng(1)
    shapes = ((rows, inputs), (inputs, units), (units,))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def test_it_is_the_product(given):
    x, kernel, bias = given
    exact = x.astype(np.float64) @ kernel.astype(np.float64) + bias
    np.testing.assert_allclose(affine(*given), exact, atol=1e-5 * np.abs(exact).max())


def test_a_row_has_the_same_bits_at_any_place(given):
    x, kernel, bias = given
    found = affine(*given).numpy()
    for order in (np.arange(len(x))[::-1], np.random.default_rng(2).permutation(len(x))):
        np.testing.assert_array_equal(affine(x[order], kernel, bias), found[order])
    # one row everywhere, next to the edges of whatever blocks the product is cut into
    same = affine(np.repeat(x[:1], len(x), 0), kernel, bias).numpy()
    np.testing.assert_array_equal(same, np.repeat(found[:1], len(x), 0))


def test_the_layer_is_keras_own_but_for_rounding(given):
    x, kernel, bias = given
    layer = Dense(kernel.shape[1], activation="silu", name="dense")
    layer.build(x.shape)
    layer.set_weights([kernel, bias])
    expected = tf.nn.silu(x @ kernel + bias)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5 * float(tf.reduce_max(expected)))
