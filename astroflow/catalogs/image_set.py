"""An image with its maps, opened together, checked against the recipe and cut together: what tiles and stamps share."""

__all__ = ["ImageSet", "cut_window", "open_images"]

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from astropy.wcs import WCS

from astroflow.catalogs.fits_files import FitsFile, FitsImage
from astroflow.catalogs.fits_images import header_number, header_wcs, pixel_scale_of
from astroflow.catalogs.maps import mask_of, neighbours_of, rms_of
from astroflow.catalogs.recipe import MaskMap, StampsRecipe, TilesRecipe
from astroflow.catalogs.rows import NO_INDEX, Rows
from astroflow.catalogs.sources import RowError
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.types import Array

SCALE_TOLERANCE = 0.01


class ImageSet(NamedTuple):
    """One image, the maps of its pixels, and its calibration."""

    image: FitsImage
    noise: FitsImage | None
    mask: FitsImage | None
    segmentation: FitsImage | None
    wcs: WCS | None
    zero_point: float
    gain: float


def open_images(recipe: TilesRecipe | StampsRecipe, fill: Callable[[str], str], files: ExitStack) -> ImageSet:
    """Open an image and its maps.

    Parameters
    ----------
    recipe : TilesRecipe or StampsRecipe
        What is where.
    fill : callable
        Turns a path template of the recipe into a path.
    files : ExitStack
        Closes the files.

    Raises
    ------
    InputError
        If one of them cannot be read, shapes differ, or the header contradicts the recipe.
    """
    opened: dict[str, FitsFile] = {}

    def find(template: str, hdu: int | str | None, what: str) -> FitsImage:
        path = fill(template)
        if path not in opened:
            opened[path] = files.enter_context(FitsFile(path, what))
        return opened[path].image(hdu)

    image = find(recipe.image.path, recipe.image.hdu, "image")
    parts = {"noise": (recipe.noise, "noise map"), "mask": (recipe.mask, "mask"), "segmentation": (recipe.segmentation, "segmentation map")}
    maps = {part: None if spec is None or spec.path is None else find(spec.path, spec.hdu, what) for part, (spec, what) in parts.items()}
    for part, other in maps.items():
        if other is not None and other.shape != image.shape:
            raise InputError(f"{part} {other.where} has {_size(other)} pixels; its image {image.where} has {_size(image)}")
    header = image.header
    zero_point = recipe.zero_point if isinstance(recipe.zero_point, float) else header_number(header, recipe.zero_point, image.where)
    gain = recipe.gain if not isinstance(recipe.gain, str) else header_number(header, recipe.gain, image.where)
    if gain is not None and not gain > 0:
        raise InputError(f"{image.where} has {recipe.gain} = {gain:g}; a gain must be positive")
    check_pixel_scale(image, recipe.pixel_scale_arcsec)
    return ImageSet(image, **maps, wcs=header_wcs(header), zero_point=zero_point, gain=np.inf if gain is None else gain)


def cut_window(
    recipe: TilesRecipe | StampsRecipe,
    images: ImageSet,
    rows: Rows,
    row: int,
    window: tuple[slice, slice],
    centre: tuple[float, float],
    gain: float,
) -> tuple[Array, Array, Array]:
    """Cut one object's window out of an image and its maps.

    Parameters
    ----------
    window : tuple of slice
        Rows and columns, inside the image.
    centre : tuple of float
        Pixel position (x, y) of the object in the image, which says which segment is its own.
    gain : float
        The object's gain.

    Returns
    -------
    image, rms, mask : ndarray
        float32, float32 and bool, of the window's shape.
    """
    image = images.image.floats(*window)
    mask = np.zeros(image.shape, bool)
    if images.noise is None:
        rms = np.full(image.shape, _constant_noise(recipe, rows, row), np.float32)
    else:
        rms, mask = rms_of(recipe.noise, images.noise.floats(*window), image, gain)
    if images.mask is not None and recipe.mask is not None:
        mask |= _masked(recipe.mask, images.mask, window)
    if images.segmentation is not None:
        own = int(rows.label[row])
        if own == NO_INDEX:
            x, y = round(centre[0]), round(centre[1])
            own = int(images.segmentation.integers(slice(y, y + 1), slice(x, x + 1))[0, 0])
        mask |= neighbours_of(images.segmentation.integers(*window), own)
    return image, rms, mask


def _masked(mask: MaskMap, image: FitsImage, window: tuple[slice, slice]) -> Array:
    """Return which pixels a mask image ignores: those that it says, and those of which it says nothing."""
    if mask.bits is None and mask.values is None:
        return mask_of(mask, image.floats(*window))
    return mask_of(mask, image.integers(*window)) | image.undefined(*window)


def _constant_noise(recipe: TilesRecipe | StampsRecipe, rows: Rows, row: int) -> float:
    value = float(rows.noise[row]) if recipe.noise.value is None else recipe.noise.value
    if not (np.isfinite(value) and value > 0):
        raise RowError(Flag.BAD_RMS, f"the noise of this object is {value:g}; it must be positive and finite")
    return value / recipe.noise.scale


def check_pixel_scale(image: FitsImage, expected: float) -> None:
    """Check a recipe's pixel scale against the image's WCS, where it has one.

    Raises
    ------
    InputError
        If they differ by more than 1 %.
    """
    found = pixel_scale_of(image.header)
    if found is not None and abs(found / expected - 1) > SCALE_TOLERANCE:
        raise InputError(f'{image.where} has pixels of {found:.5g}" by its WCS; the recipe says `pixel_scale_arcsec: {expected:g}`')


def _size(image: FitsImage) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
