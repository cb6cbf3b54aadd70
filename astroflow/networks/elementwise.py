r"""Elementwise transforms: what a flow layer does to one number, given raw parameters from its conditioner.

Every transform is monotonic, starts as the identity when its raw parameters are zero, and is bounded whatever they are. It comes in two
directions. `inverse`, from the target to the base, is what training needs, with gradients. `forward`, from the base to the target, is
what the compiled sampler needs; there the raw parameters come first, because that is how the sampler keeps its units. `bijector` is
the same as one of TensorFlow Probability's, forward from base to target, to compare with and to hand out.

The affine transform is here, :math:`x = u\,e^s + m` with :math:`|s| < 4`; the rational-quadratic spline is in `spline.py`.
"""

__all__ = ["LOG_SCALE_LIMIT", "AffineTransform", "ElementwiseTransform", "bounded"]

from typing import Any, Protocol

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

LOG_SCALE_LIMIT = 4.0
"""Log-scales, and log-slopes of splines, stay within this of zero."""


class ElementwiseTransform(Protocol):
    """A monotonic map of one number with `outputs` raw parameters, K."""

    @property
    def outputs(self) -> int:
        """Number of raw parameters, K."""

    def inverse(self, x: Any, raw: Any) -> tuple[Any, Any]:
        """Map targets `x` ``(...)`` to the base, with `raw` ``(..., K)``; return ``u`` and ``log |du/dx|``."""

    def forward(self, u: Any, raw: Any) -> Any:
        """Map base values `u` ``(...)`` to the target, with `raw` ``(K, ...)``: units first."""

    def bijector(self, raw: Any) -> tfb.Bijector:
        """Return TFP's bijector from base to target with `raw` ``(..., K)``."""


class AffineTransform:
    """A shift and a bounded log-scale."""

    outputs = 2

    def inverse(self, x: Any, raw: Any) -> tuple[Any, Any]:
        log_scale = bounded(raw[..., 1])
        return (x - raw[..., 0]) * tf.exp(-log_scale), -log_scale

    def forward(self, u: Any, raw: Any) -> Any:
        shift, log_scale = tf.unstack(raw, 2, axis=0)
        return u * tf.exp(bounded(log_scale)) + shift

    def bijector(self, raw: Any) -> tfb.Bijector:
        return tfb.Shift(raw[..., 0])(tfb.Scale(log_scale=bounded(raw[..., 1])))


def bounded(s: Any) -> Any:
    """Return `s` where it is small, and smoothly no more than ``LOG_SCALE_LIMIT`` either way."""
    return LOG_SCALE_LIMIT * tf.tanh(s / LOG_SCALE_LIMIT)
