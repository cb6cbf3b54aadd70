"""The objects of a catalog: aligned columns with the names that astroflow uses, whatever the file called them."""

__all__ = ["Rows", "rows_of_files", "rows_of_table"]

import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from astroflow.catalogs.paths import plain_fields, template_fields
from astroflow.catalogs.recipe import Columns, StampsRecipe, TableFile, TilesRecipe
from astroflow.catalogs.tables import Column, floats, identifiers, integers, read_columns, strings
from astroflow.errors import InputError
from astroflow.types import Array

NO_INDEX = -1
HASHED_ROWS = 100_000
PARTS = ("image", "noise", "mask", "segmentation", "psf")
NOT_NUMBERS = ("id", "tile")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Columns of ``N`` objects; floats are NaN, strings empty and indices -1 where nothing is known.

    `index` is the row in the whole catalog, `filling` holds what path templates ask for.
    """

    index: Array
    ids: Array
    ra: Array
    dec: Array
    x: Array
    y: Array
    tile: Array
    size_pixels: Array
    gain: Array
    noise: Array
    psf_index: Array
    label: Array
    filling: dict[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, ids: Array, **columns: Array) -> "Rows":
        """Return rows of which only the given columns are known."""
        n = len(ids)
        blank: dict[str, Array] = {name: np.full(n, np.nan) for name in ("ra", "dec", "x", "y", "size_pixels", "gain", "noise")}
        blank |= {name: np.full(n, NO_INDEX) for name in ("psf_index", "label")}
        blank |= {"tile": np.full(n, "", dtype="U1"), "index": np.arange(n)}
        return cls(ids=ids, **(blank | columns))  # type: ignore[arg-type]

    def take(self, rows: Array) -> "Rows":
        """Return some of the rows."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "filling"}
        return Rows(**columns, filling={name: values[rows] for name, values in self.filling.items()})

    def digest(self) -> str:
        """Return a hash of everything that is known of the objects, in their order."""
        found = hashlib.sha256()
        columns = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "filling"} | self.filling
        for name, values in sorted(columns.items()):
            found.update(f"{name} {values.dtype} {len(values)}\n".encode())
            for start in range(0, len(values), HASHED_ROWS):
                found.update(np.ascontiguousarray(values[start : start + HASHED_ROWS]).tobytes())
        return found.hexdigest()

    def values(self, row: int) -> dict[str, int | float | str]:
        """Return what path templates may name of one object."""
        named = {"id": self.ids[row].item(), "tile": str(self.tile[row])}
        return named | {name: values[row].item() for name, values in self.filling.items()}


def rows_of_table(recipe: TilesRecipe | StampsRecipe, file: TableFile, columns: Columns) -> Rows:
    """Read the objects of a recipe's table.

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, or its ids are not unique.
    """
    named = {key: name for key in Columns.model_fields if isinstance(name := getattr(columns, key), str) and not key.startswith("size_")}
    wanted = {name: f"columns.{key}" for key, name in named.items()}
    filled = _template_columns(recipe)
    for name, asked_by in filled.items():
        wanted.setdefault(name, asked_by)
    numbers = {name for key, name in named.items() if key not in NOT_NUMBERS}
    texts = {named[key] for key in NOT_NUMBERS if key in named} | {name for name in _plain_columns(recipe) if name in filled}
    table = read_columns(file.path, wanted, hdu=file.hdu, text=texts - numbers)
    as_text = table
    if texts & numbers:
        # A number that also names files is needed both ways.
        as_text = table | read_columns(file.path, {name: wanted[name] for name in texts & numbers}, hdu=file.hdu, text=texts & numbers)
    ids = identifiers(as_text[columns.id])
    known: dict[str, Array] = {}
    for key in ("ra", "dec", "x", "y", "gain", "noise"):
        if key in named:
            known[key] = floats(table[named[key]], "deg" if key in ("ra", "dec") else "")
    for key in ("x", "y"):
        if key in known:
            known[key] = known[key] - columns.origin
    for key in ("psf_index", "label"):
        if key in named:
            known[key] = integers(table[named[key]], NO_INDEX)
    if columns.tile:
        known["tile"] = strings(as_text[columns.tile])
    if columns.size:
        size = floats(table[columns.size], "arcsec" if columns.size_unit == "arcsec" else "") * columns.size_scale
        known["size_pixels"] = size / recipe.pixel_scale_arcsec if columns.size_unit == "arcsec" else size
    filling = {name: _fillable(as_text[name]) for name in filled}
    return Rows.of(ids, **known, filling=filling)  # type: ignore[arg-type]


def rows_of_files(pattern: str) -> tuple[Rows, list[str]]:
    """Return one row per file that matches a pattern, sorted by name; its id is the file's stem."""
    path = Path(pattern)
    first = next(number for number, part in enumerate(path.parts) if any(mark in part for mark in "*?["))
    folder, rest = Path(*path.parts[:first]), str(Path(*path.parts[first:]))
    files = sorted(str(file) for file in folder.glob(rest) if file.is_file()) if folder.is_dir() else []
    if not files:
        raise InputError(f"no file matches {pattern}; check `image.path`")
    stems = np.array([Path(file).name.removesuffix(".gz").rsplit(".", 1)[0] for file in files])
    unique, counts = np.unique(stems, return_counts=True)
    if len(unique) != len(files):
        twice = ", ".join(unique[counts > 1][:5])
        raise InputError(f"files that match {pattern} share their stems, which are the ids: {twice}")
    return Rows.of(stems), files


def _template_columns(recipe: TilesRecipe | StampsRecipe) -> dict[str, str]:
    """Return the columns that path templates name, each with the key of the first one that does."""
    names: dict[str, str] = {}
    for key, template in _templates(recipe).items():
        for name in template_fields(template):
            if name not in NOT_NUMBERS:
                names.setdefault(name, f"{key}.path")
    return names


def _plain_columns(recipe: TilesRecipe | StampsRecipe) -> list[str]:
    return [name for template in _templates(recipe).values() for name in plain_fields(template)]


def _templates(recipe: TilesRecipe | StampsRecipe) -> dict[str, str]:
    parts = {key: getattr(recipe, key) for key in PARTS}
    return {key: part.path for key, part in parts.items() if part is not None and part.path is not None}


def _fillable(column: Column) -> Array:
    return strings(column) if column.missing.any() or column.values.dtype.kind == "U" else column.values
