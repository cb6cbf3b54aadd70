"""Independent pixels: the covariance is diagonal, and everything is exact, whatever depends on the model."""

__all__ = ["WhiteNoise"]

from typing import Any

from astroflow.sims.likelihood.nuisances import marginal_forms, shrinkage
from astroflow.sims.likelihood.pixels import Pixels
from astroflow.types import Array


class WhiteNoise:
    """C = I + diag(q) + A A^T, in units of rms.

    Parameters
    ----------
    pixels : Pixels
        The stamps.
    columns : ndarray
        ``(n, K, P)`` nuisances of unit prior variance, units of rms, zero where masked.
    dtype : str
        Kind of the pixel arithmetic; sums are float64.
    """

    exact = True

    def __init__(self, pixels: Pixels, columns: Array, dtype: str) -> None:
        import tensorflow as tf

        self.photon = tf.constant(pixels.photon[:, None], dtype) if pixels.photon.any() else None
        self.columns = tf.constant(columns, tf.float64)

    def forms(self, x: Any, model: Any) -> tuple[Any, Any]:
        """Return quadratic forms and log-determinant.

        Parameters
        ----------
        x : tensor
            ``(n, S, k, P)`` columns, units of rms, zero where masked.
        model : tensor
            ``(n, S, P)`` noiseless models, image unit.

        Returns
        -------
        forms : tensor
            ``(n, S, k, k)`` float64: x^T C^-1 y.
        log_det : tensor
            ``(n, S)`` or ``(n, 1)`` float64.
        """
        import tensorflow as tf

        if self.photon is None:
            weight, weighted = tf.ones_like(model[:, :1], tf.float64), x
            log_det = tf.zeros_like(model[:, :1, 0], tf.float64)
        else:
            q = tf.maximum(model, 0) * self.photon
            log_det = tf.reduce_sum(tf.cast(tf.math.log1p(q), tf.float64), -1)
            weight = 1 / (1 + q)
            weighted = x * weight[:, :, None]
        x, weighted = tf.cast(x, tf.float64), tf.cast(weighted, tf.float64)
        forms = tf.matmul(weighted, x, transpose_b=True)
        k, kept = self.columns.shape[1], x.shape[2]
        if k == 0:
            return forms, log_det
        across = tf.einsum("nskp,nap->nsak", weighted, self.columns)
        products = tf.reshape(self.columns[:, :, None] * self.columns[:, None], (len(self.columns), k * k, -1))
        among = tf.matmul(tf.cast(weight, tf.float64), products, transpose_b=True)
        among = tf.reshape(among, (len(self.columns), -1, k, k))
        among = tf.broadcast_to(among, tf.concat([tf.shape(forms)[:2], (k, k)], 0))
        upper = tf.concat([forms, tf.linalg.matrix_transpose(across)], -1)
        forms, extra = marginal_forms(tf.concat([upper, tf.concat([across, among], -1)], -2), kept)
        return forms, log_det + extra

    def whiten(self, x: Any, model: Any) -> Any:
        """Return C^(-1/2) x, ``(n, S, P)`` float64, for x ``(n, S, P)``."""
        import tensorflow as tf

        root = tf.ones_like(model) if self.photon is None else tf.math.rsqrt(1 + tf.maximum(model, 0) * self.photon)
        w = tf.cast(x * root, tf.float64)
        if self.columns.shape[1] == 0:
            return w
        columns = tf.cast(root, tf.float64)[..., None, :] * self.columns[:, None]
        amplitudes = tf.linalg.matvec(shrinkage(tf.matmul(columns, columns, transpose_b=True)), tf.linalg.matvec(columns, w))
        return w - tf.linalg.matvec(columns, amplitudes, transpose_a=True)
