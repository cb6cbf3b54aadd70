"""Posterior catalogs: one row per object, as Parquet that says what its columns mean.

Every column carries its unit, UCD and description, in the Arrow field's metadata and again in a VOTable header that TOPCAT and
astropy understand (the VOParquet convention). A row that could not be used is there like all others, with nulls and a flag: a
null is never a NaN, a zero or a fill value.
"""

__all__ = ["RowInfo", "build_posterior_table", "read_posterior_catalog", "samples_array", "samples_of", "vectors_of"]

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.catalogs.parts import part_files
from astroflow.catalogs.paths import check_file
from astroflow.catalogs.posterior_columns import HEALPIX, PARAMETER_SUFFIXES, posterior_columns, sample_columns
from astroflow.catalogs.votable import votable_header
from astroflow.errors import InputError
from astroflow.posteriors.flags import UNUSABLE, quality
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

if TYPE_CHECKING:
    import pyarrow as pa
    from astropy.table import Table


LISTS = {"halves": np.float16, "floats": np.float32}
"""Columns that hold a vector in each row."""


@dataclass(frozen=True, kw_only=True)
class RowInfo:
    """What is known of ``N`` rows besides their posterior. NaN positions, binnings and S/N become nulls.

    `row_index` is the row in the input catalog, `x` and `y` the 0-based pixel in its tile or stamp, `notes` why a row is unusable.
    """

    row_index: Array
    ids: Array
    ra: Array
    dec: Array
    x: Array
    y: Array
    snr: Array
    binning: Array
    flags: Array
    notes: Array


def build_posterior_table(
    parameters: Parameters,
    rows: RowInfo,
    summary: Mapping[str, Array],
    *,
    bundle: str,
    samples: Array | None = None,
    healpix: Array | None = None,
    information: Mapping[str, str] | None = None,
) -> "pa.Table":
    """Put rows and their posterior summaries into an Arrow table.

    Parameters
    ----------
    parameters : Parameters
        The model's parameters.
    rows : RowInfo
        ``N`` rows; those with an `UNUSABLE` flag get nulls for everything that a posterior would say.
    summary : mapping of str to ndarray
        ``(N,)`` arrays by column name, from `summarize_draws` and `summarize_derived`, and of certificates where there
        are any. Derived columns may be missing.
    bundle : str
        Digest of the trained posterior.
    samples : ndarray, optional
        ``(N, S, P)`` draws to keep.
    healpix : ndarray, optional
        ``(N,)`` spatial index of the rows (`spatial_index`), for HATS catalogs; -1 becomes null.
    information : mapping of str to str, optional
        More for the table's metadata.

    Raises
    ------
    ValueError
        If lengths differ or a parameter's column is missing.
    """
    import pyarrow as pa

    ids = np.asarray(rows.ids)
    n = len(ids)
    columns = posterior_columns(
        parameters, healpix=healpix is not None, string_ids=ids.dtype.kind == "U", samples=samples is not None,
        ensemble="disagreement" in summary, certified="ess_fraction" in summary, refined="refined" in summary, kept="context" in summary,
    )  # fmt: skip
    unusable = (np.asarray(rows.flags, np.int64) & UNUSABLE) != 0
    given: dict[str, Any] = {
        "row_index": rows.row_index, "id": ids, "ra": rows.ra, "dec": rows.dec, "x": rows.x, "y": rows.y, "flags": rows.flags,
        "quality": quality(rows.flags), "note": rows.notes, "bundle": np.full(n, bundle),
    }  # fmt: skip
    if healpix is not None:
        given[HEALPIX.name] = healpix
    judged = {"snr": rows.snr, "binning": rows.binning, **summary}
    needed = {f"{name}_{suffix}" for name in parameters.names for suffix in PARAMETER_SUFFIXES}
    missing = sorted(needed - set(judged))
    if missing:
        raise ValueError(f"`summary` lacks {len(missing)} columns: {', '.join(missing[:5])}")
    arrays, fields = [], []
    for column in columns:
        if column.type == "samples":
            draws, absent = (np.asarray(samples), unusable) if column.name == "samples" else _refined_draws(summary)
            array = samples_array(draws, parameters, absent)
        elif column.type in LISTS:
            array = _lists_array(np.asarray(judged[column.name]), column.type, unusable)
        else:
            values = np.asarray(given[column.name] if column.name in given else judged.get(column.name, np.full(n, np.nan)))
            if values.shape != (n,):
                raise ValueError(f"column {column.name!r} has shape {values.shape}; expected ({n},)")
            null = unusable.copy() if column.name not in given else np.zeros(n, bool)
            if values.dtype.kind == "f":
                null |= ~np.isfinite(values)
            elif column is HEALPIX:
                null |= values < 0
            array = _array(values, null, column.type)
        arrays.append(array)
        fields.append(pa.field(column.name, array.type, metadata=column.about()))
    facts = {"astroflow.bundle": bundle, "astroflow.version": _version(), **(information or {})}
    facts |= {"IVOA.VOTable-Parquet.version": "1.0", "IVOA.VOTable-Parquet.content": votable_header(columns)}
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=facts))


def read_posterior_catalog(path: str | Path) -> "Table":
    """Read a posterior catalog: a Parquet file, a folder of them, or a HATS catalog.

    Returns
    -------
    astropy.table.Table
        In the order of the input catalog, with units, descriptions and masked nulls; draws as ``samples_{parameter}`` ``(N, S)``,
        NaN where there are none. ``.meta`` holds the bundle's digest.

    Raises
    ------
    InputError
        If there is no such catalog.
    """
    import pyarrow as pa
    from astropy.table import MaskedColumn, Table
    from pyarrow import parquet

    path = Path(path)
    files = part_files(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file; expected a posterior catalog")
    for file in files:
        check_file(file, "posterior catalog")
    try:
        arrow = pa.concat_tables([parquet.ParquetFile(file).read() for file in files])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as a posterior catalog: {error}") from None
    if "row_index" not in arrow.schema.names:
        raise InputError(f"{path} has no column 'row_index'; expected a posterior catalog")
    arrow = arrow.sort_by("row_index")
    facts = {key.decode(): value.decode() for key, value in (arrow.schema.metadata or {}).items()}
    table = Table(meta={key.removeprefix("astroflow."): value for key, value in facts.items() if key.startswith("astroflow.")})
    for field in arrow.schema:
        column = arrow.column(field.name)
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        if pa.types.is_struct(field.type):
            for name, draws in samples_of(column).items():
                table[f"{field.name}_{name}"] = draws
            continue
        if pa.types.is_list(field.type):
            table[field.name] = vectors_of(column)
            continue
        null = np.asarray(column.is_null())
        filled = column.fill_null("" if pa.types.is_string(field.type) else pa.scalar(0, field.type)) if null.any() else column
        values = np.array(filled.to_pylist(), dtype=str) if pa.types.is_string(field.type) else filled.to_numpy()
        made = MaskedColumn(values, mask=null, unit=about.get("unit"), description=about.get("description"))
        made.meta["ucd"] = about.get("ucd", "")
        table[field.name] = made
    return table


def _array(values: Array, null: Array, kind: str) -> "pa.Array":
    import pyarrow as pa

    if kind == "string":
        return pa.array([None if gone else str(v) for v, gone in zip(values.tolist(), null, strict=True)], pa.string())
    return pa.array(np.where(null, 0, values).astype(kind), mask=null)


def _refined_draws(summary: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return draws, and of which rows they are none that were refined."""
    return summary["draws_refined"], np.asarray(summary["refined"]) < 1


def _lists_array(values: Array, kind: str, unusable: Array) -> "pa.Array":
    """Return vectors as lists of one length, null where they are not finite or of unusable rows."""
    import pyarrow as pa

    values = values.astype(LISTS[kind])
    absent = unusable | ~np.isfinite(values).all(1) | (values.shape[1] == 0)
    flat = pa.array(np.where(absent[:, None], 0, values).astype(LISTS[kind]).ravel())
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(absent))


def samples_array(samples: Array, parameters: Parameters, unusable: Array) -> "pa.Array":
    """Return draws ``(N, S, P)`` as a list for each parameter, null where unusable."""
    import pyarrow as pa

    n, draws, _ = samples.shape
    offsets = np.arange(n + 1, dtype=np.int32) * draws
    lists = [
        pa.ListArray.from_arrays(offsets, np.ascontiguousarray(samples[:, :, place], np.float32).ravel())
        for place in range(len(parameters))
    ]
    fields = [pa.field(column.name, lists[0].type, metadata=column.about()) for column in sample_columns(parameters)]
    return pa.StructArray.from_arrays(lists, fields=fields, mask=pa.array(unusable))


def vectors_of(column: "pa.ChunkedArray") -> Array:
    """Return a column of lists of one length as ``(N, W)``, NaN where there is none."""
    known = ~np.asarray(column.is_null())
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    width = flat.size // max(int(known.sum()), 1)
    values = np.full((len(column), width), np.nan, flat.dtype)
    values[known] = flat.reshape(-1, width) if width else 0
    return values


def samples_of(column: Any) -> dict[str, Array]:
    """Return what `samples_array` was made of: ``(N, S)`` by parameter, NaN where there are none."""
    rows = column.to_pylist()
    draws = max((len(next(iter(row.values()))) for row in rows if row is not None), default=0)
    names = [field.name for field in column.type]
    blank = [np.nan] * draws
    return {name: np.array([blank if row is None else row[name] for row in rows], np.float32).reshape(len(rows), draws) for name in names}


def _version() -> str:
    try:
        return metadata.version("astroflow")
    except metadata.PackageNotFoundError:
        return "unknown"
