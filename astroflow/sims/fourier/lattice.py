r"""Where the light of periodic copies is worked out, and how it becomes pixels.

Seen from a galaxy's centre, its copies stand in pairs on opposite sides, and a Sersic profile is the same seen from either. So
the sum of their light is even: half of the copies are worked out, at Chebyshev nodes over a square about the centre that holds the stamp,
and of the polynomials that go through the values there only the even ones, ``T_i(u) T_j(v)`` with ``i + j`` even, count twice.

A far copy is smooth, and a near one is smooth on the way to it: what has to be resolved is the width of an elongated galaxy's ridge across
that way. Hence the numbers of nodes in `NODES`.
"""

__all__ = ["FURTHEST", "Lattice", "Square"]

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.sims.fourier.chebyshev import nodes as nodes_of
from astroflow.sims.fourier.chebyshev import to_coefficients
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.xla import settled
from astroflow.types import Array

NODES = {1: (8, 19, 12), 2: (4, 9, 5), 3: (3, 7, 4)}
"""For copies so many periods away: nodes on the way to the copy, across it, and in both directions where the way is a diagonal."""
FURTHEST = max(NODES)
"""Periods out to which copies are summed one by one."""
TERMS = max(max(counts) for counts in NODES.values())


@dataclass(frozen=True)
class Lattice:
    """The nodes of half the copies in a row.

    Attributes
    ----------
    places : ndarray
        ``(K, 2)``: each node's copy, x and y in pixels from the galaxy.
    nodes : ndarray
        ``(K, 2)``: the node in units of the square's half sides.
    matrix : ndarray
        ``(K, even i and j + odd i and j)``, from values at the nodes to coefficients, of y first.
    """

    places: Array
    nodes: Array
    matrix: Array

    @staticmethod
    @functools.lru_cache(maxsize=32)
    def of(grid: ModeGrid) -> "Lattice":
        """Return the lattice of a grid."""
        span = range(-FURTHEST, FURTHEST + 1)
        places, nodes, rows = [], [], []
        for i, j in ((i, j) for i in span for j in span if (i, j) > (0, 0)):
            along, across, both = NODES[max(abs(i), abs(j))]
            across_y = abs(i) > abs(j)
            x, y = (both, both) if abs(i) == abs(j) else (along, across) if across_y else (across, along)
            nodes.append(np.stack(np.meshgrid(nodes_of(x), nodes_of(y)), -1).reshape(-1, 2))
            places.append(np.full((x * y, 2), (i, j)) * float(grid.period))
            halves = [np.einsum("jy,ix->yxji", _to_terms(y)[part], _to_terms(x)[part]) for part in (slice(0, None, 2), slice(1, None, 2))]
            rows.append(np.concatenate([2 * half.reshape(x * y, -1) for half in halves], 1))
        return Lattice(np.concatenate(places), np.concatenate(nodes), np.concatenate(rows))


def _to_terms(count: int) -> Array:
    """Return the matrix ``(TERMS, count)`` from values at nodes to Chebyshev coefficients, zero beyond `count`."""
    return np.pad(to_coefficients(count), ((0, TERMS - count), (0, 0)))


class Square:
    """Squares about the centres of galaxies that hold the stamp, ``x`` and ``y`` ``(N,)`` the centres in pixels from the stamp's."""

    def __init__(self, x: Any, y: Any, grid: ModeGrid) -> None:
        import tensorflow as tf

        self.lattice = Lattice.of(grid)
        # whatever its size, the same function is interpolated
        self._halves = [settled(tf.stop_gradient(grid.size / 2 + tf.abs(v)))[:, None] for v in (x, y)]
        pixels = tf.constant(np.arange(grid.size) - (grid.size - 1) / 2, tf.float32)
        self._places = [settled((pixels - v[:, None]) / half) for v, half in zip((x, y), self._halves, strict=True)]

    def distances(self) -> tuple[Any, Any]:
        """Return x and y of the nodes from their copies, ``(N, K)`` each, in pixels."""
        import tensorflow as tf

        nodes, places = (tf.constant(v, tf.float32) for v in (self.lattice.nodes, self.lattice.places))
        dx, dy = (half * nodes[:, k] - places[:, k] for k, half in enumerate(self._halves))
        return dx, dy

    def terms(self, values: Any) -> Any:
        """Return the coefficients ``(..., terms)`` of light ``(..., K)`` at the nodes."""
        import tensorflow as tf

        matrix = tf.constant(self.lattice.matrix, tf.float32)
        nodes, terms = matrix.shape
        return tf.reshape(tf.matmul(tf.reshape(values, [-1, nodes]), matrix), [-1, *values.shape[1:-1], terms])

    @functools.cached_property
    def _polynomials(self) -> tuple[Any, Any]:
        """Chebyshev polynomials at the pixels along x and along y, ``(N, TERMS, size)``, even ones first."""
        return tuple(_even_first(_polynomials(u)) for u in self._places)

    @functools.cached_property
    def _slopes(self) -> tuple[Any, Any]:
        """Their derivatives with respect to the pixel."""
        return tuple(_even_first([v / half for v in _slopes(u)]) for u, half in zip(self._places, self._halves, strict=True))

    def to_pixels(self, terms: Any) -> Any:
        """Turn coefficients ``(N, P, terms)`` into pictures ``(N, P, size, size)``."""
        return _pictures(terms, *self._polynomials)

    def to_slopes(self, terms: Any) -> Any:
        """Return the slopes in x and in y of the picture of coefficients ``(N, terms)``, ``(N, 2, size, size)``."""
        import tensorflow as tf

        (x, y), (along_x, along_y) = self._polynomials, self._slopes
        one = terms[:, None]
        return tf.concat([_pictures(one, along_x, y), _pictures(one, x, along_y)], 1)


def _pictures(terms: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    even, odd = (TERMS + 1) // 2, TERMS // 2
    shape = [-1, terms.shape[1]]
    of_even = tf.reshape(terms[..., : even * even], [*shape, even, even])
    of_odd = tf.reshape(terms[..., even * even :], [*shape, odd, odd])
    rows = tf.concat([tf.matmul(of_even, x[:, None, :even]), tf.matmul(of_odd, x[:, None, even:])], 2)  # (N, P, TERMS, size)
    return tf.matmul(tf.repeat(y[:, None], terms.shape[1], 1), settled(rows), transpose_a=True)


def _even_first(values: list[Any]) -> Any:
    import tensorflow as tf

    return settled(tf.stack(values[::2] + values[1::2], 1))


def _polynomials(u: Any) -> list[Any]:
    import tensorflow as tf

    found = [tf.ones_like(u), u]
    while len(found) < TERMS:
        found.append(2 * u * found[-1] - found[-2])
    return found


def _slopes(u: Any) -> list[Any]:
    """T_j' = j U_(j - 1), with U the polynomials of the second kind."""
    import tensorflow as tf

    second = [tf.ones_like(u), 2 * u]
    while len(second) < TERMS:
        second.append(2 * u * second[-1] - second[-2])
    return [tf.zeros_like(u), *(degree * value for degree, value in enumerate(second[:-1], 1))]
