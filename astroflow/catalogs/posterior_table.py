"""Posterior catalogs: one row per object, as Parquet that says what its columns mean.

Every column carries its unit, UCD and description, in the Arrow field's metadata and again in a VOTable header that TOPCAT and
astropy understand (the VOParquet convention). A row that could not be used is there like all others, with nulls and a flag: a
null is never a NaN, a zero or a fill value.
"""

__all__ = [
    "CERTIFICATE",
    "ENSEMBLE",
    "REFINED",
    "OutputColumn",
    "RowInfo",
    "build_posterior_table",
    "posterior_columns",
    "read_posterior_catalog",
    "write_parquet",
]

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from astroflow.catalogs.derived import DERIVED
from astroflow.catalogs.paths import check_file
from astroflow.catalogs.votable import votable_header
from astroflow.errors import InputError
from astroflow.files import atomic_write
from astroflow.posteriors.flags import UNUSABLE, quality
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

if TYPE_CHECKING:
    import pyarrow as pa
    from astropy.table import Table

PARAMETER_SUFFIXES = {
    "mean": ("stat.mean", "posterior mean"),
    "sd": ("stat.stdev", "posterior standard deviation"),
    "q025": ("", "2.5 % quantile"),
    "q16": ("", "16 % quantile"),
    "q50": ("stat.median", "posterior median"),
    "q84": ("", "84 % quantile"),
    "q975": ("", "97.5 % quantile"),
}
OFFSETS = {
    f"d{axis}_arcsec": f"Centre's offset along +{axis} from the object's position in its tile or stamp, `{axis}`, which the catalog gives"
    for axis in "xy"
}
"""Parameters count offsets from the middle of a stamp, catalogs from where the object was said to be."""
DERIVED_SUFFIXES = ("mean", "sd", "q16", "q50", "q84")


class OutputColumn(NamedTuple):
    """One column of a posterior catalog."""

    name: str
    type: str
    """Arrow type: int64, int32, int8, float64, float32, string, or samples."""
    unit: str
    """Astropy unit string; empty for none."""
    ucd: str
    """IVOA UCD1+; empty for none."""
    description: str


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


CERTIFICATE = (
    OutputColumn(
        "ess_fraction",
        "float32",
        "",
        "stat.value",
        "Certificate: effective share, by importance weights, of the draws, or of those that refined ones are of",
    ),
    OutputColumn("k_hat", "float32", "", "stat.value", "Certificate: Pareto shape of their tail; passes below min(0.7, 1 - 1 / log10 N)"),
    OutputColumn("missed", "float32", "", "stat.value", "Certificate: share of the posterior found where the draws have nothing"),
    OutputColumn(
        "log_evidence",
        "float32",
        "",
        "stat.likelihood",
        "Certificate: log evidence of the image in units of the bundle's zero point, nats",
    ),
    OutputColumn("log_evidence_error", "float32", "", "stat.error;stat.likelihood", "Certificate: its standard error, nats"),
    OutputColumn("chi2", "float32", "", "stat.fit.chi2", "Certificate: chi-squared of the best fit"),
    OutputColumn(
        "chi2_dof", "float32", "", "stat.fit.dof", "Certificate: unmasked pixels less parameters, what chi-squared is expected to be"
    ),
    OutputColumn("chi2_p", "float32", "", "stat.probability", "Certificate: two-sided p-value of chi-squared"),
    OutputColumn("residual_p", "float32", "", "stat.probability", "Certificate: p-value of the structure of the best fit's residual"),
    OutputColumn("psf_width_error", "float32", "", "stat.value", "Certificate: log of the width of the PSF in use over the true one's"),
    OutputColumn("psf_width_error_sd", "float32", "", "stat.error", "Certificate: its standard error"),
    OutputColumn("psf_e1_error", "float32", "", "stat.value", "Certificate: e1 of the PSF in use less the true one's"),
    OutputColumn("psf_e1_error_sd", "float32", "", "stat.error", "Certificate: its standard error"),
    OutputColumn("psf_e2_error", "float32", "", "stat.value", "Certificate: e2 of the PSF in use less the true one's"),
    OutputColumn("psf_e2_error_sd", "float32", "", "stat.error", "Certificate: its standard error"),
    OutputColumn("sky_left", "float32", "", "stat.value", "Certificate: level of the sky left in the image, in median noise rms"),
    OutputColumn("sky_left_sd", "float32", "", "stat.error", "Certificate: its standard error"),
    OutputColumn(
        "inference_ok", "int8", "", "meta.code.qual", "Certificate: do the draws represent the posterior? 1 yes, 0 no, -1 not applicable"
    ),
    OutputColumn(
        "model_ok", "int8", "", "meta.code.qual", "Certificate: can the model have made the image? 1 yes, 0 no, -1 not applicable"
    ),
)
"""Columns of `Posterior.certify`, and of which posterior."""

ENSEMBLE = (
    OutputColumn(
        "disagreement",
        "float32",
        "",
        "stat.value",
        "Ensemble: mutual information of a draw of the network's own posterior and the member it is from, nats; 0 where members agree",
    ),
)
"""Columns of posteriors that are mixtures of several networks."""

REFINED = (
    OutputColumn(
        "refined", "int8", "", "meta.code", "1 resampled, 2 drawn anew and resampled; amortized draws: 0 tried in vain, -1 not tried"
    ),
    OutputColumn("refine_evaluations", "int32", "", "meta.number", "Evaluations of the likelihood that refining took"),
    OutputColumn("ess_fraction_amortized", "float32", "", "stat.value", "ess_fraction of the amortized draws, before refining"),
)
"""Columns of `Posterior.refine`."""


def posterior_columns(
    parameters: Parameters,
    *,
    string_ids: bool = False,
    samples: bool = False,
    ensemble: bool = False,
    certified: bool = False,
    refined: bool = False,
) -> list[OutputColumn]:
    """Describe the columns of a posterior catalog, in their order.

    Parameters
    ----------
    parameters : Parameters
        The model's parameters.
    string_ids : bool
        The catalog's ids are strings, not integers.
    samples : bool
        Add a column of posterior draws.
    ensemble : bool
        Add the column that says how much the members of an ensemble contradict each other.
    certified : bool
        Add the columns of certificates.
    refined : bool
        Add those that say how rows were refined.
    """
    columns = [
        OutputColumn("row_index", "int64", "", "meta.record", "Row in the input catalog, from 0"),
        OutputColumn("id", "string" if string_ids else "int64", "", "meta.id;meta.main", "Identifier in the input catalog"),
        OutputColumn("ra", "float64", "deg", "pos.eq.ra;meta.main", "Right ascension in the input catalog"),
        OutputColumn("dec", "float64", "deg", "pos.eq.dec;meta.main", "Declination in the input catalog"),
        OutputColumn("x", "float64", "pix", "pos.cartesian.x;instr.det", "Pixel column of the object in its tile or stamp, from 0"),
        OutputColumn("y", "float64", "pix", "pos.cartesian.y;instr.det", "Pixel row of the object in its tile or stamp, from 0"),
    ]
    for parameter in parameters.members:
        meaning = OFFSETS.get(parameter.name, parameter.description)
        for suffix, (statistic, words) in PARAMETER_SUFFIXES.items():
            ucd = ";".join(part for part in (statistic, parameter.ucd) if part) if statistic else ""
            columns.append(OutputColumn(f"{parameter.name}_{suffix}", "float32", parameter.unit, ucd, f"{meaning}: {words}"))
    for a, b in combinations(parameters.members, 2):
        unit = _product(a.unit, b.unit)
        columns.append(
            OutputColumn(f"cov_{a.name}_{b.name}", "float32", unit, "stat.covariance", f"Posterior covariance of {a.name} and {b.name}")
        )
    known = set(parameters.names)
    for name, derived in DERIVED.items():
        if known >= set(derived.needs):
            for suffix in DERIVED_SUFFIXES:
                statistic, words = PARAMETER_SUFFIXES[suffix]
                ucd = f"{statistic};{derived.ucd}" if statistic else ""
                columns.append(OutputColumn(f"{name}_{suffix}", "float32", derived.unit, ucd, f"{derived.description}: {words}"))
    if known >= {"dx_arcsec", "dy_arcsec"}:
        columns.append(OutputColumn("ra_fit", "float64", "deg", "pos.eq.ra", "Right ascension of the fitted centre"))
        columns.append(OutputColumn("dec_fit", "float64", "deg", "pos.eq.dec", "Declination of the fitted centre"))
    if known >= {"e1", "e2"}:
        columns += [
            OutputColumn(
                "pa_deg", "float32", "deg", "pos.posAng", "Position angle of the major axis, north through east, 0 to 180; circular mean"
            ),
            OutputColumn("pa_deg_sd", "float32", "deg", "stat.stdev;pos.posAng", "Circular standard deviation of the position angle"),
            OutputColumn("e1_sky", "float32", "", "src.ellipticity", "|e| cos(2 PA), PA east of north: posterior mean"),
            OutputColumn("e1_sky_sd", "float32", "", "stat.stdev;src.ellipticity", "|e| cos(2 PA): posterior standard deviation"),
            OutputColumn("e2_sky", "float32", "", "src.ellipticity", "|e| sin(2 PA), PA east of north: posterior mean"),
            OutputColumn("e2_sky_sd", "float32", "", "stat.stdev;src.ellipticity", "|e| sin(2 PA): posterior standard deviation"),
        ]
    columns += [
        OutputColumn(
            "snr", "float32", "", "stat.snr", "Estimated signal-to-noise ratio, x^T x / sqrt(x^T R x) of x = m / rms over unmasked pixels"
        ),
        OutputColumn("linearized", "int8", "", "meta.code", "1 the linearised posterior, 0 the network's own; before any refining"),
        OutputColumn("binning", "int32", "", "instr.binning", "Native pixels on a side that were summed into one stamp pixel"),
        OutputColumn("flags", "int32", "", "meta.code.error", "Bits of astroflow.posteriors.Flag, see docs/flags.md"),
        OutputColumn("quality", "int8", "", "meta.code.qual", "0 good, 1 suspect: look before use, 2 unusable: parameters are null"),
        OutputColumn("note", "string", "", "meta.note", "Why the row is unusable, in a sentence"),
        OutputColumn("bundle", "string", "", "meta.id", "Digest of the trained posterior that made the row"),
    ]
    columns += ENSEMBLE if ensemble else ()
    columns += CERTIFICATE if certified else ()
    columns += REFINED if refined else ()
    if samples:
        columns.append(OutputColumn("samples", "samples", "", "", "Posterior draws, one list per parameter"))
    return columns


def build_posterior_table(
    parameters: Parameters,
    rows: RowInfo,
    summary: Mapping[str, Array],
    *,
    bundle: str,
    samples: Array | None = None,
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
        parameters, string_ids=ids.dtype.kind == "U", samples=samples is not None, ensemble="disagreement" in summary,
        certified="ess_fraction" in summary, refined="refined" in summary,
    )  # fmt: skip
    unusable = (np.asarray(rows.flags, np.int64) & UNUSABLE) != 0
    given: dict[str, Any] = {
        "row_index": rows.row_index, "id": ids, "ra": rows.ra, "dec": rows.dec, "x": rows.x, "y": rows.y, "flags": rows.flags,
        "quality": quality(rows.flags), "note": rows.notes, "bundle": np.full(n, bundle),
    }  # fmt: skip
    judged = {"snr": rows.snr, "binning": rows.binning, **summary}
    needed = {f"{name}_{suffix}" for name in parameters.names for suffix in PARAMETER_SUFFIXES}
    missing = sorted(needed - set(judged))
    if missing:
        raise ValueError(f"`summary` lacks {len(missing)} columns: {', '.join(missing[:5])}")
    arrays, fields = [], []
    for column in columns:
        if column.type == "samples" and samples is not None:
            array = _samples_array(samples, parameters, unusable)
        else:
            values = np.asarray(given[column.name] if column.name in given else judged.get(column.name, np.full(n, np.nan)))
            if values.shape != (n,):
                raise ValueError(f"column {column.name!r} has shape {values.shape}; expected ({n},)")
            null = unusable.copy() if column.name not in given else np.zeros(n, bool)
            if values.dtype.kind == "f":
                null |= ~np.isfinite(values)
            array = _array(values, null, column.type)
        arrays.append(array)
        about = {"unit": column.unit, "ucd": column.ucd, "description": column.description}
        fields.append(pa.field(column.name, array.type, metadata={key: text for key, text in about.items() if text}))
    facts = {"astroflow.bundle": bundle, "astroflow.version": _version(), **(information or {})}
    facts |= {"IVOA.VOTable-Parquet.version": "1.0", "IVOA.VOTable-Parquet.content": votable_header(columns)}
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=facts))


def write_parquet(table: "pa.Table", path: str | Path) -> None:
    """Write a table so that the file is either complete or not there."""
    import pyarrow as pa
    from pyarrow import parquet

    stream = pa.BufferOutputStream()
    parquet.write_table(table, stream, compression="zstd")
    atomic_write(Path(path), stream.getvalue().to_pybytes())


def read_posterior_catalog(path: str | Path) -> "Table":
    """Read a posterior catalog: a Parquet file, or a folder of them.

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
    files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith(".")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file; expected a posterior catalog")
    for file in files:
        check_file(file, "posterior catalog")
    try:
        arrow = pa.concat_tables([parquet.read_table(file) for file in files])
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
            for name, draws in _samples_of(column).items():
                table[f"samples_{name}"] = draws
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


def _samples_array(samples: Array, parameters: Parameters, unusable: Array) -> "pa.Array":
    import pyarrow as pa

    n, draws, _ = samples.shape
    offsets = np.arange(n + 1, dtype=np.int32) * draws
    lists = [
        pa.ListArray.from_arrays(offsets, np.ascontiguousarray(samples[:, :, place], np.float32).ravel())
        for place in range(len(parameters))
    ]
    return pa.StructArray.from_arrays(lists, names=list(parameters.names), mask=pa.array(unusable))


def _samples_of(column: Any) -> dict[str, Array]:
    rows = column.to_pylist()
    draws = max((len(next(iter(row.values()))) for row in rows if row is not None), default=0)
    names = [field.name for field in column.type]
    blank = [np.nan] * draws
    return {name: np.array([blank if row is None else row[name] for row in rows], np.float32).reshape(len(rows), draws) for name in names}


def _product(a: str, b: str) -> str:
    from astropy import units as u

    return str((u.Unit(a) * u.Unit(b)).to_string()) if a or b else ""


def _version() -> str:
    try:
        return metadata.version("astroflow")
    except metadata.PackageNotFoundError:
        return "unknown"
