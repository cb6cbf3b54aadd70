"""What every conditional flow can do: the one interface that estimators know.

A flow maps base normals ``u`` to a target ``x`` at unit scale on the real line, given a context. Its layers are bounded, so no draw is
ever infinite, and it starts near the identity. `forward` draws, `inverse` is one network pass per layer and gives densities,
`bijector` is the same for TensorFlow Probability.
"""

__all__ = ["ConditionalFlow"]

from abc import abstractmethod
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.networks.conditioner import Conditioner


class ConditionalFlow(keras.layers.Layer):
    """A conditional normalizing flow; subclasses say what its layers are.

    Parameters
    ----------
    dimensions : int
        Length of the target, D.
    conditioners : list of Conditioner
        The networks, which hold all trainable variables; their names are unique.
    """

    def __init__(self, dimensions: int, conditioners: list[Conditioner]) -> None:
        super().__init__(name="flow")
        self.dimensions = dimensions
        self.conditioners = conditioners

    @abstractmethod
    def bijector(self, context: Any) -> tfb.Bijector:
        """Return the map from base normals ``(..., D)`` to the target's real line, for contexts ``(..., C)``."""

    @abstractmethod
    def forward(self, u: Any, context: Any) -> Any:
        """Map base normals ``(..., D)`` to the real line without TFP bookkeeping: the same numbers as ``bijector(context).forward(u)``."""

    @abstractmethod
    def inverse(self, x: Any, context: Any) -> tuple[Any, Any]:
        """Map targets ``(..., D)`` to base normals; return them and ``log |du/dx|`` ``(...)``."""

    def draw(self, u: Any, context: Any) -> Any:
        """Map base normals ``(N, S, D)`` to the real line for contexts ``(N, C)``, one image after the other.

        All units of one image's draws fit into a core's cache, which is what makes this the fast way, compiled or not; and what one
        image gets cannot depend on its neighbours. One core works at it; for more, call it for parts of a batch side by side.
        """
        spec = tf.TensorSpec(u.shape[1:], tf.float32)
        return tf.map_fn(lambda pair: self.forward(pair[0], pair[1][None]), (u, context), fn_output_signature=spec)

    def log_prob(self, x: Any, context: Any) -> Any:
        """Log density of `x` ``(..., D)`` on the real line, one pass per layer; ``(...)``."""
        u, log_det = self.inverse(x, context)
        return log_det - 0.5 * tf.reduce_sum(u**2 + float(np.log(2 * np.pi)), -1)
