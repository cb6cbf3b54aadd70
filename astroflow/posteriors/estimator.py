"""The `Estimator`: any dict of arrays in, a distribution of parameters out.

It joins a summary network, a conditional flow and a target bijector, and knows nothing of galaxies. Auxiliary quantities (the
signal-to-noise ratio, say) are regressed from the context by a small head that does not influence it.

Everything heavy runs at one fixed batch size, the last batch padded, with base normals handed in. So an answer never depends on
what else is asked in the same call.
"""

__all__ = ["Estimator"]

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from astroflow.errors import ConfigError
from astroflow.networks.dense import affine
from astroflow.networks.flow_kinds import build_flow
from astroflow.networks.summary import SummaryNetwork
from astroflow.networks.targets import standardised
from astroflow.posteriors.batches import BATCH, in_batches, in_blocks, in_lanes, padded
from astroflow.posteriors.recipe import Architecture
from astroflow.types import Array


class Estimator:
    """A conditional density estimator ``q(theta | inputs)``.

    Parameters
    ----------
    architecture : Architecture
        Which networks, how wide.
    shapes : mapping of str to tuple
        Shape of one object's array for each input.
    target : tfb.Bijector
        From the real line to theta, on the last axis.
    dimensions : int
        Length of theta.
    auxiliary : sequence of str
        Names of scalars that are regressed from the context beside the posterior.
    seed : int
        Seeds the initial weights.
    """

    def __init__(
        self,
        architecture: Architecture,
        shapes: Mapping[str, Sequence[int]],
        target: tfb.Bijector,
        dimensions: int,
        auxiliary: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        summary, flow = architecture.summary, architecture.flow
        self.architecture = architecture
        self.shapes = {name: tuple(int(side) for side in shape) for name, shape in sorted(shapes.items())}
        self.target = target
        self.dimensions = dimensions
        self.auxiliary = tuple(auxiliary)
        channels = summary.channels_of(name for name, shape in self.shapes.items() if len(shape) == 3)
        self.summary = SummaryNetwork(self.shapes, channels, summary.blocks, summary.dense, summary.context, seed)
        self.flow = build_flow(dimensions=dimensions, context=summary.context, seed=seed, **flow.model_dump())
        self.standardise = _TargetScale(dimensions)
        self.head = _AuxiliaryHead(summary.context, len(self.auxiliary), seed) if self.auxiliary else None
        self._encode = tf.function(self._encode_graph, reduce_retracing=True, autograph=False)
        self._sample, self._middle = in_lanes(self._sample_graph), in_lanes(self._middle_graph)
        self._log_prob = in_lanes(self._log_prob_graph)

    # -- variables -----------------------------------------------------------------------------------------------

    @property
    def _layers(self) -> list[Any]:
        parts = [*self.summary.model.layers, *self.flow.conditioners, self.standardise]
        return parts if self.head is None else [*parts, self.head]

    @property
    def variables(self) -> dict[str, Any]:
        """Every variable by a name that depends on the architecture alone."""
        return _named(self._layers)

    @property
    def flow_variables(self) -> dict[str, Any]:
        """The flow's among them."""
        return _named(self.flow.conditioners)

    @property
    def trainable_variables(self) -> list[Any]:
        """Variables that training changes, in a fixed order."""
        return [v for layer in self._layers for v in layer.trainable_variables]

    @property
    def context_length(self) -> int:
        """Length of the context vector."""
        return self.architecture.summary.context

    # -- graphs --------------------------------------------------------------------------------------------------

    def distribution(self, context: Any) -> tfd.Distribution:
        """Return ``q(theta | context)`` as a TFP distribution of batch shape ``context.shape[:-1]``."""
        context = tf.convert_to_tensor(context, tf.float32)
        base = tfd.MultivariateNormalDiag(loc=tf.zeros([*context.shape[:-1], self.dimensions]))
        target = standardised(self.target, self.standardise.mean, self.standardise.scale)
        return tfd.TransformedDistribution(base, tfb.Chain([target, self.flow.bijector(context)]))

    def log_prob_graph(self, theta: Any, context: Any) -> Any:
        """Log density of `theta` ``(..., D)`` in physical units, as a graph; `context` ``(..., C)`` broadcasts."""
        u = self.target.inverse(theta)
        jacobian = self.target.inverse_log_det_jacobian(theta, event_ndims=1)
        z = (u - self.standardise.mean) / self.standardise.scale
        return self.flow.log_prob(z, context) + jacobian - tf.reduce_sum(tf.math.log(self.standardise.scale))

    def _encode_graph(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        context = self.summary(inputs)
        extra = self.head(context) if self.head is not None else tf.zeros([tf.shape(context)[0], 0])
        return context, extra

    def _sample_graph(self, noise: Any, context: Any) -> Any:
        z = self.flow.draw(noise, context)
        return self.target.forward(z * self.standardise.scale + self.standardise.mean)

    def _middle_graph(self, context: Any) -> Any:
        z = self.flow.draw(tf.zeros([context.shape[0], 1, self.dimensions]), context)[:, 0]
        return z * self.standardise.scale + self.standardise.mean

    def _log_prob_graph(self, theta: Any, context: Any) -> Any:
        return self.log_prob_graph(theta, context[:, None, :])

    # -- arrays --------------------------------------------------------------------------------------------------

    def adapt(self, inputs: Mapping[str, Array], theta: Array, auxiliary: Array | None = None) -> None:
        """Measure the standardisation of inputs, target and auxiliary scalars ``(N, A)`` on training data."""
        self.summary.adapt(inputs)
        if self.head is not None and auxiliary is not None:
            self.head.adapt(auxiliary)
        u = self.target.inverse(tf.constant(theta, tf.float32)).numpy()
        self.standardise.adapt(u)

    def encode(self, inputs: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Compress inputs once, to draw or evaluate many times.

        Returns
        -------
        context : ndarray
            ``(N, C)`` float32.
        auxiliary : dict of ndarray
            ``(N,)`` each.
        """
        n = len(next(iter(inputs.values())))
        contexts, extras = [np.zeros((0, self.context_length), np.float32)], [np.zeros((0, len(self.auxiliary)), np.float32)]
        for start in range(0, n, BATCH):
            rows = {name: padded(inputs[name][start : start + BATCH]) for name in self.shapes}
            context, extra = self._encode({name: tf.constant(value, tf.float32) for name, value in rows.items()})
            stop = min(BATCH, n - start)
            contexts.append(context.numpy()[:stop])
            extras.append(extra.numpy()[:stop])
        extra = np.concatenate(extras)
        return np.concatenate(contexts), {name: extra[:, k] for k, name in enumerate(self.auxiliary)}

    def guess(self, context: Array) -> Array:
        """Return one typical point ``(N, D)`` on the target's real line: where the flow takes the middle of its base."""
        (z,) = in_batches(self._middle, context)
        return z

    def sample(self, context: Array, noise: Array) -> Array:
        """Map base normals ``(N, S, D)`` to draws ``(N, S, D)`` in physical units."""
        if not noise.size:
            return np.empty(noise.shape, np.float32)
        return in_blocks(self._sample, noise, context, wide=True)

    def log_prob(self, theta: Array, context: Array) -> Array:
        """Log density ``(N, S)`` of `theta` ``(N, S, D)`` in physical units; minus infinity outside the bounds."""
        if not theta.size:
            return np.empty(theta.shape[:2], np.float32)
        value = in_blocks(self._log_prob, theta, context)
        return np.where(np.isfinite(value), value, -np.inf)


def _named(layers: Iterable[Any]) -> dict[str, Any]:
    """Return the variables of layers by the layer's name and their own."""
    variables = [(f"{layer.name}/{v.path.split('/')[-1]}", v) for layer in layers for v in layer.variables]
    named = dict(variables)
    if len(named) != len(variables):
        raise ConfigError("two variables share a name, so a file of weights could not tell them apart")
    return named


def _assign_moments(layer: Any, values: Array) -> None:
    """Set a layer's mean and scale; what never changes has scale 1, whatever its unit."""
    wide = values.astype(np.float64)
    sd = wide.std(0)
    layer.mean.assign(wide.mean(0).astype(np.float32))
    layer.scale.assign(np.where(sd > 1e-6 * np.abs(wide).max(0), sd, 1.0).astype(np.float32))


class _TargetScale(keras.layers.Layer):
    """Mean and scale of the target on the real line, measured on training data."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(name="target")
        self.mean = self.add_weight(shape=(dimensions,), initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=(dimensions,), initializer="ones", trainable=False, name="scale")

    def adapt(self, u: Array) -> None:
        _assign_moments(self, u)


class _AuxiliaryHead(keras.layers.Layer):
    """A small regression from the context that sends no gradient back into it."""

    def __init__(self, context: int, outputs: int, seed: int) -> None:
        super().__init__(name="auxiliary")
        rng = np.random.default_rng([seed, 11])
        for name, shape in (("w0", (context, 32)), ("b0", (32,)), ("w1", (32, outputs)), ("b1", (outputs,))):
            value = rng.normal(size=shape) / np.sqrt(shape[0]) if len(shape) == 2 else np.zeros(shape)
            weight = self.add_weight(shape=shape, initializer=lambda s, dtype=None, v=value: tf.constant(v, tf.float32), name=name)
            setattr(self, name, weight)
        self.mean = self.add_weight(shape=(outputs,), initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=(outputs,), initializer="ones", trainable=False, name="scale")

    def adapt(self, values: Array) -> None:
        _assign_moments(self, values)

    def call(self, context: Any) -> Any:
        w0, b0, w1, b1 = map(tf.convert_to_tensor, (self.w0, self.b0, self.w1, self.b1))
        return affine(tf.nn.silu(affine(tf.stop_gradient(context), w0, b0)), w1, b1) * self.scale + self.mean
