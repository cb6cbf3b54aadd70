r"""Light that a periodic pattern carries round its edges, and how it is taken off.

On a grid of modes every galaxy stands in an endless lattice of its copies. A Sersic profile of high index has wings as long as
a stamp, so the copies shine into it: at n = 6 and an effective radius of ten pixels, seven per cent of the flux is spread over the period.
That far from its centre a profile is smooth: its surface brightness is known in closed form, and a PSF changes it by its second moments at
most. It is summed over the nearer copies at a few nodes, interpolated to the pixels (`lattice`) and subtracted; all further copies
together are a constant (`far_light`).
"""

__all__ = ["Blur", "Copies", "blur_of", "wrapped_light"]

from collections.abc import Sequence
from typing import Any, NamedTuple

from astroflow.sims.fourier.brightness import log_peak, sersic_b
from astroflow.sims.fourier.ellipses import Ellipse
from astroflow.sims.fourier.far_light import far_light
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.lattice import Square
from astroflow.sims.fourier.xla import settled

BLUR_MODE = 3
"""Of the PSF's modes, the one at which its width is read off."""
FAINTEST = 1e-2
"""A mode there is taken to be at least so large, times the PSF's flux: transforms of defocused PSFs have zeros."""


class Blur(NamedTuple):
    """What a PSF does to smooth light, every member ``(N,)``: its flux, the shift `x`, `y` in pixels, and the second moments about it."""

    flux: Any
    x: Any
    y: Any
    xx: Any
    xy: Any
    yy: Any


def blur_of(psf: Any, grid: ModeGrid) -> Blur:
    """Return the blur of PSFs ``(N, 1 or 2, Mx, My)``, see `PSFFamily.transform`.

    The moments of most PSFs diverge. What counts are those on the scale of the light that is blurred, the width of a ridge, so they are
    read off low modes, as of a Gaussian: ``P(k) = P(0) exp(-i k x - k^T C k / 2)``. The shift is read off the lowest, whose phase is
    the furthest from half a turn.
    """
    import tensorflow as tf

    def about(step: int) -> Any:
        """Modes ``(N, 1 or 2, 2, 3)`` of kx and ky up to `step`."""
        return psf[:, :, : step + 1 : step, grid.modes - step : grid.modes + step + 1 : step]

    size = tf.sqrt(tf.reduce_sum(about(BLUR_MODE) ** 2, 1))  # (N, kx, ky)
    flux = size[:, 0, 1]
    fall = -2 / float(grid.kx[BLUR_MODE]) ** 2 * tf.math.log(tf.maximum(size / flux[:, None, None], FAINTEST))
    lowest = about(1)
    phase = tf.atan2(lowest[:, 1], lowest[:, 0]) / -float(grid.kx[1]) if psf.shape[1] == 2 else tf.zeros_like(size)
    return Blur(flux, phase[:, 1, 1], phase[:, 0, 2], fall[:, 1, 1], 0.25 * (fall[:, 1, 2] - fall[:, 1, 0]), fall[:, 0, 2])


def wrapped_light(members: Sequence[Ellipse], blur: Blur, grid: ModeGrid) -> Any:
    """Return the surface brightness of all copies of Sersic profiles inside the stamp.

    Parameters
    ----------
    members : sequence of Ellipse
        Profiles that share a centre.
    blur : Blur
        Of the PSF.
    grid : ModeGrid
        Gives stamp and period.

    Returns
    -------
    tensor
        ``(N, size, size)``, flux per pixel.
    """
    import tensorflow as tf

    copies = Copies(members[0].x, members[0].y, blur, grid)
    fluxes = [settled(e.flux * blur.flux)[:, None] for e in members]
    near = tf.add_n([flux * copies.light(e).light for flux, e in zip(fluxes, members, strict=True)])
    far = tf.add_n([flux[:, 0] * far_light(e.n, e.xx, e.xy, e.yy, grid) for flux, e in zip(fluxes, members, strict=True)])
    return copies.square.to_pixels(copies.square.terms(near)[:, None])[:, 0] + far[:, None, None]


class CopyLight(NamedTuple):
    """What is known of a profile's copies at the nodes, each ``(N, K)``.

    `light` is the surface brightness of unit flux, `exponent` ``b rho^(1/n)`` with rho in half-light radii, `log_rho_squared` its
    logarithm, `fall` the slope of the exponent in rho^2, and `gx`, `gy` the gradient of ``rho^2 / 2``.
    """

    light: Any
    exponent: Any
    log_rho_squared: Any
    fall: Any
    gx: Any
    gy: Any


class Copies:
    """The nearer copies of profiles about centres `x`, `y` ``(N,)`` in pixels of the stamp's, through PSFs of unit flux."""

    def __init__(self, x: Any, y: Any, blur: Blur, grid: ModeGrid) -> None:
        self.square = Square(x + blur.x, y + blur.y, grid)
        self._blur = blur
        self._dx, self._dy = self.square.distances()

    def light(self, e: Ellipse) -> CopyLight:
        """Return the light of a profile's copies, the half of them that the `square` asks for."""
        import tensorflow as tf

        blur, determinant = self._blur, e.xx * e.yy - e.xy * e.xy
        rows = [
            e.yy / determinant,
            -e.xy / determinant,
            e.xx / determinant,
            log_peak(e.n) - 0.5 * tf.math.log(determinant),
            sersic_b(e.n),
            0.5 / e.n,
            *(moment + tf.zeros_like(e.n) for moment in (blur.xx, blur.xy, blur.yy)),  # galaxies may share one PSF
            (blur.xx * e.yy - 2 * blur.xy * e.xy + blur.yy * e.xx) / determinant,
        ]
        qxx, qxy, qyy, peak, scale, half_power, cxx, cxy, cyy, trace = tf.unstack(settled(tf.stack(rows))[:, :, None])
        gx, gy = qxx * self._dx + qxy * self._dy, qxy * self._dx + qyy * self._dy
        rho_squared = gx * self._dx + gy * self._dy
        log_rho_squared = tf.math.log(rho_squared)
        exponent = scale * tf.exp(half_power * log_rho_squared)
        # C : grad grad I / 2 I with I = exp(-E(rho^2)), grad rho^2 = 2 g and dE / d rho^2 = fall
        inverse = 1 / rho_squared
        fall = exponent * half_power * inverse
        along = cxx * gx * gx + 2 * cxy * gx * gy + cyy * gy * gy
        change = fall * (2 * (fall + (1 - half_power) * inverse) * along - trace)
        change /= 1 + 2 * tf.abs(change)  # halves what the second order leaves of the blur of sharp ridges
        # a small part of a small part: in derivatives it is held fixed
        light = tf.exp(peak - exponent) * (1 + tf.stop_gradient(change))
        return CopyLight(light, exponent, log_rho_squared, fall, gx, gy)
