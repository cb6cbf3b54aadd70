"""Photon noise on top of correlated noise: what changes when the covariance moves from C0 to C0 + diag(delta).

delta = max(model, 0) / gain - its value in the reference model. C0 is factorised once; for every model, a few steps of conjugate
gradients preconditioned with C0 give C^-1 x, and an expansion gives log det C:

    sum log(1 + S_ii delta_i) - 1/2 sum_ij f_i f_j O_ij^2 + 1/3 sum m3_i f_i^3 - 1/4 sum m4_i f_i^4

with S = C0^-1, O its part off the diagonal and f_i = delta_i / (1 + S_ii delta_i). The first sum is exact for each pixel alone, the
second is the next order, from pairs of neighbours, and the last two are what stationary noise has beyond, m3 and m4 being
local moments of its inverse spectrum. What all of it leaves off is taken up by scaling the last three sums, galaxy by galaxy, to what
the determinants of some models are (`fitted`).

The series has an end: where its terms no longer shrink. Pixels that a model brightens or dims that far beyond the reference (`FAR`) are
taken out of it, and count as if the noise about them were stationary: the mean over the spectrum of log((p + q + delta) / (p + q)), right
to some per cent.
"""

__all__ = ["Series", "conjugate_gradient_forms", "fitted", "log_det_change", "scattered", "stationary_log", "terms"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from astroflow.types import Array

FAR = (0.7, 1.4)
"""A pixel leaves the series while the larger of abs(log(1 + S_ii delta_i)) and m4^(1/4) abs(f_i) goes from the first to the second."""
SPECTRUM_RANGE, SPECTRUM_POINTS = (1e-5, 1e7), 512
"""Variances, in units of that of the noise, between which mean logs of the spectrum are tabulated."""
TOLERANCE = 0.003
"""What is left of log det C that is not worth a correction: sums that are smaller than this stay what they are."""


@dataclass(frozen=True)
class Series:
    """What `log_det_change` needs to know of C0.

    `inverse_diagonal` ``(n, 1, P)``: S_ii. `on`, `below`: m blocks on the diagonal and m - 1 below it, ``(n, b, b)``, of O squared,
    element by element. `third`, `fourth` ``(n, 1, P)``: m3 and m4. `pairs` ``(n, 1)`` float64: by what the sum over pairs is scaled.
    `width` ``(n, 1, P)``: m4^(1/4), however m4 is scaled. `variance` ``(n, 1, P)``: q, the photons' part of C0's diagonal. `stationary`
    ``(n, T)``: `stationary_log` of the noise.
    """

    inverse_diagonal: Any
    on: Sequence[Any]
    below: Sequence[Any]
    third: Any
    fourth: Any
    pairs: Any
    width: Any
    variance: Any
    stationary: Any


def stationary_log(power: Array) -> Array:
    """Return the mean over a power spectrum of log(p + v), ``(T,)``, at `SPECTRUM_POINTS` variances v, evenly spaced in log v."""
    low, high = np.log(SPECTRUM_RANGE)
    v = np.exp(np.linspace(low, high, SPECTRUM_POINTS))
    return np.asarray(np.log(np.maximum(power, 0)[:, None] + v).mean(0))


def conjugate_gradient_forms(x: Any, delta: Any, solve: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield x^T (C0 + diag(delta))^-1 y for pairs of columns, better with each step.

    Each step is one solve with C0. C0 times a direction is carried along instead of computed. The forms are stationary:
    their error is the square of the solution's.

    Parameters
    ----------
    x : tensor
        ``(n, S, k, P)`` columns.
    delta : tensor
        ``(n, S, P)``.
    solve : callable
        C0^-1 of ``(n, S k, P)``.

    Yields
    ------
    tensor
        ``(n, S, k, k)`` float64.
    """
    import tensorflow as tf

    shape = tf.shape(x)
    flat = tf.concat([shape[:1], [shape[1] * shape[2]], shape[3:]], 0)

    def dot(a: Any, b: Any) -> Any:
        return tf.reduce_sum(tf.cast(a * b, tf.float64), -1, keepdims=True)

    def ratio(a: Any, b: Any) -> Any:
        return tf.cast(tf.math.divide_no_nan(a, b), x.dtype)

    delta = delta[:, :, None]
    solution, residual, direction, image, size, floor = 0.0, x, 0.0, 0.0, tf.zeros((), tf.float64), None
    while True:
        preconditioned = tf.reshape(solve(tf.reshape(residual, flat)), shape)
        before, size = size, dot(residual, preconditioned)
        # the square of the solution's error: where rounding is all that is left, go no further, for its slope is nonsense
        floor = float(np.finfo(x.dtype.as_numpy_dtype).eps) * tf.stop_gradient(size) if floor is None else floor
        size = tf.where(size > floor, size, tf.zeros_like(size))
        turn = ratio(size, before)
        direction, image = preconditioned + turn * direction, residual + turn * image
        moved = image + delta * direction
        length = ratio(size, dot(direction, moved))
        solution += length * direction
        residual -= length * moved
        solved, left, given = (tf.cast(part, tf.float64) for part in (solution, residual, x))
        yield tf.matmul(solved, given, transpose_b=True) + tf.matmul(left, solved, transpose_b=True)


def log_det_change(delta: Any, split: Callable[[Any], list[Any]], series: Series) -> Any:
    """Return log det(C0 + diag(delta)) - log det C0, ``(n, S)`` float64.

    Parameters
    ----------
    delta : tensor
        ``(n, S, P)``.
    split : callable
        Cuts ``(n, S, P)`` into m blocks ``(n, S, b)``.
    series : Series
        C0.
    """
    import tensorflow as tf

    near = _near(delta, series)
    f = near.f
    local = near.alone + f * f * f * (series.third / 3 - series.fourth * f / 4)
    return tf.reduce_sum(tf.cast(local, tf.float64), -1) + series.pairs * _pairs(f, split, series)


def terms(delta: Any, split: Callable[[Any], list[Any]], series: Series) -> Array:
    """Return the sums over pairs, third and fourth powers of `log_det_change`, ``(n, S, 3)`` float64, as the series has them."""
    f = _near(delta, series).f
    third, fourth = (part.numpy().sum(-1, dtype=np.float64) for part in (f**3 * series.third / 3, -(f**4) * series.fourth / 4))
    return np.stack([(series.pairs * _pairs(f, split, series)).numpy(), third, fourth], -1)


def fitted(series: Series, some: Array, missed: Array) -> Series:
    """Return the series with its last three sums scaled, row by row, by least squares.

    Parameters
    ----------
    series : Series
        As the noise alone has it.
    some : ndarray
        ``(n, K, 3)`` `terms` of K models.
    missed : ndarray
        ``(n, K)`` log det(C0 + diag(delta)) less what the series says of them.
    """
    import tensorflow as tf

    normal = np.einsum("nki,nkj->nij", some, some) + TOLERANCE**2 * np.eye(3)
    scale = 1 + np.linalg.solve(normal, np.einsum("nki,nk->ni", some, missed)[..., None])[..., 0]
    third, fourth = (tf.constant(scale[:, i, None, None], series.third.dtype) for i in (1, 2))
    return replace(series, pairs=series.pairs * scale[:, :1], third=series.third * third, fourth=series.fourth * fourth)


def scattered(points: Array, count: int) -> Array:
    """Return the positions of `count` of S points ``(S, D)`` that are far from each other, the furthest from the origin first."""
    scaled = points / np.maximum(np.abs(points).max(0), np.finfo(float).tiny)
    chosen = [int(np.argmax((scaled**2).sum(1)))]
    distance = np.full(len(points), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, ((scaled - scaled[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


class _Near(NamedTuple):
    """Of each pixel ``(n, S, P)``: its own part of the change, and f, zero where it is taken out of the series."""

    alone: Any
    f: Any


def _near(delta: Any, series: Series) -> _Near:
    import tensorflow as tf

    change = tf.maximum(series.inverse_diagonal * delta, -0.999)  # minus one would be a pixel of no variance, but for rounding
    own, f = tf.math.log1p(change), delta / (1 + change)
    size = tf.maximum(tf.abs(own), tf.abs(f) * series.width)
    way = tf.clip_by_value((size - FAR[0]) / (FAR[1] - FAR[0]), 0, 1)
    far = way * way * (3 - 2 * way)
    moved = _mean_log(series.variance + delta, series) - _mean_log(series.variance, series)
    return _Near(own + far * (moved - own), (1 - far) * f)


def _mean_log(variance: Any, series: Series) -> Any:
    """Return the mean over the spectrum of log(p + variance) for ``(n, S, P)``, between the values tabulated."""
    import tensorflow as tf

    low, high = np.log(SPECTRUM_RANGE)
    place = tf.math.log(tf.clip_by_value(variance, *SPECTRUM_RANGE))
    place = (place - low) * ((SPECTRUM_POINTS - 1) / (high - low))
    before = tf.clip_by_value(tf.cast(tf.floor(tf.stop_gradient(place)), tf.int32), 0, SPECTRUM_POINTS - 2)
    first, second = (tf.gather(series.stationary, before + k, batch_dims=1) for k in (0, 1))
    return first + (place - tf.cast(before, place.dtype)) * (second - first)


def _pairs(f: Any, split: Callable[[Any], list[Any]], series: Series) -> Any:
    """Return -1/2 sum_ij f_i f_j O_ij^2, ``(n, S)`` float64."""
    import tensorflow as tf

    pairs, before = 0.0, None
    for j, part in enumerate(split(f)):
        reached = tf.matmul(part, series.on[j])
        if before is not None:
            reached += 2 * tf.matmul(before, series.below[j - 1], transpose_b=True)
        pairs += tf.reduce_sum(tf.cast(part * reached, tf.float64), -1)
        before = part
    return -pairs / 2
