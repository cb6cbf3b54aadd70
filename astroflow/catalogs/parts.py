"""Parts: the Parquet files of a posterior catalog, of which each holds the rows of one partition."""

__all__ = ["parquet_bytes", "part_files", "read_part", "sorted_by_sky", "write_parquet"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astroflow.catalogs.posterior_columns import HEALPIX
from astroflow.errors import InputError
from astroflow.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 50_000
"""Readers skip groups of rows that they do not need; smaller ones compress worse."""


def parquet_bytes(table: "pa.Table") -> bytes:
    """Return a table as the bytes of a Parquet file: the same for the same rows, in however many chunks they came."""
    import pyarrow as pa
    from pyarrow import parquet

    stream = pa.BufferOutputStream()
    parquet.write_table(table.combine_chunks(), stream, compression="zstd", row_group_size=ROWS_PER_GROUP, **_encodings(table.schema))
    return stream.getvalue().to_pybytes()  # type: ignore[no-any-return]


def write_parquet(table: "pa.Table", path: str | Path) -> None:
    """Write a table so that the file is either complete or not there."""
    atomic_write(Path(path), parquet_bytes(table))


def _encodings(schema: "pa.Schema") -> dict[str, Any]:
    """Say how values become bytes: draws, which hardly repeat, take 0.6 of the space that Parquet's dictionaries would."""
    import pyarrow as pa

    others, encodings = [], {}
    for field in schema:
        if field.name == HEALPIX.name:
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_list(field.type):
            encodings[f"{field.name}.list.element"] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_struct(field.type):
            encodings |= {f"{field.name}.{draws.name}.list.element": "BYTE_STREAM_SPLIT" for draws in field.type}
        else:
            others.append(field.name)
    return {"use_dictionary": others, "column_encoding": encodings}


def sorted_by_sky(table: "pa.Table") -> "pa.Table":
    """Return the rows of a part as HATS wants them, by HEALPix index, those of one index by their row in the input."""
    return table.sort_by([(HEALPIX.name, "ascending"), ("row_index", "ascending")])


def part_files(catalog: Path) -> list[Path]:
    """Return the files of a catalog's parts: those of the sky in their folders, and those of rows without a position beside them."""
    return sorted(file for file in catalog.rglob("*.parquet") if not file.name.startswith("."))


def read_part(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read columns of a part, all of them if none are named.

    Raises
    ------
    InputError
        If the part is damaged, or no part of a posterior catalog.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # one file, not a dataset whose folders are columns
        file = parquet.ParquetFile(path)
        return file.read() if columns is None else file.read(columns=list(columns)).select(list(columns))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(
            f"{path} is no part of a posterior catalog, or damaged ({error}); remove it and run `astroflow infer` again"
        ) from None
