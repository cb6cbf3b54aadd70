"""Data sources: a catalog recipe becomes cutouts, exactly one per row.

`open_source` checks everything that concerns the whole catalog, and what is wrong there is one error. What is wrong with one
object never is: its `Cutout` comes with no image, the right flag and a sentence. Sources hold no open files, so they can be sent
to workers; files are opened when a partition is read and closed behind it.

The three kinds are in `tiles`, `stamps` and `realgalaxy`; what they share is here.
"""

__all__ = ["Partition", "Positions", "RowError", "Source", "open_source"]

import abc
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from astroflow.catalogs.healpix import sky_tiles, spatial_index
from astroflow.catalogs.paths import check_descriptors
from astroflow.catalogs.recipe import CatalogRecipe, StampsRecipe, TilesRecipe
from astroflow.catalogs.rows import PARTS, Rows
from astroflow.catalogs.sky import SkyFrame
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.types import Array, Cutout

DEFAULT_CUTOUT_PIXELS = 512


@dataclass(frozen=True, eq=False)
class Partition:
    """Some rows of a catalog that are read together.

    Parameters
    ----------
    index : int
        Its number, from 0.
    rows : ndarray
        Rows of the catalog ``(N,)`` int64, those of one tile side by side.
    tiles : tuple of str
        The tiles that they are on, in the order of reading; empty where there is only one or none.
    pixel : tuple of int, optional
        Order and number of the nested HEALPix pixel that holds them all; None for rows that were not grouped by sky.
    """

    index: int
    rows: Array
    tiles: tuple[str, ...] = ()
    pixel: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.rows)


class Positions(NamedTuple):
    """Catalog positions ``(N,)``, NaN where the catalog has none: degrees, and 0-based pixels."""

    ra: Array
    dec: Array
    x: Array
    y: Array


class RowError(Exception):
    """One object cannot be used: its flag, and why."""

    def __init__(self, flag: Flag, note: str) -> None:
        super().__init__(note)
        self.flag, self.note = flag, note


class Source(abc.ABC):
    """Objects and their images, read partition by partition.

    Parameters
    ----------
    recipe : CatalogRecipe
        Where the images are.
    rows : Rows
        The objects.
    """

    def __init__(self, recipe: CatalogRecipe, rows: Rows) -> None:
        self.recipe, self.rows = recipe, rows

    @property
    def n_rows(self) -> int:
        """How many objects the source holds."""
        return len(self.rows)

    def row_keys(self) -> Array:
        """Return the ids ``(N,)``, int64 or strings, in catalog order."""
        return self.rows.ids

    def positions(self) -> Positions:
        """Return the positions that the catalog gives, in catalog order."""
        return Positions(self.rows.ra, self.rows.dec, self.rows.x, self.rows.y)

    def partitions(self, rows_per_partition: int, *, by_sky: bool = False) -> list[Partition]:
        """Cut the catalog into partitions of at most `rows_per_partition` rows. Every row is in exactly one.

        Parameters
        ----------
        rows_per_partition : int
            The most rows of one; more only where thousands share a place on the sky.
        by_sky : bool
            Rows that share a HEALPix pixel come together, and those without a position on the sky by themselves, at the end. Otherwise
            rows of a tile do: one with more rows is cut, smaller ones share a partition.
        """
        if rows_per_partition < 1:
            raise ValueError(f"`rows_per_partition` must be at least 1; got {rows_per_partition}")
        if not by_sky:
            return self._by_tile(np.arange(len(self.rows)), rows_per_partition)
        index = spatial_index(self.rows.ra, self.rows.dec)
        partitions = [
            replace(self._in_reading_order(tile.rows, number), pixel=(tile.order, tile.pixel))
            for number, tile in enumerate(sky_tiles(index, rows_per_partition))
        ]
        nowhere = self._by_tile(np.flatnonzero(index < 0), rows_per_partition)
        return partitions + [replace(partition, index=len(partitions) + partition.index) for partition in nowhere]

    def _in_reading_order(self, rows: Array, number: int) -> Partition:
        """Return a partition of rows, those of one tile side by side."""
        tiles = self.rows.tile[rows]
        names, first, which = np.unique(tiles, return_index=True, return_inverse=True)
        order = np.argsort(first[which], kind="stable")
        return Partition(number, self.rows.index[rows[order]], tuple(name for name in names[np.argsort(first)].tolist() if name))

    def _by_tile(self, rows: Array, rows_per_partition: int) -> list[Partition]:
        names, first, which = np.unique(self.rows.tile[rows], return_index=True, return_inverse=True)
        groups: list[list[tuple[str, Array]]] = [[]]
        held = 0
        by_tile = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which, minlength=len(names)))[:-1])
        for tile in np.argsort(first):
            members = self.rows.index[rows[by_tile[tile]]]
            for start in range(0, len(members), rows_per_partition):
                piece = members[start : start + rows_per_partition]
                if held + len(piece) > rows_per_partition:
                    groups.append([])
                    held = 0
                groups[-1].append((str(names[tile]), piece))
                held += len(piece)
        return [
            Partition(
                index=number,
                rows=np.concatenate([piece for _, piece in group]),
                tiles=tuple(name for name, _ in group if name),
            )
            for number, group in enumerate(group for group in groups if group)
        ]

    def only(self, partition: Partition) -> "Source":
        """Return a small copy of this source that holds the rows of one partition, to be sent to a worker."""
        return type(self)._with_rows(self, self.rows.take(self._local(partition)))

    def files(self, partition: Partition) -> list[str]:
        """Return the files that many rows of a partition share; small ones that only one row needs are not among them."""
        return sorted(self._shared_files())

    def _shared_files(self) -> set[str]:
        """Return the files that all rows share, the table not among them."""
        parts = (getattr(self.recipe, key, None) for key in PARTS)
        return {part.path for part in parts if part is not None and part.path is not None and not set(part.path) & set("{*?[")}

    def refuse(self, partition: Partition, flag: Flag, note: str) -> list[Cutout]:
        """Return what stands for the objects of a partition when their files must not be touched."""
        return [self._refused(int(row), flag, note) for row in self._local(partition)]

    def read(self, partition: Partition, cutout_pixels: int = DEFAULT_CUTOUT_PIXELS) -> Iterator[Cutout]:
        """Read the objects of a partition.

        Parameters
        ----------
        partition : Partition
            From `partitions`.
        cutout_pixels : int
            Largest side of a cutout, native pixels; from tiles every cutout has it, with masked pixels beyond the tile.

        Yields
        ------
        Cutout
            One per row, in the order of ``partition.rows``. The object's position in it is sub-pixel: nothing is resampled.
        """
        if cutout_pixels < 3:
            raise ValueError(f"`cutout_pixels` must be at least 3; got {cutout_pixels}")
        with ExitStack() as files:
            session = self._session(files, cutout_pixels)
            for row in self._local(partition):
                try:
                    yield self._cutout(int(row), session)
                except RowError as problem:
                    yield self._refused(int(row), problem.flag, problem.note)
                except (InputError, OSError, MemoryError) as error:
                    check_descriptors(error, f"a file of object {self.rows.ids[row]}")
                    yield self._refused(int(row), Flag.READ_ERROR, str(error))

    @abc.abstractmethod
    def sky_frame(self, partition: Partition) -> SkyFrame:
        """Return where the objects of a partition are on the sky and how their pixels lie there, in the order of its rows.

        Pixel positions are there also where the sky is not known.
        """

    @abc.abstractmethod
    def _session(self, files: ExitStack, cutout_pixels: int) -> Any:
        """Return what reading one partition needs; files that it opens are closed with `files`."""

    @abc.abstractmethod
    def _cutout(self, row: int, session: Any) -> Cutout:
        """Read one object, or raise RowError or InputError."""

    def _with_rows(self, rows: Rows) -> "Source":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.rows = rows
        return other

    def _local(self, partition: Partition) -> Array:
        """Return the positions of a partition's rows in this source."""
        wanted = np.asarray(partition.rows, np.int64)
        whole = (wanted >= 0) & (wanted < len(self.rows))
        if whole.all() and (self.rows.index[wanted] == wanted).all():
            return wanted  # a whole catalog, whose rows are at their own places: no need to sort millions of them for each partition
        order = np.argsort(self.rows.index, kind="stable")
        found = np.searchsorted(self.rows.index, wanted, sorter=order)
        good = found < len(order)
        good[good] = self.rows.index[order[found[good]]] == wanted[good]
        if not good.all():
            raise InputError(f"partition {partition.index} asks for row {wanted[~good][0]}, which this source does not hold")
        return np.asarray(order[found])

    def catalog_frame(self, partition: Partition) -> SkyFrame:
        """Return a frame of which only the pixel positions that the catalog gives are known; no file is touched."""
        rows = self._local(partition)
        frame = SkyFrame.unknown(len(rows), self.recipe.pixel_scale_arcsec)
        frame.x[:], frame.y[:] = self.rows.x[rows], self.rows.y[rows]
        return frame

    def _gain(self, row: int, default: float) -> float:
        """Return an object's gain: its own, or the recipe's."""
        own = float(self.rows.gain[row])
        if np.isnan(own):
            return default
        if not own > 0:
            raise RowError(Flag.BAD_RMS, f"gain is {own:g} electrons per image unit; it must be positive")
        return own

    def _size(self, row: int) -> float | None:
        size = float(self.rows.size_pixels[row])
        return size if np.isfinite(size) and size > 0 else None

    def _refused(self, row: int, flag: Flag, note: str) -> Cutout:
        zero_point = self.recipe.zero_point
        return Cutout(
            identity=self.rows.ids[row].item(), image=None, rms=None, mask=None, psf=None, flags=int(flag), note=note,
            zero_point=zero_point if isinstance(zero_point, float) else 0.0, pixel_scale_arcsec=self.recipe.pixel_scale_arcsec,
            size_pixels=self._size(row),
        )  # fmt: skip


def open_source(recipe: CatalogRecipe) -> Source:
    """Open the data source that a recipe describes.

    Raises
    ------
    InputError
        If the table or every image is missing or broken, or they contradict the recipe.
    """
    from astroflow.catalogs.realgalaxy import RealGalaxySource
    from astroflow.catalogs.stamps import StampSource
    from astroflow.catalogs.tiles import TileSource

    if isinstance(recipe, TilesRecipe):
        return TileSource(recipe)
    if isinstance(recipe, StampsRecipe):
        return StampSource(recipe)
    return RealGalaxySource(recipe)
