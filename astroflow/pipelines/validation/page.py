"""The report of a validation as one HTML page: a verdict, then what was looked at, how to read it, and what to do about it.

`calibration`, `accuracy` and `reference` say what stands in the sections.
"""

__all__ = ["validation_page"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from astroflow.diagnostics.calibration_report import CalibrationReport
from astroflow.diagnostics.estimated_accuracy import EstimatedAccuracy
from astroflow.diagnostics.local_verdict import LocalVerdict
from astroflow.pipelines.validation import accuracy, calibration
from astroflow.pipelines.validation import reference as exact
from astroflow.pipelines.validation.html import badge, bullets, document, listing, paragraph, section, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
@inproceedings{linhart2023, title = {L-C2ST: Local Diagnostics for Posterior Approximations in Simulation-Based Inference},
  author = {Linhart, J. and Gramfort, A. and Rodrigues, P. L. C.}, booktitle = {NeurIPS}, year = {2023}, eprint = {2306.03580},
  archivePrefix = {arXiv}}
@book{westfall1993, title = {Resampling-Based Multiple Testing}, author = {Westfall, P. H. and Young, S. S.}, publisher = {Wiley},
  year = {1993}}
@book{vovk2005, title = {Algorithmic Learning in a Random World}, author = {Vovk, V. and Gammerman, A. and Shafer, G.},
  publisher = {Springer}, year = {2005}}
@article{lei2018, title = {Distribution-Free Predictive Inference for Regression},
  author = {Lei, J. and G'Sell, M. and Rinaldo, A. and Tibshirani, R. J. and Wasserman, L.},
  journal = {Journal of the American Statistical Association}, volume = {113}, pages = {1094}, year = {2018}, eprint = {1604.04173},
  archivePrefix = {arXiv}}
@article{schad2021, title = {Toward a Principled Bayesian Workflow in Cognitive Science},
  author = {Schad, D. J. and Betancourt, M. and Vasishth, S.}, journal = {Psychological Methods}, volume = {26}, pages = {103},
  year = {2021}, eprint = {1904.12765}, archivePrefix = {arXiv}}
@article{bretonniere2023, title = {Euclid preparation. XXVI. The Euclid Morphology Challenge: Towards structural parameters for billions of
  galaxies}, author = {{Euclid Collaboration} and Bretonni{\`e}re, H. and others}, journal = {Astronomy \& Astrophysics}, volume = {671},
  pages = {A102}, year = {2023}, eprint = {2209.12907}, archivePrefix = {arXiv}}
@article{gneiting2007, title = {Strictly Proper Scoring Rules, Prediction, and Estimation}, author = {Gneiting, T. and Raftery, A. E.},
  journal = {Journal of the American Statistical Association}, volume = {102}, pages = {359}, year = {2007}}
@article{rowe2015, title = {GalSim: The modular galaxy image simulation toolkit}, author = {Rowe, B. T. P. and others},
  journal = {Astronomy and Computing}, volume = {10}, pages = {121}, year = {2015}, eprint = {1407.7676}, archivePrefix = {arXiv}}
@inproceedings{papamakarios2017, title = {Masked Autoregressive Flow for Density Estimation},
  author = {Papamakarios, G. and Pavlakou, T. and Murray, I.}, booktitle = {NeurIPS}, year = {2017}, eprint = {1705.07057},
  archivePrefix = {arXiv}}
"""


def validation_page(
    report: CalibrationReport,
    record: Mapping[str, Any],
    *,
    points: EstimatedAccuracy,
    figures: Mapping[str, "Figure"],
    examples: accuracy.Example | str,
    reference: exact.ReferenceScore | str,
    warnings: Sequence[str],
) -> str:
    """Return the page.

    Parameters
    ----------
    report : CalibrationReport
        What was measured.
    record : mapping
        ``validation.json``: facts and provenance.
    points : EstimatedAccuracy
        What medians of the posterior are worth.
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
        _verdict(report, reference),
        _facts(record),
        calibration.ranks(report, figures["calibration"]),
        calibration.coverage(report),
        calibration.joint(report),
        calibration.local(report),
        calibration.image_by_image(report),
        calibration.conformal(report),
        accuracy.accuracy(report, figures["accuracy"]),
        accuracy.learned(report),
        accuracy.points(points, record),
        accuracy.score(report),
        accuracy.examples(examples, report),
        exact.reference(reference),
        _warnings(record, warnings),
        _methods(report, record),
    ]
    return document(f"Validation of {str(record['bundle'])[:12]}", parts)


def _verdict(report: CalibrationReport, reference: exact.ReferenceScore | str) -> str:
    not_compared = isinstance(reference, str) and reference != exact.NO_REFERENCE
    failed = [line.removeprefix("FAIL").strip() for line in report.verdict if line.startswith("FAIL")]
    open_questions = [line.removeprefix("?").strip() for line in report.verdict if line.startswith("?")]
    parts = []
    seen = f"On {len(report.pit)} simulations that it has never seen, nothing was found wrong."
    if report.passed and report.complete and not_compared:
        parts.append(badge("open", "Calibrated, but not compared with exact posteriors.", seen))
    elif report.passed and report.complete:
        parts.append(badge("good", "Calibrated.", seen))
    elif report.passed:
        parts.append(badge("open", "Calibrated, as far as so few images tell.", seen))
    else:
        parts.append(badge("bad", "NOT calibrated.", f"{len(failed)} tests on {len(report.pit)} unseen simulations found faults:"))
        parts.append(bullets(failed))
    if open_questions:
        parts += [paragraph("Too few images to say anything about:"), bullets(open_questions)]
    if not_compared:
        parts.append(paragraph(str(reference), "Exact posteriors."))
    chance = f"By chance, an exact posterior would fail something on this page with a probability of at most {report.false_alarm:.1%}."
    parts.append(paragraph(chance))
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
    if judged := [found.bins.name for found in report.local if calibration.is_judged(found)]:
        text += (
            f" The uniformity of ranks and of joint credibilities was tested again in bins of {', '.join(judged)}, all of them together by "
            "Holm's (1979) rule."
        )
    if isinstance(local := report.local_c2st, LocalVerdict):
        text += (
            f" At {len(local.rows)} of them a logistic regression that knows {', '.join(local.features)}, trained on {local.pairs} others, "
            f"was asked to tell truths from draws (L-C2ST; Linhart et al. 2023), with {local.result.swaps} random swaps of labels for its "
            "null distribution and for p-values that hold for all images at once (Westfall & Young 1993)."
        )
    if report.conformal:
        text += f" Conformal factors (Vovk et al. 2005; Lei et al. 2018) are given in fixed bins of {report.conformal[0].bins.name}."
    return section(
        "Methods, versions and references",
        paragraph(text, "To paste."),
        table("Versions", ("package", "version"), [(name, str(version)) for name, version in versions.items()], words=True),
        listing(BIBTEX.replace("VERSION", str(versions["astroflow"]))),
    )
