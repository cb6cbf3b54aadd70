"""Tiles: large images with a WCS, their maps, and the objects cut out of them."""

__all__ = ["TileSource"]

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS

from astroflow.catalogs.image_set import ImageSet, cut_window, open_images
from astroflow.catalogs.maps import stated_correlation
from astroflow.catalogs.paths import fill_template, template_fields
from astroflow.catalogs.psf_files import PSFStore
from astroflow.catalogs.recipe import TilesRecipe
from astroflow.catalogs.rows import rows_of_table
from astroflow.catalogs.sky import SkyFrame
from astroflow.catalogs.sources import Partition, RowError, Source
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.types import Array, Cutout

FAR_DEGREES = 30.0


@dataclass
class _Session:
    side: int
    files: ExitStack
    psfs: PSFStore
    tile: str | None = None
    images: ImageSet | InputError | None = None
    pixels: dict[int, tuple[float, float]] | None = None


class TileSource(Source):
    """Objects on tiles. Checks on construction that at least one tile can be read and agrees with the recipe."""

    recipe: TilesRecipe

    def __init__(self, recipe: TilesRecipe) -> None:
        super().__init__(recipe, rows_of_table(recipe, recipe.table, recipe.columns))
        with ExitStack() as files:
            PSFStore(recipe.psf, recipe.columns.psf_index is not None, files).check(self.rows)
            names = list(dict.fromkeys(self.rows.tile.tolist())) if recipe.columns.tile else [""]
            problems: list[InputError] = []
            for name in names:
                try:
                    self._open(name, files)
                    break
                except InputError as error:
                    problems.append(error)
            if problems and len(problems) == len(names):
                if len(names) == 1:
                    raise problems[0]
                raise InputError(f"none of the {len(names)} tiles can be used; the first: {problems[0]}")

    def sky_frame(self, partition: Partition) -> SkyFrame:
        rows = self._local(partition)
        frame = self.catalog_frame(partition)
        tiles = self.rows.tile[rows]
        for name in dict.fromkeys(tiles.tolist()):
            here = np.flatnonzero(tiles == name)
            with ExitStack() as files:
                try:
                    images = self._open(name, files)
                except InputError:
                    continue
                if images.wcs is None:
                    continue
                x, y = self._pixels(rows[here], images)
                known = np.isfinite(x) & np.isfinite(y)
                frame.put(here[known], SkyFrame.of(images.wcs, x[known], y[known], self.recipe.pixel_scale_arcsec))
        return frame

    def files(self, partition: Partition) -> list[str]:
        parts = (self.recipe.image, self.recipe.noise, self.recipe.mask, self.recipe.segmentation, self.recipe.psf)
        paths = [part.path for part in parts if part is not None and part.path is not None]
        templates = [path for path in paths if set(template_fields(path)) <= {"tile"}]
        return sorted({fill_template(template, {"tile": tile}) for template in templates for tile in partition.tiles or ("",)})

    def _session(self, files: ExitStack, cutout_pixels: int) -> _Session:
        return _Session(cutout_pixels, files, PSFStore(self.recipe.psf, self.recipe.columns.psf_index is not None, files))

    def _cutout(self, row: int, session: Any) -> Cutout:
        self._check_position(row)
        tile = str(self.rows.tile[row])
        if session.tile != tile:
            self._turn_to(tile, session)
        if isinstance(session.images, InputError):
            raise session.images
        x, y = session.pixels[row]
        images, side = session.images, session.side
        height, width = images.image.shape
        if not (np.isfinite(x) and np.isfinite(y)):
            raise RowError(Flag.NO_DATA, f"the position is not on {_tile_name(tile)}: far outside its projection")
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise RowError(Flag.NO_DATA, f"pixel ({x:.1f}, {y:.1f}) is off {_tile_name(tile)} of {width} x {height} pixels")
        psf = session.psfs.image(self.rows, row)
        gain = self._gain(row, images.gain)
        left, bottom = (math.floor(centre - (side - 1) / 2 + 0.5) for centre in (x, y))
        x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(bottom, 0), min(bottom + side, height)
        image, rms, mask = cut_window(self.recipe, images, self.rows, row, (slice(y0, y1), slice(x0, x1)), (x, y), gain)
        if image.shape != (side, side):
            beyond = ((y0 - bottom, bottom + side - y1), (x0 - left, left + side - x1))
            image, rms = np.pad(image, beyond), np.pad(rms, beyond, constant_values=np.nan)
            mask = np.pad(mask, beyond, constant_values=True)
        return Cutout(
            identity=self.rows.ids[row].item(), image=image[None], rms=rms[None], mask=mask[None], psf=psf[None], gain=gain,
            x=x - left, y=y - bottom, zero_point=images.zero_point, pixel_scale_arcsec=self.recipe.pixel_scale_arcsec,
            psf_oversampling=self.recipe.psf.oversampling, size_pixels=self._size(row),
            noise_correlation=stated_correlation(self.recipe.noise.correlation),
        )  # fmt: skip

    def _check_position(self, row: int) -> None:
        sky = self.recipe.columns.ra is not None
        first, second = (self.rows.ra[row], self.rows.dec[row]) if sky else (self.rows.x[row], self.rows.y[row])
        names = "RA, Dec" if sky else "x, y"
        if not (np.isfinite(first) and np.isfinite(second)):
            raise RowError(Flag.BAD_POSITION, f"{names} = {first:g}, {second:g}: missing or not finite")
        if sky and not (0 <= first <= 360 and -90 <= second <= 90):
            raise RowError(Flag.BAD_POSITION, f"RA, Dec = {first:g}, {second:g} degrees; expected 0 to 360 and -90 to 90")

    def _turn_to(self, tile: str, session: _Session) -> None:
        session.files.close()
        session.tile = tile
        session.psfs = PSFStore(self.recipe.psf, self.recipe.columns.psf_index is not None, session.files)
        if self.recipe.columns.tile and not tile:
            session.images = InputError("the table gives no tile for this object")
            return
        try:
            session.images = self._open(tile, session.files)
        except InputError as error:
            session.images = error
            return
        rows = np.flatnonzero(self.rows.tile == tile)
        x, y = self._pixels(rows, session.images)
        session.pixels = dict(zip(rows.tolist(), zip(x.tolist(), y.tolist(), strict=True), strict=True))

    def _open(self, tile: str, files: ExitStack) -> ImageSet:
        if "{" in self.recipe.image.path and not tile:
            raise InputError(f"the table gives no tile, which {self.recipe.image.path} needs")
        images = open_images(self.recipe, lambda template: fill_template(template, {"tile": tile}), files)
        if images.wcs is None and self.recipe.columns.ra is not None:
            raise InputError(
                f"tile {images.image.where} has no usable WCS, so RA and Dec lead nowhere; expected one in RA and Dec, ICRS or J2000. "
                "Give pixel columns `columns.x` and `columns.y`"
            )
        return images

    def _pixels(self, rows: Array, images: ImageSet) -> tuple[Array, Array]:
        """Return 0-based pixel positions of rows of one tile; NaN for those far away or without a position."""
        if self.recipe.columns.ra is None or images.wcs is None:
            return self.rows.x[rows], self.rows.y[rows]
        ra, dec = self.rows.ra[rows], self.rows.dec[rows]
        x, y = np.full((2, len(rows)), np.nan)
        with np.errstate(invalid="ignore"):
            near = np.abs(dec) <= 90
        near &= np.isfinite(ra)
        near[near] = _separation(images.wcs, images.image.shape, ra[near], dec[near]) < FAR_DEGREES
        if near.any():
            # adaptive: each point is iterated until it has converged itself, or its last bits would depend on its company
            x[near], y[near] = images.wcs.all_world2pix(ra[near], dec[near], 0, adaptive=True, quiet=True, ra_dec_order=True)
        return x, y


def _separation(wcs: WCS, shape: tuple[int, ...], ra: Array, dec: Array) -> Array:
    """Return degrees from the middle of an image."""
    ra0, dec0 = np.deg2rad(wcs.all_pix2world([[(shape[1] - 1) / 2, (shape[0] - 1) / 2]], 0, ra_dec_order=True)[0])
    ra, dec = np.deg2rad(ra), np.deg2rad(dec)
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.asarray(np.rad2deg(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))))


def _tile_name(tile: str) -> str:
    return f"tile {tile}" if tile else "the tile"
