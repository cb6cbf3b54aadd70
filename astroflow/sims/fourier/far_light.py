r"""The light of the furthest copies together: a constant, the flux outside the square that nearer copies fill, over the area of the period.

Along a direction the flux outside is an incomplete gamma function of :math:`x = b \rho^{1/n}` at the edge,

.. math:: Q = \frac{\Gamma(2n, x)}{\Gamma(2n)} = \frac{e^{-x}}{\Gamma(2n)} \int_0^\infty (x + s)^{2n - 1} e^{-s} ds,

which a few Gauss-Laguerre nodes give to 1e-6 where the edge is further out than two half-light radii. TensorFlow's own function iterates,
and its derivatives are slow to compile; here they are written out.
"""

__all__ = ["DIRECTIONS", "far_light"]

from typing import Any

import numpy as np
from numpy.polynomial import laguerre

from astroflow.sims.fourier.brightness import b_slope, sersic_b
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.lattice import FURTHEST
from astroflow.sims.fourier.xla import settled

DIRECTIONS = 64
LAGUERRE_NODES = 5


def far_light(n: Any, xx: Any, xy: Any, yy: Any, grid: ModeGrid) -> Any:
    """Return the brightness ``(N,)`` of all copies of profiles of unit flux that are further away than `FURTHEST` periods.

    `n`, `xx`, `xy` and `yy` ``(N,)`` as of an `Ellipse`; gradients pass.
    """
    import tensorflow as tf

    half_side = (FURTHEST + 0.5) * grid.period
    angles = np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS  # half a turn: profiles are symmetric
    ux, uy = np.cos(angles), np.sin(angles)
    edge = half_side / np.maximum(np.abs(ux), np.abs(uy))
    turns = np.stack([uy * uy, -2 * ux * uy, ux * ux]).astype(np.float32)  # (3, directions), for xx, xy and yy
    nodes, weights = laguerre.laggauss(LAGUERRE_NODES)
    area = float(grid.period) ** 2

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def brightness(n: Any, xx: Any, xy: Any, yy: Any) -> Any:
        determinant = xx * yy - xy * xy
        metric = tf.stack([xx, xy, yy], 1) / determinant[:, None]
        columns = tf.stack([0.5 / n, tf.math.log(sersic_b(n)), tf.math.lgamma(2 * n)])
        power, log_b, log_gamma = tf.unstack(settled(columns)[:, :, None])
        squeeze = tf.matmul(metric, turns)  # squared length of a unit step, in half-light radii
        log_rho = tf.math.log(edge.astype(np.float32) ** 2 * squeeze)
        log_x = log_b + power * log_rho
        x = tf.exp(log_x)
        shape = 1 / power
        log_y = [tf.math.log(x + node) for node in nodes.tolist()]
        # node by node, because a compiled loop is fast along rows that are long
        terms = [weight * tf.exp((shape - 1) * log - (x + log_gamma)) for weight, log in zip(weights.tolist(), log_y, strict=True)]
        beyond = settled(tf.add_n(terms))
        scale = 1 / (area * tf.sqrt(determinant))
        value = scale * tf.reduce_mean(beyond / squeeze, -1)

        def slopes(upstream: Any) -> tuple[Any, Any, Any, Any]:
            b_rate, gamma_rate = tf.unstack(settled(tf.stack([b_slope(n) / sersic_b(n), tf.math.digamma(2 * n)]))[:, :, None])
            density = tf.exp(shape * log_x - x - log_gamma)  # -dQ / d log x
            along_x = b_rate - 2 * power * power * log_rho  # d log x / dn
            with_log = tf.add_n([term * log for term, log in zip(terms, log_y, strict=True)])
            along_n = 2 * with_log - 2 * gamma_rate * beyond - density * along_x
            along_squeeze = -(power * density + beyond) / squeeze**2
            # the squeeze is (xx, xy, yy) / det times the turns, and so is its own slope but for the determinant's
            moments = tf.matmul(along_squeeze, turns, transpose_b=True) / DIRECTIONS
            total = tf.reduce_mean(along_squeeze * squeeze, -1) + 0.5 * tf.reduce_mean(beyond / squeeze, -1)
            parts = [(moments[:, k] - total * own) / determinant for k, own in enumerate((yy, -2 * xy, xx))]
            along = [tf.reduce_mean(along_n / squeeze, -1), *parts]
            return tuple(upstream * scale * slope for slope in along)

        return value, slopes

    return brightness(n, xx, xy, yy)
