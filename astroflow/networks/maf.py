r"""The conditional masked autoregressive flow (MAF), with a sampler that costs one network pass.

A layer maps ``u`` to ``x``, one dimension after the other, given a context ``c``:

.. math:: x_i = u_i \exp(s_i) + m_i, \qquad (m_i, s_i) = f_i(x_{<i}, c).

The conditioner ``f`` is a masked dense network (MADE): a unit of degree ``d`` sees the first ``d`` inputs, output ``i`` sees
units of degree below ``i``. Density evaluation is one pass. Sampling seems to need one pass per dimension, but with the
units sorted by degree, step ``i`` only needs the slice of units whose degree became computable, and the context's share of every
unit is computed once per image: about one pass in all. Arrays are kept units first, so that slices are contiguous.

Log-scales are bounded by ``limit * tanh(s / limit)`` and activations are smooth: no draw is ever infinite.

References
----------
Papamakarios, Pavlakou & Murray 2017, https://arxiv.org/abs/1705.07057; Germain et al. 2015, https://arxiv.org/abs/1502.03509
"""

__all__ = ["ConditionalMAF", "MaskedConditioner"]

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError

LOG_SCALE_LIMIT = 4.0


class MaskedConditioner(keras.layers.Layer):
    """Masked dense network from ``(x, context)`` to a shift and a bounded log-scale for each dimension.

    Parameters
    ----------
    dimensions : int
        Number of dimensions, D.
    hidden : tuple of int
        Units of each hidden layer; each must be at least D.
    context : int
        Length of the context vector.
    seed : int
        Seeds the initial weights.
    """

    def __init__(self, dimensions: int, hidden: tuple[int, ...], context: int, seed: int, name: str) -> None:
        super().__init__(name=name)
        if not hidden or min(hidden) < dimensions:
            raise ConfigError(f"a flow over {dimensions} parameters needs hidden layers of at least {dimensions} units; got {list(hidden)}")
        self.dimensions = dimensions
        # degrees 0 .. D-1, sorted: units of degree d occupy bounds[d] .. bounds[d + 1]
        degrees = [np.arange(units) * dimensions // units for units in hidden]
        self.bounds = [np.searchsorted(d, np.arange(dimensions + 1)).tolist() for d in degrees]
        inputs = [np.arange(1, dimensions + 1), *degrees]
        masks = [(a[:, None] <= b[None, :]) for a, b in pairwise(inputs)]
        out_degree = np.arange(dimensions)
        masks.append(np.repeat(degrees[-1][:, None] <= out_degree[None, :], 2, axis=1))
        self.masks = [tf.constant(m, tf.float32) for m in masks]
        self.weights_x, self.weights_c, self.biases = [], [], []
        for k, mask in enumerate(masks):
            last = k == len(masks) - 1
            fan_in = np.maximum(mask.sum(0, keepdims=True), 1)
            rng = np.random.default_rng([seed, k])
            scale = 0.01 if last else 1.0
            values = rng.normal(size=mask.shape) * mask * scale / np.sqrt(fan_in)
            values_c = rng.normal(size=(context, mask.shape[1])) * scale / np.sqrt(context)
            self.weights_x.append(self._weight(values, f"x{k}"))
            self.weights_c.append(self._weight(values_c, f"context{k}"))
            self.biases.append(self._weight(np.zeros(mask.shape[1]), f"bias{k}"))

    def _weight(self, value: np.ndarray, name: str) -> Any:
        return self.add_weight(shape=value.shape, initializer=lambda shape, dtype=None: tf.constant(value, tf.float32), name=name)

    def call(self, x: Any, context: Any) -> tuple[Any, Any]:
        """Return shift and log-scale, both shaped as `x` ``(..., D)``; `context` ``(..., C)`` broadcasts against it."""
        h = x
        for k, (wx, wc, b, mask) in enumerate(zip(self.weights_x, self.weights_c, self.biases, self.masks, strict=True)):
            h = tf.tensordot(h, wx * mask, 1) + tf.tensordot(context, wc, 1) + b
            if k < len(self.masks) - 1:
                h = tf.nn.silu(h)
        pairs = tf.reshape(h, tf.concat([tf.shape(h)[:-1], [self.dimensions, 2]], 0))
        return pairs[..., 0], _bounded(pairs[..., 1])

    def sample(self, u: Any, context: Any) -> Any:
        """Map base draws ``u`` ``(D, ...)`` to ``x``, computing each unit once; `context` ``(C, ...)`` broadcasts from the left.

        Units come first here, in what goes in and what comes out: so slices of units are contiguous and no layer transposes.
        """
        batch = tf.shape(u)[1:]
        u_rows = tf.unstack(u, self.dimensions, axis=0)
        kernels = [tf.transpose(wx * mask) for wx, mask in zip(self.weights_x, self.masks, strict=True)]  # (units, inputs)
        # the context's share of every unit, once per context: (units, *context batch)
        shares = [tf.tensordot(wc, context, [[0], [0]]) + b[_column(context)] for wc, b in zip(self.weights_c, self.biases, strict=True)]

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
            shift, log_scale = tf.unstack(units(len(self.bounds), 2 * i, 2 * i + 2, seen), 2, axis=0)
            x.append(u_rows[i] * tf.exp(_bounded(log_scale)) + shift)
        return tf.stack(x, 0)


def _silu(x: Any) -> Any:
    # the same function as tf.nn.silu, in the form that compiles to the fewest instructions
    half = 0.5 * x
    return half + half * tf.tanh(half)


def _bounded(s: Any) -> Any:
    return LOG_SCALE_LIMIT * tf.tanh(s / LOG_SCALE_LIMIT)


def _column(like: Any) -> Any:
    """Return the index that turns a vector into a column that broadcasts against units-first `like`."""
    return (slice(None), *(None,) * (like.shape.rank - 1))


def _units_first(x: Any) -> Any:
    rank = x.shape.rank
    return tf.transpose(x, [rank - 1, *range(rank - 1)])


def _units_last(x: Any) -> Any:
    rank = x.shape.rank
    return tf.transpose(x, [*range(1, rank), 0])


def _units_first_pair(u: Any, context: Any) -> tuple[Any, Any]:
    """Return base draws and their contexts units first, a context of lower rank filled up so that axes line up."""
    u, context = tf.convert_to_tensor(u), tf.convert_to_tensor(context)
    return _units_first(u), _units_first(context[(None,) * (u.shape.rank - context.shape.rank) + (...,)])


class _AutoregressiveBijector(tfb.Bijector):
    """One MAF layer bound to a context, as TFP sees it: forward samples, inverse evaluates densities."""

    def __init__(self, conditioner: MaskedConditioner, context: Any, name: str = "autoregressive") -> None:
        parameters = dict(locals())
        self._conditioner = conditioner
        self._context = context
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _forward(self, u: Any) -> Any:
        return _units_last(self._conditioner.sample(*_units_first_pair(u, self._context)))

    def _inverse(self, x: Any) -> Any:
        shift, log_scale = self._conditioner(x, self._context)
        return (x - shift) * tf.exp(-log_scale)

    def _inverse_log_det_jacobian(self, x: Any) -> Any:
        _, log_scale = self._conditioner(x, self._context)
        return -tf.reduce_sum(log_scale, -1)


class ConditionalMAF(keras.layers.Layer):
    """A stack of autoregressive layers with the order of dimensions reversed between them.

    Parameters
    ----------
    dimensions, context : int
        Length of the target and of the context vector.
    layers : int
        Number of autoregressive layers.
    hidden : tuple of int
        Hidden units of each layer's conditioner.
    seed : int
        Seeds the initial weights.
    """

    def __init__(self, dimensions: int, context: int, layers: int = 5, hidden: tuple[int, ...] = (64, 64), seed: int = 0) -> None:
        super().__init__(name="flow")
        self.dimensions = dimensions
        self.conditioners = [MaskedConditioner(dimensions, hidden, context, seed=1000 * seed + k, name=f"layer{k}") for k in range(layers)]

    def bijector(self, context: Any) -> tfb.Bijector:
        """Return the map from base normals ``(..., D)`` to the target's real line, for contexts ``(..., C)``."""
        reverse = tfb.Permute(list(reversed(range(self.dimensions))))
        steps: list[tfb.Bijector] = []
        for k, conditioner in enumerate(self.conditioners):
            steps.append(_AutoregressiveBijector(conditioner, context))
            if k < len(self.conditioners) - 1:
                steps.append(reverse)
        return tfb.Chain(steps)

    def forward(self, u: Any, context: Any) -> Any:
        """Map base normals to the real line without TFP bookkeeping: the same numbers as ``bijector(context).forward(u)``."""
        x, context = _units_first_pair(u, context)
        for k, conditioner in reversed(list(enumerate(self.conditioners))):
            if k < len(self.conditioners) - 1:
                x = x[::-1]
            x = conditioner.sample(x, context)
        return _units_last(x)

    def draw(self, u: Any, context: Any) -> Any:
        """Map base normals ``(N, S, D)`` to the real line for contexts ``(N, C)``, one image after the other.

        All units of one image's draws fit into a core's cache, which is what makes this the fast way, compiled or not; and what one
        image gets cannot depend on its neighbours. One core works at it; for more, call it for parts of a batch side by side.
        """
        spec = tf.TensorSpec(u.shape[1:], tf.float32)
        return tf.map_fn(lambda pair: self.forward(pair[0], pair[1][None]), (u, context), fn_output_signature=spec)

    def log_prob(self, x: Any, context: Any) -> Any:
        """Log density of `x` ``(..., D)`` on the real line, one pass per layer; ``(...)``."""
        total = 0.0
        for k, conditioner in enumerate(self.conditioners):
            shift, log_scale = conditioner(x, context)
            x = (x - shift) * tf.exp(-log_scale)
            total -= tf.reduce_sum(log_scale, -1)
            if k < len(self.conditioners) - 1:
                x = x[..., ::-1]
        return total - 0.5 * tf.reduce_sum(x**2 + float(np.log(2 * np.pi)), -1)
