"""The network that all flows have in common: dense layers that see the context at every level, some connections masked away.

A conditioner turns the dimensions that a flow layer leaves alone, or has already computed, and the context into the raw parameters of
an elementwise transform (`elementwise.py`, `spline.py`). Which unit may see which is said by masks: those of an autoregressive
conditioner are in `masked.py`, a coupling conditioner has none (`coupling.py`), and that of a mixture sees the context alone
(`mixture_density.py`).

The last layer starts small, so that a new flow is close to the identity. Activations are smooth (SiLU).

Densities are computed with units last, as everywhere. The samplers keep arrays units first, so that slices of units are contiguous and
the draws of one image lie side by side.
"""

__all__ = ["Conditioner", "units_first", "units_last"]

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

FIRST_OUTPUTS = 0.01
"""Scale of the initial weights of the last layer, relative to those of the others."""


class Conditioner(keras.layers.Layer):
    """Dense network from ``(x, context)`` to a vector.

    Parameters
    ----------
    masks : sequence of ndarray
        For each layer, which of its inputs (rows) each of its units (columns) sees, bool. With no rows the layer sees the context alone.
    context : int
        Length of the context vector.
    seed : int
        Seeds the initial weights.
    residual : bool
        Add a hidden layer's inputs to its outputs where there are as many.
    """

    def __init__(self, masks: Sequence[np.ndarray], context: int, seed: int, name: str, residual: bool = False) -> None:
        super().__init__(name=name)
        self.residual = residual
        self.masks = [None if m.all() else tf.constant(m, tf.float32) for m in masks]
        self.weights_x, self.weights_c, self.biases = [], [], []
        for k, mask in enumerate(masks):
            scale = FIRST_OUTPUTS if k == len(masks) - 1 else 1.0
            fan_in = np.maximum(mask.sum(0, keepdims=True), 1)
            rng = np.random.default_rng([seed, k])
            values = rng.normal(size=mask.shape) * mask * scale / np.sqrt(fan_in)
            values_c = rng.normal(size=(context, mask.shape[1])) * scale / np.sqrt(context)
            self.weights_x.append(self._weight(values, f"x{k}") if len(mask) else None)
            self.weights_c.append(self._weight(values_c, f"context{k}"))
            self.biases.append(self._weight(np.zeros(mask.shape[1]), f"bias{k}"))

    def _weight(self, value: np.ndarray, name: str) -> Any:
        return self.add_weight(shape=value.shape, initializer=lambda shape, dtype=None: tf.constant(value, tf.float32), name=name)

    def kernels(self) -> list[Any]:
        """Return each layer's masked weights ``(inputs, units)``; None where there are no inputs."""
        return [wx if mask is None else wx * mask for wx, mask in zip(self.weights_x, self.masks, strict=True)]

    def call(self, x: Any, context: Any) -> Any:
        """Return outputs ``(..., outputs)`` from `x` ``(..., inputs)`` and `context` ``(..., C)``, which broadcast."""
        kernels, last = self.kernels(), len(self.biases) - 1

        def units(k: int, seen: Any) -> Any:
            share = tf.tensordot(context, self.weights_c[k], 1)
            return (share if kernels[k] is None else tf.tensordot(seen, kernels[k], 1) + share) + self.biases[k]

        h = x
        for k in range(last):
            y = tf.nn.silu(units(k, h))
            h = h + y if self.residual and k > 0 and h.shape[-1] == y.shape[-1] else y
        return units(last, h)

    def shares(self, context: Any) -> list[Any]:
        """Return the context's share of every unit ``(units, ...)`` of each layer, for `context` ``(C, ...)``."""
        column = (slice(None), *(None,) * (context.shape.rank - 1))
        return [tf.tensordot(wc, context, [[0], [0]]) + b[column] for wc, b in zip(self.weights_c, self.biases, strict=True)]


def units_first(u: Any, context: Any) -> tuple[Any, Any]:
    """Return base draws ``(..., D)`` and contexts ``(..., C)`` units first, a context of lower rank filled up so that axes line up."""
    u, context = tf.convert_to_tensor(u), tf.convert_to_tensor(context)
    return _first(u), _first(context[(None,) * (u.shape.rank - context.shape.rank) + (...,)])


def _first(x: Any) -> Any:
    rank = x.shape.rank
    return tf.transpose(x, [rank - 1, *range(rank - 1)])


def units_last(x: Any) -> Any:
    """Return `x` ``(D, ...)`` as ``(..., D)``."""
    return tf.transpose(x, [*range(1, x.shape.rank), 0])
