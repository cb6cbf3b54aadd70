"""Correlated pixels: block Cholesky factors, shared where they can be, and photon noise about a reference model."""

__all__ = ["CorrelatedNoise"]

import functools
from typing import Any

import numpy as np

from astroflow.errors import InputError
from astroflow.sims.likelihood.blocks import BlockFactor, BlockSolver, factorise, selected_inverse
from astroflow.sims.likelihood.correlation import ToeplitzBlocks, central_moments, power, toeplitz_blocks
from astroflow.sims.likelihood.nuisances import shrinkage
from astroflow.sims.likelihood.photon import conjugate_gradient_forms, log_det_change
from astroflow.sims.likelihood.pixels import Pixels
from astroflow.types import Array

DEFAULT_STEPS = 4
MAX_STEPS = 8
STEP_TOLERANCE = 0.005
"""Change of log L in a step, standard deviation over the reference models, below which further steps are left out."""
TRIAL_MODELS = 16


class CorrelatedNoise:
    """C = R + diag(q) + A A^T, in units of rms.

    Parameters
    ----------
    pixels : Pixels
        The stamps.
    correlation : ndarray
        ``(n, h, w)``, see `checked_correlation`.
    columns : ndarray
        ``(n, K, P)`` nuisances of unit prior variance, units of rms, zero where masked.
    reference : ndarray or None
        ``(n, S, P)`` models that the ones to come resemble, image unit; their mean is the reference. None without photon noise.
    dtype : str
        Kind of the pixel arithmetic; sums are float64.

    Raises
    ------
    InputError
        If a correlation is not positive definite, or photon noise comes without a reference.
    """

    def __init__(self, pixels: Pixels, correlation: Array, columns: Array, reference: Array | None, dtype: str) -> None:
        import tensorflow as tf

        self.exact = not pixels.photon.any()
        if not self.exact and reference is None:
            raise InputError(
                "noise that is correlated and has photon noise is expanded about reference models: give `reference`, noiseless images "
                "(N, B, H, W) or (N, S, B, H, W) of draws"
            )
        q = np.zeros_like(pixels.photon)[:, None] if self.exact else np.maximum(reference, 0) * pixels.photon[:, None]
        middle = q.mean(1)
        blocks, factors = self._factors(pixels, correlation, middle)
        self.solver = BlockSolver(factors, pixels.keep.shape[1], dtype)
        self.log_det = tf.constant([f.log_det for f in factors], tf.float64)[:, None]
        self.columns = self.solver.whiten(tf.constant(columns, dtype)) if columns.shape[1] else None
        if self.columns is not None:
            forms = tf.cast(tf.matmul(self.columns, self.columns, transpose_b=True), tf.float64)
            self.log_det += tf.linalg.logdet(forms + tf.eye(columns.shape[1], dtype=tf.float64))[:, None]
            self.shrinkage = tf.cast(shrinkage(forms), dtype)
        if not self.exact:
            self._expand_about(middle, pixels, correlation, blocks, factors, dtype)
            self.steps = self._enough_steps(pixels.data[:, None] - reference * pixels.scale[:, None], q - middle[:, None], dtype)

    @staticmethod
    def _factors(pixels: Pixels, correlation: Array, q: Array) -> tuple[list[ToeplitzBlocks], list[BlockFactor]]:
        """Return each row's blocks, and its factor; a single factor where all rows have the same."""
        _, bands, height, width = pixels.shape
        blocks, factors, made = [], [], {}
        for row, (one, keep, extra) in enumerate(zip(correlation, pixels.keep, q, strict=True)):
            content = one.tobytes(), one.shape, height, width
            blocks.append(_blocks(*content))
            key = content, keep.tobytes(), extra.tobytes()
            try:
                if extra.any() and power(one).min() <= 0:
                    _plain_factor(*content, np.ones_like(keep).tobytes())  # what photon noise would hide
                if key not in made:
                    made[key] = factorise(blocks[-1], keep, extra) if extra.any() else _plain_factor(*content, keep.tobytes())
            except np.linalg.LinAlgError:
                raise InputError(
                    f"`noise_correlation` of stamp {row // bands}, band {row % bands} is not positive definite over {height} x {width} pixels, "
                    f"so no noise can have it (its power spectrum goes down to {power(one).min():.2g}): measure it to larger lags, or set the negative "
                    "power to zero and add a little to all"
                ) from None
            factors.append(made[key])
        return blocks, factors[:1] if len(made) == 1 else factors

    def _expand_about(
        self, middle: Array, pixels: Pixels, correlation: Array, blocks: list[ToeplitzBlocks], factors: list[BlockFactor], dtype: str
    ) -> None:
        import tensorflow as tf

        diagonals, on, below, third, fourth = [], [], [], [], []
        for row, one in enumerate(factors):
            inverse_on, inverse_below = selected_inverse(one)
            size = inverse_on.shape[1]
            diagonals.append(inverse_on[:, np.arange(size), np.arange(size)].ravel()[: middle.shape[1]])
            inverse_on[:, np.arange(size), np.arange(size)] = 0
            on.append(inverse_on**2)
            below.append(inverse_below**2)
            moments = central_moments(power(correlation[row]), middle[row])
            third.append(moments[0])
            fourth.append(moments[1])
        diagonal = np.array(diagonals)
        if self.columns is not None:
            # what the nuisances take away: columns of C0^-1 A (I + A^T C0^-1 A)^(-1/2)
            forms = tf.cast(tf.matmul(self.columns, self.columns, transpose_b=True), tf.float64)
            root = tf.linalg.cholesky(forms + tf.eye(forms.shape[-1], dtype=tf.float64))
            taken = tf.linalg.triangular_solve(root, tf.cast(self.solver.unwhiten(self.columns), tf.float64))
            diagonal = diagonal - tf.reduce_sum(taken**2, 1).numpy()
        self.middle = tf.constant(middle[:, None], dtype)
        self.photon = tf.constant(pixels.photon[:, None], dtype)
        self.inverse_diagonal = tf.constant(diagonal[:, None], dtype)
        self.moments = [tf.constant(np.array(m)[:, None], dtype) for m in (third, fourth)]
        self.squares_on = [tf.constant(np.stack([s[j] for s in on]), dtype) for j in range(blocks[0].count)]
        self.squares_below = [tf.constant(np.stack([s[j] for s in below]), dtype) for j in range(blocks[0].count - 1)]

    def _enough_steps(self, residual: Array, delta: Array, dtype: str) -> int:
        """Choose the number of steps whose next one no longer matters, on some of the reference models."""
        import tensorflow as tf

        if delta.shape[1] < 3:
            return DEFAULT_STEPS
        every = -(-delta.shape[1] // TRIAL_MODELS)
        x, change = tf.constant(residual[:, ::every, None], dtype), tf.constant(delta[:, ::every], dtype)
        before = conjugate_gradient_forms(x, change, self.solve, 1).numpy()
        for steps in range(1, MAX_STEPS):
            after = conjugate_gradient_forms(x, change, self.solve, steps + 1).numpy()
            if np.std(after - before, axis=1).max() / 2 < STEP_TOLERANCE:
                return steps
            before = after
        return MAX_STEPS

    def solve(self, x: Any) -> Any:
        """Return C0^-1 x for x ``(n, S, P)``."""
        return self.solver.unwhiten(self._shrunk(self.solver.whiten(x), twice=True))

    def whiten(self, x: Any, model: Any) -> Any:
        """Return C0^(-1/2) x, ``(n, S, P)`` float64, for x ``(n, S, P)``; `model` does not enter.

        Each pixel given those before it, in reading order: where there is no structure, white.
        """
        import tensorflow as tf

        return tf.cast(self._shrunk(self.solver.whiten(x), twice=False)[..., : x.shape[-1]], tf.float64)

    def _shrunk(self, w: Any, *, twice: bool) -> Any:
        """Apply (I + B B^T)^(-1/2), or its square, where B are the whitened nuisances."""
        import tensorflow as tf

        if self.columns is None:
            return w
        for _ in range(1 + twice):
            amplitudes = tf.matmul(tf.matmul(w, self.columns, transpose_b=True), self.shrinkage)
            w -= tf.matmul(amplitudes, self.columns)
        return w

    def forms(self, x: Any, model: Any) -> tuple[Any, Any]:
        """Return x^T C^-1 y ``(n, S, k, k)`` of columns ``(n, S, k, P)``, and log det C; see `WhiteNoise.forms`."""
        import tensorflow as tf

        if not self.exact:
            delta = tf.maximum(model, 0) * self.photon - self.middle
            change = log_det_change(delta, self.inverse_diagonal, self.squares_on, self.squares_below, *self.moments)
            return conjugate_gradient_forms(x, delta, self.solve, self.steps), self.log_det + change
        shape = tf.shape(x)
        flat = tf.reshape(x, tf.concat([shape[:1], [shape[1] * shape[2]], shape[3:]], 0))
        w = tf.cast(self._shrunk(self.solver.whiten(flat), twice=False), tf.float64)
        w = tf.reshape(w, tf.concat([shape[:3], [-1]], 0))
        return tf.matmul(w, w, transpose_b=True), self.log_det


@functools.lru_cache(maxsize=16)
def _blocks(content: bytes, shape: tuple[int, int], height: int, width: int) -> ToeplitzBlocks:
    return toeplitz_blocks(np.frombuffer(content).reshape(shape), height, width)


@functools.lru_cache(maxsize=4)
def _plain_factor(content: bytes, shape: tuple[int, int], height: int, width: int, keep: bytes) -> BlockFactor:
    """Factorise R without photon noise: the same for all unmasked stamps of a size, so it is kept between batches."""
    kept = np.frombuffer(keep, bool)
    return factorise(_blocks(content, shape, height, width), kept, np.zeros(len(kept)))
