"""The Fourier engine at work: arrays of parameters and PSFs in, arrays of stamps out.

Rows are sorted by what their PSF asks of the modes (`grouping`), and each group runs through one compiled graph in padded batches of a
fixed size (`lanes`). A row's group depends on the row alone, so its pixels do too.
"""

__all__ = ["FourierEngine", "fourier_engine"]

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from astroflow.errors import ConfigError
from astroflow.sims.fourier.compose import draw_sersics
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.grouping import PSFGroup, group_described, group_images, group_profiles, group_sets
from astroflow.sims.fourier.lanes import BATCH, batches, in_lanes, rows_of
from astroflow.sims.fourier.observed import frame_of, unit_psfs
from astroflow.sims.fourier.psf import PSFFamily, describe_profile
from astroflow.sims.fourier.radial import sersic_table
from astroflow.sims.fourier.slopes import coordinates_of, draw_with_slopes
from astroflow.sims.fourier.xla import settled
from astroflow.sims.psf_images import boxed, psf_at_stamp_scale
from astroflow.sims.psfs import PSFDraw, ShearedProfiles
from astroflow.sims.sersics import Sersic, SersicSum
from astroflow.types import Array, Stamps

FEW = BATCH // 2
"""Up to so many galaxies behind one PSF share calls with those behind others: most of a call of their own would be padding."""
CENTRED = np.zeros(2, np.float32)


def fourier_engine(galaxy: SersicSum, names: tuple[str, ...]) -> "FourierEngine":
    """Return the engine of galaxies, which is one for equal ones: what it compiles, nobody compiles again."""
    try:
        hash(galaxy)
    except TypeError:  # a population of the user's own, with a list among its settings
        return FourierEngine(galaxy, names)
    return _shared_engine(galaxy, names)


@functools.lru_cache(maxsize=64)
def _shared_engine(galaxy: SersicSum, names: tuple[str, ...]) -> "FourierEngine":
    return FourierEngine(galaxy, names)


class FourierEngine:
    """Draws galaxies that are sums of Sersic profiles.

    Parameters
    ----------
    galaxy : SersicSum
        What turns parameters into components.
    names : sequence of str
        Names of theta's columns.
    """

    def __init__(self, galaxy: SersicSum, names: Sequence[str]) -> None:
        self.galaxy = galaxy
        self.names = tuple(names)
        self.table = sersic_table(*galaxy.index_range)

    # -- graphs --------------------------------------------------------------------------------------------------
    def images(self, theta: Any, psf: Any, zero_point: Any, step: Any, shift: Any, grid: ModeGrid) -> Any:
        """Draw noiseless stamps, as a graph that is differentiable in `theta`.

        Parameters
        ----------
        theta : tensor
            ``(N, P)``; in float64, with `zero_point`, `step` and `shift`, fluxes and lengths are not rounded before they are drawn.
        psf : tensor
            ``(N, 1 or 2, Mx, My)``, see `PSFFamily.transform`.
        zero_point, step : tensor
            ``(N,)``: zero point, and pixel scale in arcsec.
        shift : tensor
            ``(N, 2)``: from the grid's centre to the stamp's, and the PSF's own offset; pixels.
        grid : ModeGrid
            The modes.

        Returns
        -------
        tensor
            ``(N, size, size)`` float32, image unit.
        """
        return draw_sersics(self._components(theta, zero_point, step, shift), psf, grid, self.table)

    def images_and_slopes(
        self, to_theta: Callable[[Any], Any], v: Any, psf: Any, zero_point: Any, step: Any, shift: Any, grid: ModeGrid
    ) -> tuple[Any, Any]:
        """Draw noiseless stamps and their derivatives with respect to coordinates of the caller's, as a graph.

        Parameters
        ----------
        to_theta : callable
            Maps `v` to theta ``(N, P)``, row by row.
        v : tensor
            ``(N, V)``.
        psf, zero_point, step, shift, grid
            As of `images`.

        Returns
        -------
        images : tensor
            ``(N, size, size)``.
        slopes : tensor
            ``(N, V, size, size)``.
        """
        import tensorflow as tf

        images, slopes = draw_with_slopes(self._components(to_theta(v), zero_point, step, shift), psf, grid, self.table)
        # rows know nothing of each other, so with every galaxy K times one backward pass takes each coordinate's gradient
        n, count = v.shape[0], slopes.shape[1]
        many = tf.repeat(v, count, 0)
        with tf.GradientTape() as tape:
            tape.watch(many)
            given = (tf.repeat(values, count, 0) for values in (zero_point, step, shift))
            coordinates = coordinates_of(self._components(to_theta(many), *given))
            chosen = tf.reduce_sum(coordinates * tf.tile(tf.eye(count), [n, 1]))
        rates = settled(tf.cast(tf.reshape(tape.gradient(chosen, many), [n, count, -1]), tf.float32))  # (N, K, V)
        flat = tf.reshape(slopes, [-1, slopes.shape[1], grid.size**2])
        return images, tf.reshape(tf.matmul(rates, flat, transpose_a=True), [-1, v.shape[1], grid.size, grid.size])

    def _components(self, theta: Any, zero_point: Any, step: Any, shift: Any) -> list[Sersic]:
        """Return the galaxy's components in pixels of the grid, float32."""
        import tensorflow as tf

        columns = {name: theta[:, k] for k, name in enumerate(self.names)}
        centres: dict[tuple[int, int], Any] = {}

        def single(value: Any) -> Any:
            return tf.cast(value, tf.float32)

        def pixels(value: Any, axis: int) -> Any:
            # components that share a centre go on sharing it
            return centres.setdefault((id(value), axis), single(value / step + shift[:, axis]))

        components = self.galaxy.components(columns, zero_point)
        return [
            Sersic(single(c.flux), single(c.re / step), single(c.n), single(c.e1), single(c.e2), pixels(c.x, 0), pixels(c.y, 1))
            for c in components
        ]

    @functools.cached_property
    def _compiled(self) -> dict[Any, Any]:
        return {}

    def _graph(self, family: PSFFamily, grid: ModeGrid, star: int = 0, *, shared: bool = False) -> Any:
        """Return the graph of stamps, and of PSF images of side `star` unless that is zero; stamps may share one PSF image."""
        import tensorflow as tf

        if (family, grid, star, shared) in self._compiled:
            return self._compiled[family, grid, star, shared]

        def lane(theta: Any, zero_point: Any, step: Any, shift: Any, arrays: dict[str, Any]) -> tuple[Any, Any]:
            planes = family.transform(arrays, grid)
            offset = tf.zeros([1, 2]) if shared else arrays["offset"]
            images = self.images(theta, planes, zero_point, step, shift + offset, grid)
            return images, grid.to_pixels(planes, offset[:, 0], offset[:, 1], star) if star else tf.zeros([theta.shape[0], 0, 0])

        self._compiled[family, grid, star, shared] = in_lanes(lane, shared=shared)
        return self._compiled[family, grid, star, shared]

    # -- arrays --------------------------------------------------------------------------------------------------

    def render(self, theta: Array, stamps: Stamps) -> Array:
        """Draw galaxies through the PSF images of given stamps.

        Parameters
        ----------
        theta : ndarray
            ``(N, P)``.
        stamps : Stamps
            N stamps: their shape, scale, zero point and PSF images count.

        Returns
        -------
        ndarray
            ``(N, B, H, W)`` float32, noiseless, image unit.

        Raises
        ------
        InputError
            If a PSF image has no positive finite sum.
        """
        size, window, shift = frame_of(stamps)
        out = np.empty(stamps.shape, np.float32)
        for channel in range(stamps.shape[1]):
            groups = group_images(unit_psfs(stamps, channel), np.full(len(stamps), stamps.psf_oversampling), size)
            images, _ = self._draw(
                theta, groups, self._zero_points(theta, stamps.zero_point), stamps.stamp_scale_arcsec, size, shift, star=0
            )
            out[:, channel] = images[(slice(None), *window)]
        return out

    def render_draws(self, theta: Array, stamps: Stamps) -> Array:
        """Draw S galaxies through each stamp's PSF, which is transformed once for all of them.

        Parameters
        ----------
        theta : ndarray
            ``(N, S, P)``.
        stamps : Stamps
            As of `render`.

        Returns
        -------
        ndarray
            ``(N, S, B, H, W)`` float32.

        Raises
        ------
        InputError
            If a PSF image has no positive finite sum.
        """
        import tensorflow as tf

        size, window, shift = frame_of(stamps)
        n, draws, _ = theta.shape
        if draws <= FEW:
            psfs = np.stack([unit_psfs(stamps, channel) for channel in range(stamps.shape[1])], 1)
            return self.render_through(theta, stamps, psfs[:, None])
        out = np.empty((n, draws, *stamps.shape[1:]), np.float32)
        shifts = tf.constant(np.broadcast_to(shift, (BATCH, 2)))
        zero_points = tf.constant(np.full(BATCH, stamps.zero_point, np.float32))
        for channel in range(stamps.shape[1]):
            for group in group_images(unit_psfs(stamps, channel), np.full(n, stamps.psf_oversampling), size):
                draw = self._graph(group.family, group.grid, shared=True)
                for i, image in zip(group.rows.tolist(), group.arrays["image"], strict=True):
                    psf = {"image": tf.constant(image[None], tf.float32)}
                    steps = tf.constant(np.full(BATCH, stamps.stamp_scale_arcsec[i], np.float32))
                    for some, rows in batches(np.arange(draws)):
                        drawn, _ = draw(tf.constant(theta[i, rows], tf.float32), zero_points, steps, shifts, psf)
                        out[i, some, channel] = drawn.numpy()[(slice(len(some)), *window)]
        return out

    def render_through(self, theta: Array, stamps: Stamps, psf: Array) -> Array:
        """Draw galaxies through PSF images of the caller's choice, all K of a stamp on the same modes.

        Parameters
        ----------
        theta : ndarray
            ``(N, K, P)``.
        stamps : Stamps
            Give everything but the PSF.
        psf : ndarray
            ``(N, K, B, h, w)``, or ``(N, 1, B, h, w)`` for all K, of unit sum, which is taken for granted; sampled as those of the stamps.

        Returns
        -------
        ndarray
            ``(N, K, B, H, W)`` float32.
        """
        size, window, shift = frame_of(stamps)
        n, count, _ = theta.shape
        flat, steps = theta.reshape(n * count, -1), np.repeat(stamps.stamp_scale_arcsec, count)
        out = np.empty((n, count, *stamps.shape[1:]), np.float32)
        for channel in range(stamps.shape[1]):
            groups = group_sets(psf[:, :, channel], stamps.psf_oversampling, size, count)
            drawn, _ = self._draw(flat, groups, self._zero_points(flat, stamps.zero_point), steps, size, shift, star=0)
            out[:, :, channel] = drawn.reshape(n, count, size, size)[(slice(None), slice(None), *window)]
        return out

    def draw(
        self,
        theta: Array,
        psfs: ShearedProfiles | Sequence[PSFDraw],
        step: Array,
        binning: Array,
        size: int,
        psf_size: int,
        zero_point: float,
    ) -> tuple[Array, Array]:
        """Draw galaxies through the PSFs of a population.

        Parameters
        ----------
        theta : ndarray
            ``(N, P)``.
        psfs : ShearedProfiles or sequence of PSFDraw
            N PSFs; as numbers they cost the least.
        step, binning : ndarray
            ``(N,)``: scale of a stamp's pixel in arcsec, and how many native pixels make one.
        size, psf_size : int
            Sides of stamp and PSF image.
        zero_point : float
            Of the images.

        Returns
        -------
        images : ndarray
            ``(N, size, size)``.
        psf : ndarray
            ``(N, psf_size, psf_size)`` of unit sum.

        Raises
        ------
        ConfigError
            If some PSFs are images and others profiles.
        """
        native = self._native_images(psfs, step / binning)
        if native is not None:
            return self._through_images(theta, native, step, binning, size, psf_size, zero_point)
        if isinstance(psfs, ShearedProfiles):
            groups = group_profiles(psfs, step, size)
        else:
            groups = group_described([describe_profile(point.profile, s, size) for point, s in zip(psfs, step.tolist(), strict=True)])
        # a PSF image that is wider than the stamp does not fit its modes
        star = psf_size if psf_size <= size + 1 else 0
        images, stars = self._draw(theta, groups, self._zero_points(theta, zero_point), step, size, CENTRED, star=star)
        if star:
            return images, _unit_sum(stars)
        if isinstance(psfs, ShearedProfiles):
            return images, self.native_images(psfs, step, psf_size)
        return images, _unit_sum(np.stack([point.image(s, 1, psf_size) for point, s in zip(psfs, step.tolist(), strict=True)]))

    def native_images(self, profiles: ShearedProfiles, scale: Array, side: int) -> Array:
        """Draw PSFs, pixel included, on ``side x side`` native pixels of `scale` ``(N,)`` arcsec; ``(N, side, side)`` of unit sum."""
        import tensorflow as tf

        size = -(-3 * side // 8) * 4  # one and a half times the side, so that wings of the periodic copies stay outside
        stars = np.empty((len(profiles), side, side), np.float32)
        for group in group_profiles(profiles, scale, size):

            def star(arrays: dict[str, Any], grid: ModeGrid = group.grid, family: PSFFamily = group.family) -> Any:
                offset = arrays["offset"]
                return grid.to_pixels(family.transform(arrays, grid), offset[:, 0], offset[:, 1], side)

            key = (group.family, group.grid, side, "star")
            draw = self._compiled.setdefault(key, tf.function(functools.partial(star), jit_compile=True, autograph=False))
            for some, rows in batches(group.rows):
                stars[group.rows[some]] = draw(rows_of(group.arrays, rows)).numpy()[: len(some)]
        return _unit_sum(stars)

    def _native_images(self, psfs: ShearedProfiles | Sequence[PSFDraw], scale: Array) -> Sequence[Array] | None:
        """Return the native images of PSFs, unless they are profiles."""
        if isinstance(psfs, ShearedProfiles):
            return None if psfs.image_size is None else list(self.native_images(psfs, scale, psfs.image_size))
        images = [point.native_image for point in psfs if point.native_image is not None]
        if images and len(images) < len(psfs):
            raise ConfigError(f"{len(images)} of {len(psfs)} PSFs are images, the others profiles: a population gives one or the other")
        return images or None

    def _through_images(
        self, theta: Array, native: Sequence[Array], step: Array, binning: Array, size: int, psf_size: int, zero_point: float
    ) -> tuple[Array, Array]:
        """Draw through native PSF images, folded into binned pixels without interpolation, as observed ones are."""
        images = np.empty((len(theta), size, size), np.float32)
        stars = np.empty((len(theta), psf_size, psf_size), np.float32)
        kinds = np.array([f"{b} {image.shape}" for b, image in zip(binning.tolist(), native, strict=True)])
        for kind in np.unique(kinds):
            rows = np.flatnonzero(kinds == kind)
            same, b = np.stack([native[row] for row in rows.tolist()]), int(binning[rows[0]])
            groups = group_images(boxed(same, b), binning[rows], size)
            images[rows] = self._draw(theta[rows], groups, self._zero_points(rows, zero_point), step[rows], size, CENTRED, star=0)[0]
            stars[rows] = psf_at_stamp_scale(same[:, None], oversampling=1, binning=b, size=psf_size)[:, 0]
        return images, stars

    @staticmethod
    def _zero_points(rows: Array, zero_point: float) -> Array:
        return np.full(len(rows), zero_point, np.float32)

    def _draw(
        self, theta: Array, groups: Sequence[PSFGroup], zero_point: Array, step: Array, size: int, shift: Array, *, star: int
    ) -> tuple[Array, Array]:
        images = np.empty((len(theta), size, size), np.float32)
        stars = np.empty((len(theta), star, star), np.float32)
        shifts = np.broadcast_to(shift, (BATCH, 2))
        for group in groups:
            draw = self._graph(group.family, group.grid, star)
            for some, rows in batches(group.rows):
                given = (np.asarray(values[group.rows[rows]], np.float32) for values in (theta, zero_point, step))
                drawn = draw(*given, shifts, rows_of(group.arrays, rows))
                for whole, part in zip((images, stars), drawn, strict=True):
                    whole[group.rows[some]] = part.numpy()[: len(some)]
        return images, stars


def _unit_sum(images: Array) -> Array:
    wide = images.astype(np.float64)
    return np.asarray(wide / wide.sum((1, 2), keepdims=True), np.float32)
