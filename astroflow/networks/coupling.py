r"""The conditional coupling flow: half of the dimensions transformed at a time, given the other half.

A step moves some dimensions ``m`` and keeps the others, ``r``, given a context ``c``:

.. math:: x_m = T(u_m; f(u_r, c)), \qquad x_r = u_r,

with an elementwise transform ``T`` and an unmasked residual network ``f``. Both directions are one network pass. A layer has two steps,
in which the halves change places, so every dimension is transformed and every one is conditioned on. Layer ``k`` takes as halves the
dimensions whose index has, or lacks, the binary digit ``k``, the digits taken in turn: any two dimensions differ in some digit, so with
at least :math:`\log_2 D` layers no two dimensions always move together.

References
----------
Dinh, Sohl-Dickstein & Bengio 2017, https://arxiv.org/abs/1605.08803; Durkan et al. 2019, https://arxiv.org/abs/1906.04032
"""

__all__ = ["ConditionalCoupling", "CouplingConditioner"]

from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.conditioner import Conditioner, units_first, units_last
from astroflow.networks.elementwise import ElementwiseTransform
from astroflow.networks.flow import ConditionalFlow


class CouplingConditioner(Conditioner):
    """Residual network from the dimensions that a step keeps, and the context, to raw parameters of those that it moves.

    Parameters
    ----------
    dimensions : int
        Number of all dimensions, D.
    moved : sequence of int
        The dimensions that the step moves; the others are kept.
    outputs : int
        Raw parameters of each moved dimension, K.
    hidden : tuple of int
        Units of each hidden layer.
    context : int
        Length of the context vector.
    seed : int
        Seeds the initial weights.
    """

    def __init__(
        self, dimensions: int, moved: list[int], outputs: int, hidden: tuple[int, ...], context: int, seed: int, name: str
    ) -> None:
        kept = [i for i in range(dimensions) if i not in moved]
        widths = [len(kept), *hidden, len(moved) * outputs]
        super().__init__([np.ones(pair, bool) for pair in pairwise(widths)], context, seed, name, residual=True)
        self.outputs = outputs
        # typed, because either list may be empty
        self.moved, self.kept, self._order = (np.asarray(part, np.int32) for part in (moved, kept, np.argsort([*moved, *kept])))

    def call(self, x: Any, context: Any) -> Any:
        """Return raw parameters ``(..., moved, K)`` given all of `x` ``(..., D)``, of which the moved dimensions are not looked at."""
        flat = super().call(tf.gather(x, self.kept, axis=-1), context)
        return tf.reshape(flat, tf.concat([tf.shape(flat)[:-1], [len(self.moved), self.outputs]], 0))

    def replace(self, x: Any, values: Any, axis: int = -1) -> Any:
        """Return `x` with `values` in the moved dimensions, which lie along `axis`."""
        kept = tf.gather(x, self.kept, axis=axis)
        return tf.gather(tf.concat([values, kept], axis), self._order, axis=axis)

    def sample(self, u: Any, context: Any, transform: ElementwiseTransform) -> Any:
        raw = self(units_last(u), units_last(context))
        rank = raw.shape.rank
        raw = tf.transpose(raw, [rank - 1, rank - 2, *range(rank - 2)])
        return self.replace(u, transform.forward(tf.gather(u, self.moved), raw), axis=0)


class _CouplingBijector(tfb.Bijector):
    """One step bound to a context, as TFP sees it."""

    def __init__(self, conditioner: CouplingConditioner, transform: ElementwiseTransform, context: Any, name: str = "coupling") -> None:
        parameters = dict(locals())
        self._conditioner = conditioner
        self._transform = transform
        self._context = context
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _parts(self, x: Any) -> tuple[Any, tfb.Bijector]:
        """Return the moved dimensions and what TFP does to them."""
        raw = self._conditioner(x, self._context)
        return tf.gather(x, self._conditioner.moved, axis=-1), self._transform.bijector(raw)

    def _forward(self, u: Any) -> Any:
        moved, bijector = self._parts(u)
        return self._conditioner.replace(u, bijector.forward(moved))

    def _inverse(self, x: Any) -> Any:
        moved, bijector = self._parts(x)
        return self._conditioner.replace(x, bijector.inverse(moved))

    def _inverse_log_det_jacobian(self, x: Any) -> Any:
        moved, bijector = self._parts(x)
        return bijector.inverse_log_det_jacobian(moved, event_ndims=1)


class ConditionalCoupling(ConditionalFlow):
    """A stack of coupling layers, each of two steps; one dimension alone has one step, conditioned on the context.

    Parameters
    ----------
    dimensions, context : int
        Length of the target and of the context vector.
    layers : int
        Number of coupling layers.
    hidden : tuple of int
        Hidden units of each step's conditioner.
    seed : int
        Seeds the initial weights.
    transform : ElementwiseTransform
        What is done to each dimension.

    Raises
    ------
    ConfigError
        If there are no hidden layers.
    """

    conditioners: list[CouplingConditioner]

    def __init__(
        self, dimensions: int, context: int, layers: int, hidden: tuple[int, ...], seed: int, transform: ElementwiseTransform
    ) -> None:
        if not hidden:
            raise ConfigError("a coupling flow needs at least one hidden layer; got none")
        halves = [half for k in range(layers) for half in _halves(dimensions, k)]
        super().__init__(
            dimensions,
            [
                CouplingConditioner(dimensions, moved, transform.outputs, hidden, context, seed=1000 * seed + k, name=f"step{k}")
                for k, moved in enumerate(halves)
            ],
        )
        self.transform = transform

    def bijector(self, context: Any) -> tfb.Bijector:
        return tfb.Chain([_CouplingBijector(conditioner, self.transform, context) for conditioner in self.conditioners])

    def forward(self, u: Any, context: Any) -> Any:
        x, context = units_first(u, context)
        for conditioner in reversed(self.conditioners):
            x = conditioner.sample(x, context, self.transform)
        return units_last(x)

    def inverse(self, x: Any, context: Any) -> tuple[Any, Any]:
        total = 0.0
        for conditioner in self.conditioners:
            moved, log_det = self.transform.inverse(tf.gather(x, conditioner.moved, axis=-1), conditioner(x, context))
            x = conditioner.replace(x, moved)
            total += tf.reduce_sum(log_det, -1)
        return x, total


def _halves(dimensions: int, layer: int) -> list[list[int]]:
    """Return what each step of a layer moves."""
    digits = max(1, (dimensions - 1).bit_length())
    digit = 1 << (layer % digits)
    halves = [[i for i in range(dimensions) if bool(i & digit) == one] for one in (False, True)]
    return [half for half in halves if half]
