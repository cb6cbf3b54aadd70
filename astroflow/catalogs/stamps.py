"""Stamps: one small image file per object, with maps and a PSF of its own."""

__all__ = ["StampSource", "around"]

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from astroflow.catalogs.image_set import ImageSet, cut_window, open_images
from astroflow.catalogs.maps import stated_correlation
from astroflow.catalogs.paths import check_descriptors, fill_template
from astroflow.catalogs.psf_files import PSFStore
from astroflow.catalogs.recipe import StampsRecipe
from astroflow.catalogs.rows import Rows, rows_of_files, rows_of_table
from astroflow.catalogs.sky import SkyFrame
from astroflow.catalogs.sources import Partition, RowError, Source
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.types import Cutout

MANY = 100


class _Session(NamedTuple):
    side: int
    psfs: PSFStore


class StampSource(Source):
    """Objects with an image file each. Checks on construction that one of them can be read and agrees with the recipe."""

    recipe: StampsRecipe

    def __init__(self, recipe: StampsRecipe) -> None:
        if recipe.table is None or recipe.columns is None:
            rows, files = rows_of_files(recipe.image.path)
            rows = Rows.of(rows.ids, filling={"file": np.array(files)})  # type: ignore[arg-type]
        else:
            rows = rows_of_table(recipe, recipe.table, recipe.columns)
        super().__init__(recipe, rows)
        with ExitStack() as stack:
            PSFStore(recipe.psf, self._has_psf_index, stack).check(rows)
        self._check_stamps()

    def sky_frame(self, partition: Partition) -> SkyFrame:
        rows = self._local(partition)
        frame = self.catalog_frame(partition)
        for place, row in enumerate(rows.tolist()):
            with ExitStack() as files:
                try:
                    images = self._open(row, files)
                    x, y = self._centre(row, images)
                except (InputError, RowError, OSError) as error:
                    check_descriptors(error, f"a file of object {self.rows.ids[row]}")
                    continue
                frame.x[place], frame.y[place] = x, y
                if images.wcs is not None:
                    frame.put([place], SkyFrame.of(images.wcs, np.array([x]), np.array([y]), self.recipe.pixel_scale_arcsec))
        return frame

    def _check_stamps(self) -> None:
        """Open stamps until one can be used; when many in a row cannot, it is the recipe that is wrong."""
        problems: list[InputError] = []
        for row in range(len(self.rows)):
            if not Path(self._image_path(row)).is_file():
                continue
            try:
                with ExitStack() as files:
                    self._open(row, files)
                return
            except InputError as error:
                problems.append(error)
            if len(problems) == MANY:
                break
        if problems:
            raise InputError(f"none of the first {len(problems)} image files can be used; the first: {problems[0]}")
        if len(self.rows):
            raise InputError(f"none of the {len(self.rows)} image files exists; the first: {self._image_path(0)}")

    @property
    def _has_psf_index(self) -> bool:
        return self.recipe.columns is not None and self.recipe.columns.psf_index is not None

    def _session(self, files: ExitStack, cutout_pixels: int) -> _Session:
        return _Session(cutout_pixels, PSFStore(self.recipe.psf, self._has_psf_index, files))

    def _cutout(self, row: int, session: Any) -> Cutout:
        with ExitStack() as files:
            images = self._open(row, files)
            x, y = self._centre(row, images)
            psf = session.psfs.image(self.rows, row)
            gain = self._gain(row, images.gain)
            columns, rows = (
                around(centre, length, session.side) for centre, length in ((x, images.image.shape[1]), (y, images.image.shape[0]))
            )
            image, rms, mask = cut_window(self.recipe, images, self.rows, row, (rows, columns), (x, y), gain)
        return Cutout(
            identity=self.rows.ids[row].item(), image=image[None], rms=rms[None], mask=mask[None], psf=psf[None], gain=gain,
            x=x - columns.start, y=y - rows.start, zero_point=images.zero_point, pixel_scale_arcsec=self.recipe.pixel_scale_arcsec,
            psf_oversampling=self.recipe.psf.oversampling, size_pixels=self._size(row),
            noise_correlation=stated_correlation(self.recipe.noise.correlation),
        )  # fmt: skip

    def _open(self, row: int, files: ExitStack) -> ImageSet:
        values = self.rows.values(row)
        empty = [name for name, value in values.items() if value == "" and f"{{{name}" in self.recipe.image.path]
        if empty:
            raise InputError(f"the table gives no {empty[0]!r} for this object")
        image = self._image_path(row)
        return open_images(
            self.recipe, lambda template: image if template == self.recipe.image.path else fill_template(template, values), files
        )

    def _image_path(self, row: int) -> str:
        if self.recipe.table is None:
            return str(self.rows.filling["file"][row])
        return fill_template(self.recipe.image.path, self.rows.values(row))

    def _centre(self, row: int, images: ImageSet) -> tuple[float, float]:
        """Return the object's pixel position: by sky or pixel columns where there are some, else the middle of its stamp."""
        height, width = images.image.shape
        columns = self.recipe.columns
        if columns is not None and columns.x is not None and columns.y is not None:
            x, y = float(self.rows.x[row]), float(self.rows.y[row])
        elif columns is not None and columns.ra is not None and columns.dec is not None:
            ra, dec = float(self.rows.ra[row]), float(self.rows.dec[row])
            if not (0 <= ra <= 360 and -90 <= dec <= 90):
                raise RowError(Flag.BAD_POSITION, f"RA, Dec = {ra:g}, {dec:g} degrees; expected 0 to 360 and -90 to 90")
            if images.wcs is None:
                raise RowError(
                    Flag.BAD_POSITION,
                    f"{images.image.where} has no usable WCS, so RA and Dec lead nowhere; expected one in RA and Dec, ICRS or J2000",
                )
            x, y = (float(value) for value in images.wcs.all_world2pix([[ra, dec]], 0, quiet=True, ra_dec_order=True)[0])
        else:
            return (width - 1) / 2, (height - 1) / 2
        if not (np.isfinite(x) and np.isfinite(y)):
            raise RowError(Flag.BAD_POSITION, f"x, y = {x:g}, {y:g}: missing or not finite")
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise RowError(Flag.NO_DATA, f"pixel ({x:.1f}, {y:.1f}) is off the stamp of {width} x {height} pixels")
        return x, y


def around(centre: float, length: int, side: int) -> slice:
    """Return the slice of at most `side` pixels around a position, the middle of the window as near to it as the grid allows."""
    if length <= side:
        return slice(0, length)
    start = math.floor(centre - (side - 1) / 2 + 0.5)
    return slice(max(start, 0), min(start + side, length))
