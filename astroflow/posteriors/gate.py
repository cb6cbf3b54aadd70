r"""The gate: how much of a fitted row's posterior is the network's own.

The linearised stage and the network are two approximations of one posterior, with different faults. The mixture of both,

.. math:: q(\theta) = \alpha\, q_\mathrm{network}(\theta) + (1 - \alpha)\, q_\mathrm{linearised}(\theta),

covers a hole of one by the other: a defensive mixture (Hesterberg 1995, https://doi.org/10.1080/00401706.1995.10484303) whose
share alpha is learned, galaxy by galaxy, by maximum likelihood of true parameters. For faint galaxies both are as good; for
bright ones the network's own is far too wide, and even a small share of it would show in standard deviations, so the share may
come close to nothing.
"""

__all__ = ["MOST", "Gate", "log_mixture"]

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from astroflow.types import Array

LEAST = 1e-4
"""The share stays between this and one minus this."""
FIRST = -2.0
"""The share's logit before training."""
HIDDEN = 32
MOST = 60.0
"""An advantage is limited to this, nats either way: one galaxy must not decide all."""


def log_mixture(share: Array, own: Array, linearized: Array) -> Array:
    """Log density of the mixture, from the log densities of the network's own, of that share, and of the linearised posterior."""
    return np.asarray(np.logaddexp(np.log(share) + own, np.log1p(-share) + linearized))


class Gate(keras.layers.Layer):
    """A small network from a fit's features to the share.

    Parameters
    ----------
    features : int
        How many.
    seed : int
        Seeds the initial weights.
    """

    def __init__(self, features: int, seed: int) -> None:
        super().__init__(name="gate")
        first = np.random.default_rng([seed, 13]).normal(size=(features, HIDDEN)) / np.sqrt(features)
        values = {"w0": first, "b0": np.zeros(HIDDEN), "w1": np.zeros((HIDDEN, 1)), "b1": np.full(1, FIRST)}
        for name, value in values.items():
            weight = self.add_weight(shape=value.shape, initializer=lambda s, dtype=None, v=value: tf.constant(v, tf.float32), name=name)
            setattr(self, name, weight)

    def call(self, features: Any) -> Any:
        """Return shares ``(N,)`` for standardised `features` ``(N, F)``."""
        logit = (tf.matmul(tf.nn.silu(tf.matmul(features, self.w0) + self.b0), self.w1) + self.b1)[:, 0]
        return LEAST + (1 - 2 * LEAST) * tf.sigmoid(logit)

    def log_gain(self, advantage: Any, features: Any) -> Any:
        """Log of the mixture's density over the linearised one ``(N,)``, where the network's own is ``exp(advantage)`` times that."""
        share = self(features)
        return tf.reduce_logsumexp(tf.stack([tf.math.log(share) + tf.clip_by_value(advantage, -MOST, MOST), tf.math.log1p(-share)]), 0)
