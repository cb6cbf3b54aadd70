"""The Fourier engine at work: arrays of parameters and PSFs in, arrays of stamps out.

Rows are sorted by what their PSF asks of the modes (its family, and how far it reaches beyond the pixels' Nyquist frequency), and each
group runs through one compiled graph in padded batches of a fixed size. A row's choice depends on the row alone, so its pixels do too.
"""

__all__ = ["BATCH", "FourierEngine"]

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.sims.fourier.compose import draw_sersics
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import PSFFamily, band_of_image, band_of_profile, describe_image, describe_profile
from astroflow.sims.fourier.radial import sersic_table
from astroflow.sims.psfs import PSFDraw
from astroflow.sims.sersics import Sersic, SersicSum
from astroflow.types import Array, Stamps

BATCH = 64
"""Stamps of one call of a compiled graph."""


@dataclass(frozen=True)
class _Group:
    """Rows that share a graph."""

    band: float
    family: PSFFamily


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
            ``(N, P)``.
        psf : tensor
            ``(N, Mx, My)`` complex64, see `PSFFamily.transform`.
        zero_point, step : tensor
            ``(N,)``: zero point, and pixel scale in arcsec.
        shift : tensor
            ``(N, 2)``: from the grid's centre to the stamp's, pixels.
        grid : ModeGrid
            The modes.

        Returns
        -------
        tensor
            ``(N, size, size)`` float32, image unit.
        """
        columns = {name: theta[:, k] for k, name in enumerate(self.names)}
        centres: dict[int, Any] = {}

        def pixels(value: Any, axis: int) -> Any:
            # components that share a centre go on sharing it
            return centres.setdefault(id(value), value / step + shift[:, axis])

        components = self.galaxy.components(columns, zero_point)
        scaled = [Sersic(c.flux, c.re / step, c.n, c.e1, c.e2, pixels(c.x, 0), pixels(c.y, 1)) for c in components]
        return draw_sersics(scaled, psf, grid, self.table)

    @functools.cached_property
    def _compiled(self) -> dict[Any, Any]:
        return {}

    def _graphs(self, family: PSFFamily, grid: ModeGrid) -> tuple[Any, Any]:
        """Return the compiled graphs of PSFs and of images."""
        import tensorflow as tf

        if (family, grid) not in self._compiled:
            self._compiled[family, grid] = tf.function(lambda arrays: family.transform(arrays, grid), jit_compile=True)
        if grid not in self._compiled:
            self._compiled[grid] = tf.function(functools.partial(self.images, grid=grid), jit_compile=True)
        return self._compiled[family, grid], self._compiled[grid]

    # -- arrays --------------------------------------------------------------------------------------------------

    def render(self, theta: Array, stamps: Stamps) -> Array:
        """Draw the stamps of given parameters through the PSF images of given stamps, ``(N, B, H, W)`` float32."""
        height, width = stamps.shape[2:]
        size = -(-max(height, width) // 4) * 4
        top, left = (size - height) // 2, (size - width) // 2
        # an odd margin moves the stamp's centre half a pixel off the grid's
        shift = np.array([left + (width - size) / 2, top + (height - size) / 2], np.float32)
        out = np.empty(stamps.shape, np.float32)
        for channel in range(stamps.shape[1]):
            described = [describe_image(image, stamps.psf_oversampling) for image in stamps.psf[:, channel]]
            bands = [band_of_image(image, stamps.psf_oversampling) for image in stamps.psf[:, channel]]
            groups = [_Group(band, family) for band, (family, _) in zip(bands, described, strict=True)]
            zero_point = np.broadcast_to(np.float32(stamps.zero_point), len(stamps))
            images, _ = self._draw(
                theta, groups, [arrays for _, arrays in described], zero_point, stamps.stamp_scale_arcsec, size, shift, psf=False
            )
            out[:, channel] = images[:, top : top + height, left : left + width]
        return out

    def draw(
        self, theta: Array, points: Sequence[PSFDraw], step: Array, binning: Array, size: int, psf_size: int, zero_point: float
    ) -> tuple[Array, Array | None]:
        """Draw galaxies through the PSFs of a population.

        Parameters
        ----------
        theta : ndarray
            ``(N, P)``.
        points : sequence of PSFDraw
            N PSFs.
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
        psf : ndarray or None
            ``(N, psf_size, psf_size)`` of unit sum, for PSFs that are profiles.
        """
        groups, arrays = [], []
        for point, s, b in zip(points, step.tolist(), binning.tolist(), strict=True):
            if point.native_image is None:
                band = band_of_profile(point.profile, s)
                family, described = describe_profile(point.profile, s, ModeGrid(size, band))
            else:
                boxed = point.boxed(b)
                band = band_of_image(boxed, b)
                family, described = describe_image(boxed, b)
            groups.append(_Group(band, family))
            arrays.append(described)
        profiles = all(point.native_image is None for point in points)
        images, psf = self._draw(
            theta, groups, arrays, np.full(len(theta), zero_point, np.float32), step, size, np.zeros(2, np.float32), psf=profiles
        )
        return images, None if psf is None else _cut(psf, psf_size)

    def _draw(
        self,
        theta: Array,
        groups: Sequence[_Group],
        arrays: Sequence[Mapping[str, Array]],
        zero_point: Array,
        step: Array,
        size: int,
        shift: Array,
        *,
        psf: bool,
    ) -> tuple[Array, Array | None]:
        import tensorflow as tf

        images = np.empty((len(theta), size, size), np.float32)
        stars = np.empty((len(theta), size, size), np.float32) if psf else None
        for group, rows in _batches(groups):
            grid = ModeGrid(size, group.band)
            transform, draw = self._graphs(group.family, grid)
            padded = np.concatenate([rows, np.repeat(rows[-1:], BATCH - len(rows))])
            stacked = {name: np.stack([arrays[row][name] for row in padded]) for name in arrays[rows[0]]}
            modes = transform({name: tf.constant(value, _dtype(value)) for name, value in stacked.items()})
            drawn = draw(
                tf.constant(theta[padded], tf.float32), modes, tf.constant(zero_point[padded], tf.float32),
                tf.constant(step[padded], tf.float32), tf.constant(np.broadcast_to(shift, (BATCH, 2))),
            )  # fmt: skip
            images[rows] = drawn.numpy()[: len(rows)]
            if stars is not None:
                stars[rows] = _star(modes, grid).numpy()[: len(rows)]
        return images, stars


def _batches(groups: Sequence[_Group]) -> Iterator[tuple[_Group, Array]]:
    """Yield the rows of each group, at most BATCH at a time."""
    members: dict[_Group, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    for group, rows in members.items():
        for start in range(0, len(rows), BATCH):
            yield group, np.array(rows[start : start + BATCH])


def _dtype(value: Array) -> Any:
    import tensorflow as tf

    return tf.complex64 if np.iscomplexobj(value) else tf.float32


def _star(modes: Any, grid: ModeGrid) -> Any:
    """Return PSF images whose centre is the pixel right and above the grid's centre."""
    import tensorflow as tf

    half = tf.fill([tf.shape(modes)[0]], 0.5)
    return grid.to_pixels(modes * grid.shifted(half, half))


def _cut(stars: Array, side: int) -> Array:
    """Cut the middle `side` pixels out, padding with zeros where there are too few, and give them unit sum."""
    size = stars.shape[-1]
    wide = np.pad(stars, [(0, 0), *[(max(0, side - size // 2),) * 2] * 2])
    first = wide.shape[-1] // 2 - side // 2
    cut = wide[:, first : first + side, first : first + side].astype(np.float64)
    return np.asarray(cut / cut.sum((1, 2), keepdims=True), np.float32)
