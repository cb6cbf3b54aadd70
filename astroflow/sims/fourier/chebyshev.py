"""Chebyshev nodes, and the matrices that take values there to coefficients."""

__all__ = ["nodes", "to_coefficients"]

import numpy as np
from numpy.polynomial import chebyshev

from astroflow.types import Array


def nodes(count: int) -> Array:
    """Return the zeros ``(count,)`` of the polynomial of that degree, in ``(-1, 1)``."""
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def to_coefficients(count: int) -> Array:
    """Return the matrix ``(count, count)`` from values at the nodes to the coefficients of the polynomials through them."""
    return np.linalg.inv(chebyshev.chebvander(nodes(count), count - 1))
