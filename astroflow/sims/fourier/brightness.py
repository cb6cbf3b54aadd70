"""What the surface brightness of Sersic profiles needs besides the radius: b(n), and the brightness at the centre."""

__all__ = ["b_slope", "log_peak", "sersic_b"]

import functools
import math
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from astroflow.sims.fourier.chebyshev import nodes as nodes_of
from astroflow.types import Array

B_TERMS = 16
N_RANGE = (0.25, 8.0)


def log_peak(n: Any) -> Any:
    """Return the log of a Sersic profile's central brightness for unit flux and an ellipse of unit determinant."""
    import tensorflow as tf

    return 2 * n * tf.math.log(sersic_b(n)) - math.log(2 * math.pi) - tf.math.log(n) - tf.math.lgamma(2 * n)


def sersic_b(n: Any) -> Any:
    """Return b(n), for which the half-light radius is one: ``P(2n, b) = 1/2``, to 1e-6."""
    return _series(n, _b_coefficients())


def b_slope(n: Any) -> Any:
    """Return db / dn."""
    return _series(n, chebyshev.chebder(_b_coefficients())) * (2 / math.log(N_RANGE[1] / N_RANGE[0])) / n


def _series(n: Any, coefficients: Array) -> Any:
    """Sum Chebyshev polynomials in log n over `N_RANGE`."""
    import tensorflow as tf

    low, high = N_RANGE
    v = (tf.math.log(n) - math.log(low)) / math.log(high / low) * 2 - 1
    previous, current, twice = tf.zeros_like(v), tf.zeros_like(v), 2 * v
    for coefficient in coefficients[:0:-1].tolist():
        previous, current = current, twice * current - previous + coefficient
    return v * current - previous + float(coefficients[0])


@functools.cache
def _b_coefficients() -> Array:
    v = nodes_of(B_TERMS)
    n = N_RANGE[0] * np.exp((v + 1) / 2 * math.log(N_RANGE[1] / N_RANGE[0]))
    return chebyshev.chebfit(v, special.gammaincinv(2 * n, 0.5), B_TERMS - 1)
