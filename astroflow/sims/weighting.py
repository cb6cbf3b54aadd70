r"""Weighing pixels whose noise is correlated: columns times the inverse covariance, nearly, inside a graph.

In units of each pixel's scatter s, with the share F of the variance that is not photon noise, the covariance is

.. math:: A = F^{1/2} R F^{1/2} + 1 - F,

and R, a stationary correlation, is applied by Fourier transforms. A few steps of conjugate gradients give :math:`A^{-1} x`, for any
masks and photon noise. All columns of a stamp share the coefficients of the steps, each column scaled to unit length, so that the
inverse is replaced by one polynomial of A: a symmetric matrix, which makes curvatures :math:`J^T A^{-1} J` symmetric too. Sources
are smooth and lie where the spectrum of A is simple, so a few steps do. `astroflow.sims.likelihood` has the exact inverse.
"""

__all__ = ["weighted"]

from typing import Any

from scipy import fft

STEPS = 3
"""Of conjugate gradients. With an odd number the polynomial is positive at the largest eigenvalues too, where few columns reach."""
LAGS = 10
"""Correlations further apart are left out, so that what is stated of one stamp does not change the grid of another."""


def weighted(columns: Any, rms: Any, variance: Any, good: Any, correlation: Any) -> Any:
    """Multiply columns by the inverse covariance of the pixels that count, as a graph.

    Parameters
    ----------
    columns : tensor
        ``(N, K, H, W)``.
    rms : tensor
        ``(N, H, W)``, of the correlated noise.
    variance : tensor
        ``(N, H, W)``, of correlated and photon noise together.
    good : tensor
        ``(N, H, W)``: one where a pixel counts, else zero.
    correlation : tensor
        ``(N, L, L)``, L odd; see `astroflow.sims.correlation`.

    Returns
    -------
    tensor
        ``(N, K, H, W)``, zero where pixels do not count.
    """
    import tensorflow as tf

    height, width = columns.shape[2:]
    reach = correlation.shape[-1] // 2
    beyond = max(0, reach - LAGS)
    near = correlation[:, beyond : 2 * reach + 1 - beyond, beyond : 2 * reach + 1 - beyond]
    reach -= beyond
    grid = [int(fft.next_fast_len(max(length + LAGS, 2 * LAGS + 1), real=True)) for length in (height, width)]
    periodic = tf.pad(near, [(0, 0), (0, grid[0] - 2 * reach - 1), (0, grid[1] - 2 * reach - 1)])
    periodic = tf.roll(periodic, [-reach, -reach], [1, 2])
    power = tf.maximum(tf.math.real(tf.signal.rfft2d(periodic)), 0.0)[:, None]

    scale = (good / tf.sqrt(variance))[:, None]
    background = (good * rms**2 / variance)[:, None]
    root = tf.sqrt(background)

    def covariance(x: Any) -> Any:
        spectrum = tf.signal.rfft2d(root * x, grid)
        smoothed = tf.signal.irfft2d(spectrum * tf.cast(power, spectrum.dtype), grid)[..., :height, :width]
        return root * smoothed + (good[:, None] - background) * x

    def dot(a: Any, b: Any) -> Any:
        return tf.reduce_sum(a * b, [1, 2, 3], keepdims=True)

    given = columns * scale
    length = tf.sqrt(tf.reduce_sum(given**2, [2, 3], keepdims=True))
    residual = tf.math.divide_no_nan(given, length)
    solution, direction, size = tf.zeros_like(residual), residual, dot(residual, residual)
    for step in range(STEPS):
        image = covariance(direction)
        stride = tf.math.divide_no_nan(size, dot(direction, image))
        solution += stride * direction
        if step + 1 < STEPS:
            residual -= stride * image
            size, before = dot(residual, residual), size
            direction = residual + tf.math.divide_no_nan(size, before) * direction
    return solution * length * scale
