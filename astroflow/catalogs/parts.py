"""Parts: the Parquet files of a posterior catalog, of which each holds the rows of one partition."""

__all__ = ["parquet_bytes", "part_files", "read_part", "sorted_by_sky"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from astroflow.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def parquet_bytes(table: "pa.Table") -> bytes:
    """Return a table as the bytes of a Parquet file: the same for the same rows, in however many chunks they came."""
    import pyarrow as pa
    from pyarrow import parquet

    stream = pa.BufferOutputStream()
    parquet.write_table(table.combine_chunks(), stream, compression="zstd")
    return stream.getvalue().to_pybytes()  # type: ignore[no-any-return]


def sorted_by_sky(table: "pa.Table") -> "pa.Table":
    """Return the rows of a part as HATS wants them, by HEALPix index, those of one index by their row in the input."""
    return table.sort_by([("_healpix_29", "ascending"), ("row_index", "ascending")])


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
