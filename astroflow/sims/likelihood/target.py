"""The posterior density of parameters as a graph of arrays: rendered, compared with the pixels, times the prior.

`PixelLikelihood` is prepared for one batch of stamps. Samplers want one compiled graph that takes stamps as arguments, and gradients
through the renderer; here it is, for independent pixels. Pixels are compared and summed in float64, which leaves the
renderer's rounding.
"""

__all__ = ["LogPosterior"]

from typing import Any

import numpy as np

from astroflow.errors import InputError
from astroflow.sims.distributions import tensorflow_ops
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.observed import unit_psfs
from astroflow.sims.fourier.psf import image_transform
from astroflow.sims.fourier.wide import wide_images
from astroflow.sims.likelihood.pixels import Pixels
from astroflow.sims.priors import JointPrior
from astroflow.types import Array, Stamps


class LogPosterior:
    """Log likelihood plus log prior of u, where the prior is standard normal (`JointPrior.forward`), normalised in u.

    Parameters
    ----------
    engine : FourierEngine
        Draws the galaxies.
    prior : JointPrior
        Of its parameters.
    stamps : Stamps
        N square stamps of one band, a multiple of 4 pixels wide, PSF images at their sampling, independent noise.

    Raises
    ------
    InputError
        If the stamps are others, or have no likelihood (see `PixelLikelihood`).
    """

    def __init__(self, engine: FourierEngine, prior: JointPrior, stamps: Stamps) -> None:
        _, bands, height, width = stamps.shape
        if bands != 1 or height != width or width % 4 or stamps.psf_oversampling != 1:
            got = f"{bands} bands of {height} x {width} pixels, PSF oversampling {stamps.psf_oversampling}"
            raise InputError(f"stamps must be square, of one band, a multiple of 4 pixels wide, PSFs at their sampling; got {got}")
        if stamps.noise_correlation is not None and stamps.noise_correlation.shape[-1] > 1:
            raise InputError("`noise_correlation` must be that of independent pixels; `PixelLikelihood` follows others")
        self.engine, self.prior = engine, prior
        self.zero_point = float(stamps.zero_point)
        pixels = Pixels.of(stamps)
        constant = -0.5 * (pixels.log_det + pixels.keep.sum(1) * np.log(2 * np.pi) + len(prior.names) * np.log(2 * np.pi))
        psfs = np.asarray(unit_psfs(stamps, 0), np.float32)
        # PSF images at the stamp's sampling know nothing beyond its Nyquist frequency; distant copies do no harm where they need not be
        self.grid = ModeGrid(width, 1.0, bool(wide_images(psfs, 1, width).any()))
        planes = image_transform(psfs, 1, self.grid).numpy()
        self._rows = (pixels.data, pixels.scale, pixels.photon, constant, planes, np.asarray(stamps.stamp_scale_arcsec, np.float64))

    def rows(self, which: Array) -> tuple[Array, ...]:
        """Return what `graph` needs of the stamps at positions `which` ``(K,)``."""
        return tuple(values[which] for values in self._rows)

    def graph(self, u: Any, data: Any, scale: Any, photon: Any, constant: Any, planes: Any, step: Any) -> Any:
        """Return the log density.

        Parameters
        ----------
        u : tensor
            ``(K, P)`` float64.
        data, scale, photon, constant, planes, step : tensor
            Of the K stamps, from `rows`.

        Returns
        -------
        tensor
            ``(K,)`` float64, differentiable in `u`.
        """
        import tensorflow as tf

        theta = self.prior.forward(u, tensorflow_ops())
        zero_point, shift = tf.fill(tf.shape(step), tf.constant(self.zero_point, tf.float64)), tf.zeros([u.shape[0], 2], tf.float64)
        drawn = self.engine.images(theta, planes, zero_point, step, shift, self.grid)
        model = tf.reshape(tf.cast(drawn, tf.float64), [-1, self.grid.size**2])
        q = tf.maximum(model, 0.0) * photon
        misfit = (data - model * scale) ** 2 / (1 + q) + tf.math.log1p(q)
        return constant - 0.5 * (tf.reduce_sum(misfit, -1) + tf.reduce_sum(u**2, -1))
