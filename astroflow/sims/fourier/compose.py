"""Composing galaxies on modes, whole batches at once, with exact gradients: sums of Sersic profiles through given PSFs.

A galaxy's transform is tabulated (`radial`), sheared, scaled and shifted on the stamp's modes, multiplied by the PSF's (`psf`), turned into
pixels (`grid`), and freed of the light of its periodic copies (`wings`). It is the physics of GalSim's own drawing in another
order; the two are held together by tests to 1e-3 of the peak and of the flux and 3e-4 in norm, and measured by
``benchmarks/fourier_error.py``.
"""

__all__ = ["draw_sersics"]

from collections.abc import Sequence
from typing import Any

from astroflow.sims.fourier.ellipses import by_centre
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import quadratic
from astroflow.sims.fourier.radial import RadialTable
from astroflow.sims.fourier.wings import blur_of, wrapped_light
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

    drawn, blur = [], blur_of(psf, grid)
    for members in by_centre(components):
        spectra = [settled(e.flux)[:, None, None] * table.evaluate(e.n, quadratic(e.metric, grid)) for e in members]
        pictures = grid.to_pixels(tf.add_n(spectra)[:, None] * psf, members[0].x, members[0].y)
        drawn.append(pictures - wrapped_light(members, blur, grid))
    return tf.add_n(drawn)
