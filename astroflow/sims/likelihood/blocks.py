"""Cholesky factors of R + diag(q), block by block, for any mask and any q.

The covariance is block tridiagonal, so its factor L has blocks on and just below the diagonal alone: exact, at the price of
``H / rows`` small factors. A masked pixel becomes one of unit variance that is correlated with nothing: with
a residual of zero it adds nothing to chi-squared, nor to the determinant, which is to drop it exactly.

TensorFlow computes all rows of a batch together; BLAS threads would wait for each other on matrices this small.
"""

__all__ = ["BlockFactor", "factorise"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.sims.likelihood.correlation import ToeplitzBlocks
from astroflow.types import Array


@dataclass(frozen=True)
class BlockFactor:
    """Factors L of n covariances, or of one that n rows share, in m blocks of b pixels.

    `inverse`: m inverses ``(n, b, b)`` of the blocks on the diagonal; `below`: m - 1 blocks; `log_det` ``(n,)`` float64;
    `pixels`: P, at most m b.
    """

    inverse: list[Any]
    below: list[Any]
    log_det: Any
    pixels: int

    def convert(self, change: Callable[[Any], Any]) -> "BlockFactor":
        """Return the same factors with every block changed: cast, or gathered to other rows."""
        return BlockFactor([change(b) for b in self.inverse], [change(b) for b in self.below], self.log_det, self.pixels)

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

    def selected_inverse(self) -> tuple[list[Any], list[Any]]:
        """Return the blocks of the inverse covariance on the diagonal, and just below it.

        They are computed from the last block upwards, without the rest of the inverse (Takahashi's recursion).
        """
        import tensorflow as tf

        def gram(a: Any) -> Any:
            return tf.matmul(a, a, transpose_a=True)

        on, below = [gram(self.inverse[-1])], []
        for lower, inverse in zip(self.below[::-1], self.inverse[-2::-1], strict=True):
            step = tf.matmul(lower, inverse)
            below.append(-tf.matmul(on[-1], step))
            on.append(gram(inverse) - tf.matmul(step, below[-1], transpose_a=True))
        return on[::-1], below[::-1]

    def split(self, x: Any) -> list[Any]:
        """Cut ``(n, S, P)`` into m blocks ``(n, S, b)``, filled up with zeros."""
        import tensorflow as tf

        size = self.inverse[0].shape[-1]
        total = len(self.inverse) * size
        if x.shape[-1] < total:
            x = tf.pad(x, [(0, 0), (0, 0), (0, total - x.shape[-1])])
        return [x[..., j * size : (j + 1) * size] for j in range(len(self.inverse))]

    def _split(self, x: Any) -> list[Any]:
        import tensorflow as tf

        # a single factor serves all rows in one product
        return self.split(tf.reshape(x, (1, -1, x.shape[-1])) if self.inverse[0].shape[0] == 1 else x)

    def _join(self, parts: list[Any], like: Any) -> Any:
        import tensorflow as tf

        whole = tf.concat(parts, -1)
        return tf.reshape(whole, tf.concat([tf.shape(like)[:2], tf.shape(whole)[-1:]], 0))


def factorise(blocks: ToeplitzBlocks, keep: Array, q: Array) -> BlockFactor:
    """Factorise R + diag(q) over the pixels of `keep`, in float64.

    Parameters
    ----------
    blocks : ToeplitzBlocks
        R of each row, or one for all.
    keep, q : ndarray
        ``(n, P)``: pixels that count, and what is added to their variance of 1.

    Raises
    ------
    numpy.linalg.LinAlgError
        If one is not positive definite.
    """
    import tensorflow as tf

    kept = blocks.split(keep.astype(np.float64))
    extra = blocks.split(np.where(keep, q, 0.0)) + 1 - kept
    whole = np.asarray(kept.all((0, 2)))
    unit = tf.eye(kept.shape[-1], batch_shape=kept.shape[:1], dtype=tf.float64)
    inverse: list[Any] = []
    below: list[Any] = []
    log_det = tf.zeros(len(keep), tf.float64)
    try:
        for j in range(blocks.count):
            block = blocks.diagonal if whole[j] else blocks.diagonal * (kept[:, j, :, None] * kept[:, j, None])
            if j:
                block = block - tf.matmul(below[-1], below[-1], transpose_b=True)
            block = tf.linalg.set_diag(tf.broadcast_to(block, unit.shape), tf.linalg.diag_part(block) + extra[:, j])
            factor = tf.linalg.cholesky(block)
            log_det += 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), -1)
            inverse.append(tf.linalg.triangular_solve(factor, unit))
            if j + 1 < blocks.count:
                both = whole[j] and whole[j + 1]
                lower = blocks.lower if both else blocks.lower * (kept[:, j + 1, :, None] * kept[:, j, None])
                below.append(tf.matmul(lower, inverse[-1], transpose_b=True))
    except tf.errors.InvalidArgumentError:
        log_det = tf.fill(log_det.shape, tf.constant(np.nan, tf.float64))
    if not np.isfinite(log_det.numpy()).all():  # graphics cards say so with NaN
        raise np.linalg.LinAlgError("a covariance is not positive definite")
    return BlockFactor(inverse, below, log_det, keep.shape[1])
