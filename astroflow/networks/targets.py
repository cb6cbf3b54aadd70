"""Targets: the bijector between a flow's real line and the parameters, so that no draw ever leaves the bounds.

`box_bijector` serves general problems: each dimension is free, or bounded on both sides by a sigmoid. A sigmoid of float32 reaches its
bounds, where the density has no logarithm; this one stops a little before.
`standardised` puts a shift and scale in front, so that the flow always works at unit scale.
"""

__all__ = ["box_bijector", "standardised"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError

EDGE = 5e-7
"""Share of an interval, at both ends, that no draw reaches."""


def box_bijector(bounds: Sequence[tuple[float, float] | None]) -> tfb.Bijector:
    """Return the bijector from the real line to a box; None leaves a dimension free.

    Parameters
    ----------
    bounds : sequence of (low, high) or None
        One entry per dimension.
    """
    parts = [tfb.Identity() if pair is None else _Interval(*pair) for pair in bounds]
    return tfb.Blockwise(parts, block_sizes=[1] * len(parts))


class _Interval(tfb.Bijector):
    """A sigmoid from the real line into an interval, never quite to its ends. Outside the interval its inverse is NaN."""

    def __init__(self, low: float, high: float) -> None:
        first, last = np.float32(low + EDGE * (high - low)), np.float32(high - EDGE * (high - low))
        self._first = max(first, np.nextafter(np.float32(low), np.float32(np.inf)))
        self._last = min(last, np.nextafter(np.float32(high), np.float32(-np.inf)))
        if not self._first < self._last:
            raise ConfigError(f"bounds must be two rising numbers that float32 can tell apart; got {low} and {high}")
        self._low, self._high = np.float32(low), np.float32(high)
        super().__init__(forward_min_event_ndims=0, parameters={"low": low, "high": high}, name="interval")

    def _forward(self, u: Any) -> Any:
        return tf.clip_by_value(self._low + (self._high - self._low) * tf.sigmoid(u), self._first, self._last)

    def _inside(self, x: Any) -> Any:
        return tf.where((x >= self._low) & (x <= self._high), tf.clip_by_value(x, self._first, self._last), np.float32(np.nan))

    def _inverse(self, x: Any) -> Any:
        x = self._inside(x)
        return tf.math.log(x - self._low) - tf.math.log(self._high - x)

    def _forward_log_det_jacobian(self, u: Any) -> Any:
        return np.log(self._high - self._low) - tf.math.softplus(u) - tf.math.softplus(-u)

    def _inverse_log_det_jacobian(self, x: Any) -> Any:
        x = self._inside(x)
        return np.log(self._high - self._low) - tf.math.log(x - self._low) - tf.math.log(self._high - x)


def standardised(target: tfb.Bijector, mean: Any, scale: Any) -> tfb.Bijector:
    """Return ``target(mean + scale * z)``."""
    return tfb.Chain([target, tfb.Shift(tf.convert_to_tensor(mean, tf.float32)), tfb.Scale(tf.convert_to_tensor(scale, tf.float32))])
