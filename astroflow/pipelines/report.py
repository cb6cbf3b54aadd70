"""The report of a catalog run: a contact sheet of data, model and residual, and a comparison with published fits.

Models are drawn with GalSim at the posterior mean, so this is for hundreds of galaxies, not for millions.
"""

__all__ = ["ReportRecipe", "report"]

from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.catalogs.published import PublishedRecipe, read_published
from astroflow.catalogs.recipe import parse_catalog
from astroflow.catalogs.sources import Partition, open_source
from astroflow.config import Recipe
from astroflow.diagnostics.comparison import Comparison, compare
from astroflow.diagnostics.residuals import residuals
from astroflow.errors import InputError
from astroflow.pipelines.catalog_run.record import recorded_run
from astroflow.pipelines.infer import population_of
from astroflow.plots.comparison import plot_comparison
from astroflow.plots.contact_sheet import plot_contact_sheet
from astroflow.plots.style import literal, save_figure
from astroflow.posteriors.bundle import load_posterior
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import SUSPECT, UNUSABLE, Flag, flag_names, quality
from astroflow.posteriors.framing import frame
from astroflow.posteriors.posterior import Posterior
from astroflow.provenance import write_json
from astroflow.sims.psf_images import psf_at_stamp_scale, tidy_psf
from astroflow.sims.recipe import simulator_from_data
from astroflow.types import Array, Cutout, Stamps

LABELS = {"mag": "magnitude [mag]", "log10_re": "log10 R_e [arcsec]", "log10_n": "log10 n", "q": "axis ratio q"}


class ReportRecipe(Recipe):
    """What to report of a catalog run."""

    contact_sheet: pydantic.NonNegativeInt = 100
    """How many galaxies, from the first row on, the contact sheet shows; 0 for none."""
    published: PublishedRecipe | None = None
    """Published fits to compare with."""


def report(inference: Path, *, bundle: Path, out: Path, recipe: ReportRecipe) -> list[str]:
    """Write pictures and numbers about a catalog run.

    Parameters
    ----------
    inference : Path
        Output folder of `infer`.
    bundle : Path
        The posterior that made it.
    out : Path
        Folder for `contact_sheet.png`, `comparison.png` and `report.json`.
    recipe : ReportRecipe
        What to report.

    Returns
    -------
    list of str
        Lines for a terminal.
    """
    record = recorded_run(inference)
    if record is None:
        raise InputError(f"{inference} holds no inference run: it has no run.json")
    posterior = load_posterior(bundle)
    if posterior.digest != record["bundle"]:
        raise InputError(f"{inference} was made by bundle {record['bundle'][:12]}, {bundle} is {posterior.digest[:12]}")
    table = read_posterior_catalog(inference / "catalog")
    out.mkdir(parents=True, exist_ok=True)
    flags = np.asarray(table["flags"], np.int64)
    numbers: dict[str, Any] = {"rows": len(table), "flags": {str(f.name): int(((flags & f) != 0).sum()) for f in Flag}}
    lines = [f"{len(table)} rows, {int((np.asarray(table['quality']) == 0).sum())} without a suspicious flag"]
    lines += [f"  {name}: {count}" for name, count in numbers["flags"].items() if count]
    if record.get("certify"):
        population = population_of(inference / "catalog")
        lines += population.lines()
        numbers["population"] = population.numbers()
    shown = min(recipe.contact_sheet, len(table))
    if shown:
        cutouts = _read_again(record, posterior, shown)
        chi2 = _contact_sheet(posterior, cutouts, table[:shown], out / "contact_sheet.png")
        numbers["reduced_chi2"] = [None if not np.isfinite(v) else float(v) for v in chi2]
    if recipe.published is not None:
        comparison = compare_published(table, recipe.published)
        save_figure(plot_comparison(comparison, labels=LABELS), out / "comparison.png")
        lines += comparison.table()
        numbers["comparison"] = _as_numbers(comparison)
        if record.get("certify"):
            verdict = np.asarray(table["model_ok"])
            for name, value in (("model possible", Verdict.OK), ("model ruled out", Verdict.FAILED)):
                part = compare_published(table, recipe.published, among=verdict == value)
                lines += [f"of these, {name}:", *part.table()]
                numbers[f"comparison, {name}"] = _as_numbers(part)
    write_json(out / "report.json", numbers)
    return lines


def _as_numbers(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """Return a comparison for JSON; None where no row was left to compare."""
    rows = zip(comparison.names, comparison.n_used, comparison.offset, comparison.scatter, strict=True)
    return {
        name: {"rows": int(n), "offset": float(offset) if n else None, "scatter": float(scatter) if n else None}
        for name, n, offset, scatter in rows
    }


def compare_published(table: Any, recipe: PublishedRecipe, among: Array | None = None) -> Comparison:
    """Compare posterior medians with published fits, matched by id.

    Rows with a suspicious flag do not count, nor do those that are not `among` ``(N,)``. Failed certificates are no reason to leave a row
    out: published fits are of the same profiles, and real galaxies that are bright enough are never one.
    """
    published = read_published(recipe, [str(i) for i in np.asarray(table["id"]).tolist()])
    ln10 = np.log(10)

    def median(name: str) -> Array:
        return np.ma.filled(np.ma.asarray(table[f"{name}_q50"], np.float64), np.nan)

    def sd(name: str) -> Array:
        return np.ma.filled(np.ma.asarray(table[f"{name}_sd"], np.float64), np.nan)

    re, n = median("re_arcsec"), median("n")
    inferred = {"mag": median("mag"), "log10_re": np.log10(re), "log10_n": np.log10(n), "q": median("q")}
    error = {"mag": sd("mag"), "log10_re": sd("re_arcsec") / re / ln10, "log10_n": sd("n") / n / ln10, "q": sd("q")}
    left_out = quality(np.asarray(table["flags"], np.int64) & ~int(Flag.INFERENCE_POOR | Flag.MODEL_POOR)) > 0
    return compare(published, inferred, error=error, flagged=left_out if among is None else left_out | ~among)


def _read_again(record: dict[str, Any], posterior: Posterior, shown: int) -> list[Cutout]:
    """Read the first rows of the catalog again."""
    source = open_source(parse_catalog(record["catalog"]))
    cutouts: dict[int, Cutout] = {}
    for partition in source.partitions(record["rows_per_partition"]):
        wanted = partition.rows[partition.rows < shown]
        if len(wanted):
            some = Partition(partition.index, wanted, partition.tiles)
            cutouts |= dict(zip(wanted.tolist(), source.read(some, posterior.stamp.size * max(posterior.stamp.binning)), strict=True))
    return [cutouts[row] for row in range(shown)]


def _contact_sheet(posterior: Posterior, cutouts: list[Cutout], table: Any, path: Path) -> Array:
    """Draw the sheet and return reduced chi-squared per row."""
    framed = frame(cutouts, posterior.stamp, posterior.noise_correlation)
    stamps: Stamps = framed.stamps
    names = posterior.parameters.names
    theta = np.stack([np.ma.filled(np.ma.asarray(table[f"{name}_mean"], np.float64), np.nan) for name in names], -1)
    for axis, name in enumerate(("dx_arcsec", "dy_arcsec")):
        if name in names:
            theta[:, names.index(name)] -= framed.shift_arcsec[:, axis]
    flags = np.asarray(table["flags"], np.int64)
    model = np.full(stamps.shape, np.nan, np.float32)
    rows = np.flatnonzero((flags & UNUSABLE) == 0)
    if len(rows) and "reference" not in posterior.forward_model:
        points = [_native_psf(cutouts[row]) for row in rows]
        model[rows] = simulator_from_data(posterior.forward_model).render_binned(theta[rows], points, np.asarray(stamps.binning)[rows])
    chi2 = residuals(stamps, model, n_parameters=len(names)).reduced_chi2
    captions = []
    for row, identity in enumerate(np.asarray(table["id"]).tolist()):
        worrying = " ".join(flag_names(int(flags[row]) & (UNUSABLE | SUSPECT)))
        # flags on a line of their own: three of them are wider than the three pictures
        captions.append(f"{literal(identity)} x{int(stamps.binning[row])} $\\chi^2_r$={chi2[row]:.1f}\n{worrying}".rstrip())
    save_figure(plot_contact_sheet(stamps, model, captions, flagged=np.asarray(table["quality"]) > 0), path)
    return chi2


def _native_psf(cutout: Cutout) -> Array:
    """Return a cutout's PSF, centred, at the scale of its pixels."""
    images = tidy_psf(np.asarray(cutout.psf)[None]).images  # usable rows have a PSF
    if cutout.psf_oversampling > 1:
        side = max(images.shape[-2:]) // cutout.psf_oversampling | 1
        images = psf_at_stamp_scale(images, oversampling=cutout.psf_oversampling, binning=1, size=side)
    return np.asarray(images[0, 0])
