r"""Damped Gauss-Newton steps towards the most probable parameters of each stamp, batches at a time, as one graph.

Parameters are fitted on the prior's own scale, where they are standard normals u (`JointPrior.forward`). With the residual r, the slopes
J = dm/du and the weights W of the pixels, a step solves

.. math:: (J^T W J + 1)\, \delta = J^T W r - u,

so that the prior is one more measurement and H = J^T W J + 1 the inverse covariance of the linearised posterior. W is diagonal where noise
is independent; where it is correlated, the last step has the inverse covariance for it (`weighting`). A step that leaves the
region where the line can be trusted is shortened. Two steps from a good guess are what a summary needs: not the optimum itself,
but what the pixels say about the parameters there (score compression, Alsing & Wandelt 2018, https://arxiv.org/abs/1712.00012).
"""

__all__ = ["LinearFit", "gauss_newton"]

from collections.abc import Callable
from typing import Any, NamedTuple

from astroflow.sims.distributions import tensorflow_ops
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import image_transform
from astroflow.sims.priors import JointPrior
from astroflow.sims.weighting import weighted

LONGEST_STEP = 1.0
"""Of any parameter, in standard deviations of its prior."""
FURTHEST = 4.5
"""Fits stay within so many standard deviations of the prior."""


class LinearFit(NamedTuple):
    """What a fit found; each ``(N, ...)``.

    `point` ``(N, P)`` is the fitted u, `factor` ``(N, P, P)`` the lower Cholesky factor of H, `move` ``(N, P)`` the last step in units of
    the linearised posterior's widths, `chi_squared` ``(N,)`` that before the last step, as if noise were independent, `pixels` ``(N,)``
    how many were used.
    """

    point: Any
    factor: Any
    move: Any
    chi_squared: Any
    pixels: Any


def gauss_newton(engine: FourierEngine, prior: JointPrior, steps: int, size: int, zero_point: float) -> Callable[..., LinearFit]:
    """Return a graph function that fits stamps.

    Parameters
    ----------
    engine : FourierEngine
        Draws and differentiates.
    prior : JointPrior
        Of the engine's parameters.
    steps : int
        How many.
    size : int
        Side of the stamps.
    zero_point : float
        Of the stamps.

    Returns
    -------
    callable
        ``fit(u, image, rms, good, gain, psf, step, correlation=None)`` with `u` ``(N, P)`` to start from, `image`, `rms` and `good`
        (one or zero) ``(N, size, size)``, `gain` ``(N,)``, `psf` ``(N, h, w)`` at the stamp's sampling with the pixel in it, `step`
        ``(N,)`` the pixel's side in arcsec, `correlation` ``(N, L, L)`` that of the noise.
    """
    import tensorflow as tf

    # PSF images at the stamp's sampling know nothing beyond its Nyquist frequency; what copies leave behind wide PSFs moves no fit
    grid = ModeGrid(size, 1.0)
    ops = tensorflow_ops()

    def fit(u: Any, image: Any, rms: Any, good: Any, gain: Any, psf: Any, step: Any, correlation: Any = None) -> LinearFit:
        planes = image_transform(psf, 1, grid)
        zero_points, shift = tf.fill([u.shape[0]], zero_point), tf.zeros([u.shape[0], 2])
        image = tf.where(good > 0, image, 0.0)
        for k in range(steps):
            u = tf.clip_by_value(u, -FURTHEST, FURTHEST)
            model, slopes = engine.images_and_slopes(lambda v: prior.forward(v, ops), u, planes, zero_points, step, shift, grid)
            variance = rms**2 + tf.maximum(model, 0.0) / gain[:, None, None]
            residual = image - model
            weight = good / variance
            # on the way to the last step's point any weights will do
            if correlation is None or k + 1 < steps:
                weighed = slopes * weight[:, None]
            else:
                weighed = weighted(slopes, rms, variance, good, correlation)
            flat, weighed = (tf.reshape(columns, [-1, u.shape[1], size**2]) for columns in (slopes, weighed))
            curvature = tf.matmul(flat, weighed, transpose_b=True) + tf.eye(u.shape[1])
            force = tf.linalg.matvec(weighed, tf.reshape(residual, [-1, size**2])) - u
            factor = tf.linalg.cholesky(curvature)
            move = tf.linalg.cholesky_solve(factor, force[..., None])[..., 0]
            largest = tf.reduce_max(tf.abs(move), 1, keepdims=True)
            move *= tf.minimum(1.0, LONGEST_STEP / tf.maximum(largest, 1e-6))
            u += move
            chi_squared = tf.reduce_sum(weight * residual**2, (1, 2))
        return LinearFit(u, factor, tf.linalg.matvec(factor, move, transpose_a=True), chi_squared, tf.reduce_sum(good, (1, 2)))

    return fit
