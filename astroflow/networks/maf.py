r"""The conditional masked autoregressive flow (MAF), affine or with splines.

A layer maps ``u`` to ``x``, one dimension after the other, given a context ``c``:

.. math:: x_i = T(u_i; \phi_i), \qquad \phi_i = f_i(x_{<i}, c).

The conditioner ``f`` is a masked dense network, ``T`` an elementwise transform: affine, or a rational-quadratic spline. Density
evaluation is one pass, and so, with the conditioner's incremental sampler, is drawing.

References
----------
Papamakarios, Pavlakou & Murray 2017, https://arxiv.org/abs/1705.07057; Durkan et al. 2019, https://arxiv.org/abs/1906.04032
"""

__all__ = ["ConditionalMAF"]

from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.networks.conditioner import units_first, units_last
from astroflow.networks.elementwise import AffineTransform, ElementwiseTransform
from astroflow.networks.flow import ConditionalFlow
from astroflow.networks.masked import MaskedConditioner


class _AutoregressiveBijector(tfb.Bijector):
    """One layer bound to a context, as TFP sees it: forward samples, inverse evaluates densities."""

    def __init__(self, conditioner: MaskedConditioner, transform: ElementwiseTransform, context: Any, name: str = "autoregressive") -> None:
        parameters = dict(locals())
        self._conditioner = conditioner
        self._transform = transform
        self._context = context
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _forward(self, u: Any) -> Any:
        return units_last(self._conditioner.sample(*units_first(u, self._context), self._transform))

    def _inverse(self, x: Any) -> Any:
        return self._transform.bijector(self._conditioner(x, self._context)).inverse(x)

    def _inverse_log_det_jacobian(self, x: Any) -> Any:
        return self._transform.bijector(self._conditioner(x, self._context)).inverse_log_det_jacobian(x, event_ndims=1)


class ConditionalMAF(ConditionalFlow):
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
    transform : ElementwiseTransform
        What is done to each dimension; affine by default.

    Raises
    ------
    ConfigError
        If a hidden layer is narrower than the number of dimensions.
    """

    conditioners: list[MaskedConditioner]

    def __init__(
        self,
        dimensions: int,
        context: int,
        layers: int = 5,
        hidden: tuple[int, ...] = (64, 64),
        seed: int = 0,
        transform: ElementwiseTransform | None = None,
    ) -> None:
        transform = transform or AffineTransform()
        super().__init__(
            dimensions,
            [
                MaskedConditioner(dimensions, transform.outputs, hidden, context, seed=1000 * seed + k, name=f"layer{k}")
                for k in range(layers)
            ],
        )
        self.transform = transform

    def bijector(self, context: Any) -> tfb.Bijector:
        reverse = tfb.Permute(list(reversed(range(self.dimensions))))
        steps: list[tfb.Bijector] = []
        for k, conditioner in enumerate(self.conditioners):
            steps.append(_AutoregressiveBijector(conditioner, self.transform, context))
            if k < len(self.conditioners) - 1:
                steps.append(reverse)
        return tfb.Chain(steps)

    def forward(self, u: Any, context: Any) -> Any:
        x, context = units_first(u, context)
        for k, conditioner in reversed(list(enumerate(self.conditioners))):
            if k < len(self.conditioners) - 1:
                x = x[::-1]
            x = conditioner.sample(x, context, self.transform)
        return units_last(x)

    def inverse(self, x: Any, context: Any) -> tuple[Any, Any]:
        total = 0.0
        for k, conditioner in enumerate(self.conditioners):
            x, log_det = self.transform.inverse(x, conditioner(x, context))
            total += tf.reduce_sum(log_det, -1)
            if k < len(self.conditioners) - 1:
                x = x[..., ::-1]
        return x, total
