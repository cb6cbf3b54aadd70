"""What makes a folder of Parquet files a HATS catalog, which LSDB opens, searches and crossmatches.

HATS, the Hierarchical Adaptive Tiling Scheme, keeps a catalog as one Parquet file per HEALPix pixel, and some small files that say
which there are::

    hats.properties, properties       what the catalog is: name, columns, rows, provenance; the same text twice
    partition_info.csv                the pixels that have a file
    dataset/_common_metadata          the schema of all files, with units, UCDs and descriptions
    dataset/Norder=5/Dir=0/Npix=3121.parquet

Parts are written by any process and in any order, to `part_path`; `write_hats` makes a catalog of all of them. Before that
there are no properties, so nobody takes a run that was cut short for a catalog. ``dataset/_metadata``, the footers of all files in one,
is optional and left out: of many files it is too large to read.

`write_extension` lets LSDB join posteriors to the catalog of the objects, where that is a HATS catalog too.

Reference: https://www.ivoa.net/documents/Notes/HATS/
"""

__all__ = ["HatsPart", "check_part", "hats_partitions", "part_path", "write_extension", "write_hats"]

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from astroflow import __version__
from astroflow.catalogs.healpix import INDEX_ORDER
from astroflow.catalogs.posterior_columns import HEALPIX
from astroflow.errors import InputError
from astroflow.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

HATS_VERSION = "v1.0"
PIXELS_PER_FOLDER = 10_000


class HatsPart(NamedTuple):
    """A file of a HATS catalog: the HEALPix pixel that it covers, and how many rows it has."""

    order: int
    pixel: int
    rows: int


def part_path(order: int, pixel: int) -> Path:
    """Return where the file of a pixel lies, relative to the catalog's root."""
    folder = pixel // PIXELS_PER_FOLDER * PIXELS_PER_FOLDER
    return Path("dataset", f"Norder={order}", f"Dir={folder}", f"Npix={pixel}.parquet")


def check_part(table: "pa.Table", order: int, pixel: int) -> None:
    """Check that the rows of a part are of one pixel, and sorted.

    Parameters
    ----------
    table : pyarrow.Table
        Rows with the column `HEALPIX`.
    order, pixel : int
        The pixel that all of them should lie in.

    Raises
    ------
    ValueError
        If rows are out of order or lie elsewhere.
    """
    index = table.column(HEALPIX.name).fill_null(-1).to_numpy()
    if (index >> 2 * (INDEX_ORDER - order) != pixel).any() or (np.diff(index) < 0).any():
        raise ValueError(f"rows are not of pixel {pixel} of order {order} alone, or not sorted by {HEALPIX.name}")


def write_hats(
    root: Path,
    *,
    name: str,
    schema: "pa.Schema",
    parts: Iterable[tuple[int, int, int]],
    created: datetime,
    default_columns: Sequence[str] | None = None,
    facts: Mapping[str, str] | None = None,
    stage_in: Path | None = None,
) -> None:
    """Make a catalog of the parts that are there.

    Same arguments, same bytes.

    Parameters
    ----------
    root : Path
        The catalog's root; its parts lie at `part_path`.
    name : str
        What the catalog is called.
    schema : pyarrow.Schema
        That of every part, its metadata included.
    parts : iterable of HatsPart
        Order, pixel and number of rows of every part, in any order.
    created : datetime
        When the catalog was made, with its time zone.
    default_columns : sequence of str, optional
        Columns that LSDB loads unless asked for others; the spatial index always comes with them. Left out, all but draws and vectors.
    facts : mapping of str to str, optional
        More properties: ``obs_title``, ``prov_progenitor``, or any of our own, which begin with ``astroflow_``.

    stage_in : Path, optional
        Where files are while they are not complete: a folder of the same file system. Left out, the root.

    Raises
    ------
    ValueError
        If there is no part, a default column is not in the schema, or a fact would replace a property that is written here.
    """
    import pyarrow as pa
    from pyarrow import parquet

    ordered = sorted((HatsPart(*part) for part in parts), key=lambda part: part.pixel << 2 * (INDEX_ORDER - part.order))
    if not ordered:
        raise ValueError("a HATS catalog has at least one part")
    if default_columns is None:
        default_columns = [field.name for field in schema if field.name != HEALPIX.name and not pa.types.is_nested(field.type)]
    absent = sorted(set(default_columns) - set(schema.names))
    if absent:
        raise ValueError(f"default columns are not in the schema: {', '.join(absent)}")
    properties = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": str(sum(part.rows for part in ordered)),
        "hats_max_rows": str(max(part.rows for part in ordered)),
        "hats_order": str(max(part.order for part in ordered)),
        "moc_sky_fraction": f"{sum(0.25**part.order for part in ordered) / 12:.5g}",
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_cols_default": " ".join(default_columns),
        "hats_col_healpix": HEALPIX.name,
        "hats_col_healpix_order": str(INDEX_ORDER),
        "hats_npix_suffix": ".parquet",
        "hats_builder": f"astroflow {__version__}",
        "hats_version": HATS_VERSION,
        "hats_creation_date": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ"),
    }
    clash = sorted(set(facts or {}) & set(properties))
    if clash:
        raise ValueError(f"facts would replace properties of the catalog: {', '.join(clash)}")
    stream = pa.BufferOutputStream()
    parquet.write_metadata(schema, stream)
    atomic_write(root / "dataset" / "_common_metadata", stream.getvalue().to_pybytes(), stage_in or root)
    lines = ["Norder,Npix", *(f"{part.order},{part.pixel}" for part in ordered)]
    atomic_write(root / "partition_info.csv", "".join(f"{line}\n" for line in lines).encode(), stage_in or root)
    text = _properties_text("HATS catalog", properties | dict(facts or {}))
    # older readers look for `properties`
    for file in ("properties", "hats.properties"):
        atomic_write(root / file, text, stage_in or root)


def hats_partitions(root: Path) -> list[tuple[int, int]]:
    """Read which parts a HATS catalog has: order and pixel, along the spatial index.

    Raises
    ------
    InputError
        If the folder holds no HATS catalog.
    """
    path = root / "partition_info.csv"
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            return [(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(handle)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not list the partitions of a HATS catalog ({error!r})") from None


def write_extension(
    folder: Path, *, name: str, primary: str, primary_column: str, posteriors: str, columns: Sequence[str], created: datetime
) -> Path:
    """Write what lets LSDB join posteriors to the HATS catalog of the objects, by id.

    That catalog must hold the positions that posteriors were inferred at: rows are sought in the same pixel alone.

    Parameters
    ----------
    folder : Path
        Where to write the file: the root of the collection that `primary` names, or any folder.
    name : str
        What the extension is called; its file is ``{name}.properties``.
    primary : str
        The catalog that is extended: an absolute path, a URL, or the name of the collection that `folder` is.
    primary_column : str
        Its column of ids.
    posteriors : str
        The posterior catalog: an absolute path, a URL, or a path relative to `folder`.
    columns : sequence of str
        The columns that it adds.
    created : datetime
        When it was made, with its time zone.

    Returns
    -------
    Path
        The file, for `Catalog.load_extension`.
    """
    properties = {
        "obs_collection": name,
        "dataproduct_type": "extension",
        "hats_primary_table_url": primary,
        "hats_col_assn_primary": primary_column,
        "hats_assn_join_table_url": posteriors,
        "hats_col_assn_join": "id",
        "hats_ext_cols": " ".join(columns),
        "hats_ext_join_style": "left",
        "hats_ext_shares_primary_coords": "true",
        "hats_builder": f"astroflow {__version__}",
        "hats_creation_date": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ"),
    }
    path = folder / f"{name}.properties"
    atomic_write(path, _properties_text("HATS extension", properties))
    return path


def _properties_text(title: str, properties: Mapping[str, str]) -> bytes:
    """Write properties as Java does: ``key=value``, one a line, backslashes and line ends escaped."""
    escaped = {key: value.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n") for key, value in properties.items()}
    return "".join([f"#{title}\n", *(f"{key}={value}\n" for key, value in escaped.items())]).encode()
