"""Composing galaxies on modes, whole batches at once, with exact gradients: sums of Sersic profiles through given PSFs.

A galaxy's transform is tabulated (`radial`), sheared, scaled and shifted on the stamp's modes, multiplied by the PSF's (`psf`), turned into
pixels (`grid`), and freed of the light of its periodic copies (`wings`). It is the physics of GalSim's own drawing in another
order; the two are held together by tests to 3e-4 of the peak, and measured by ``benchmarks/fourier.py``.
"""

__all__ = ["draw_sersics"]

from collections.abc import Sequence
from typing import Any

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import quadratic
from astroflow.sims.fourier.radial import RadialTable
from astroflow.sims.fourier.wings import wrapped_light
from astroflow.sims.fourier.xla import settled
from astroflow.sims.sersics import Sersic


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

    drawn = 0.0
    centres = {(id(c.x), id(c.y)): (c.x, c.y) for c in components}
    for key, (x, y) in centres.items():
        together, wings = 0.0, 0.0
        for c in components:
            if (id(c.x), id(c.y)) != key:
                continue
            shape, inverse = _shapes(c)
            transform = table.evaluate(c.n, quadratic(tf.matmul(shape, shape, transpose_b=True), grid))
            together += settled(c.flux)[:, None, None, None] * transform[:, None]
            wings += wrapped_light(c.flux, inverse, c.n, x, y, grid)
        drawn += grid.to_pixels(together * psf, x, y) - wings
    return drawn


def _shapes(c: Sersic) -> tuple[Any, Any]:
    """Return the linear map ``(N, 2, 2)`` of the round profile of unit half-light radius to this one, and its inverse."""
    import tensorflow as tf

    modulus_squared = c.e1**2 + c.e2**2
    modulus = tf.sqrt(modulus_squared + 1e-12)
    q = (1 - modulus) / (1 + modulus)
    # a shear keeps the area, so the round profile has the circularised radius
    radius = c.re * tf.sqrt(q)
    root = tf.sqrt(1 - modulus_squared)

    def matrix(a: Any, b: Any, d: Any) -> Any:
        return tf.stack([tf.stack([a, b], -1), tf.stack([b, d], -1)], -2)

    forward = matrix(1 + c.e1, c.e2, 1 - c.e1) * (radius / root)[:, None, None]
    inverse = matrix(1 - c.e1, -c.e2, 1 + c.e1) / (radius * root)[:, None, None]
    return forward, inverse
