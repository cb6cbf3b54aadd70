"""Dense products whose rows do not depend on each other.

TensorFlow hands a matrix product to a library that cuts it up by the number of rows and of threads. On some processors a row's last
bits then depend on its place in the batch. Compiled, the product is the same for every row, on any number of threads.
"""

__all__ = ["Dense", "affine"]

from typing import Any

import keras
import tensorflow as tf


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
def affine(x: Any, kernel: Any, bias: Any) -> Any:
    """Return ``x @ kernel + bias`` for `x` ``(N, inputs)``, `kernel` ``(inputs, units)`` and `bias` ``(units,)``."""
    return tf.matmul(x, kernel) + bias


class Dense(keras.layers.Dense):
    """A dense layer by `affine`; takes and keeps what Keras' own does."""

    def call(self, x: Any, training: Any = None) -> Any:
        """Return outputs ``(N, units)``."""
        return self.activation(affine(x, *map(tf.convert_to_tensor, (self.kernel, self.bias))))
