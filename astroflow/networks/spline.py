r"""The rational-quadratic spline: a monotonic map of an interval onto itself, as flexible as its number of bins.

Knots :math:`(x_k, y_k)` rise from :math:`(-B, -B)` to :math:`(B, B)`, with slopes :math:`\delta_k` that are 1 at both ends. In a bin
of width :math:`w`, height :math:`h` and mean slope :math:`s = h/w`, with :math:`\xi = (x - x_k)/w`,

.. math:: y = y_k + h \frac{s\,\xi^2 + \delta_k\,\xi(1-\xi)}{s + (\delta_k + \delta_{k+1} - 2s)\,\xi(1-\xi)}.

Outside :math:`[-B, B]` it is the identity: target and base are at unit scale, and tails are left to the standard normal.

The spline maps the target to the base, because that is the direction of training: there it needs no root. Drawing inverts it, with the
raw parameters first. TFP's `RationalQuadraticSpline` is the same map, and what `bijector` hands out. Here bins are chosen by comparison,
which is elementwise work where TFP gathers, and a step of training takes half the time; and drawing takes the root of the quadratic that
does not cancel, where TFP's loses digits at steep slopes.

References
----------
Durkan et al. 2019, https://arxiv.org/abs/1906.04032 (appendix A); Gregory & Delbourgo 1982, IMA J. Numer. Anal. 2, 123
"""

__all__ = ["SplineTransform"]

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.elementwise import bounded

LEAST_SHARE = 0.1
"""No bin is smaller than this share of an even one: a smaller one would be lost in float32, and no slope is infinite."""


class _Bin(NamedTuple):
    """The bin that a number is in: where it starts and its size along the number's axis and the other, and its slopes."""

    start: Any
    size: Any
    other_start: Any
    other_size: Any
    left: Any
    right: Any


class SplineTransform:
    """A rational-quadratic spline with identity tails.

    Raw parameters are `bins` widths and `bins` heights before a softmax, and the logarithms of the ``bins - 1`` slopes between.

    Parameters
    ----------
    bins : int
        Number of bins, at least 2.
    bound : float
        The spline works in ``[-bound, bound]``, in standard deviations of the base.

    Raises
    ------
    ConfigError
        If there are fewer than two bins, or the bound is not positive.
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        if bins < 2 or not bound > 0:
            raise ConfigError(f"a spline needs at least 2 bins and a positive bound; got {bins} bins and a bound of {bound}")
        self.bins = bins
        self.bound = float(bound)
        self.outputs = 3 * bins - 1
        # the last knots are sums of float32; a little before them the spline is the identity to all digits
        self._edge = self.bound * (1 - 1e-5)

    def inverse(self, x: Any, raw: Any) -> tuple[Any, Any]:
        inside = tf.clip_by_value(x, -self._edge, self._edge)
        widths, heights, slopes = self._parts(raw, -1)
        here = self._bin(inside, along=widths, across=heights, slopes=slopes, axis=-1)
        xi = tf.clip_by_value((inside - here.start) / here.size, 0.0, 1.0)
        slope, between = here.other_size / here.size, xi * (1 - xi)
        below = slope + (here.left + here.right - 2 * slope) * between
        u = here.other_start + here.other_size * (slope * xi**2 + here.left * between) / below
        rise = here.right * xi**2 + 2 * slope * between + here.left * (1 - xi) ** 2
        log_det = 2 * tf.math.log(slope) + tf.math.log(rise) - 2 * tf.math.log(below)
        return tf.where(inside == x, u, x), tf.where(inside == x, log_det, 0.0)

    def forward(self, u: Any, raw: Any) -> Any:
        inside = tf.clip_by_value(u, -self._edge, self._edge)
        widths, heights, slopes = self._parts(raw, 0)
        here = self._bin(inside, along=heights, across=widths, slopes=slopes, axis=0)
        y = tf.clip_by_value((inside - here.start) / here.size, 0.0, 1.0)
        xi = _solve(y, here.size / here.other_size, here.left, here.right)
        return tf.where(inside == u, here.other_start + here.other_size * xi, u)

    def _parts(self, raw: Any, axis: int) -> tuple[Any, Any, Any]:
        """Return widths, heights and inner slopes, along `axis`."""
        widths, heights, slopes = tf.split(raw, [self.bins, self.bins, self.bins - 1], axis)
        return self._sizes(widths, axis), self._sizes(heights, axis), tf.exp(bounded(slopes))

    def _bin(self, value: Any, *, along: Any, across: Any, slopes: Any, axis: int) -> "_Bin":
        """Find the bin that `value` is in, bins of sizes `along`; by comparison, which is elementwise work."""
        all_but_last, _ = tf.split(along, [self.bins - 1, 1], axis)
        passed = tf.expand_dims(value, axis) >= tf.cumsum(all_but_last, axis) - self.bound  # knots below, apart from the first
        yes, one = tf.ones_like(tf.gather(passed, [0], axis=axis)), tf.ones_like(tf.gather(slopes, [0], axis=axis))
        here = tf.concat([yes, passed], axis) & ~tf.concat([passed, ~yes], axis)

        def chosen(values: Any) -> Any:
            return tf.reduce_sum(tf.where(here, values, 0.0), axis)

        def start(sizes: Any) -> Any:
            return tf.reduce_sum(tf.where(tf.concat([passed, ~yes], axis), sizes, 0.0), axis) - self.bound

        return _Bin(
            start(along), chosen(along), start(across), chosen(across),
            chosen(tf.concat([one, slopes], axis)), chosen(tf.concat([slopes, one], axis)),
        )  # fmt: skip

    def bijector(self, raw: Any) -> tfb.Bijector:
        return tfb.Invert(self._spline(raw))

    def _spline(self, raw: Any) -> tfb.Bijector:
        """Return TFP's spline from target to base, with `raw` ``(..., K)``."""
        widths, heights, slopes = self._parts(raw, -1)
        return tfb.RationalQuadraticSpline(bin_widths=widths, bin_heights=heights, knot_slopes=slopes, range_min=-self.bound)

    def _sizes(self, raw: Any, axis: int) -> Any:
        """Return positive sizes that sum to the interval's."""
        powers = tf.exp(raw - tf.reduce_max(raw, axis, keepdims=True))
        share = powers / tf.reduce_sum(powers, axis, keepdims=True)
        return 2 * self.bound * (LEAST_SHARE / self.bins + (1 - LEAST_SHARE) * share)


def _solve(y: Any, slope: Any, left: Any, right: Any) -> Any:
    """Return where in a bin, 0 to 1, the spline has risen to the share `y` of the bin's height.

    It is the root of ``a xi^2 + b xi = slope y`` with ``a + b = slope``. Which of the two forms of the root is used depends on the
    sign of ``b``, so that none subtracts nearly equal numbers.
    """
    b = left - y * (left + right - 2 * slope)
    a = slope - b
    root = tf.sqrt(tf.maximum(b * b + 4 * a * slope * y, 1e-12))
    return tf.where(b >= 0, 2 * slope * y, root - b) / tf.where(b >= 0, b + root, 2 * a)
