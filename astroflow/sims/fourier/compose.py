"""Composing galaxies on modes, whole batches at once, with exact gradients: sums of Sersic profiles through given PSFs.

A galaxy's transform is tabulated (`radial`), sheared, scaled and shifted on the stamp's modes, multiplied by the PSF's (`psf`), turned into
pixels (`grid`), and freed of the light of its periodic copies (`wings`). It is the physics of GalSim's own drawing in another
order; the two are held together by tests to 1e-3 of the peak and of the flux and 3e-4 in norm, and measured by
``benchmarks/fourier_error.py``.
"""

__all__ = ["Ellipse", "by_centre", "draw_sersics", "ellipse"]

from collections.abc import Sequence
from typing import Any, NamedTuple

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import quadratic
from astroflow.sims.fourier.radial import RadialTable
from astroflow.sims.fourier.wings import blur_of, wrapped_light
from astroflow.sims.fourier.xla import settled
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


def draw_sersics(components: Sequence[Sersic], psf: Any, grid: ModeGrid, table: RadialTable) -> Any:
    """Draw sums of Sersic profiles through PSFs.

    Parameters
    ----------
    components : sequence of Sersic
        Members ``(N,)``; lengths in pixels, unlike elsewhere.
    psf : tensor
        ``(N, 1 or 2, Mx, My)``, pixel included, see `PSFFamily.transform`.
    grid : ModeGrid
        The modes.
    table : RadialTable
        Of Sersic profiles, covering every index.

    Returns
    -------
    tensor
        ``(N, size, size)`` float32.
    """
    import tensorflow as tf

    drawn, blur = [], blur_of(psf, grid)
    for members in by_centre(components):
        spectra = [settled(e.flux)[:, None, None] * table.evaluate(e.n, quadratic(e.metric, grid)) for e in members]
        wings = tf.add_n([wrapped_light(*e, blur, grid) for e in members])
        drawn.append(grid.to_pixels(tf.add_n(spectra)[:, None] * psf, members[0].x, members[0].y) - wings)
    return tf.add_n(drawn)
