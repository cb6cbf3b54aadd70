"""The masked conditioner (MADE) of autoregressive flows, with a sampler that computes each unit once.

A unit of degree ``d`` sees the first ``d`` inputs, and the outputs of dimension ``i`` see units of degree up to ``i``: so the raw
parameters of dimension ``i`` depend on the dimensions before it and on the context. Given all of ``x`` they are one pass.

Sampling seems to need one pass per dimension, but with the units sorted by degree, step ``i`` only needs the slice of units whose
degree became computable, and the context's share of every unit is computed once per image: about one pass in all.

References
----------
Germain et al. 2015, https://arxiv.org/abs/1502.03509
"""

__all__ = ["MaskedConditioner"]

from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from astroflow.errors import ConfigError
from astroflow.networks.conditioner import Conditioner
from astroflow.networks.elementwise import ElementwiseTransform


class MaskedConditioner(Conditioner):
    """Masked dense network from ``(x, context)`` to the raw parameters of each dimension.

    Parameters
    ----------
    dimensions : int
        Number of dimensions, D.
    outputs : int
        Raw parameters of each dimension, K.
    hidden : tuple of int
        Units of each hidden layer; each must be at least D.
    context : int
        Length of the context vector.
    seed : int
        Seeds the initial weights.

    Raises
    ------
    ConfigError
        If a hidden layer is narrower than the number of dimensions, or there is none.
    """

    def __init__(self, dimensions: int, outputs: int, hidden: tuple[int, ...], context: int, seed: int, name: str) -> None:
        if not hidden or min(hidden) < dimensions:
            raise ConfigError(f"a flow over {dimensions} parameters needs hidden layers of at least {dimensions} units; got {list(hidden)}")
        # degrees 0 .. D-1, sorted: units of degree d occupy bounds[d] .. bounds[d + 1]
        degrees = [np.arange(units) * dimensions // units for units in hidden]
        inputs = [np.arange(1, dimensions + 1), *degrees]
        masks = [a[:, None] <= b[None, :] for a, b in pairwise(inputs)]
        masks.append(np.repeat(degrees[-1][:, None] <= np.arange(dimensions)[None, :], outputs, axis=1))
        super().__init__(masks, context, seed, name)
        self.dimensions = dimensions
        self.outputs = outputs
        self.bounds = [np.searchsorted(d, np.arange(dimensions + 1)).tolist() for d in degrees]

    def call(self, x: Any, context: Any) -> Any:
        """Return raw parameters ``(..., D, K)`` of `x` ``(..., D)``; `context` ``(..., C)`` broadcasts against it."""
        flat = super().call(x, context)
        return tf.reshape(flat, tf.concat([tf.shape(flat)[:-1], [self.dimensions, self.outputs]], 0))

    def sample(self, u: Any, context: Any, transform: ElementwiseTransform) -> Any:
        """Map base draws `u` ``(D, ...)`` to ``x`` ``(D, ...)``, each unit computed once, given `context` ``(C, ...)``."""
        batch = tf.shape(u)[1:]
        u_rows = tf.unstack(u, self.dimensions, axis=0)
        kernels = [tf.transpose(kernel) for kernel in self.kernels()]  # (units, inputs)
        shares = self.shares(context)  # once per context, not per draw

        def units(k: int, start: int, stop: int, seen: list[Any]) -> Any:
            """Units `start` to `stop` of layer k, from the units of the layer below that they see."""
            share = shares[k][start:stop]
            if not seen:
                return tf.broadcast_to(share, tf.concat([[stop - start], batch], 0))
            below = tf.concat(seen, 0)
            inputs = sum(part.shape[0] for part in seen)
            value = tf.matmul(kernels[k][start:stop, :inputs], below)
            return tf.reshape(value, tf.concat([[stop - start], batch], 0)) + share

        x: list[Any] = []
        hidden: list[list[Any]] = [[] for _ in self.bounds]  # computed slices of each layer, flattened over the batch
        for i in range(self.dimensions):
            seen = [tf.reshape(value, [1, -1]) for value in x]
            for k, bounds in enumerate(self.bounds):
                slice_ = _silu(units(k, bounds[i], bounds[i + 1], seen))
                hidden[k].append(tf.reshape(slice_, [bounds[i + 1] - bounds[i], -1]))
                seen = hidden[k]
            x.append(transform.forward(u_rows[i], units(len(self.bounds), self.outputs * i, self.outputs * (i + 1), seen)))
        return tf.stack(x, 0)


def _silu(x: Any) -> Any:
    # the same function as tf.nn.silu, in the form that compiles to the fewest instructions
    half = 0.5 * x
    return half + half * tf.tanh(half)
