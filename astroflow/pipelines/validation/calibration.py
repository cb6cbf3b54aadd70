"""The sections of a validation's page on whether error bars can be believed, from ranks to the factors that would mend them."""

__all__ = ["conformal", "coverage", "image_by_image", "is_judged", "joint", "local", "ranks"]

from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.diagnostics.calibration_report import COVERAGE_TOLERANCE, JOINT, KS_THRESHOLD, REGION_WORDS, CalibrationReport
from astroflow.diagnostics.conformal import Conformal
from astroflow.diagnostics.local import ALARM, FEWEST, LocalCalibration, Outcome
from astroflow.diagnostics.local_verdict import LOCAL_ALARM, LocalVerdict
from astroflow.pipelines.validation.html import explained, paragraph, picture, section, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = {Outcome.PASSED: "good", Outcome.FAILED: "bad", Outcome.UNKNOWN: "open"}
SHOWN_LEVELS = (0.68, 0.95)
WORST = 5
"""Images that are shown."""
FACTOR_SCATTER = {0.68: 0.96, 0.95: 0.95}
"""Times 1 / sqrt(n): how far the factor of a normal posterior that is exact strays by chance, sqrt(c (1 - c)) / (2 q phi(q))."""


def ranks(report: CalibrationReport, figure: "Figure") -> str:
    """Return rank histograms, ECDFs and their tests."""
    rows = [
        (name, ("bad" if problems else "good", f"{p:.2g}"), "; ".join(problems) or "nothing found")
        for name, p, problems in zip(report.names, report.ks_p, report.problems, strict=True)
    ]
    outside = [name for name, left in zip(report.names, report.ranks.outside | report.ecdf.outside, strict=True) if left]
    return explained(
        "Ranks of the truth",
        picture(figure, "Rank histograms, ECDF differences and coverage curves of each parameter"),
        table(f"Kolmogorov-Smirnov p-values; below {KS_THRESHOLD:g} fails", ("", "p", "found"), rows, words=True),
        shows="Simulate a galaxy with parameters from the prior, draw from its posterior: the truth falls on each rank among the draws "
        "equally often if the posterior is exact (simulation-based calibration).",
        reading="Good: histograms and ECDF curves stay inside the grey bands, which an exact posterior leaves once in twenty panels. "
        "Bad: ranks in a U, too narrow; a hump, too wide; a slope, too high or too low.",
        found=f"The smallest p-value is {report.ks_p.min():.2g}, of {report.names[int(np.argmin(report.ks_p))]}; "
        f"{f'bands are left by {_listed(outside)}' if outside else 'no band is left'}.",
        do="Too narrow on unseen simulations is overfitting: more simulations, or a smaller network. Too wide or shifted is too short a "
        "training. If only the joint row fails, correlations are wrong: a larger flow.",
    )


def coverage(report: CalibrationReport) -> str:
    """Return how often central intervals and joint regions hold the truth."""
    cover = report.coverage
    head = ("", *(f"{level:.0%}" for level in cover.levels))
    rows: list[Any] = []
    for i, name in enumerate(report.parameters.names):
        wrong = report.miscovered[:, i]
        rows.append((name, *(("bad" if bad else "good", f"{share:.1%}") for bad, share in zip(wrong, cover.fraction[:, i], strict=True))))
    rows.append(("chance (1 sd)", *(("open", f"{error:.1%}") for error in cover.error)))
    off = cover.fraction - cover.levels[:, None]
    level, worst = np.unravel_index(np.argmax(np.abs(off)), off.shape)
    together = report.joint_coverage.fraction
    regions: list[Any] = [(_region(name), *(f"{share:.1%}" for share in together[:, k])) for k, name in enumerate(report.regions)]
    shown = together[:, report.regions.index(report.main_region)] - cover.levels
    far = int(np.argmax(np.abs(shown)))
    return explained(
        "Coverage",
        table("Share of truths in central intervals", head, rows),
        table("Share of truths in joint regions", head, [*regions, rows[-1]]),
        shows="How often central intervals of the posterior hold the truth, one parameter at a time, and how often regions of all "
        "parameters together do: those of highest density, the smallest that hold so much of the posterior; ellipsoids about its mean; "
        "balls about the reference points of TARP.",
        reading=f"Good: within {COVERAGE_TOLERANCE:.0%} of the level, or 3.3 times chance if that is more; intervals of 68 and 95 % are "
        "judged here, joint regions by the tests below. Bad: less, error bars are too small, which is the worse fault of the two; more, "
        "they are too large.",
        found=f"Furthest off are the {cover.levels[level]:.0%} intervals of {report.parameters.names[worst]}, by {off[level, worst]:+.1%}, "
        f"and, of all parameters together, the {cover.levels[far]:.0%} {REGION_WORDS[report.main_region]}, by {shown[far]:+.1%}.",
        do="The conformal factors below widen intervals to what they claim; retraining mends the cause.",
    )


def joint(report: CalibrationReport) -> str:
    """Return tests of all parameters together."""
    tests = report.joint_tests
    rows = [
        (name, (KIND[outcome], f"{p:.2g}"), (KIND[outcome], str(outcome)))
        for name, p, outcome in zip(tests.names, tests.p, map(Outcome, tests.outcome), strict=True)
    ]
    failed = [name for name, outcome in zip(tests.names, tests.outcome, strict=True) if outcome == Outcome.FAILED]
    smallest = f"the smallest p-value of {len(tests.p)} is {np.nanmin(tests.p):.2g}" if np.isfinite(tests.p).any() else "not enough data"
    return explained(
        "All parameters together",
        table("p-values of uniformity", ("test", "p", "outcome"), rows, words=True),
        shows="Regions of highest density should hold the truth as often as they claim, and balls about any reference points should share "
        "out posterior and truth alike (TARP). Points that do not look at the image cannot tell the prior from a posterior; those "
        "about a regression's estimate can, and those on one side of it see shifts and wrong correlations best.",
        reading=f"Good: no test fails; an exact posterior fails any of them in at most {ALARM:.0%} of runs. Bad: a test fails, though "
        "every single parameter passes: the parameters do not go together as claimed.",
        found=f"{_listed(failed)} failed; {smallest}." if failed else f"None failed; {smallest}.",
        do="Where these fail and every parameter passes, correlations or tails are wrong: a larger flow, or `refine`.",
    )


def local(report: CalibrationReport) -> str:
    """Return calibration in bins of what the data say."""
    judged = [found for found in report.local if is_judged(found)]
    failed = sum(int((found.outcome == Outcome.FAILED).any(1).sum()) for found in judged)
    p = np.concatenate([found.p.ravel() for found in judged]) if judged else np.zeros(0)
    p = p[np.isfinite(p)]
    return explained(
        "Right everywhere, or on average only?",
        *([_furthest(report, judged)] if judged else []),
        *(_local_table(report, found, level) for found in judged for level in SHOWN_LEVELS),
        *(paragraph(f"Not enough data: bins of {found.bins.name}.") for found in report.local if not is_judged(found)),
        shows="A posterior that is too wide for faint galaxies and too narrow for bright ones may be right on average. Bins are of what "
        "the data say, never of true parameters, by which even an exact posterior is not calibrated. Parameters are looked at one by one, "
        "and together, by the regions and points of the tests above: correlations may be wrong for some galaxies alone.",
        reading="Good: no bin fails; all bins, parameters and regions are judged together, and an exact posterior fails anywhere in at "
        f"most {ALARM:.0%} of runs. Bad: a bin fails, and its coverage says which way. What is judged is whether ranks are uniform, "
        f"whatever the level shown. Bins of fewer than {FEWEST} images say nothing.",
        found=f"{failed or 'No'} bins failed; the smallest of {len(p)} p-values is {p.min():.2g}."
        if len(p)
        else "Not enough data in any bin.",
        do="Train with more galaxies like those of the bin that fails, or use the linearised stage for bright ones.",
    )


def is_judged(found: LocalCalibration) -> bool:
    """Say whether any bin had images enough."""
    return bool((found.outcome != Outcome.UNKNOWN).any())


def _furthest(report: CalibrationReport, judged: list[LocalCalibration]) -> str:
    """Return, for every bin and level, how far coverage is off: of the parameter that is furthest, and of all together."""
    names = report.parameters.names
    rows: list[Any] = []
    for found in judged:
        off, main = found.coverage - found.levels[:, None], found.names.index(report.main_region)
        for b, label in enumerate(found.bins.labels):
            worst = np.argmax(np.abs(off[b, :, : len(names)]), 1)
            cells = [f"{off[b, k, i]:+.1%} {names[i]}" for k, i in enumerate(worst.tolist())]
            rows.append((f"{found.bins.name} {label}", str(found.n_images[b]), *cells, *(f"{value:+.1%}" for value in off[b, :, main])))
    levels = [f"{level:.0%}" for level in judged[0].levels]
    head = ("", "images", *levels, *(f"together, {level}" for level in levels))
    return table(f"Coverage minus level: the parameter that is furthest off, and {REGION_WORDS[report.main_region]}", head, rows)


def _region(name: str) -> str:
    return "ellipsoids (Mahalanobis)" if name == JOINT else name


def _local_table(report: CalibrationReport, found: LocalCalibration, level: float) -> str:
    k = int(np.argmin(np.abs(found.levels - level)))
    rows: list[Any] = []
    columns = [*range(len(report.parameters)), found.names.index(report.main_region)]
    for b, label in enumerate(found.bins.labels):
        cells = [(KIND[Outcome(found.outcome[b, c])], f"{found.coverage[b, k, c]:.1%}") for c in columns]
        failed = [name for name, outcome in zip(found.names, found.outcome[b], strict=True) if outcome == Outcome.FAILED]
        verdict = ("bad", f"FAIL: {', '.join(failed)}") if failed else ("good", "ok")
        if (found.outcome[b] == Outcome.UNKNOWN).all():
            verdict = ("open", "not enough data")
        rows.append((label, str(found.n_images[b]), *cells, ("open", f"{found.error[b, k]:.1%}"), verdict))
    head = ("from ... to", "images", *(_region(found.names[c]) for c in columns), "chance (1 sd)", "ranks")
    return table(f"{level:.0%} intervals and regions by {found.bins.name}", head, rows)


def image_by_image(report: CalibrationReport) -> str:
    """Return what L-C2ST says of single images."""
    title, found = "Image by image", report.local_c2st
    if found is None:
        return section(title, paragraph("Not looked at."))
    shows = (
        "A classifier is given the truth or a draw of the posterior, and what the data say, and learns to tell which it was given; with an "
        "exact posterior it can only guess. Asked about the draws of single images, it says where it is sure (L-C2ST). It knows shifts, "
        "widths and correlations, each changing with the data; shapes beyond these it does not see."
    )
    reading = (
        "Good: neither the mean over all images nor any single one is further from guessing than the same classifier gets when truths and "
        "draws are swapped at random. Bad: some are; they are named below. The p-values of single images hold for all of them at once, "
        f"and an exact posterior fails in at most {LOCAL_ALARM:.1%} of runs."
    )
    do = (
        "Look at what the images where truths can be told have in common, and compare with the bins above: train with more like them, or "
        "refine them. Where it fails without a bin that fails, correlations are wrong for some images."
    )
    if isinstance(found, str):
        do = "With too few simulations, validate with more (`--n`); a posterior without spread claims to know what nobody can."
        return explained(title, shows=shows, reading=reading, found=f"No test, which is no pass: {found}.", do=do)
    result, suspicious = found.result, int(found.suspicious.sum())
    return explained(
        title,
        table(
            f"The classifier's certainty, 0 (guessing) to 0.25; p at or below {LOCAL_ALARM / 2:.2g} fails",
            ("", *found.features, "certainty", "p", "outcome"),
            _images(found),
        ),
        shows=shows,
        reading=reading,
        found=f"{str(found.outcome).capitalize()}: of {len(found.rows)} held-out simulations, truths can be told from draws at "
        f"{suspicious or 'none'}. The classifier learned from {found.pairs} others, knows {_listed(list(found.features))}, and was trained "
        f"{result.swaps} times with swapped labels.",
        do=do,
    )


def _images(found: LocalVerdict) -> list[Any]:
    """Return the mean over all images, what those where truths can be told have in common, and the worst images."""
    result, told = found.result, found.suspicious
    blank = ("",) * len(found.features)
    overall = ("bad", "FAIL") if result.overall <= LOCAL_ALARM / 2 else ("good", "ok")
    rows: list[Any] = [("mean over all images", *blank, f"{result.statistic.mean():.2g}", f"{result.overall:.2g}", overall)]
    for name, which in (("where truths can be told", told), ("elsewhere", ~told)):
        if told.any() and which.any():
            middle = (f"{value:.3g}" for value in np.median(found.values[which], 0))
            rows.append((f"median of {which.sum()} {name}", *middle, f"{np.median(result.statistic[which]):.2g}", "", ""))
    for k in np.lexsort((-result.statistic, result.adjusted))[:WORST]:
        data = (f"{value:.3g}" for value in found.values[k])
        verdict = ("bad", "FAIL") if told[k] else ("good", "ok")
        rows.append((f"image {found.rows[k]}", *data, f"{result.statistic[k]:.2g}", f"{result.adjusted[k]:.2g}", verdict))
    return rows


def conformal(report: CalibrationReport) -> str:
    """Return the factors by which intervals would have to be stretched, what they guarantee, and for which intervals."""
    title = "By what factor error bars are off"
    if not report.conformal:
        return section(title, paragraph("Not looked at."))
    factors = np.concatenate([made.factor.ravel() for made in report.conformal])
    known = factors[np.isfinite(factors)]
    span = f"Factors lie between {known.min():.2f} and {known.max():.2f}." if len(known) else "No bin has images enough."
    if np.isinf(factors).any():
        span += " Some posteriors have no spread, and no factor mends them."
    return explained(
        title,
        *(_factors(report, made) for made in report.conformal),
        shows="Central intervals, stretched about their medians by these factors, hold the truth as often as they claim (conformal "
        "prediction). The guarantee asks nothing of the posterior: for a new galaxy that is exchangeable with the n simulations of its "
        "bin, the stretched interval holds the truth with at least the probability it claims and, where no two factors agree, at most "
        "1 / (n + 1) more. It speaks of the galaxies of a bin that have a posterior, taken together, one parameter at a time; not of "
        "single galaxies, of other surveys, or of galaxies that the simulations do not have. The bins' edges are fixed beforehand.",
        reading="Good: factors of one, within about three times chance. Bad: more than one, error bars are too small by that factor; less, "
        f"too large. They hold for intervals made as these were: of {report.n_draws} draws (the quantiles of so many are a little too "
        "narrow), by this posterior as it is. Draws that are sharpened, refined, reweighted or another number have no guarantee. No pass "
        "or fail is given here: ranks and coverage judge.",
        found=span,
        do=f"For catalogs whose intervals have to hold, infer with as many draws (`--draws {report.n_draws}`), and stretch the intervals "
        "of each bin by its factors (`conformal` in validation.json, where null is an open end, or `conformal_factors`). A factor mends a "
        "width and no shape: it is no substitute for a better posterior.",
    )


def _factors(report: CalibrationReport, made: Conformal) -> str:
    rows: list[Any] = []
    for label, count, most, factors in zip(made.bins.labels, made.n_images, made.most, made.factor, strict=True):
        cells: list[Any] = [("open", "not enough data") if np.isnan(value) else _factor(value) for value in factors]
        chance = f"{FACTOR_SCATTER[made.level] / np.sqrt(max(int(count), 1)):.3f}"
        rows.append((label, str(count), *cells, ("open", chance), ("open", f"{made.level:.0%} to {most:.1%}")))
    head = ("from ... to", "images", *report.parameters.names, "chance (1 sd)", "guaranteed")
    return table(f"Factors for {made.level:.0%} intervals by {made.bins.name}", head, rows)


def _factor(value: float) -> str | tuple[str, str]:
    return f"{value:.2f}" if np.isfinite(value) else ("bad", "none: no spread")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
