"""The report of a validation as one HTML page: a verdict, then what was looked at, how to read it, and what to do about it."""

__all__ = ["Example", "ReferenceScore", "validation_page"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.diagnostics.calibration import COVERAGE_TOLERANCE, KS_THRESHOLD, CalibrationReport
from astroflow.diagnostics.local import ALARM, FEWEST, LocalCalibration, Outcome
from astroflow.pipelines.page import badge, bullets, document, listing, paragraph, picture, section, table
from astroflow.plots.contact_sheet import plot_contact_sheet
from astroflow.types import Array, Stamps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = {Outcome.PASSED: "good", Outcome.FAILED: "bad", Outcome.UNKNOWN: "open"}
SHOWN_LEVELS = (0.68, 0.95)
BIBTEX = r"""@software{astroflow, title = {astroflow: calibrated posterior distributions of galaxy parameters from survey images},
  author = {{The astroflow developers}}, version = {VERSION}}
@article{talts2018, title = {Validating Bayesian Inference Algorithms with Simulation-Based Calibration},
  author = {Talts, S. and Betancourt, M. and Simpson, D. and Vehtari, A. and Gelman, A.}, year = {2018}, eprint = {1804.06788},
  archivePrefix = {arXiv}}
@article{sailynoja2022, title = {Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation},
  author = {S{\"a}ilynoja, T. and B{\"u}rkner, P.-C. and Vehtari, A.}, journal = {Statistics and Computing}, volume = {32}, year = {2022},
  eprint = {2103.10522}, archivePrefix = {arXiv}}
@inproceedings{lemos2023, title = {Sampling-Based Accuracy Testing of Posterior Estimators for General Inference},
  author = {Lemos, P. and Coogan, A. and Hezaveh, Y. and Perreault-Levasseur, L.}, booktitle = {ICML}, year = {2023}, eprint = {2302.03026},
  archivePrefix = {arXiv}}
@article{hyndman1996, title = {Computing and Graphing Highest Density Regions}, author = {Hyndman, R. J.},
  journal = {The American Statistician}, volume = {50}, pages = {120}, year = {1996}, doi = {10.2307/2684423}}
@article{holm1979, title = {A Simple Sequentially Rejective Multiple Test Procedure}, author = {Holm, S.},
  journal = {Scandinavian Journal of Statistics}, volume = {6}, pages = {65}, year = {1979}}
@article{rowe2015, title = {GalSim: The modular galaxy image simulation toolkit}, author = {Rowe, B. T. P. and others},
  journal = {Astronomy and Computing}, volume = {10}, pages = {121}, year = {2015}, eprint = {1407.7676}, archivePrefix = {arXiv}}
@inproceedings{papamakarios2017, title = {Masked Autoregressive Flow for Density Estimation},
  author = {Papamakarios, G. and Pavlakou, T. and Murray, I.}, booktitle = {NeurIPS}, year = {2017}, eprint = {1705.07057},
  archivePrefix = {arXiv}}
"""


@dataclass(frozen=True)
class Example:
    """Galaxies to look at: N `stamps`, `model` ``(N, B, H, W)`` at the posterior means, a caption for each, which are the worst."""

    stamps: Stamps
    model: Array
    captions: Sequence[str]
    worst: Array


@dataclass(frozen=True)
class ReferenceScore:
    """How far a posterior's draws are from exact posteriors of N galaxies; `unusable` others have no posterior.

    `c2st` ``(N,)`` is a classifier's accuracy, 0.5 where it cannot tell draws apart; `wasserstein` ``(N, P)`` in posterior sd.
    """

    file: str
    c2st: Array
    wasserstein: Array
    unusable: int


def validation_page(
    report: CalibrationReport,
    record: Mapping[str, Any],
    *,
    figures: Mapping[str, "Figure"],
    examples: Example | str,
    reference: ReferenceScore | str,
    warnings: Sequence[str],
) -> str:
    """Return the page.

    Parameters
    ----------
    report : CalibrationReport
        What was measured.
    record : mapping
        ``validation.json``: facts and provenance.
    figures : mapping
        The pictures called ``calibration`` and ``accuracy``, of `plot_calibration` and `plot_accuracy`.
    examples : Example or str
        Galaxies with the least and the most surprising truths, or why there are none.
    reference : ReferenceScore or str
        The comparison with exact posteriors, or why there is none.
    warnings : sequence of str
        What went wrong on the way.
    """
    parts = [
        "<h1>Calibration of a posterior</h1>",
        _verdict(report),
        _facts(record),
        _ranks(report, figures["calibration"]),
        _coverage(report),
        _joint(report),
        _local(report),
        _accuracy(figures["accuracy"]),
        _score(report),
        _examples(examples),
        _reference(report, reference),
        _warnings(record, warnings),
        _methods(report, record),
    ]
    return document(f"Validation of {str(record['bundle'])[:12]}", parts)


def _verdict(report: CalibrationReport) -> str:
    failed = [line.removeprefix("FAIL").strip() for line in report.verdict if line.startswith("FAIL")]
    open_questions = [line.removeprefix("?").strip() for line in report.verdict if line.startswith("?")]
    parts = []
    seen = f"On {len(report.pit)} simulations that it has never seen, nothing was found wrong."
    if report.passed and report.complete:
        parts.append(badge("good", "Calibrated.", seen))
    elif report.passed:
        parts.append(badge("open", "Calibrated, as far as so few images tell.", seen))
    else:
        parts.append(badge("bad", "NOT calibrated.", f"{len(failed)} tests on {len(report.pit)} unseen simulations found faults:"))
        parts.append(bullets(failed))
    if open_questions:
        parts += [paragraph("Too few images to say anything about:"), bullets(open_questions)]
    parts.append(paragraph("An exact posterior passes everything on this page at least 95 times in 100."))
    return "\n".join(parts)


def _facts(record: Mapping[str, Any]) -> str:
    flags = ", ".join(f"{name} {count}" for name, count in record["flags"].items() if count) or "none"
    rows = [
        ("bundle", str(record["bundle"])),
        ("validated on", str(record["simulator"] or "its own forward model")),
        ("simulations, draws of each", f"{record['simulations']}, {record['draws']}"),
        ("without a posterior", str(record["unusable"])),
        ("flags", flags),
    ]
    return table("This run", ("", ""), rows, words=True)


def _ranks(report: CalibrationReport, figure: "Figure") -> str:
    rows = [
        (name, ("bad" if problems else "good", f"{p:.2g}"), "; ".join(problems) or "nothing found")
        for name, p, problems in zip(report.names, report.ks_p, report.problems, strict=True)
    ]
    return section(
        "Ranks of the truth",
        paragraph(
            "Simulate a galaxy with parameters from the prior, draw from its posterior: the truth falls on each rank among the draws "
            "equally often if the posterior is exact (simulation-based calibration).",
            "What it shows.",
        ),
        paragraph(
            "Good: histograms and ECDF curves stay inside the grey bands, which an exact posterior leaves once in twenty panels. "
            "Bad: ranks in a U, too narrow; a hump, too wide; a slope, too high or too low.",
            "How to read it.",
        ),
        picture(figure, "Rank histograms, ECDF differences and coverage curves of each parameter"),
        table(f"Kolmogorov-Smirnov p-values; below {KS_THRESHOLD:g} fails", ("", "p", "found"), rows, words=True),
        paragraph(
            "Too narrow on unseen simulations is overfitting: more simulations, or a smaller network. Too wide or shifted is too short a "
            "training. If only the joint row fails, correlations are wrong: a larger flow.",
            "What to do.",
        ),
    )


def _coverage(report: CalibrationReport) -> str:
    cover = report.coverage
    head = ("", *(f"{level:.0%}" for level in cover.levels))
    rows: list[Any] = []
    for i, name in enumerate(report.parameters.names):
        wrong = report.miscovered[:, i]
        rows.append((name, *(("bad" if bad else "good", f"{share:.1%}") for bad, share in zip(wrong, cover.fraction[:, i], strict=True))))
    rows.append(("chance (1 sd)", *(("open", f"{error:.1%}") for error in cover.error)))
    return section(
        "Coverage",
        paragraph("How often central intervals of the posterior hold the truth.", "What it shows."),
        paragraph(
            f"Good: within {COVERAGE_TOLERANCE:.0%} of the level, or 3.3 times chance if that is more; 68 and 95 % are judged. Less: error "
            "bars are too small, which is the worse fault of the two.",
            "How to read it.",
        ),
        table("Share of truths in central intervals", head, rows),
        paragraph(
            "Conformal factors per bin (`conformal_factors`) widen intervals to what they claim; retraining mends the cause.", "What to do."
        ),
    )


def _joint(report: CalibrationReport) -> str:
    tests = report.joint_tests
    rows = [
        (name, (KIND[outcome], f"{p:.2g}"), (KIND[outcome], str(outcome)))
        for name, p, outcome in zip(tests.names, tests.p, map(Outcome, tests.outcome), strict=True)
    ]
    return section(
        "All parameters together",
        paragraph(
            "Regions of highest density should hold the truth as often as they claim, and balls about any reference points should share "
            "out posterior and truth alike (TARP). Points that do not look at the image cannot tell the prior from a posterior; those "
            "about a regression's estimate can, and those on one side of it see shifts and wrong correlations best.",
            "What it shows.",
        ),
        paragraph(f"Good: no test fails; an exact posterior fails any of them in at most {ALARM:.0%} of runs.", "How to read it."),
        table("p-values of uniformity", ("test", "p", "outcome"), rows, words=True),
        paragraph(
            "Where these fail and every parameter passes, correlations or tails are wrong: a larger flow, or `refine`.", "What to do."
        ),
    )


def _local(report: CalibrationReport) -> str:
    return section(
        "Right everywhere, or on average only?",
        paragraph(
            "A posterior that is too wide for faint galaxies and too narrow for bright ones may be right on average. Bins are of what "
            "the data say, never of true parameters, by which even an exact posterior is not calibrated.",
            "What it shows.",
        ),
        paragraph(
            "Good: no bin fails; all bins and parameters are judged together, and an exact posterior fails anywhere in at most "
            f"{ALARM:.0%} of runs. What is judged is whether ranks are uniform, whatever the level shown. Bins of fewer than {FEWEST} "
            "images say nothing.",
            "How to read it.",
        ),
        *(_local_table(found, level) for found in report.local if _judged(found) for level in SHOWN_LEVELS),
        *(paragraph(f"Not enough data: bins of {found.bins.name}.") for found in report.local if not _judged(found)),
        paragraph("Train with more galaxies like those of the bin that fails, or use the linearised stage for bright ones.", "What to do."),
    )


def _judged(found: LocalCalibration) -> bool:
    return bool((found.outcome != Outcome.UNKNOWN).any())


def _local_table(found: LocalCalibration, level: float) -> str:
    k = int(np.argmin(np.abs(found.levels - level)))
    rows: list[Any] = []
    columns = range(len(found.names) - 1)  # a central interval of a distance is no credible region
    for b, label in enumerate(found.bins.labels):
        cells = [(KIND[Outcome(found.outcome[b, c])], f"{found.coverage[b, k, c]:.1%}") for c in columns]
        failed = [name for name, outcome in zip(found.names, found.outcome[b], strict=True) if outcome == Outcome.FAILED]
        verdict = ("bad", f"FAIL: {', '.join(failed)}") if failed else ("good", "ok")
        if (found.outcome[b] == Outcome.UNKNOWN).all():
            verdict = ("open", "not enough data")
        rows.append((label, str(found.n_images[b]), *cells, ("open", f"{found.error[b, k]:.1%}"), verdict))
    head = ("from ... to", "images", *found.names[:-1], "chance (1 sd)", "ranks")
    return table(f"{level:.0%} intervals by {found.bins.name}", head, rows)


def _accuracy(figure: "Figure") -> str:
    return section(
        "Accuracy, and how much was learned",
        paragraph(
            "Bias and scatter of posterior means, posterior over prior widths, claimed against actual errors, by estimated S/N.",
            "What it shows.",
        ),
        paragraph(
            "Good: bias near zero, widths that fall with S/N, an rms of (mean - truth) / sd of one. A posterior that is the prior has "
            "uniform ranks as well: widths tell them apart.",
            "How to read it.",
        ),
        picture(figure, "Bias, scatter, contraction, z-scores and coverage by estimated signal-to-noise ratio"),
        paragraph(
            "Widths that do not fall with S/N mean a network that is too small or trained too shortly for bright galaxies.", "What to do."
        ),
    )


def _score(report: CalibrationReport) -> str:
    score, gain = report.log_score, report.gain
    lines = [f"{score.mean:.2f} +- {score.error:.2f} nats per image; {score.excluded} truths have density zero."]
    if gain is not None:
        lines.append(f"{gain.mean:+.2f} +- {gain.error:.2f} nats against a linear regression on image moments.")
    return section(
        "Log score",
        paragraph(
            "The posterior's log density at the truths: of two posteriors that are both calibrated, the one with the higher score "
            "knows more.",
            "What it shows.",
        ),
        paragraph(" ".join(lines), "This run."),
    )


def _examples(examples: Example | str) -> str:
    title = "Least and most surprising galaxies"
    if isinstance(examples, str):
        return section(title, paragraph(examples))
    figure: Figure = plot_contact_sheet(examples.stamps, examples.model, list(examples.captions), flagged=examples.worst, columns=4)
    return section(
        title,
        paragraph(
            "Image, model at the posterior means, and residual from -5 to 5 sigma; masked pixels are brown. First those whose truth lies "
            "deepest inside the joint posterior, then, in orange with a star, those whose truth lies furthest out. Among many galaxies "
            "some are far out by chance.",
            "What it shows.",
        ),
        picture(figure, "Galaxies whose truth is least and most surprising", dpi=90),
    )


def _reference(report: CalibrationReport, reference: ReferenceScore | str) -> str:
    title = "Against exact posteriors"
    if isinstance(reference, str):
        return section(title, paragraph(reference))
    low, middle, high = np.quantile(reference.c2st, [0.16, 0.5, 0.84])
    distances = zip(report.parameters.names, reference.wasserstein.T, strict=True)
    return section(
        title,
        paragraph(
            f"{len(reference.c2st)} galaxies whose posterior was sampled with the exact likelihood ({reference.file}): a classifier that "
            "tries to tell those draws from this posterior's is right half of the time where they are alike (C2ST).",
            "What it shows.",
        ),
        paragraph(
            f"C2ST {middle:.2f} in the median, {low:.2f} to {high:.2f} for two in three; {reference.unusable} galaxies have no posterior.",
            "This run.",
        ),
        table(
            "Wasserstein distance in posterior standard deviations",
            ("", "median", "largest"),
            [(name, f"{np.median(column):.3f}", f"{column.max():.3f}") for name, column in distances],
        ),
    )


def _warnings(record: Mapping[str, Any], warnings: Sequence[str]) -> str:
    unusable = int(record["unusable"])
    lines = [*warnings, *([f"{unusable} simulations have no posterior and were left out"] if unusable else [])]
    return section("Errors and warnings", bullets(lines) if lines else paragraph("None."))


def _methods(report: CalibrationReport, record: Mapping[str, Any]) -> str:
    versions = record["provenance"]["versions"]
    left_out = f" ({record['unusable']} more had no posterior and were left out)" if record["unusable"] else ""
    other = f", simulated with {record['simulator']}" if record["simulator"] else ""
    text = (
        f"We tested the posteriors on {len(report.pit)} simulated galaxies drawn from the prior{other}, none of which was used in "
        f"training{left_out}, with {report.n_draws} posterior draws each (astroflow {versions['astroflow']}, bundle "
        f"{str(record['bundle'])[:12]}, seed {record['provenance']['seed']}). Ranks of the true parameters among the draws (Talts et al. "
        "2018), marginally and for the Mahalanobis distance of the truth, were compared with a uniform distribution by Kolmogorov-Smirnov "
        "tests and, "
        "graphically, within simultaneous bands (Säilynoja et al. 2022). Joint posteriors were tested by "
        f"{' and '.join(report.joint_tests.names)} (Hyndman 1996; Lemos et al. 2023)."
    )
    if judged := [found.bins.name for found in report.local if _judged(found)]:
        text += f" The uniformity of ranks was tested again in bins of {', '.join(judged)}, all of them together by Holm's (1979) rule."
    return section(
        "Methods, versions and references",
        paragraph(text, "To paste."),
        table("Versions", ("package", "version"), [(name, str(version)) for name, version in versions.items()], words=True),
        listing(BIBTEX.replace("VERSION", str(versions["astroflow"]))),
    )
