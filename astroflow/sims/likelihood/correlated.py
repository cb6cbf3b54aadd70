"""Correlated pixels: block Cholesky factors, shared where they can be, and photon noise about a reference model."""

__all__ = ["CorrelatedNoise", "impossible"]

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from astroflow.errors import InputError
from astroflow.sims.likelihood.blocks import BlockFactor, factorise
from astroflow.sims.likelihood.correlation import central_moments, power, toeplitz_blocks
from astroflow.sims.likelihood.nuisances import shrinkage
from astroflow.sims.likelihood.photon import Series, conjugate_gradient_forms, fitted, log_det_change, scattered, stationary_log, terms
from astroflow.sims.likelihood.pixels import Pixels
from astroflow.types import Array

STEP_CHANGES = (0.1, 0.3, 0.6)
"""Two conjugate-gradient steps leave less than 0.01 of log L where no pixel's variance, given all others, changes by more than the first
of these fractions over the reference models; three, four and five steps do for larger changes. Five for a single reference model."""
FAR = 32
"""Models far from the reference that are solved at a time."""
FURTHER = {1.0: 8, 4.0: 12, 16.0: 20, 64.0: 30}
"""Steps of single models that change the variance of a pixel, given all others, by more than such a factor: far from the reference."""
KNOWN = 8
"""Of the reference models, the determinants of so many are computed: they say what the series for the others leaves off."""
SHARED = 64
"""Rows, all of the same covariance, from which on they share one factor."""


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
        if self.exact:
            reference = np.zeros_like(pixels.photon)[:, None]
        elif reference is None:
            raise InputError(
                "noise that is correlated and has photon noise is expanded about reference models: give `reference`, noiseless images "
                "(N, B, H, W) or (N, S, B, H, W) of draws"
            )
        q = np.maximum(reference, 0) * pixels.photon[:, None]
        middle = q.mean(1)
        factor = self._factor(pixels, correlation, middle)
        self.factor = factor.convert(lambda block: tf.cast(block, dtype))
        self.columns = self.factor.whiten(tf.constant(columns, dtype)) if columns.shape[1] else None
        forms = None if self.columns is None else _forms(self.columns)
        self.log_det = _log_det(factor, forms)[:, None]
        if forms is not None:
            self.shrinkage = tf.cast(shrinkage(forms), dtype)
        if not self.exact:
            self._expand_about(middle, pixels, correlation, dtype)
            if q.shape[1] >= KNOWN:
                self._fit_series(q, pixels, correlation, columns)
            change = np.abs((q - middle[:, None]) * self.series.inverse_diagonal.numpy()).max((1, 2))
            self.steps = 2 + (np.searchsorted(STEP_CHANGES, change) if q.shape[1] > 1 else np.full(len(q), len(STEP_CHANGES)))

    @staticmethod
    def _factor(pixels: Pixels, correlation: Array, q: Array) -> BlockFactor:
        """Factorise each row's covariance: those that differ, once each."""
        import tensorflow as tf

        _, bands, height, width = pixels.shape

        def made(rows: Array) -> BlockFactor:
            kinds = correlation[rows]
            same = bool((kinds == kinds[0]).all())
            blocks = toeplitz_blocks(kinds[:1] if same else kinds, height, width)
            return factorise(blocks, pixels.keep[rows], q[rows])

        keys = [one.tobytes() + keep.tobytes() + extra.tobytes() for one, keep, extra in zip(correlation, pixels.keep, q, strict=True)]
        _, first, back = np.unique(np.array([hashlib.sha256(key).hexdigest() for key in keys]), return_index=True, return_inverse=True)
        _refuse_impossible(correlation, (bands, height, width))
        factor = made(first)
        # products with a factor of many rows round in another way than with one of each row: a few rows must not depend on each other
        if len(first) == 1 and len(back) >= SHARED:
            return factor
        return replace(factor.convert(lambda block: tf.gather(block, back)), log_det=tf.gather(factor.log_det, back))

    def _expand_about(self, middle: Array, pixels: Pixels, correlation: Array, dtype: str) -> None:
        """Prepare `log_det_change`: the inverse of C0 near its diagonal, and the moments of its spectrum."""
        import tensorflow as tf

        on, below = self.factor.selected_inverse()
        diagonal = tf.concat([tf.linalg.diag_part(block) for block in on], -1)[:, None, : middle.shape[1]]
        if self.columns is not None:
            # the nuisances take C0^-1 A (I + A^T C0^-1 A)^-1 A^T C0^-1 away
            forms = tf.matmul(self.columns, self.columns, transpose_b=True)
            root = tf.linalg.cholesky(forms + tf.eye(forms.shape[-1], dtype=dtype))
            taken = tf.linalg.triangular_solve(root, self.factor.unwhiten(self.columns))
            diagonal -= tf.reduce_sum(taken**2, 1, keepdims=True)
        self.middle, self.photon = tf.constant(middle[:, None], dtype), tf.constant(pixels.photon[:, None], dtype)
        spectra = [power(one) for one in correlation]
        moments = np.array([central_moments(spectrum, at) for spectrum, at in zip(spectra, middle, strict=True)])
        self.series = Series(
            diagonal,
            [tf.linalg.set_diag(tf.square(block), tf.zeros(block.shape[:-1], dtype)) for block in on],
            [tf.square(block) for block in below],
            tf.constant(moments[:, 0, None], dtype),
            tf.constant(moments[:, 1, None], dtype),
            tf.ones((len(middle), 1), tf.float64),
            tf.constant(moments[:, 1, None] ** 0.25, dtype),
            self.middle,
            tf.constant(np.array([stationary_log(spectrum) for spectrum in spectra]), dtype),
        )

    def _fit_series(self, q: Array, pixels: Pixels, correlation: Array, columns: Array) -> None:
        """Scale the series to the determinants of some reference models, as different from each other as there are."""
        import tensorflow as tf

        sums = terms(tf.constant(q, self.middle.dtype) - self.middle, self.factor.split, self.series)
        chosen = np.array([scattered(each, KNOWN) for each in sums])
        known, some = (np.take_along_axis(each, chosen[..., None], 1) for each in (q, sums))
        said = log_det_change(tf.constant(known, self.middle.dtype) - self.middle, self.factor.split, self.series).numpy()
        missed = np.empty(said.shape)
        for k in range(KNOWN):
            factor = self._factor(pixels, correlation, known[:, k])
            forms = _forms(factor.whiten(tf.constant(columns, tf.float64))) if columns.shape[1] else None
            missed[:, k] = (_log_det(factor, forms) - self.log_det[:, 0]).numpy() - said[:, k]
        self.series = fitted(self.series, some, missed)

    def solve(self, x: Any) -> Any:
        """Return C0^-1 x for x ``(n, S, P)``."""
        return self.factor.unwhiten(self._shrunk(self.factor.whiten(x), twice=True))

    def whiten(self, x: Any, model: Any) -> Any:
        """Return C0^(-1/2) x, ``(n, S, P)`` float64, for x ``(n, S, P)``; `model` does not enter.

        Each pixel given those before it, in reading order: where there is no structure, white.
        """
        import tensorflow as tf

        return tf.cast(self._shrunk(self.factor.whiten(x), twice=False)[..., : x.shape[-1]], tf.float64)

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
            change = log_det_change(delta, self.factor.split, self.series)
            return self._changed_forms(x, delta), self.log_det + change
        shape = tf.shape(x)
        flat = tf.reshape(x, tf.concat([shape[:1], [shape[1] * shape[2]], shape[3:]], 0))
        w = tf.cast(self._shrunk(self.factor.whiten(flat), twice=False), tf.float64)
        w = tf.reshape(w, tf.concat([shape[:3], [-1]], 0))
        return tf.matmul(w, w, transpose_b=True), self.log_det

    def _changed_forms(self, x: Any, delta: Any) -> Any:
        """Return x^T (C0 + diag(delta))^-1 y; each model takes the steps that it needs, whatever its neighbours do."""
        import tensorflow as tf

        largest = tf.reduce_max(tf.abs(delta * self.series.inverse_diagonal), -1)
        steps = tf.broadcast_to(tf.constant(self.steps[:, None], tf.int32), tf.shape(largest))
        for limit, count in FURTHER.items():
            steps = tf.where(largest > limit, count, steps)
        if not tf.executing_eagerly():
            return _after(x, delta, self.solve, steps, max(FURTHER.values()))
        # models far from the reference are few: they go on alone, so many at a time that products round alike in any company
        far = int(tf.reduce_max(tf.reduce_sum(tf.cast(steps > self.steps[:, None], tf.int32), -1)))
        forms = _after(x, delta, self.solve, self.steps[:, None], int(self.steps.max()))
        if not far:
            return forms
        order, parts, end = tf.argsort(steps, direction="DESCENDING", stable=True), [], 0
        for start in range(0, far, FAR):
            end = start + FAR
            own_x, own_delta, own_steps, own = (tf.gather(part, order[:, start:end], batch_dims=1) for part in (x, delta, steps, forms))
            further = _after(own_x, own_delta, self.solve, own_steps, int(tf.reduce_max(own_steps)))
            parts.append(tf.where((own_steps > self.steps[:, None])[..., None, None], further, own))
        parts.append(tf.gather(forms, order[:, end:], batch_dims=1))
        return tf.gather(tf.concat(parts, 1), tf.argsort(order, stable=True), batch_dims=1)


def _after(x: Any, delta: Any, solve: Callable[[Any], Any], steps: Any, most: int) -> Any:
    """Return `conjugate_gradient_forms` of each model after its number of steps ``(n, S)``, at most `most`."""
    import tensorflow as tf

    forms = tf.zeros([], tf.float64)
    for k, found in enumerate(itertools.islice(conjugate_gradient_forms(x, delta, solve), most)):
        forms = tf.where((steps > k)[..., None, None], found, forms)
    return forms


def _forms(columns: Any) -> Any:
    """Return A^T C0^-1 A, ``(n, K, K)`` float64, of whitened nuisances."""
    import tensorflow as tf

    return tf.cast(tf.matmul(columns, columns, transpose_b=True), tf.float64)


def _log_det(factor: BlockFactor, forms: Any | None) -> Any:
    """Return the log-determinant, ``(n,)`` float64, of the covariance with the nuisances that have these forms."""
    import tensorflow as tf

    if forms is None:
        return factor.log_det
    return factor.log_det + tf.linalg.logdet(forms + tf.eye(forms.shape[-1], dtype=tf.float64))


def impossible(correlation: Array, height: int, width: int) -> Array:
    """Say which correlations ``(n, h, w)`` are not positive definite over ``height x width`` pixels ``(n,)``: no noise can have them."""
    kinds, back = np.unique(correlation, axis=0, return_inverse=True)
    bad = np.zeros(len(kinds), bool)
    for k, one in enumerate(kinds):
        if power(one).min() > 0:
            continue  # a positive power spectrum makes every such matrix positive definite
        try:
            factorise(toeplitz_blocks(one[None], height, width), np.ones((1, height * width), bool), np.zeros((1, height * width)))
        except np.linalg.LinAlgError:
            bad[k] = True
    return bad[back.reshape(-1)]


def _refuse_impossible(correlation: Array, shape: tuple[int, int, int]) -> None:
    """Refuse correlations that no noise can have, also where photon noise or masks would hide it."""
    bands, height, width = shape
    bad = impossible(correlation, height, width)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"`noise_correlation` of stamp {row // bands}, band {row % bands} is not positive definite over {height} x {width} pixels: "
            f"no noise can have it. Its power spectrum goes down to {power(correlation[row]).min():.2g}: measure it to larger lags, or set "
            "the negative power to zero and add a little to all"
        )
