"""GalSim's RealGalaxy format: the COSMOS sample, its galaxy stamps and their PSFs in multi-extension FITS files.

Stamps are trimmed to the galaxy and carry no mask: neighbours at their edges stay visible. The noise is one number per galaxy.
It is correlated by the drizzling (lag one about 0.45), which the catalog describes in a file of its own.
"""

__all__ = ["RealGalaxySource"]

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from astroflow.catalogs.fits_files import FitsFile, FitsImage
from astroflow.catalogs.image_set import SCALE_TOLERANCE
from astroflow.catalogs.maps import stated_correlation
from astroflow.catalogs.paths import check_descriptors
from astroflow.catalogs.recipe import RealGalaxyRecipe
from astroflow.catalogs.rows import NO_INDEX, Rows
from astroflow.catalogs.sky import SkyFrame
from astroflow.catalogs.sources import Partition, RowError, Source
from astroflow.catalogs.stamps import around
from astroflow.catalogs.tables import floats, identifiers, integers, read_columns, strings
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.types import Array, Cutout

TEXT_COLUMNS = ("GAL_FILENAME", "PSF_FILENAME")
WHOLE_COLUMNS = ("GAL_HDU", "PSF_HDU")
NUMBER_COLUMNS = ("NOISE_MEAN", "NOISE_VARIANCE")
MAX_OPEN_FILES = 8


class _Session(NamedTuple):
    side: int
    opened: dict[Path, FitsFile]


class RealGalaxySource(Source):
    """Galaxies of a RealGalaxy catalog. Checks on construction that at least one stamp file is there."""

    recipe: RealGalaxyRecipe

    def __init__(self, recipe: RealGalaxyRecipe) -> None:
        names = ("IDENT", "RA", "DEC", "PIXEL_SCALE", *TEXT_COLUMNS, *WHOLE_COLUMNS, *NUMBER_COLUMNS)
        table = read_columns(recipe.path, dict.fromkeys(names, "kind: realgalaxy"))
        filling: dict[str, Array] = {name: strings(table[name]) for name in TEXT_COLUMNS}
        filling |= {name: integers(table[name], NO_INDEX) for name in WHOLE_COLUMNS}
        filling |= {name: floats(table[name]) for name in NUMBER_COLUMNS}
        rows = Rows.of(identifiers(table["IDENT"]), ra=floats(table["RA"], "deg"), dec=floats(table["DEC"], "deg"), filling=filling)  # type: ignore[arg-type]
        super().__init__(recipe, rows)
        scale = floats(table["PIXEL_SCALE"])
        wrong = ~(np.abs(scale / recipe.pixel_scale_arcsec - 1) <= SCALE_TOLERANCE)
        if wrong.any():
            said = f"`pixel_scale_arcsec: {recipe.pixel_scale_arcsec:g}`"
            raise InputError(f'{int(wrong.sum())} rows of {recipe.path} have other pixels than {said}, the first {scale[wrong][0]:g}"')
        self.folder = Path(recipe.folder) if recipe.folder else Path(recipe.path).parent
        files = dict.fromkeys(filling["GAL_FILENAME"].tolist())
        if files and not any(_variant(self.folder / name).is_file() for name in files):
            raise InputError(
                f"none of the {len(files)} files of galaxy stamps is in {self.folder}; the first: {next(iter(files))}. Set `folder`"
            )

    def files(self, partition: Partition) -> list[str]:
        rows = self._local(partition)
        names = {name for key in ("GAL_FILENAME", "PSF_FILENAME") for name in self.rows.filling[key][rows].tolist() if name}
        return sorted(str(_variant(self.folder / name)) for name in names)

    def sky_frame(self, partition: Partition) -> SkyFrame:
        rows = self._local(partition)
        frame = self.catalog_frame(partition)
        with ExitStack() as files:
            session = self._session(files, 0)
            for place, row in enumerate(rows.tolist()):
                try:
                    name, hdu = (self.rows.filling[key][row].item() for key in ("GAL_FILENAME", "GAL_HDU"))
                    stamp = self._find(name, hdu, session, "galaxy stamp")
                except (InputError, OSError) as error:
                    check_descriptors(error, name)
                    continue
                frame.x[place], frame.y[place] = _middle(stamp.shape)
        return frame

    def _session(self, files: ExitStack, cutout_pixels: int) -> _Session:
        session = _Session(cutout_pixels, {})
        files.callback(_close_all, session.opened)
        return session

    def _cutout(self, row: int, session: Any) -> Cutout:
        values = {name: column[row].item() for name, column in self.rows.filling.items()}
        image = self._image(values["GAL_FILENAME"], values["GAL_HDU"], session, "galaxy stamp")
        try:
            psf = self._image(values["PSF_FILENAME"], values["PSF_HDU"], session, "PSF stamp")
        except InputError as error:
            raise RowError(Flag.BAD_PSF, str(error)) from None
        variance = values["NOISE_VARIANCE"]
        if not (math.isfinite(variance) and variance > 0):
            raise RowError(Flag.BAD_RMS, f"NOISE_VARIANCE = {variance:g}; it must be positive and finite")
        if self.recipe.subtract_noise_mean and math.isfinite(values["NOISE_MEAN"]):
            image = image - np.float32(values["NOISE_MEAN"])
        height, width = image.shape
        x, y = _middle(image.shape)
        columns, rows = around(x, width, session.side), around(y, height, session.side)
        image = image[rows, columns]
        return Cutout(
            identity=self.rows.ids[row].item(), image=image[None], rms=np.full((1, *image.shape), math.sqrt(variance), np.float32),
            mask=np.zeros((1, *image.shape), bool), psf=psf[None], zero_point=self.recipe.zero_point,
            pixel_scale_arcsec=self.recipe.pixel_scale_arcsec, x=x - columns.start, y=y - rows.start,
            gain=math.inf if self.recipe.gain is None else self.recipe.gain,
            noise_correlation=stated_correlation(self.recipe.noise_correlation),
        )  # fmt: skip

    def _image(self, name: str, hdu: int, session: _Session, what: str) -> Array:
        return self._find(name, hdu, session, what).floats()

    def _find(self, name: str, hdu: int, session: _Session, what: str) -> FitsImage:
        if not name or hdu == NO_INDEX:
            raise InputError(f"the catalog gives no file or HDU of the {what}")
        path = _variant(self.folder / name)
        if path not in session.opened:
            if len(session.opened) >= MAX_OPEN_FILES:
                session.opened.pop(next(iter(session.opened))).close()
            session.opened[path] = FitsFile(path, what)
        return session.opened[path].image(hdu)


def _middle(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the pixel position (x, y) of the middle of an image ``(H, W)``."""
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def _close_all(opened: dict[Path, FitsFile]) -> None:
    for file in opened.values():
        file.close()


def _variant(path: Path) -> Path:
    """Return the file itself, or its gzipped or unpacked twin where only that exists."""
    twin = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    return twin if twin.is_file() and not path.is_file() else path
