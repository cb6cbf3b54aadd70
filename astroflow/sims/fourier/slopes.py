r"""Stamps together with their derivatives, for fits and Fisher matrices: one pass instead of one backward pass per pixel.

On modes the derivatives are products. With G the profile's transform at :math:`k^T M k`, the image of the galaxy and those of its slopes in
flux, index, the three elements of M and the centre are

.. math:: f G,\quad G,\quad f \partial_n G,\quad f \frac{dG}{d\ln k^2} \frac{k_i k_j}{k^T M k},\quad -i k_i f G,

each times the PSF. The light of periodic copies has closed forms as well (`Copies`). What parameters do to these coordinates is a small
matter of a few numbers per galaxy, left to automatic differentiation by the caller.
"""

__all__ = ["coordinates_of", "draw_with_slopes"]

from collections.abc import Sequence
from typing import Any

from astroflow.sims.fourier.brightness import log_peak, sersic_b
from astroflow.sims.fourier.ellipses import Ellipse, by_centre
from astroflow.sims.fourier.far_light import far_light
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import quadratic
from astroflow.sims.fourier.radial import RadialTable
from astroflow.sims.fourier.wings import Blur, Copies, blur_of
from astroflow.sims.fourier.xla import settled
from astroflow.sims.sersics import Sersic

SHAPE = ("flux", "n", "xx", "xy", "yy")
"""Members of an `Ellipse` of which every component has its own."""


def coordinates_of(components: Sequence[Sersic]) -> Any:
    """Return what moves sums of Sersic profiles, ``(N, K)``: for each centre the members `SHAPE` of each component, then x and y."""
    import tensorflow as tf

    columns = []
    for members in by_centre(components):
        columns += [getattr(e, name) for e in members for name in SHAPE] + [members[0].x, members[0].y]
    return tf.stack(columns, 1)


def draw_with_slopes(components: Sequence[Sersic], psf: Any, grid: ModeGrid, table: RadialTable) -> tuple[Any, Any]:
    """Draw sums of Sersic profiles, and their slopes; parameters as of `draw_sersics`.

    Returns
    -------
    images : tensor
        ``(N, size, size)``.
    slopes : tensor
        ``(N, K, size, size)``, with respect to `coordinates_of`.
    """
    import tensorflow as tf

    images, slopes, blur = 0.0, [], blur_of(psf, grid)
    for members in by_centre(components):
        x, y = members[0].x, members[0].y
        planes, spectrum = [], 0.0
        for e in members:
            flux = settled(e.flux)[:, None, None]
            k_squared = quadratic(e.metric, grid)
            value, along_n, along_k = table.evaluate_with_slopes(e.n, k_squared)
            stretch = settled(flux * along_k / tf.maximum(k_squared, 1e-12))
            kx, ky = tf.constant(grid.kx[:, None], tf.float32), tf.constant(grid.ky[None, :], tf.float32)
            planes += [value, flux * along_n, stretch * kx**2, stretch * (2 * kx * ky), stretch * ky**2]
            spectrum += flux * value
        own, moved = _wing_slopes(members, blur, grid)
        shapes = _pictures(settled(tf.stack(planes, 1)), psf, x, y, grid) - own
        centres = _shift_pictures(spectrum, psf, x, y, grid) - moved
        images += tf.add_n([settled(e.flux)[:, None, None] * shapes[:, len(SHAPE) * i] for i, e in enumerate(members)])
        slopes += [shapes, centres]
    return images, tf.concat(slopes, 1)


def _pictures(planes: Any, psf: Any, x: Any, y: Any, grid: ModeGrid) -> Any:
    """Turn real planes ``(N, K, Mx, My)`` into pictures through the PSF, ``(N, K, size, size)``."""
    import tensorflow as tf

    count = planes.shape[1]
    through = planes[:, :, None] * psf[:, None]
    drawn = grid.to_pixels(tf.reshape(through, [-1, *through.shape[2:]]), tf.repeat(x, count), tf.repeat(y, count))
    return tf.reshape(drawn, [-1, count, *drawn.shape[1:]])


def _shift_pictures(spectrum: Any, psf: Any, x: Any, y: Any, grid: ModeGrid) -> Any:
    """Return the slopes of pictures of a real spectrum ``(N, Mx, My)`` in x and y, ``(N, 2, size, size)``."""
    import tensorflow as tf

    through = settled(spectrum[:, None] * psf)
    real = through[:, 0]
    imaginary = through[:, 1] if psf.shape[1] == 2 else tf.zeros_like(real)
    waves = [tf.constant(k, tf.float32) for k in (grid.kx[:, None] + 0 * grid.ky, 0 * grid.kx[:, None] + grid.ky)]
    # -i k (a + i b) = k b - i k a
    planes = tf.stack([tf.stack([k * imaginary, -k * real], 1) for k in waves], 1)
    drawn = grid.to_pixels(tf.reshape(planes, [-1, *planes.shape[2:]]), tf.repeat(x, 2), tf.repeat(y, 2))
    return tf.reshape(drawn, [-1, 2, *drawn.shape[1:]])


def _wing_slopes(members: Sequence[Ellipse], blur: Blur, grid: ModeGrid) -> tuple[Any, Any]:
    """Return the slopes of the copies' light: ``(N, SHAPE of each member, size, size)``, and ``(N, 2, size, size)`` for the centre."""
    import tensorflow as tf

    copies = Copies(members[0].x, members[0].y, blur, grid)
    through, parts, far, total = settled(blur.flux)[:, None], [], [], 0.0
    for e in members:
        _, n, xx, xy, yy, _, _ = e
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([n, xx, xy, yy])
            beyond, peak, b = far_light(n, xx, xy, yy, grid), log_peak(n), sersic_b(n)
        flux = settled(e.flux)[:, None] * through
        far += [through[:, 0] * beyond, *(flux[:, 0] * slope for slope in tape.gradient(beyond, [n, xx, xy, yy]))]
        half = 0.5 / (xx * yy - xy * xy)
        rows = [tape.gradient(peak, n), tape.gradient(b, n) / b, 0.5 / n**2, half * yy, -half * xy, half * xx]
        peak_n, b_n, power_n, half_xx, half_xy, half_yy = tf.unstack(settled(tf.stack(rows))[:, :, None])
        light, exponent, log_rho_squared, fall, gx, gy = copies.light(e)
        bright = settled(flux * light)
        fall = settled(bright * fall)  # -d light / d rho^2
        parts += [
            through * light,
            bright * (peak_n - exponent * (b_n - power_n * log_rho_squared)),
            # of exp(peak - exponent) with M in both: d rho^2 / dM = -g g^T, and the peak holds -log(det M) / 2
            fall * gx * gx - bright * half_xx,
            2 * (fall * gx * gy - bright * half_xy),
            fall * gy * gy - bright * half_yy,
        ]
        total += bright
    square = copies.square
    own = square.to_pixels(square.terms(tf.stack(parts, 1))) + tf.stack(far, 1)[:, :, None, None]
    return own, -square.to_slopes(square.terms(total))
