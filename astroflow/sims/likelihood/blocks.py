"""Cholesky factors of R + diag(q), block by block, for any mask and any q.

The covariance is block tridiagonal, so its factor has blocks on and just below the diagonal alone: exact, at the price of
``H / rows`` small factors. A masked pixel becomes a pixel of unit variance that is correlated with nothing: with
a residual of zero it adds nothing to chi-squared, nor to the determinant, which is to drop it exactly.
"""

__all__ = ["BlockFactor", "BlockSolver", "factorise", "selected_inverse"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lapack

from astroflow.sims.likelihood.correlation import ToeplitzBlocks
from astroflow.types import Array


class BlockFactor(NamedTuple):
    """The factor L of one covariance: inverses ``(m, b, b)`` of its diagonal blocks, ``(m - 1, b, b)`` below, and the log-determinant."""

    inverse: Array
    below: Array
    log_det: float


def factorise(blocks: ToeplitzBlocks, keep: Array, q: Array) -> BlockFactor:
    """Factorise R + diag(q) over the pixels of `keep`.

    Parameters
    ----------
    blocks : ToeplitzBlocks
        R.
    keep, q : ndarray
        ``(P,)``: pixels that count, and what is added to their variance of 1.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite.
    """
    size = len(blocks.diagonal)
    kept = blocks.split(keep.astype(np.float64))
    extra = blocks.split(np.where(keep, q, 0.0)) + 1 - kept
    inverse = np.empty((blocks.count, size, size))
    below = np.empty((blocks.count - 1, size, size))
    log_det = 0.0
    diagonal = np.arange(size)
    for j in range(blocks.count):
        whole = bool(kept[j].all())
        block = blocks.diagonal.copy() if whole else blocks.diagonal * np.outer(kept[j], kept[j])
        block[diagonal, diagonal] += extra[j]
        if j:
            block -= below[j - 1] @ below[j - 1].T
        factor, failed = lapack.dpotrf(block, lower=1, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError(f"block {j} of {blocks.count} is not positive definite")
        log_det += 2 * float(np.log(factor[diagonal, diagonal]).sum())
        inverse[j] = lapack.dtrtri(factor, lower=1)[0]
        if j + 1 < blocks.count:
            lower = blocks.lower if whole and kept[j + 1].all() else blocks.lower * np.outer(kept[j + 1], kept[j])
            below[j] = lower @ inverse[j].T
    return BlockFactor(inverse, below, log_det)


def selected_inverse(factor: BlockFactor) -> tuple[Array, Array]:
    """Return the blocks of the inverse on the diagonal ``(m, b, b)`` and just below it ``(m - 1, b, b)``.

    Computed from the last block upwards (Takahashi's recursion), without the rest of the inverse.
    """
    on, below = np.empty_like(factor.inverse), np.empty_like(factor.below)
    on[-1] = factor.inverse[-1].T @ factor.inverse[-1]
    for j in range(len(below) - 1, -1, -1):
        step = factor.below[j] @ factor.inverse[j]
        below[j] = -on[j + 1] @ step
        on[j] = factor.inverse[j].T @ factor.inverse[j] - step.T @ below[j]
    return on, below


class BlockSolver:
    """Factors of many covariances as TensorFlow constants, and what they do to batches of images.

    Parameters
    ----------
    factors : sequence of BlockFactor
        One per row, or a single one for all rows.
    pixels : int
        P, of a stamp.
    dtype : str
        Kind of the arithmetic.
    """

    def __init__(self, factors: Sequence[BlockFactor], pixels: int, dtype: str) -> None:
        import tensorflow as tf

        self.pixels = pixels
        self.shared = len(factors) == 1
        self.inverse = [tf.constant(np.stack([f.inverse[j] for f in factors]), dtype) for j in range(len(factors[0].inverse))]
        self.below = [tf.constant(np.stack([f.below[j] for f in factors]), dtype) for j in range(len(factors[0].below))]

    def whiten(self, x: Any) -> Any:
        """Return L^-1 x, ``(n, S, m b)``, for x ``(n, S, P)``: of unit covariance where x has covariance L L^T."""
        import tensorflow as tf

        out: list[Any] = []
        for j, part in enumerate(self._split(x)):
            if j:
                part -= tf.matmul(out[-1], self.below[j - 1], transpose_b=True)
            out.append(tf.matmul(part, self.inverse[j], transpose_b=True))
        return self._join(out, x)

    def unwhiten(self, w: Any) -> Any:
        """Return L^-T w, ``(n, S, P)``, for w ``(n, S, m b)``."""
        import tensorflow as tf

        parts = self._split(w)
        out: list[Any] = []
        for j in range(len(parts) - 1, -1, -1):
            part = parts[j]
            if out:
                part -= tf.matmul(out[-1], self.below[j])
            out.append(tf.matmul(part, self.inverse[j]))
        return self._join(out[::-1], w)[..., : self.pixels]

    def _split(self, x: Any) -> list[Any]:
        import tensorflow as tf

        size = self.inverse[0].shape[-1]
        total = len(self.inverse) * size
        if x.shape[-1] < total:
            x = tf.pad(x, [(0, 0), (0, 0), (0, total - x.shape[-1])])
        if self.shared:
            x = tf.reshape(x, (1, -1, total))
        return [x[..., j * size : (j + 1) * size] for j in range(len(self.inverse))]

    def _join(self, parts: list[Any], like: Any) -> Any:
        import tensorflow as tf

        whole = tf.concat(parts, -1)
        return tf.reshape(whole, tf.concat([tf.shape(like)[:2], tf.shape(whole)[-1:]], 0)) if self.shared else whole
