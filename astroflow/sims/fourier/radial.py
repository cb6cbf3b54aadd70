r"""Radial Fourier profiles as small tables that TensorFlow evaluates, with exact gradients.

A round profile of unit flux and unit size has a transform ``G(s, k)`` that depends on its shape ``s`` (the Sersic index n, Moffat's
beta) and on the wavenumber. It is one for small k and falls to zero over a range of k that widens with the wings, so it is smooth in

.. math:: x = 2 q / (1 + q) - 1, \qquad q = (k / k_0(s))^{a(s)},

which runs from -1 to 1, and is expanded there in Chebyshev polynomials whose coefficients are Chebyshev polynomials in log s. An
evaluation is a logarithm, a hyperbolic tangent and two dozen multiply-adds for each wavenumber, without look-ups; its error is measured
when it is made.

The Sersic transform itself comes from SciPy's FFTLog (Hamilton 2000, https://doi.org/10.1046/j.1365-8711.2000.03071.x), which reaches
1e-9 in a millisecond; GalSim's own table of the same integral is good to 1e-6.
"""

__all__ = ["RadialTable", "moffat_reach", "moffat_table", "sersic_table"]

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy import fft, special
from scipy.interpolate import CubicSpline

from astroflow.errors import ConfigError
from astroflow.sims.fourier.chebyshev import nodes as nodes_of
from astroflow.sims.fourier.xla import settled
from astroflow.types import Array

SHAPE_TERMS = 20
K_TERMS = (12, 16, 20, 24, 28, 32, 40, 48)
K_RANGE = (1e-3, 1e3)


@dataclass(frozen=True)
class RadialTable:
    """Chebyshev coefficients of ``G(shape, k)``.

    Attributes
    ----------
    low, high : float
        Range of the shape.
    coefficients : ndarray
        ``(shape terms, k terms)``.
    slope, pivot : callable
        ``a(shape)`` and ``k_0(shape)``, for NumPy arrays and tensors alike.
    error : float
        Largest absolute error of G found, over the whole range of shapes and all k.
    """

    low: float
    high: float
    coefficients: Array
    slope: Callable[[Any], Any]
    pivot: Callable[[Any], Any]
    error: float

    def expand(self, shape: Any, coefficients: Array | None = None) -> Any:
        """Return coefficients ``(N, J)`` of the polynomials in x for shapes ``(N,)``."""
        import tensorflow as tf

        v = (tf.math.log(shape) - math.log(self.low)) / math.log(self.high / self.low) * 2 - 1
        given = self.coefficients if coefficients is None else coefficients
        terms = [tf.ones_like(v), v]
        while len(terms) < len(given):
            terms.append(2 * v * terms[-1] - terms[-2])
        return tf.matmul(tf.stack(terms, -1), tf.constant(given, tf.float32))

    def evaluate(self, shape: Any, k_squared: Any) -> Any:
        """Return G at squared wavenumbers ``(N, ...)``, in units of the inverse size, for shapes ``(N,)``."""
        return _clenshaw(self.expand(shape), self._place(shape, k_squared)[0])

    def evaluate_with_slopes(self, shape: Any, k_squared: Any) -> tuple[Any, Any, Any]:
        """Return G, ``dG / d shape`` and ``dG / d log k^2``, each shaped as `k_squared` ``(N, ...)``, for shapes ``(N,)``."""
        import tensorflow as tf

        x, log_k = self._place(shape, k_squared)
        coefficients = self.expand(shape)
        dg_dx = _clenshaw(tf.matmul(coefficients, tf.constant(_derivative(coefficients.shape[1]))), x)
        # x = tanh(h (log k - p)), with h half the slope and p the log pivot
        columns = (slice(None), *(None,) * (k_squared.shape.rank - 1))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(shape)
            half_slope, log_pivot = 0.5 * self.slope(shape), tf.math.log(self.pivot(shape))
        slope_rate = _or_zero(tape.gradient(half_slope, shape), shape)
        pivot_rate = half_slope * _or_zero(tape.gradient(log_pivot, shape), shape)
        rates = settled(tf.stack([half_slope, slope_rate, pivot_rate, log_pivot]))
        half_slope, slope_rate, pivot_rate, log_pivot = (rates[k][columns] for k in range(4))
        dg_dh = settled(dg_dx * (1 - x * x))
        to_v = 2 / math.log(self.high / self.low)
        rows = self.expand(shape, chebyshev.chebder(self.coefficients, axis=0)) * (to_v / shape)[:, None]
        dg_dshape = _clenshaw(rows, x) + dg_dh * (slope_rate * (log_k - log_pivot) - pivot_rate)
        return _clenshaw(coefficients, x), dg_dshape, 0.5 * half_slope * dg_dh

    def _place(self, shape: Any, k_squared: Any) -> tuple[Any, Any]:
        """Return x and log k."""
        import tensorflow as tf

        columns = (slice(None), *(None,) * (k_squared.shape.rank - 1))
        rows = settled(tf.stack([0.5 * self.slope(shape), tf.math.log(self.pivot(shape))]))
        log_k = 0.5 * tf.math.log(tf.maximum(k_squared, 1e-12))  # the floor keeps the gradient finite at k = 0
        return settled(tf.tanh(rows[0][columns] * (log_k - rows[1][columns]))), log_k


@functools.lru_cache(maxsize=16)
def _derivative(count: int) -> Array:
    """Return the matrix ``(count, count)`` that takes Chebyshev polynomials to their derivatives."""
    matrix = np.zeros((count, count), np.float32)
    for degree in range(1, count):
        matrix[degree, :degree] = chebyshev.chebder(np.eye(count)[degree])[:degree]
    return matrix


def _clenshaw(coefficients: Any, x: Any) -> Any:
    """Sum Chebyshev polynomials of coefficients ``(N, J)`` at x ``(N, ...)``."""
    import tensorflow as tf

    c = tf.unstack(tf.reshape(settled(coefficients), [-1, coefficients.shape[1], *[1] * (x.shape.rank - 1)]), axis=1)
    previous, current, twice = tf.zeros_like(x), c[-1] + tf.zeros_like(x), 2 * x
    for coefficient in c[-2:0:-1]:
        previous, current = current, twice * current - previous + coefficient
    return settled(x * current - previous + c[0])


def _or_zero(gradient: Any, like: Any) -> Any:
    import tensorflow as tf

    return tf.zeros_like(like) if gradient is None else gradient


def _tabulate(
    transform: Callable[[float, Array], Array],
    low: float,
    high: float,
    slope: Callable[[Any], Any],
    pivot: Callable[[Any], Any],
    tolerance: float,
) -> RadialTable:
    """Take as many terms in k as the tolerance asks for, measuring the error between the nodes."""
    high = max(high, low * 1.01)  # one shape still needs a range
    span = math.log(high / low)
    shapes = low * np.exp(span * (nodes_of(SHAPE_TERMS) + 1) / 2)
    checks = low * np.exp(span * (np.arange(41) / 40))
    k = np.geomspace(*K_RANGE, 600)
    truth = np.array([transform(s, k) for s in checks])
    table = None
    for terms in K_TERMS:
        x = nodes_of(terms)
        values = np.empty((SHAPE_TERMS, terms))
        for i, s in enumerate(shapes):
            nodes = pivot(s) * ((1 + x) / (1 - x)) ** (1 / slope(s))
            values[i] = chebyshev.chebfit(x, transform(s, nodes), terms - 1)
        coefficients = chebyshev.chebfit(nodes_of(SHAPE_TERMS), values, SHAPE_TERMS - 1)
        error = 0.0
        for s, row in zip(checks, truth, strict=True):
            q = (k / pivot(s)) ** slope(s)
            at_shape = chebyshev.chebval(math.log(s / low) / span * 2 - 1, coefficients)
            error = max(error, float(np.abs(chebyshev.chebval(2 * q / (1 + q) - 1, at_shape) - row).max()))
        table = RadialTable(low, high, coefficients.astype(np.float32), slope, pivot, error)
        if error < tolerance:
            return table
    raise ConfigError(f"no table of {K_TERMS[-1]} terms is as exact as {tolerance:g} over shapes {low} to {high}; got {error:.1e}")


# Slopes and pivots that keep both ends of the Sersic family smooth: found by minimising the error of 28 terms.
def _sersic_slope(n: Any) -> Any:
    return 1.1 / (1 + (n / 3) ** 2) ** 0.5


def _sersic_pivot(n: Any) -> Any:
    return 4 / (1 + n / 1.2)


@functools.lru_cache(maxsize=16)
def sersic_table(low: float, high: float, tolerance: float = 2e-5) -> RadialTable:
    """Return the transform of Sersic profiles of unit flux and half-light radius, for indices `low` to `high`."""
    if not 0.25 <= low <= high <= 8:
        raise ConfigError(f"Sersic indices from {low} to {high}: tables are made between 0.25 and 8")
    return _tabulate(_sersic_transform, low, high, _sersic_slope, _sersic_pivot, tolerance)


def _sersic_transform(n: float, k: Array) -> Array:
    spline, k_min, k_max = _sersic_spline(n)
    return np.asarray(np.where(k < k_min, 1.0, np.where(k > k_max, 0.0, spline(np.log(np.clip(k, k_min, k_max))))))


@functools.lru_cache(maxsize=128)
def _sersic_spline(n: float) -> tuple[CubicSpline, float, float]:
    """Hankel transform of order zero on a logarithmic grid, by FFTLog."""
    samples, step = 4096, 0.01
    b = special.gammaincinv(2 * n, 0.5)
    r = np.exp((np.arange(samples) - (samples - 1) / 2) * step)
    offset = fft.fhtoffset(step, mu=0.0)
    k = np.exp(offset) / r[::-1]
    transform = fft.fht(np.exp(-b * r ** (1 / n)) * r, step, mu=0.0, offset=offset) / k
    flux = n * special.gamma(2 * n) / b ** (2 * n)
    inside = (k > 1e-5) & (k < 1e5)
    return CubicSpline(np.log(k[inside]), transform[inside] / flux), float(k[inside][0]), float(k[inside][-1])


@functools.lru_cache(maxsize=16)
def moffat_table(low: float, high: float, tolerance: float = 2e-5) -> RadialTable:
    """Return the transform of Moffat profiles of unit flux and scale radius, for slopes `low` to `high`."""
    if not 1.5 <= low <= high <= 20:
        raise ConfigError(f"Moffat slopes from {low} to {high}: tables are made between 1.5 and 20")
    # found by minimising the error of 20 terms: the transform falls exponentially for long wings, like a Gaussian for short ones
    if high <= 2.0:
        slope, scale, power = 1.0, 1.5, 0.0
    elif high <= 4.5:
        slope, scale, power = 0.925, 1.65, 1.06
    else:
        slope, scale, power = 2.0, 2.6, 0.5
    return _tabulate(moffat_transform, low, high, lambda beta: slope + 0 * beta, lambda beta: scale * beta**power, tolerance)


@functools.lru_cache(maxsize=16)
def moffat_reach(low: float, high: float, floor: float) -> tuple[Array, Array]:
    """Return slopes from `low` to `high`, and the wavenumbers, in inverse scale radii, beyond which their transforms stay below `floor`."""
    slopes = np.geomspace(low, high, 24)
    k = np.geomspace(0.1, 300, 2000)
    return slopes, np.array([k[np.flatnonzero(moffat_transform(beta, k) > floor)[-1] + 1] for beta in slopes])


def moffat_transform(beta: float | Array, k: Array) -> Array:
    """Return the transform of Moffat profiles of unit flux and scale radius, slopes `beta`, at wavenumbers `k`, which broadcast."""
    k = np.maximum(k, 1e-8)
    return np.asarray(k ** (beta - 1) * special.kv(beta - 1, np.minimum(k, 600.0)) * 2 ** (2 - beta) / special.gamma(beta - 1))
