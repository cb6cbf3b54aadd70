"""PSF images from files: one for all, one per tile, or one per object."""

__all__ = ["PSFStore"]

from contextlib import ExitStack

import numpy as np

from astroflow.catalogs.fits_files import FitsFile, FitsImage
from astroflow.catalogs.paths import check_descriptors, fill_template
from astroflow.catalogs.recipe import PSFImages
from astroflow.catalogs.rows import NO_INDEX, Rows
from astroflow.catalogs.sources import RowError
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.types import Array


class PSFStore:
    """Finds each object's PSF image, keeping the last file and image at hand.

    Parameters
    ----------
    recipe : PSFImages
        Where the PSFs are.
    indexed : bool
        Objects name a plane or HDU of their own.
    files : ExitStack
        Closes the last file; one file is open at a time.
    """

    def __init__(self, recipe: PSFImages, indexed: bool, files: ExitStack) -> None:
        self._recipe, self._indexed = recipe, indexed
        files.callback(self._close)
        self._path = ""
        self._file: FitsFile | InputError = InputError("no PSF file is open")
        self._images: dict[int | str | None, FitsImage] = {}

    def image(self, rows: Rows, row: int) -> Array:
        """Return the PSF ``(h, w)`` of an object.

        Raises
        ------
        RowError
            With `BAD_PSF`, if it cannot be read.
        """
        index = int(rows.psf_index[row])
        if self._indexed and index == NO_INDEX:
            raise RowError(Flag.BAD_PSF, "the table gives no PSF index for this object")
        try:
            return self._read(fill_template(self._recipe.path, rows.values(row)), index)
        except (InputError, OSError) as error:
            check_descriptors(error, self._path)
            raise RowError(Flag.BAD_PSF, str(error)) from None

    def check(self, rows: Rows) -> None:
        """Check a PSF file that every object shares.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        if "{" not in self._recipe.path:
            self._read(self._recipe.path, 0 if self._recipe.index == "plane" else NO_INDEX, probe=True)

    def _close(self) -> None:
        if isinstance(self._file, FitsFile):
            self._file.close()
        self._path, self._images, self._file = "", {}, InputError("no PSF file is open")

    def _read(self, path: str, index: int, probe: bool = False) -> Array:
        if path != self._path:
            self._close()
            try:
                self._file = FitsFile(path, "PSF file")
            except InputError as error:
                self._file = error
            self._path = path
        if isinstance(self._file, InputError):
            raise self._file
        by_hdu = self._indexed and self._recipe.index == "hdu"
        if by_hdu and probe:
            return np.zeros((0, 0), np.float32)
        hdu = index if by_hdu else self._recipe.hdu
        if hdu not in self._images:
            if by_hdu:
                self._images.clear()
            self._images[hdu] = self._file.image(hdu, cube=self._indexed and not by_hdu)
        image = self._images[hdu]
        if len(image.shape) == 2:
            if self._indexed and not by_hdu and index != 0:
                raise InputError(f"PSF file {image.where} holds one image; plane {index} was asked for")
            return image.floats()
        if not 0 <= index < image.shape[0]:
            raise InputError(f"PSF file {image.where} holds {image.shape[0]} planes; plane {index} was asked for")
        return image.floats(index)
