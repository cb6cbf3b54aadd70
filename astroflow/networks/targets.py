"""Targets: the bijector between a flow's real line and the parameters, so that no draw ever leaves the bounds.

`box_bijector` serves general problems: each dimension is free, bounded on both sides by a sigmoid, or on one by an exponential. In float32
both reach their bounds, where the density has no logarithm; these stop a little before.
`standardised` puts a shift and scale in front, so that the flow always works at unit scale.
"""

__all__ = ["Bounds", "box_bijector", "standardised"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError

EDGE = 5e-7
"""Share of an interval, at both ends, that no draw reaches."""

Bounds = tuple[float | None, float | None] | None
"""(low, high) of one dimension; None for a side that is open, or for both."""


def box_bijector(bounds: Sequence[Bounds]) -> tfb.Bijector:
    """Return the bijector from the real line to a box, some or all of whose sides may be open.

    Parameters
    ----------
    bounds : sequence of (low, high) or None
        One entry per dimension; None, instead of a number or of the pair, leaves it open there.

    Raises
    ------
    ConfigError
        If bounds do not rise, or are not finite.
    """
    parts = [_one(*(pair or (None, None))) for pair in bounds]
    return tfb.Blockwise(parts, block_sizes=[1] * len(parts))


def _one(low: float | None, high: float | None) -> tfb.Bijector:
    if low is not None and high is not None:
        return _Interval(low, high)
    if low is not None:
        return _HalfLine(low, 1.0)
    return tfb.Identity() if high is None else _HalfLine(high, -1.0)


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


class _HalfLine(tfb.Bijector):
    """An exponential from the real line to one side of a bound, never quite to it nor to infinity. On the other side its inverse is NaN.

    What is positive and spans decades, or is log-normal, is so at unit scale.
    """

    def __init__(self, bound: float, sign: float) -> None:
        self._bound, self._sign = np.float32(bound), np.float32(sign)
        if not np.isfinite(self._bound):
            raise ConfigError(f"a bound must be a finite number of float32, or null; got {bound}")
        # subnormal numbers count as zero on some processors
        step = abs(np.nextafter(self._bound, self._sign * np.float32(np.inf)) - self._bound)
        self._least = max(step, np.finfo(np.float32).tiny)
        self._most = np.finfo(np.float32).max / 4
        super().__init__(forward_min_event_ndims=0, parameters={"bound": bound, "sign": sign}, name="half_line")

    def _forward(self, u: Any) -> Any:
        return self._bound + self._sign * tf.clip_by_value(tf.exp(u), self._least, self._most)

    def _distance(self, x: Any) -> Any:
        distance = self._sign * (x - self._bound)
        return tf.where((distance >= 0) & (distance < np.inf), tf.clip_by_value(distance, self._least, self._most), np.float32(np.nan))

    def _inverse(self, x: Any) -> Any:
        return tf.math.log(self._distance(x))

    def _forward_log_det_jacobian(self, u: Any) -> Any:
        return u

    def _inverse_log_det_jacobian(self, x: Any) -> Any:
        return -tf.math.log(self._distance(x))


def standardised(target: tfb.Bijector, mean: Any, scale: Any) -> tfb.Bijector:
    """Return ``target(mean + scale * z)``."""
    return tfb.Chain([target, tfb.Shift(tf.convert_to_tensor(mean, tf.float32)), tfb.Scale(tf.convert_to_tensor(scale, tf.float32))])
