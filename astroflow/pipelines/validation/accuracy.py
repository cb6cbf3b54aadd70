"""The sections of a validation's page on what a posterior is worth: accuracy, what was learned, examples."""

__all__ = ["Example", "accuracy", "examples", "learned", "points", "score"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.diagnostics.calibration_report import CalibrationReport
from astroflow.diagnostics.estimated_accuracy import EstimatedAccuracy
from astroflow.diagnostics.local_verdict import LocalVerdict
from astroflow.diagnostics.point_accuracy import OUTLIER
from astroflow.pipelines.validation.html import explained, paragraph, picture, section, table
from astroflow.plots.contact_sheet import plot_contact_sheet
from astroflow.types import Array, Stamps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTED = {"relative": "relative", "dex": "dex", "plain": "absolute"}


@dataclass(frozen=True)
class Example:
    """Galaxies to look at: N `stamps`, `model` ``(N, B, H, W)`` at the posterior means, a caption for each, which are the worst."""

    stamps: Stamps
    model: Array
    captions: Sequence[str]
    worst: Array


def accuracy(report: CalibrationReport, figure: "Figure") -> str:
    """Return bias, scatter, widths and claimed errors by estimated S/N."""
    result = report.accuracy
    filled = np.flatnonzero(result.n_images > 0)
    faint, bright = (np.median(result.contraction[k]) for k in (filled[0], filled[-1]))
    rms = result.rms_z[filled]
    return explained(
        "Accuracy by signal-to-noise ratio",
        picture(figure, "Bias, scatter, contraction, z-scores and coverage by estimated signal-to-noise ratio"),
        shows="Bias and scatter of posterior means, posterior over prior widths, claimed against actual errors, by estimated S/N.",
        reading="Good: bias near zero, widths that fall with S/N, an rms of (mean - truth) / sd of one. Bad: a bias beyond the scatter, an "
        "rms above one (error bars too small), widths that stay where they are.",
        found=f"Posterior over prior widths, in the median of the parameters, go from {faint:.2g} at S/N {result.labels[filled[0]]} to "
        f"{bright:.2g} at S/N {result.labels[filled[-1]]}; the rms lies between {rms.min():.2f} and {rms.max():.2f}.",
        do="Widths that do not fall with S/N mean a network that is too small or trained too shortly for bright galaxies.",
    )


def learned(report: CalibrationReport) -> str:
    """Return contraction and z-scores of each parameter."""
    contraction, z = report.sharpness
    n, s = len(z), report.n_draws
    rows: list[Any] = []
    for i, name in enumerate(report.parameters.names):
        low, middle, high = np.quantile(contraction[:, i], [0.16, 0.5, 0.84])
        spread = (f"{middle:.3f}", f"{low:.3f} to {high:.3f}", f"{contraction[:, i].mean():.3f}")
        rows.append((name, *spread, _short(z[:, i].mean()), _short(z[:, i].std())))
    # mean and variance of S normal draws are themselves estimates
    exact = np.sqrt((1 + 1 / s) * (s - 1) / (s - 3))
    rows.append(("exact, if normal", *(("open", "") for _ in range(3)), ("open", "0"), ("open", f"{exact:.3f}")))
    chance = (("open", f"{exact / np.sqrt(count):.3f}") for count in (n, 2 * n))
    rows.append(("chance (1 sd)", *(("open", "") for _ in range(3)), *chance))
    middle = np.median(contraction, 0)
    names, least, most = report.parameters.names, int(np.argmin(middle)), int(np.argmax(middle))
    off = int(np.argmax(np.abs(np.log(z.std(0)))))
    head = ("", "contraction, median", "two in three", "mean", "mean z", "sd of z")
    return explained(
        "How much was learned",
        table("Contraction and z-scores", head, rows),
        shows="Contraction is one minus the posterior's variance over the prior's, image by image: 0 where the image has said nothing, 1 "
        "where it has said all. z is the error of the posterior mean in posterior standard deviations.",
        reading="Good: contraction near one for bright galaxies, z of mean 0 and standard deviation 1. Bad: contraction near 0 (nothing "
        "learned: a posterior that is the prior has uniform ranks as well, and this tells them apart); a mean below 0 (wider than the "
        "prior, which single images of an exact posterior may be, but not their mean); a wide z with much contraction (overconfident); a "
        "mean of z far from 0 (biased). Where posteriors have long tails the standard deviation of z is above one though they are exact: "
        "ranks and coverage judge, not these.",
        found=f"Most is learned about {names[most]} (median contraction {middle[most]:.3f}), least about {names[least]} "
        f"({middle[least]:.3f}); the standard deviation of z is furthest from one for {names[off]}: {z[:, off].std():.3g}.",
        do="Little contraction where images should tell: a larger summary network, or longer training. A wide z: see ranks and coverage.",
    )


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.1e}"


def points(found: EstimatedAccuracy, record: Mapping[str, Any]) -> str:
    """Return accuracy of medians in the form of the Euclid Morphology Challenge."""
    columns = {"bias": "bias", "dispersion": "scatter", "outliers": "outliers"}
    head = ("", "errors", *found.bins.labels)
    tables = []
    for field, word in columns.items():
        rows: list[Any] = [("galaxies", "", *(("open", str(count)) for count in found.n_images))] if field == "bias" else []
        for name, scores in found.scores.items():
            values = getattr(scores, field)
            shown = (f"{value:.1%}" if field == "outliers" else f"{value:+.4f}" if field == "bias" else f"{value:.4f}" for value in values)
            rows.append((name, COUNTED[scores.kind], *shown))
        tables.append(table(f"{word.capitalize()} of posterior medians by {found.bins.name}", head, rows))
    scored = {name: scores for name, scores in found.scores.items() if np.isfinite(scores.bias).any()}
    ratios = {name: np.nanmax(np.abs(scores.bias) / np.maximum(scores.dispersion, 1e-12)) for name, scores in scored.items()}
    worst, outlying = max(ratios, key=lambda name: ratios[name]), max(scored, key=lambda name: float(np.nanmax(scored[name].outliers)))
    complete = 1 - int(record["unusable"]) / int(record["simulations"])
    return explained(
        "A catalog of best values",
        *tables,
        shows="What is left if each posterior is cut down to its medians, in the form of the Euclid Morphology Challenge: bias is the "
        f"median error, scatter half the width of its central 68 %, outliers are off by more than {OUTLIER:g}. Errors of fluxes and sizes "
        "are relative, of Sersic indices in dex, all else absolute. The challenge bins by true magnitude; here bins are of an estimated "
        "one (medians of other draws), because among galaxies that are chosen by their truth even an exact posterior is biased.",
        reading="Good: a bias within three times chance, which is 1.25 / sqrt(galaxies) of the scatter; scatter that falls towards bright "
        "galaxies; few outliers. Bad: a bias beyond that, as in these bins an exact posterior has none; outliers among bright galaxies. "
        "Nothing is judged here, and figures of codes that were binned by true magnitude are no match: they are scored on the same "
        "galaxies by `point_accuracy`.",
        found=f"Bias is largest against its scatter for {worst}, in one bin {ratios[worst]:.2f} of it (chance "
        f"{1.25 / np.sqrt(found.n_images.min()):.2f}); most outliers in a bin has {outlying} ({np.nanmax(scored[outlying].outliers):.1%}). "
        f"Completeness: {complete:.1%} of {record['simulations']} galaxies have a posterior; the others have no estimated magnitude and "
        "are in no bin.",
        do="Use whole posteriors where they matter: where outliers are many they are wide or have several peaks, and a median tells of "
        "one.",
    )


def score(report: CalibrationReport) -> str:
    """Return the log score."""
    mean, gain = report.log_score, report.gain
    lines = [f"{mean.mean:.2f} +- {mean.error:.2f} nats per image; {mean.excluded} truths have density zero."]
    if gain is not None:
        lines.append(f"{gain.mean:+.2f} +- {gain.error:.2f} nats against a linear regression on image moments.")
    return explained(
        "Log score",
        shows="The posterior's log density at the truths: of two posteriors that are both calibrated, the one with the higher score knows "
        "more.",
        reading="Good: far above the regression, and no truth of density zero. Bad: a gain near zero or below, which a regression would "
        "have given as well; a truth of density zero, which rules out what happened and fails the validation. The score itself depends on "
        "the parameters' units: only differences on the same simulations mean something.",
        found=" ".join(lines),
        do="Compare bundles by it, validated with one seed. No gain: train longer, or look whether training and validation have one "
        "forward model.",
    )


def examples(shown: Example | str, report: CalibrationReport) -> str:
    """Return galaxies whose truth is least and most surprising."""
    title = "Least and most surprising galaxies"
    if isinstance(shown, str):
        return section(title, paragraph(shown))
    figure: Figure = plot_contact_sheet(shown.stamps, shown.model, list(shown.captions), flagged=shown.worst, columns=4)
    local = report.local_c2st
    among = f"all {len(report.pit)}"
    if isinstance(local, LocalVerdict):
        among = f"the {len(local.rows)} images that L-C2ST was asked about; its p-values are in the captions"
    return explained(
        title,
        picture(figure, "Galaxies whose truth is least and most surprising", dpi=90, photograph=True),
        shows="Image, model at the posterior means, and residual from -5 to 5 sigma; masked pixels are brown. First those whose truth lies "
        "deepest inside the joint posterior, then, in orange with a star, those whose truth lies furthest out.",
        reading="Good: residuals are noise, in both halves; among many galaxies some truths are far out by chance. Bad: residuals with "
        "structure beyond 5 sigma, which a mean of a posterior that is broad or has several peaks may leave too; surprising galaxies that "
        "all are of one kind.",
        found=f"Chosen from {among}.",
        do="If those with a star are all large, faint, masked or near the edge, train with more like them.",
    )
