import numpy as np
import tensorflow as tf

from astroflow.sims.fourier.xla import settled


@tf.function(jit_compile=True, autograph=False)
def compiled(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = settled(x * x)
    return value, tape.gradient(value, x)


def test_what_is_settled_is_unchanged_and_has_its_gradient():
    value, gradient = compiled(tf.constant([1.5, -2.0, 1e20]))
    np.testing.assert_array_equal(value, np.float32([2.25, 4.0, np.inf]))
    np.testing.assert_array_equal(gradient, np.float32([3.0, -4.0, 2e20]))


def test_an_overflow_becomes_no_number():
    assert np.isnan(compiled(tf.constant([1e20, 1.0]))[0]).all()
