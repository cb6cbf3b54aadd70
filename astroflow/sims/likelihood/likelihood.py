r"""The likelihood of images, given noiseless models of them.

    log L = -1/2 (d - m)^T C^-1 (d - m) - 1/2 log det C - n/2 log 2 pi,   C = D R D + diag(max(m, 0) / gain) + A L A^T

over the n unmasked pixels; bands are independent. Exact or not:

| noise | |
|---|---|
| independent pixels, with or without photon noise | exact: C is diagonal |
| correlated | exact: Cholesky factor of the block tridiagonal C |
| correlated with photon noise | expanded about the mean of reference models, where it is exact: conjugate gradients, a series for |
| | log det C that is scaled to some of them. Differences of log L are right to 0.03 at S/N 10, 0.001 at S/N 100, |
| | unless the correlation is nearly singular (`docs/likelihood.md`) |
| masks | exact in all three: the pixels are dropped |
| nuisances | as exact as the noise they come with; the zero point to first order in its error |
"""

__all__ = ["Fisher", "PixelLikelihood"]

from typing import Any, NamedTuple

import numpy as np

from astroflow.errors import ConfigError, InputError
from astroflow.sims.likelihood.correlated import CorrelatedNoise
from astroflow.sims.likelihood.correlation import checked_correlation
from astroflow.sims.likelihood.nuisances import MAGNITUDE, Nuisances, columns_of, marginal_forms, shrinkage
from astroflow.sims.likelihood.pixels import Pixels
from astroflow.sims.likelihood.white import WhiteNoise
from astroflow.types import Array, Stamps


class Fisher(NamedTuple):
    """`information` ``(N, P, P)``: J^T C^-1 J, and `score` ``(N, P)``: J^T C^-1 (d - m); float64 tensors."""

    information: Any
    score: Any


class PixelLikelihood:
    """The likelihood of a batch of stamps, prepared once and asked for many models.

    Its methods take and return TensorFlow tensors (arrays go in too), work inside ``tf.function`` and are differentiable in the models.

    Parameters
    ----------
    stamps : Stamps
        N observed stamps.
    reference : array_like, optional
        Noiseless models ``(N, S, B, H, W)`` or ``(N, B, H, W)`` that those to come resemble, such as some draws of a posterior.
        Required where correlated noise meets photon noise, which is expanded about their mean; not looked at otherwise. With fewer than
        eight, differences at S/N 10 may be off by 0.2.
    nuisances : Nuisances, optional
        What is marginalised.
    noise_correlation : array_like, optional
        ``(N, B, L, L)`` correlation of the noise of pixels (dy, dx) apart, at ``[L // 2 + dy, L // 2 + dx]``;
        that of the stamps by default.
    dtype : str
        Kind of the arithmetic on pixels, ``"float64"`` or ``"float32"``: twice as fast, and good to about 1e-6 of chi-squared unless the
        correlation is nearly singular. Sums over pixels are float64.

    Attributes
    ----------
    exact : bool
        False where correlated noise has photon noise.
    dof : ndarray
        ``(N,)`` unmasked pixels: the expected chi-squared of the true model, whose variance is twice that.

    Raises
    ------
    ConfigError
        If `dtype` is another.
    InputError
        If rms or gain are not positive at unmasked pixels, an object has no unmasked pixel, a correlation is none,
        `reference` is missing, or shapes disagree.
    """

    def __init__(
        self,
        stamps: Stamps,
        reference: Any | None = None,
        nuisances: Nuisances | None = None,
        *,
        noise_correlation: Array | None = None,
        dtype: str = "float64",
    ) -> None:
        import tensorflow as tf

        if dtype not in ("float32", "float64"):
            raise ConfigError(f'`dtype` must be "float32" or "float64"; got {dtype!r}')
        self.dtype = tf.as_dtype(dtype)
        self.pixels = pixels = Pixels.of(stamps)
        self.nuisances = nuisances or Nuisances()
        n, bands, height, width = stamps.shape
        columns = columns_of(self.nuisances, stamps.shape).reshape(n * bands, -1, height * width) * pixels.scale[:, None]
        given = getattr(stamps, "noise_correlation", None) if noise_correlation is None else noise_correlation
        correlation = None if given is None else checked_correlation(given, stamps.shape)
        self.noise: WhiteNoise | CorrelatedNoise
        if correlation is None or correlation.shape[1:] == (1, 1):
            self.noise = WhiteNoise(pixels, columns, dtype)
        else:
            self.noise = CorrelatedNoise(pixels, correlation, columns, self._reference(reference) if pixels.photon.any() else None, dtype)
        self.exact = self.noise.exact
        self.dof = pixels.keep.reshape(n, -1).sum(1)
        self._data = tf.constant(pixels.data[:, None], dtype)
        self._scale = tf.constant(pixels.scale[:, None], dtype)
        self._constant = tf.constant((pixels.log_det + pixels.keep.sum(1) * np.log(2 * np.pi))[:, None], tf.float64)

    def log_prob(self, models: Any) -> Any:
        """Return log L.

        Parameters
        ----------
        models : tensor
            ``(N, S, B, H, W)`` noiseless models, image unit.

        Returns
        -------
        tensor
            ``(N, S)`` float64.
        """
        chi_squared, log_det = self._evaluate(models)
        return self._over_bands(-0.5 * (chi_squared + log_det + self._constant))

    def chi_squared(self, models: Any) -> Any:
        """Return (d - m)^T C^-1 (d - m) with the nuisances marginalised, ``(N, S)`` float64; compare it with `dof`."""
        return self._over_bands(self._evaluate(models)[0])

    def whitened_residuals(self, models: Any) -> Any:
        """Return C^(-1/2) (d - m), white and of unit variance if the model is right.

        With correlated noise a pixel's value is what it adds to the pixels before it, in reading order, and C is that of the reference.

        Parameters
        ----------
        models : tensor
            ``(N, S, B, H, W)``.

        Returns
        -------
        tensor
            ``(N, S, B, H, W)`` float64, 0 where masked; where `exact`, its squares sum to `chi_squared`.
        """
        import tensorflow as tf

        model, residual = self._residuals(models)
        white = self.noise.whiten(residual, model)
        if self.nuisances.zero_point:
            column = self.noise.whiten(self._zero_point_column(residual), model)
            form = tf.reduce_sum(column**2, -1)[..., None, None]
            white -= column * shrinkage(form)[..., 0] * tf.reduce_sum(column * white, -1, keepdims=True)
        return self.pixels.images(white)

    def fisher(self, jacobians: Any, models: Any) -> Fisher:
        """Return Fisher matrices of the mean and scores, nuisances marginalised.

        The information that the photon noise's variance holds on the parameters is left out.

        Parameters
        ----------
        jacobians : tensor
            ``(N, P, B, H, W)`` derivatives of the models, image unit.
        models : tensor
            ``(N, B, H, W)``.

        Returns
        -------
        Fisher
            `information` ``(N, P, P)`` and `score` ``(N, P)``.
        """
        import tensorflow as tf

        model, residual = self._residuals(tf.cast(models, self.dtype)[:, None])
        columns = self.pixels.rows(jacobians, self.dtype) * self._scale
        forms, _ = self._marginal(tf.concat([columns, residual], 1)[:, None], model, residual)
        forms = self._over_bands(forms[:, 0])
        return Fisher(forms[:, :-1, :-1], forms[:, :-1, -1])

    # -- inside --------------------------------------------------------------------------------------------------

    def _reference(self, reference: Any | None) -> Array | None:
        if reference is None:
            return None
        models = np.asarray(reference, np.float64)
        models = models[:, None] if models.ndim == 4 else models
        if not np.isfinite(models).all():
            raise InputError("`reference` must be finite noiseless models; some of its pixels are not")
        rows: Array = self.pixels.rows(models, "float64").numpy()
        return rows

    def _residuals(self, models: Any) -> tuple[Any, Any]:
        model = self.pixels.rows(models, self.dtype)
        return model, self._data - model * self._scale

    def _zero_point_column(self, residual: Any) -> Any:
        return float(MAGNITUDE * self.nuisances.zero_point) * (self._data - residual)

    def _marginal(self, x: Any, model: Any, residual: Any) -> tuple[Any, Any]:
        """Return quadratic forms of ``(n, S, k, P)`` columns and the log-determinant, in units of rms, all nuisances marginalised."""
        import tensorflow as tf

        if not self.nuisances.zero_point:
            return self.noise.forms(x, model)
        forms, log_det = self.noise.forms(tf.concat([x, self._zero_point_column(residual)[:, :, None]], 2), model)
        forms, extra = marginal_forms(forms, x.shape[2])
        return forms, log_det + extra

    def _evaluate(self, models: Any) -> tuple[Any, Any]:
        model, residual = self._residuals(models)
        forms, log_det = self._marginal(residual[:, :, None], model, residual)
        return forms[..., 0, 0], log_det

    def _over_bands(self, rows: Any) -> Any:
        import tensorflow as tf

        n, bands = self.pixels.shape[:2]
        return tf.reduce_sum(tf.reshape(rows, tf.concat([(n, bands), tf.shape(rows)[1:]], 0)), 1)
