"""Tables of objects, whatever their format, read to checked columns.

FITS, Parquet, ECSV and CSV all end up as `Column`: values, which of them are missing, and a unit. A missing value is never
a fill value: it is a True in `missing`. Identifiers are exact integers or strings and never pass through a float.
"""

__all__ = ["Column", "floats", "identifiers", "integers", "read_columns", "strings"]

import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyWarning

from astroflow.catalogs.fits_files import PARSE_ERRORS, FitsFile
from astroflow.catalogs.paths import check_descriptors, check_file, looks_like
from astroflow.errors import InputError, nearest
from astroflow.types import Array

LOOK_SUFFIXES = (".gz", ".fz")
MAX_INTEGER = int(np.iinfo(np.int64).max)


class Column(NamedTuple):
    """One column of a table."""

    values: Array
    """``(N,)`` float64, int64, uint64, bool or str."""
    missing: Array
    """``(N,)`` bool: null, masked, NaN or an empty string."""
    unit: str
    """As the file says it; empty for none."""
    where: str
    """File and column, for messages."""

    def take(self, rows: Array) -> "Column":
        """Return some of the rows."""
        return self._replace(values=self.values[rows], missing=self.missing[rows])


def read_columns(
    path: str | Path, wanted: Mapping[str, str], *, hdu: int | str | None = None, text: Collection[str] = ()
) -> dict[str, Column]:
    """Read some columns of a table.

    Parameters
    ----------
    path : str or Path
        ``.fits``, ``.parquet``, ``.ecsv`` or ``.csv`` (plus ``.gz`` for FITS).
    wanted : mapping of str to str
        The names asked for, each with the recipe key that asks, for instance ``{"RAJ2000": "columns.ra"}``.
    hdu : int or str, optional
        Which table of a FITS file; the first by default.
    text : collection of str
        Columns, such as ids, whose text has to be kept. CSV has no types, so there each of them becomes integers if all its values
        are the digits of one, without sign or leading zeros, and strings otherwise: ``007`` stays what it is. The other formats say
        what a column holds, which is left alone.

    Raises
    ------
    InputError
        If the file is missing, empty or no table, or a column is missing (the nearest one is named).
    """
    check_file(path, "catalog table")
    path = Path(path)
    suffix = path.with_suffix("").suffix.lower() if path.suffix.lower() in LOOK_SUFFIXES else path.suffix.lower()
    readers: dict[str, Callable[[], _Opened]] = {
        ".fits": lambda: _open_fits(path, hdu),
        ".fit": lambda: _open_fits(path, hdu),
        ".parquet": lambda: _open_parquet(path),
        ".pq": lambda: _open_parquet(path),
        ".ecsv": lambda: _open_ecsv(path),
        ".csv": lambda: _open_csv(path, text),
    }
    if suffix not in readers:
        raise InputError(f"catalog table {path} has extension {suffix or 'none'!r}; expected one of {', '.join(sorted(readers))}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            opened = readers[suffix]()
            _check_names(path, wanted, opened.names)
            return {name: opened.read(name)._replace(where=f"column {name!r} of {path}") for name in wanted}
    except PARSE_ERRORS as error:
        if isinstance(error, InputError):
            raise
        check_descriptors(error, path)
        with open(path, "rb") as stream:
            seen = looks_like(stream.read(512))
        detail = " ".join(str(error).split())[:200]
        raise InputError(f"catalog table {path} cannot be read as {suffix[1:]} (it looks like {seen}): {detail}") from None


class _Opened(NamedTuple):
    names: list[str]
    read: Callable[[str], Column]


def _check_names(path: Path, wanted: Mapping[str, str], names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"catalog table {path} has more than one column called {twice[0]!r}")
    for name, asked_by in wanted.items():
        if name not in names:
            by_case = {known.lower(): known for known in names}
            close = f" Did you mean {by_case[name.lower()]!r}?" if name.lower() in by_case else nearest(name, names)
            listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            raise InputError(
                f"catalog table {path} has no column {name!r}, which `{asked_by}` asks for; change `{asked_by}`. It has: {listed}.{close}"
            )


def _open_fits(path: Path, hdu: int | str | None) -> _Opened:
    from astropy.io import fits
    from astropy.table import Table

    with FitsFile(path, "catalog table") as file:
        tables = {number: unit for number, unit in enumerate(file.units()) if isinstance(unit, fits.BinTableHDU | fits.TableHDU)}
        names = {unit.name: number for number, unit in tables.items()}
        if not tables:
            raise InputError(f"catalog table {path} holds no table; its HDUs are {file.listing(True)}")
        number = next(iter(tables)) if hdu is None else names.get(hdu.upper()) if isinstance(hdu, str) else hdu
        if number not in tables:
            hint = nearest(str(hdu).upper(), names)
            raise InputError(f"HDU {hdu!r} of catalog table {path} is not a table; its HDUs are {file.listing(True)}.{hint}")
        table = Table.read(tables[number])
    return _Opened(list(table.colnames), lambda name: _from_astropy(table[name], name, path))


def _open_ecsv(path: Path) -> _Opened:
    from astropy.table import Table

    table = Table.read(path, format="ascii.ecsv")
    return _Opened(list(table.colnames), lambda name: _from_astropy(table[name], name, path))


def _open_parquet(path: Path) -> _Opened:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    schema = file.schema_arrow
    return _Opened(
        list(schema.names), lambda name: _from_arrow(file.read(columns=[name]).column(name), name, path, schema.field(name).metadata)
    )


def _open_csv(path: Path, text: Collection[str]) -> _Opened:
    import pyarrow as pa
    from pyarrow import csv

    types = {name: pa.string() for name in text}
    table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True))

    def read(name: str) -> Column:
        column = _from_arrow(table.column(name), name, path, None)
        plain = name in text and len(column.values) and all(_is_plain_integer(value) for value in column.values[~column.missing].tolist())
        return column._replace(values=np.where(column.missing, "0", column.values).astype(np.int64)) if plain else column

    return _Opened(list(table.column_names), read)


def _from_astropy(column: Any, name: str, path: Path) -> Column:
    masked = np.ma.MaskedArray(column)
    missing = np.ma.getmaskarray(masked).copy()
    return _column(np.asarray(masked.data), missing, str(getattr(column, "unit", None) or ""), name, path)


def _from_arrow(column: Any, name: str, path: Path, metadata: Mapping[bytes, bytes] | None) -> Column:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    unit = (metadata or {}).get(b"unit", b"").decode("utf-8", "replace")
    missing = np.asarray(column.is_null())
    if pa.types.is_null(column.type):
        return _column(np.full(len(column), np.nan), missing, unit, name, path)
    if pa.types.is_nested(column.type) or pa.types.is_temporal(column.type):
        raise InputError(f"column {name!r} of {path} holds {column.type}; expected one number or string per row")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _column(np.array(column.fill_null("").to_pylist(), dtype=str), missing, unit, name, path)
    filled = column.fill_null(pa.scalar(False if pa.types.is_boolean(column.type) else 0, column.type)) if missing.any() else column
    return _column(filled.to_numpy(), missing, unit, name, path)


def _column(values: Array, missing: Array, unit: str, name: str, path: Path) -> Column:
    if values.ndim != 1:
        raise InputError(f"column {name!r} of {path} holds an array of shape {values.shape[1:]} per row; expected one number or string")
    if values.dtype.kind == "O":
        values = np.array(["" if m else str(v) for v, m in zip(values, missing, strict=True)], dtype=str)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "U":
        values = np.char.strip(values)
        missing = missing | (values == "")
    elif values.dtype.kind == "f":
        values = values.astype(np.float64)
        missing = missing | np.isnan(values)
        values = np.where(missing, np.nan, values)
    elif values.dtype.kind in "iu":
        values = values.astype(np.uint64 if values.dtype.kind == "u" and values.dtype.itemsize == 8 else np.int64)
    elif values.dtype.kind != "b":
        raise InputError(f"column {name!r} of {path} holds {values.dtype}; expected numbers or strings")
    return Column(values, np.asarray(missing, bool), unit, name)


def floats(column: Column, unit: str = "") -> Array:
    """Return a column as float64, NaN where missing, converted to `unit` where the file states another one."""
    if column.values.dtype.kind not in "fiu":
        raise InputError(f"{column.where} holds {_kind(column)}; expected numbers")
    values = np.where(column.missing, np.nan, column.values.astype(np.float64))
    if not unit or not column.unit:
        return values
    try:
        return np.asarray((values * u.Unit(column.unit)).to_value(u.Unit(unit)))
    except (u.UnitConversionError, ValueError):
        raise InputError(f"{column.where} has unit {column.unit!r}; expected {unit!r} or a unit that converts to it") from None


def integers(column: Column, fill: int = -1) -> Array:
    """Return a column of whole numbers as int64, `fill` where missing."""
    if column.values.dtype.kind not in "iu":
        raise InputError(f"{column.where} holds {_kind(column)}; expected whole numbers")
    return np.where(column.missing, fill, column.values.astype(np.int64))


def strings(column: Column) -> Array:
    """Return a column as strings, empty where missing; integers become their digits."""
    if column.values.dtype.kind not in "iuU":
        raise InputError(f"{column.where} holds {_kind(column)}; expected strings or integers")
    return np.where(column.missing, "", column.values.astype(str))


def identifiers(column: Column) -> Array:
    """Return the ids of a table, exactly as it holds them: int64, or strings, which stay strings whatever they look like.

    Raises
    ------
    InputError
        If one is missing, they are not integers or strings, or some come twice (the first five are listed).
    """
    if column.missing.any():
        rows = np.flatnonzero(column.missing)
        raise InputError(f"{column.where} has no id in {len(rows)} rows, the first being row {rows[0]}; every object needs one")
    values = column.values
    if values.dtype.kind not in "iuU":
        if not len(values):
            return np.zeros(0, np.int64)
        raise InputError(f"{column.where} holds {_kind(column)}; ids must be integers or strings, because floats do not keep them exactly")
    if values.dtype.kind == "u":
        if len(values) and int(values.max()) > MAX_INTEGER:
            raise InputError(f"{column.where} holds integers above 2^63 - 1; store them as strings")
        values = values.astype(np.int64)
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) != len(values):
        twice = ", ".join(str(identity) for identity in unique[counts > 1][:5])
        raise InputError(f"{column.where} has {int((counts > 1).sum())} ids that come more than once: {twice}; ids must be unique")
    return np.asarray(values)


def _is_plain_integer(text: str) -> bool:
    """Say whether a text is what the digits of a nonnegative int64 look like."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_INTEGER))
    return digits and str(int(text)) == text and int(text) <= MAX_INTEGER


def _kind(column: Column) -> str:
    return {"f": "floats", "i": "integers", "u": "integers", "b": "booleans", "U": "strings"}.get(
        column.values.dtype.kind, str(column.values.dtype)
    )
