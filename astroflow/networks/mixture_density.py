r"""The conditional mixture of Gaussians (a mixture density network), as a flow.

One network turns a context ``c`` into K Gaussians of full covariance, :math:`x = \mu_k + L_k z` with lower-triangular ``L``, and their
weights. Their density is exact and cheap. To be a flow as well, one that maps base normals to draws and back, it takes the dimensions one
after the other (Rosenblatt's transform): given the dimensions before it, each is a mixture of normals in one dimension,

.. math:: p(x_i | x_{<i}, c) = \sum_k w_{ik} \mathcal{N}(x_i; m_{ik}, s_{ik}), \qquad w_{ik} \propto w_k p_k(x_{<i}), \qquad
          \Phi(u_i) = \sum_k w_{ik} \Phi\!\left(\frac{x_i - m_{ik}}{s_{ik}}\right).

Drawing solves the last equation for ``x``, which lies between the quantiles of the components: bisection always ends.

References
----------
Bishop 1994, *Mixture density networks*, NCRG/94/004; Rosenblatt 1952, https://doi.org/10.1214/aoms/1177729394
"""

__all__ = ["ConditionalMixture", "MixtureConditioner"]

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.conditioner import Conditioner
from astroflow.networks.elementwise import bounded
from astroflow.networks.flow import ConditionalFlow

FIRST_SPREAD = 0.3
"""Of the components' means before training: alike, they would all learn the same."""
FURTHEST = 1e3
"""Standard deviations beyond which a component no longer leans further with the dimensions before."""
HALVINGS = 30
LEAST = 1e-37
"""Smallest probability; float32 ends there, at 12.7 standard deviations."""
HALF_LOG_TWO_PI = 0.5 * float(np.log(2 * np.pi))


class _Components(NamedTuple):
    """Of every context: weights, and each Gaussian's mean and factor ``L``; components last."""

    log_weight: Any
    """``(..., K)``."""
    mean: Any
    """``(..., D, K)``."""
    log_scale: Any
    """``(..., D, K)`` log of the factor's diagonal."""
    lean: Any
    """``(..., D (D - 1) / 2, K)`` the factor below its diagonal, by rows, over the row's diagonal."""


class MixtureConditioner(Conditioner):
    """Dense network from a context to the components of a mixture.

    Parameters
    ----------
    dimensions : int
        Number of dimensions, D.
    components : int
        Number of Gaussians, K.
    hidden : tuple of int
        Units of each hidden layer.
    context : int
        Length of the context vector.
    seed : int
        Seeds the initial weights.
    """

    def __init__(self, dimensions: int, components: int, hidden: tuple[int, ...], context: int, seed: int, name: str) -> None:
        self.parts = (1, dimensions, dimensions, dimensions * (dimensions - 1) // 2)
        widths = [0, *hidden, components * sum(self.parts)]
        super().__init__([np.ones(pair, bool) for pair in pairwise(widths)], context, seed, name, residual=True)
        self.components = components
        rng = np.random.default_rng([seed, len(hidden) + 1])
        ladder = FIRST_SPREAD * (np.arange(components) - (components - 1) / 2) / max(np.arange(components).std(), 1)
        first = np.zeros((sum(self.parts), components), np.float32)
        first[1 : 1 + dimensions] = [rng.permutation(ladder) for _ in range(dimensions)]
        self.biases[-1].assign(first.ravel())

    def of(self, context: Any) -> _Components:
        """Return the components for contexts ``(..., C)``."""
        flat = super().call(context[..., :0], context)
        raw = tf.reshape(flat, tf.concat([tf.shape(flat)[:-1], [sum(self.parts), self.components]], 0))
        logits, mean, log_scale, lean = tf.split(raw, self.parts, axis=-2)
        return _Components(tf.nn.log_softmax(logits[..., 0, :]), mean, bounded(log_scale), lean)


class _OneDimension(NamedTuple):
    """A mixture of normals in one dimension, components last."""

    log_weight: Any
    mean: Any
    log_scale: Any

    def whitened(self, x: Any) -> Any:
        """Return each component's ``(x - m) / s`` ``(..., K)``."""
        return (x[..., None] - self.mean) * tf.exp(-self.log_scale)

    def tails(self, x: Any) -> tuple[Any, Any]:
        """Return the probabilities below and above `x`, each as precise as it is small."""
        z, weight = self.whitened(x) * float(np.sqrt(0.5)), 0.5 * tf.exp(self.log_weight)
        return tf.reduce_sum(weight * tf.math.erfc(-z), -1), tf.reduce_sum(weight * tf.math.erfc(z), -1)

    def log_prob(self, x: Any) -> Any:
        return tf.reduce_logsumexp(self.log_weight + _log_normal(self.whitened(x), self.log_scale), -1)

    def normal_of(self, x: Any) -> Any:
        """Return the base normal of `x`."""
        below, above = self.tails(x)
        lower = below < above
        size = tf.math.ndtri(tf.clip_by_value(tf.where(lower, below, above), LEAST, 0.5))
        return tf.where(lower, size, -size)

    def quantile_of(self, u: Any) -> Any:
        """Return the quantile of base normals `u`, with gradients."""
        lower = u < 0
        wanted = tf.maximum(0.5 * tf.math.erfc(tf.where(lower, -u, u) * float(np.sqrt(0.5))), LEAST)
        each = self.mean + tf.exp(self.log_scale) * u[..., None]
        low, high = (tf.stop_gradient(f(each, -1)) for f in (tf.reduce_min, tf.reduce_max))
        fixed = _OneDimension(*(tf.stop_gradient(part) for part in self))
        goal = tf.stop_gradient(wanted)

        def halved(low: Any, high: Any) -> tuple[Any, Any]:
            middle = 0.5 * (low + high)
            below, above = fixed.tails(middle)
            further = tf.where(lower, below < goal, above > goal)
            return tf.where(further, middle, low), tf.where(further, high, middle)

        low, high = tf.while_loop(lambda *_: True, halved, (low, high), maximum_iterations=HALVINGS)
        found = tf.stop_gradient(0.5 * (low + high))
        # a step of Newton's, which ends the search and has the gradients of the quantile
        below, above = self.tails(found)
        excess = tf.where(lower, below - wanted, wanted - above)
        step = excess / tf.maximum(tf.exp(fixed.log_prob(found)), LEAST)
        return found - tf.where(tf.abs(step) <= 1 + tf.abs(found), step, 0.0)


class ConditionalMixture(ConditionalFlow):
    """A mixture of Gaussians whose weights, means and covariances depend on the context.

    Parameters
    ----------
    dimensions, context : int
        Length of the target and of the context vector.
    components : int
        Number of Gaussians.
    hidden : tuple of int
        Hidden units of the network.
    seed : int
        Seeds the initial weights.

    Raises
    ------
    ConfigError
        If there are no hidden layers.
    """

    conditioners: list[MixtureConditioner]

    def __init__(self, dimensions: int, context: int, components: int = 8, hidden: tuple[int, ...] = (64, 64), seed: int = 0) -> None:
        if not hidden:
            raise ConfigError("a mixture needs at least one hidden layer; got none")
        super().__init__(dimensions, [MixtureConditioner(dimensions, components, hidden, context, seed=1000 * seed, name="mixture")])

    def bijector(self, context: Any) -> tfb.Bijector:
        return _RosenblattBijector(self, context)

    def forward(self, u: Any, context: Any) -> Any:
        walk = _Walk(self.conditioners[0].of(tf.convert_to_tensor(context)))
        for value in tf.unstack(tf.convert_to_tensor(u), self.dimensions, axis=-1):
            walk.go(walk.here().quantile_of(value))
        return tf.stack(walk.passed, -1)

    def inverse(self, x: Any, context: Any) -> tuple[Any, Any]:
        walk, u, total = _Walk(self.conditioners[0].of(tf.convert_to_tensor(context))), [], 0.0
        for value in tf.unstack(tf.convert_to_tensor(x), self.dimensions, axis=-1):
            here = walk.here()
            u.append(here.normal_of(value))
            total += here.log_prob(value) + 0.5 * u[-1] ** 2 + HALF_LOG_TWO_PI
            walk.go(value)
        return tf.stack(u, -1), total

    def log_prob(self, x: Any, context: Any) -> Any:
        walk = _Walk(self.conditioners[0].of(tf.convert_to_tensor(context)))
        for value in tf.unstack(tf.convert_to_tensor(x), self.dimensions, axis=-1):
            walk.go(value)
        return tf.reduce_logsumexp(walk.log_joint, -1)


class _Walk:
    """From dimension to dimension: what those that were passed say about the next."""

    def __init__(self, components: _Components) -> None:
        self.components = components
        self.passed: list[Any] = []
        self.log_joint = components.log_weight
        """``(..., K)`` log of each component's weight times its density so far."""
        self._whitened: list[Any] = []

    def here(self) -> _OneDimension:
        """Return the mixture of the next dimension."""
        i, parts = len(self.passed), self.components
        lean = parts.lean[..., i * (i - 1) // 2 :, :]
        shift = sum((lean[..., j, :] * z for j, z in enumerate(self._whitened)), tf.zeros([]))
        log_scale = parts.log_scale[..., i, :]
        return _OneDimension(tf.nn.log_softmax(self.log_joint), parts.mean[..., i, :] + tf.exp(log_scale) * shift, log_scale)

    def go(self, x: Any) -> None:
        """Pass the next dimension at `x`."""
        here = self.here()
        z = here.whitened(x)
        self.log_joint = self.log_joint + _log_normal(z, here.log_scale)
        self._whitened.append(tf.clip_by_value(z, -FURTHEST, FURTHEST))
        self.passed.append(x)


def _log_normal(z: Any, log_scale: Any) -> Any:
    return -0.5 * z**2 - log_scale - HALF_LOG_TWO_PI


class _RosenblattBijector(tfb.Bijector):
    """The mixture bound to a context, as TFP sees it."""

    def __init__(self, flow: ConditionalMixture, context: Any, name: str = "rosenblatt") -> None:
        parameters = dict(locals())
        self._flow = flow
        self._context = context
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _forward(self, u: Any) -> Any:
        return self._flow.forward(u, self._context)

    def _inverse(self, x: Any) -> Any:
        return self._flow.inverse(x, self._context)[0]

    def _inverse_log_det_jacobian(self, x: Any) -> Any:
        return self._flow.inverse(x, self._context)[1]
