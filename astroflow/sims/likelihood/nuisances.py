"""Linear nuisances: what may have been added to an image, in proportion to unknown Gaussian amplitudes.

With columns A and prior covariance L of the amplitudes, the marginal covariance of the pixels is C + A L A^T. Columns are kept scaled
to unit prior variance, so it is C + A A^T, and Woodbury's identity and Sylvester's determinant theorem take the inverse and
the determinant in as many dimensions as there are columns.
"""

__all__ = ["MAGNITUDE", "Nuisances", "columns_of", "marginal_forms", "shrinkage"]

from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.errors import InputError
from astroflow.types import Array

MAGNITUDE = 0.4 * np.log(10)
"""Relative change of flux per magnitude."""


@dataclass(frozen=True, kw_only=True)
class Nuisances:
    """Prior standard deviations of what is marginalised; each band of each object has amplitudes of its own.

    Parameters
    ----------
    sky : array_like
        Constant level, image unit per pixel: a number or ``(N, B)``.
    gradient : array_like
        Slope of the sky along x, and the same along y, image unit per pixel per pixel: a number or ``(N, B)``.
    zero_point : float
        Error of the zero point, magnitudes, to first order: its column is the model, so it depends on the parameters.
    modes : array_like, optional
        ``(N, B, K, H, W)`` images, image unit, that may have been added with any amplitudes: the galaxy seen through perturbations of the
        PSF, for example.
    mode_covariance : array_like, optional
        ``(K, K)`` prior covariance of their amplitudes; the unit matrix by default.

    Raises
    ------
    InputError
        If a standard deviation is negative or not finite, or `mode_covariance` is no covariance.
    """

    sky: float | Array = 0.0
    gradient: float | Array = 0.0
    zero_point: float = 0.0
    modes: Array | None = None
    mode_covariance: Array | None = None

    def __post_init__(self) -> None:
        for name in ("sky", "gradient", "zero_point"):
            value = np.asarray(getattr(self, name), float)
            if not np.isfinite(value).all() or (value < 0).any() or (name == "zero_point" and value.ndim):
                raise InputError(f"`{name}` of Nuisances is a standard deviation, finite and at least 0; got {getattr(self, name)!r}")
        if self.mode_covariance is None:
            return
        covariance = np.asarray(self.mode_covariance, float)
        if (
            self.modes is None
            or np.ndim(self.modes) != 5
            or covariance.shape != (np.shape(self.modes)[2],) * 2
            or not np.allclose(covariance, covariance.T)
        ):
            raise InputError("`mode_covariance` must be a symmetric (K, K) matrix, one row per image of `modes` (N, B, K, H, W)")
        if np.linalg.eigvalsh(covariance)[0] <= 0:
            raise InputError("`mode_covariance` is not positive definite; leave out modes whose amplitude is known")


def columns_of(nuisances: Nuisances, shape: tuple[int, int, int, int]) -> Array:
    """Return ``(N, B, K, H, W)`` float64: the columns that do not depend on the parameters, of unit prior variance, image unit."""
    n, bands, height, width = shape
    y, x = np.indices((height, width), dtype=float)
    pictures = [(nuisances.sky, np.ones((height, width))), (nuisances.gradient, x - x.mean()), (nuisances.gradient, y - y.mean())]
    columns = []
    for name, (deviation, picture) in zip(("sky", "gradient", "gradient"), pictures, strict=True):
        try:
            each = np.broadcast_to(np.asarray(deviation, float), (n, bands))
        except ValueError:
            raise InputError(f"`{name}` of Nuisances must be a number or {(n, bands)}; got shape {np.shape(deviation)}") from None
        if each.any():
            columns.append(each[..., None, None, None] * picture)
    if nuisances.modes is not None:
        modes = np.asarray(nuisances.modes, float)
        if modes.ndim != 5 or modes.shape[:2] + modes.shape[3:] != shape or not np.isfinite(modes).all():
            raise InputError(f"`modes` must be finite, {(n, bands)} + (K,) + {(height, width)}; got shape {modes.shape}")
        if nuisances.mode_covariance is not None:
            modes = np.einsum("kl,nbkyx->nblyx", np.linalg.cholesky(np.asarray(nuisances.mode_covariance, float)), modes)
        columns.append(modes)
    return np.concatenate(columns, 2) if columns else np.zeros((n, bands, 0, height, width))


def marginal_forms(forms: Any, kept: int) -> tuple[Any, Any]:
    """Marginalise the last columns out of quadratic forms.

    Parameters
    ----------
    forms : tensor
        ``(..., k, k)`` float64: x^T C^-1 y of k columns, of which those after the first `kept` are nuisances of unit prior variance.
    kept : int
        How many are not.

    Returns
    -------
    forms : tensor
        ``(..., kept, kept)``: x^T (C + A A^T)^-1 y.
    log_det : tensor
        ``(...)``: log det(C + A A^T) - log det C.
    """
    import tensorflow as tf

    across, among = forms[..., kept:, :kept], forms[..., kept:, kept:]
    root = tf.linalg.cholesky(among + tf.eye(forms.shape[-1] - kept, dtype=forms.dtype))
    explained = tf.linalg.triangular_solve(root, across)
    log_det = 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(root)), -1)
    return forms[..., :kept, :kept] - tf.matmul(explained, explained, transpose_a=True), log_det


def shrinkage(forms: Any) -> Any:
    """Return K of (I + B B^T)^(-1/2) = I - B K B^T, from B^T B ``(..., k, k)``."""
    import tensorflow as tf

    values, vectors = tf.linalg.eigh(forms)
    root = tf.sqrt(1 + tf.maximum(values, 0))
    # (1 - 1 / root) / values, without the cancellation at small values
    return tf.matmul(vectors / (root * (1 + root))[..., None, :], vectors, transpose_b=True)
