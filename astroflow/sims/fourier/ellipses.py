"""Sersic profiles as modes see them: ellipses, whose matrices say how a round transform is stretched."""

__all__ = ["Ellipse", "by_centre", "ellipse"]

from collections.abc import Sequence
from typing import Any, NamedTuple

from astroflow.sims.sersics import Sersic


class Ellipse(NamedTuple):
    """A Sersic profile as modes see it, every member ``(N,)``.

    `xx`, `xy` and `yy` are the matrix M of its half-light ellipse, ``r^T M^-1 r = 1`` in pixels; its transform depends on ``k^T M k``.
    """

    flux: Any
    n: Any
    xx: Any
    xy: Any
    yy: Any
    x: Any
    y: Any

    @property
    def metric(self) -> Any:
        """M, ``(N, 2, 2)``."""
        import tensorflow as tf

        return tf.stack([tf.stack([self.xx, self.xy], -1), tf.stack([self.xy, self.yy], -1)], -2)


def ellipse(c: Sersic) -> Ellipse:
    """Return the ellipse of a component whose lengths are pixels."""
    squared = c.e1**2 + c.e2**2
    # the semi-axes are re and re q with q = (1 - |e|) / (1 + |e|), written so that round galaxies have gradients
    size = (c.re / (1 + _root(squared))) ** 2
    return Ellipse(c.flux, c.n, size * (1 + squared + 2 * c.e1), 2 * size * c.e2, size * (1 + squared - 2 * c.e1), c.x, c.y)


def _root(squared: Any) -> Any:
    import tensorflow as tf

    return tf.sqrt(squared + 1e-12)


def by_centre(components: Sequence[Sersic]) -> list[list[Ellipse]]:
    """Return the components' ellipses, those together that share a centre."""
    centres: dict[tuple[int, int], list[Ellipse]] = {}
    for c in components:
        centres.setdefault((id(c.x), id(c.y)), []).append(ellipse(c))
    return list(centres.values())
