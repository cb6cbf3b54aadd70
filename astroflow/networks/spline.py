r"""The rational-quadratic spline: a monotonic map of an interval onto itself, as flexible as its number of bins.

Knots :math:`(x_k, y_k)` rise from :math:`(-B, -B)` to :math:`(B, B)`, with slopes :math:`\delta_k` that are 1 at both ends. In a bin
of width :math:`w`, height :math:`h` and mean slope :math:`s = h/w`, with :math:`\xi = (x - x_k)/w`,

.. math:: y = y_k + h \frac{s\,\xi^2 + \delta_k\,\xi(1-\xi)}{s + (\delta_k + \delta_{k+1} - 2s)\,\xi(1-\xi)}.

Outside :math:`[-B, B]` it is the identity: target and base are at unit scale, and tails are left to the standard normal.

The spline maps the target to the base, because that is the direction of training: there it needs no root, and is TFP's
`RationalQuadraticSpline` throughout. Drawing inverts it. The compiled sampler evaluates that inverse by itself, with the raw
parameters first and bins chosen by comparison, which is elementwise work where TFP gathers; and it takes the root of the quadratic
that does not cancel, where TFP's loses digits at steep slopes.

References
----------
Durkan et al. 2019, https://arxiv.org/abs/1906.04032 (appendix A); Gregory & Delbourgo 1982, IMA J. Numer. Anal. 2, 123
"""

__all__ = ["SplineTransform"]

from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.errors import ConfigError
from astroflow.networks.elementwise import bounded

LEAST_SHARE = 0.1
"""No bin is smaller than this share of an even one: a smaller one would be lost in float32, and no slope is infinite."""


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
        spline = self._spline(raw)
        # TFP's formula has poles outside the interval, and `tf.where` would pass on the NaN gradient of the branch not taken
        inside = tf.clip_by_value(x, -self._edge, self._edge)
        u = tf.where(inside == x, spline.forward(inside), x)
        return u, tf.where(inside == x, spline.forward_log_det_jacobian(inside, event_ndims=0), 0.0)

    def forward(self, u: Any, raw: Any) -> Any:
        n = self.bins
        widths, heights = self._sizes(raw[:n], 0), self._sizes(raw[n : 2 * n], 0)
        slopes = tf.exp(bounded(raw[2 * n :]))
        one, yes = tf.ones_like(slopes[:1]), tf.ones_like(slopes[:1], tf.bool)
        inside = tf.clip_by_value(u, -self._edge, self._edge)
        passed = inside >= tf.cumsum(heights[:-1], 0) - self.bound  # knots below u, apart from the first
        here = tf.concat([yes, passed], 0) & ~tf.concat([passed, ~yes], 0)  # the one bin that u is in

        def chosen(values: Any) -> Any:
            return tf.reduce_sum(tf.where(here, values, 0.0), 0)

        x_k = tf.reduce_sum(tf.where(passed, widths[:-1], 0.0), 0) - self.bound
        y_k = tf.reduce_sum(tf.where(passed, heights[:-1], 0.0), 0) - self.bound
        width, height = chosen(widths), chosen(heights)
        left, right = chosen(tf.concat([one, slopes], 0)), chosen(tf.concat([slopes, one], 0))
        xi = _solve(tf.clip_by_value((inside - y_k) / height, 0.0, 1.0), height / width, left, right)
        return tf.where(inside == u, x_k + width * xi, u)

    def bijector(self, raw: Any) -> tfb.Bijector:
        return tfb.Invert(self._spline(raw))

    def _spline(self, raw: Any) -> tfb.Bijector:
        """Return TFP's spline from target to base, with `raw` ``(..., K)``."""
        n = self.bins
        return tfb.RationalQuadraticSpline(
            bin_widths=self._sizes(raw[..., :n], -1),
            bin_heights=self._sizes(raw[..., n : 2 * n], -1),
            knot_slopes=tf.exp(bounded(raw[..., 2 * n :])),
            range_min=-self.bound,
        )

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
