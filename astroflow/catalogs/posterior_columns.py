"""The columns of a posterior catalog: what each is called, its type, unit, UCD and meaning.

`posterior_columns` says which columns a catalog has, in their order: where a row comes from, the summaries of its posterior, what
follows from them, and what is known of how far to trust it. `posterior_table` fills them with values, `votable` writes their
descriptions for other tools.
"""

__all__ = ["CERTIFICATE", "ENSEMBLE", "HEALPIX", "PARAMETER_SUFFIXES", "REFINED", "OutputColumn", "posterior_columns", "sample_columns"]

from itertools import combinations
from typing import NamedTuple

from astroflow.catalogs.derived import DERIVED
from astroflow.sims.parameters import Parameter, Parameters

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
    """Arrow type: int64, int32, int8, float64, float32, string, halves or floats (lists of one length), or samples."""
    unit: str
    """Astropy unit string; empty for none."""
    ucd: str
    """IVOA UCD1+; empty for none."""
    description: str

    def about(self) -> dict[str, str]:
        """Return what is known of the column, as metadata of its Arrow field."""
        about = {"unit": self.unit, "ucd": self.ucd, "description": self.description}
        return {key: text for key, text in about.items() if text}


HEALPIX = OutputColumn("_healpix_29", "int64", "", "pos.healpix", "Nested HEALPix index of order 29 of ra and dec")
"""The column that HATS catalogs are sorted and searched by."""

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
    OutputColumn("log_evidence_error", "float32", "", "stat.error", "Certificate: its standard error, nats"),
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

KEPT = (
    OutputColumn("frame_dx_arcsec", "float32", "arcsec", "", "Middle of the network's frame less the object's position, along +x"),
    OutputColumn("frame_dy_arcsec", "float32", "arcsec", "", "Middle of the network's frame less the object's position, along +y"),
    OutputColumn("context", "halves", "", "", "The network's context vector: with id and seed it makes draws again (`astroflow redraw`)"),
    OutputColumn("fit", "floats", "", "", "The linearised fit's part in draws: its summary, then the factor of its inverse covariance"),
)
"""Columns of `posteriors.kept.Kept`, from which draws can be made again."""

DRAWS_REFINED = OutputColumn("draws_refined", "samples", "", "", "Draws of refined rows, which are not made again: a list per parameter")

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
    healpix: bool = False,
    string_ids: bool = False,
    samples: bool = False,
    ensemble: bool = False,
    certified: bool = False,
    refined: bool = False,
    kept: bool = False,
) -> list[OutputColumn]:
    """Describe the columns of a posterior catalog, in their order.

    Parameters
    ----------
    parameters : Parameters
        The model's parameters.
    healpix : bool
        Begin with the spatial index of HATS catalogs.
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
    kept : bool
        Add those from which draws can be made again.
    """
    columns = [HEALPIX] if healpix else []
    columns += [
        OutputColumn("row_index", "int64", "", "meta.record", "Row in the input catalog, from 0"),
        OutputColumn("id", "string" if string_ids else "int64", "", "meta.id;meta.main", "Identifier in the input catalog"),
        OutputColumn("ra", "float64", "deg", "pos.eq.ra;meta.main", "Right ascension in the input catalog"),
        OutputColumn("dec", "float64", "deg", "pos.eq.dec;meta.main", "Declination in the input catalog"),
        OutputColumn("x", "float64", "pix", "pos.cartesian.x;instr.det", "Pixel column of the object in its tile or stamp, from 0"),
        OutputColumn("y", "float64", "pix", "pos.cartesian.y;instr.det", "Pixel row of the object in its tile or stamp, from 0"),
    ]
    for parameter in parameters.members:
        meaning = _meaning(parameter)
        for suffix, (statistic, words) in PARAMETER_SUFFIXES.items():
            ucd = _ucd(statistic, parameter.ucd)
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
                ucd = _ucd(statistic, derived.ucd)
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
        OutputColumn("binning", "int32", "", "instr.setup", "Native pixels on a side that were summed into one stamp pixel"),
        OutputColumn("flags", "int32", "", "meta.code.error", "Bits of astroflow.posteriors.Flag, see docs/flags.md"),
        OutputColumn("quality", "int8", "", "meta.code.qual", "0 good, 1 suspect: look before use, 2 unusable: parameters are null"),
        OutputColumn("note", "string", "", "meta.note", "Why the row is unusable, in a sentence"),
        OutputColumn("bundle", "string", "", "meta.id", "Digest of the trained posterior that made the row"),
    ]
    columns += ENSEMBLE if ensemble else ()
    columns += CERTIFICATE if certified else ()
    columns += REFINED if refined else ()
    if kept:
        columns += [*KEPT, DRAWS_REFINED] if refined else KEPT
    if samples:
        columns.append(OutputColumn("samples", "samples", "", "", "Posterior draws, one list per parameter"))
    return columns


def sample_columns(parameters: Parameters) -> list[OutputColumn]:
    """Describe what is inside the column of draws: a list of float32 for each parameter."""
    return [OutputColumn(p.name, "float32", p.unit, p.ucd, f"{_meaning(p)}: posterior draws") for p in parameters.members]


def _ucd(statistic: str, quantity: str) -> str:
    """Join words of UCD1+: a standard deviation may come first, a mean or a median only follows what it is of."""
    if statistic in ("stat.mean", "stat.median"):
        return f"{quantity};{statistic}" if quantity else ""
    return f"{statistic};{quantity}" if statistic and quantity else statistic


def _meaning(parameter: Parameter) -> str:
    return OFFSETS.get(parameter.name, parameter.description)


def _product(a: str, b: str) -> str:
    from astropy import units as u

    return str((u.Unit(a) * u.Unit(b)).to_string()) if a or b else ""
