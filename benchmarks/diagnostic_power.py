"""Which diagnostic catches which fault: a matrix, over many repetitions, of a problem whose posterior is known.

    python -m benchmarks.diagnostic_power                      # 200 repetitions of 1000 images: 50 minutes of a core
    python -m benchmarks.diagnostic_power --repetitions 16 --out FILE.json
    python -m benchmarks.diagnostic_power --table              # the table of what is there, in Markdown

Each repetition draws `--images` images (`astroflow.diagnostics.known`), plants each fault in turn, and asks each diagnostic, every one of
which raises a false alarm with a probability of at most 1 % (a report's verdict: as it says itself). Printed is the share of repetitions
that raise the alarm. For each pair it is known beforehand whether the diagnostic must catch the fault, must be blind to it by construction,
or may see some of it; a star marks what is not as expected.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from astroflow.diagnostics import (
    Bins,
    CalibrationReport,
    Outcome,
    calibrate,
    calibrate_locally,
    central_coverage,
    density_credibility,
    ecdf_difference,
    image_references,
    joint_pit,
    local_c2st,
    log_score_gain,
    pit,
    quantile_bins,
    random_references,
    sharpness,
    tarp,
)
from astroflow.diagnostics.known import FAULTS, Claim, KnownPosterior, known_posterior
from astroflow.provenance import write_json

RESULTS = Path(__file__).with_suffix(".json")
ALARM = 0.01
CAUGHT = 0.95
"""Share of the repetitions that raise the alarm where a diagnostic must catch a fault."""
DRAWS, C2ST_DRAWS, SWAPS = 100, 48, 99
OTHER = 1_000_000
"""Added to the seed of the draws that bins are made of: of those that are ranked, an exact posterior would fail."""
DIRECTIONS = [
    np.array(way) for way in itertools.product((1.0, -1.0, 0.0), repeat=3) if np.count_nonzero(way) == 2 and way[np.flatnonzero(way)[0]] > 0
]
"""Of points on one side: the two diagonals of every pair of parameters."""


def uniform(values: np.ndarray) -> float:
    """Return the p-value that the columns of ``(N, C)`` are uniform, however many they are."""
    columns = values.reshape(len(values), -1)
    return min(1.0, columns.shape[1] * min(stats.kstest(column, "uniform").pvalue for column in columns.T))


def ranks(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    level = 1 - ALARM / draws.shape[-1]
    return bool(ecdf_difference(pit(draws, problem.truth), level=level).outside.any())


def functions(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    """Ranks of scalar functions: the sum and the difference of each pair."""

    def of(theta: np.ndarray) -> np.ndarray:
        return np.stack([theta[..., i] + sign * theta[..., j] for i, j in ((0, 1), (0, 2), (1, 2)) for sign in (1, -1)], -1)

    return uniform(pit(of(draws), of(problem.truth))) < ALARM


def coverage(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    found = central_coverage(pit(draws, problem.truth), (0.68, 0.95))
    inside = np.round(found.fraction * len(draws)).astype(int)
    p = [stats.binomtest(int(k), len(draws), level).pvalue for row, level in zip(inside, found.levels, strict=True) for k in row]
    return min(p) * len(p) < ALARM


def joint(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return uniform(joint_pit(draws, problem.truth)) < ALARM


def highest_density(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return uniform(density_credibility(claim.log_prob(draws), claim.log_prob(problem.truth[:, None])[:, 0])) < ALARM


def tarp_anywhere(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return uniform(tarp(draws, problem.truth, random_references(problem.truth, seed=problem.seed))) < ALARM


def tarp_about_images(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return uniform(tarp(draws, problem.truth, image_references(problem.estimate, np.full(3, 0.3), seed=problem.seed))) < ALARM


def tarp_on_one_side(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    points = [image_references(problem.estimate, np.ones(3), way) for way in DIRECTIONS]
    return uniform(np.stack([tarp(draws, problem.truth, references) for references in points], 1)) < ALARM


def data_bins(problem: KnownPosterior, claim: Claim) -> list[Bins]:
    """Sort images by S/N and by the posterior's own medians, as a validation does."""
    medians = np.median(replace(claim, seed=claim.seed + OTHER).draws(DRAWS), 1)
    return [quantile_bins("S/N", problem.snr), *(quantile_bins(name, column) for name, column in zip("abc", medians.T, strict=True))]


def fails_in(bins: list[Bins], values: np.ndarray) -> bool:
    results = calibrate_locally(values, [str(k) for k in range(values.shape[1])], bins, alarm=ALARM)
    return any((result.outcome == Outcome.FAILED).any() for result in results)


def in_bins(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return fails_in(data_bins(problem, claim), pit(draws, problem.truth))


def in_bins_of_estimates(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    bins = [quantile_bins(name, column) for name, column in zip("abc", problem.estimate.T, strict=True)]
    return fails_in(bins, pit(draws, problem.truth))


def jointly_in_bins(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    density = density_credibility(claim.log_prob(draws), claim.log_prob(problem.truth[:, None])[:, 0])
    return fails_in(data_bins(problem, claim), density[:, None])


def classifier(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return local_c2st(draws[:, :C2ST_DRAWS], problem.truth, problem.features, swaps=SWAPS, seed=problem.seed).overall <= ALARM


def z_scores(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    z = sharpness(draws, problem.truth, np.ones(3)).z
    # a posterior's sample moments make z a little wider than a normal: t with S - 1 degrees of freedom, and of the sample mean
    t = z / np.sqrt(1 + 1 / DRAWS)
    p = [stats.kstest(column, "t", (DRAWS - 1,)).pvalue for column in t.T]
    return min(p) * len(p) < ALARM


def score(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    """Does it know less than a regression does? A normal about the estimate, of the right scatter."""
    truth = problem.truth
    scatter = problem.estimate - truth
    covariance = np.cov(scatter.T)
    slope = np.linalg.solve(np.cov(problem.estimate.T), np.cov(problem.estimate.T, truth.T)[:3, 3:])
    left = truth - problem.estimate @ slope
    covariance = np.cov(left.T)
    baseline = stats.multivariate_normal(np.zeros(3), covariance).logpdf(left)
    gain = log_score_gain(claim.log_prob(truth[:, None])[:, 0], baseline)
    return gain.mean < -2.33 * gain.error


def report_of(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> CalibrationReport:
    return calibrate(
        draws, claim.log_prob(problem.truth[:, None])[:, 0], problem.truth, problem.snr, problem.parameters, np.ones(3),
        log_prob_draws=claim.log_prob(draws), estimate=problem.estimate, binnings=data_bins(problem, claim), seed=problem.seed,
    )  # fmt: skip


def verdict(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return not report_of(problem, claim, draws).passed


Diagnostic = Callable[[KnownPosterior, Claim, np.ndarray], bool]
DIAGNOSTICS: dict[str, Diagnostic] = {
    "ranks (SBC)": ranks,
    "ranks of functions": functions,
    "marginal coverage": coverage,
    "z-scores": z_scores,
    "Mahalanobis ranks": joint,
    "highest density": highest_density,
    "TARP, points anywhere": tarp_anywhere,
    "TARP, points about images": tarp_about_images,
    "TARP, points on one side": tarp_on_one_side,
    "ranks in bins of S/N and medians": in_bins,
    "ranks in bins of an estimate": in_bins_of_estimates,
    "highest density in bins": jointly_in_bins,
    "L-C2ST": classifier,
    "log score below a regression's": score,
    "a report's verdict, L-C2ST left out": verdict,
}
"""Each says whether it raises the alarm, given images, what a posterior claims and its draws."""

CATCHES, BLIND, SOME = "catches", "blind", "some"
EXPECTED: dict[str, str] = {
    # in the order of FAULTS after "exact": x 0.8, x 1.2, shift, swapped, on average, correlations, correlations if faintest, prior
    "ranks (SBC)": "C C C C S B B B",
    "ranks of functions": "C S C C S C S B",
    "marginal coverage": "C C S C S B B B",
    "z-scores": "C S C C S B B B",
    "Mahalanobis ranks": "C C S C S C S B",
    "highest density": "C C S C S C S B",
    "TARP, points anywhere": "S S S C S S S B",
    "TARP, points about images": "C C S C S S S C",
    "TARP, points on one side": "C C C C S C S C",
    # a posterior that is the prior is right in bins of the S/N, which says nothing of its parameters, and of its own medians, which are
    # noise; wrong in bins of an estimate. Wrong correlations leave marginals exact given all of the data, so in bins of any part of it.
    "ranks in bins of S/N and medians": "C C C C C B B B",
    "ranks in bins of an estimate": "C C C C S B B C",
    "highest density in bins": "C C S C C C C B",
    "L-C2ST": "C C C C C C C C",
    "log score below a regression's": "B B B C B S S C",
    "a report's verdict, L-C2ST left out": "C C C C C C C C",
}


def expectation(diagnostic: str, fault: str) -> str:
    """Return what is known beforehand of a pair."""
    if fault == "exact":
        return BLIND
    letters = EXPECTED[diagnostic].split()
    return {"C": CATCHES, "B": BLIND, "S": SOME}[letters[list(FAULTS).index(fault) - 1]]


def repetition(seed: int, images: int) -> np.ndarray:
    """Return which diagnostic (first axis) raises the alarm at which fault."""
    problem = known_posterior(images, seed)
    out = np.zeros((len(DIAGNOSTICS), len(FAULTS)), bool)
    for j, fault in enumerate(FAULTS.values()):
        claim = fault(problem)
        draws = claim.draws(DRAWS)
        out[:, j] = [diagnostic(problem, claim, draws) for diagnostic in DIAGNOSTICS.values()]
    return out


def as_expected(alarms: int, repetitions: int, expected: str, rate: float = ALARM) -> bool:
    """Say whether a number of alarms is what is expected: nearly all, or no more than chance gives at a rate of false alarms."""
    if expected == CATCHES:
        return alarms >= int(CAUGHT * repetitions)
    return expected == SOME or alarms <= stats.binom(repetitions, rate).ppf(0.999)


def stated_rate(images: int) -> float:
    """Return the rate of false alarms that a report of so many images states."""
    problem = known_posterior(images, 0)
    return report_of(problem, problem.claim(), problem.claim().draws(DRAWS)).false_alarm


def measured(repetitions: int, images: int, processes: int | None = None) -> dict:
    """Return how many repetitions raise the alarm, by diagnostic and fault."""
    with ProcessPoolExecutor(processes) as pool:
        alarms = sum(
            map(np.asarray, pool.map(repetition, range(repetitions), itertools.repeat(images))),
            np.zeros((len(DIAGNOSTICS), len(FAULTS)), int),
        )
    rows = {name: dict(zip(FAULTS, row.tolist(), strict=True)) for name, row in zip(DIAGNOSTICS, alarms, strict=True)}
    return {"repetitions": repetitions, "images": images, "draws": DRAWS, "report_rate": stated_rate(images), "alarms": rows}


def unexpected(results: Mapping) -> list[tuple[str, str]]:
    """Return the pairs that are not as expected, and faults that nothing catches."""
    count, rates = results["repetitions"], {list(DIAGNOSTICS)[-1]: results["report_rate"]}
    pairs = [
        (name, fault)
        for name, fault in itertools.product(DIAGNOSTICS, FAULTS)
        if not as_expected(results["alarms"][name][fault], count, expectation(name, fault), rates.get(name, ALARM))
    ]
    uncaught = [fault for fault in list(FAULTS)[1:] if max(row[fault] for row in results["alarms"].values()) < int(CAUGHT * count)]
    return pairs + [("every diagnostic", fault) for fault in uncaught]


def table(results: Mapping) -> str:
    """Return the matrix as Markdown: bold where a diagnostic must catch a fault, plain where it is blind, in brackets where it may see."""
    count, wrong = results["repetitions"], unexpected(results)
    form = {CATCHES: "**{}**", BLIND: "{}", SOME: "({})"}
    lines = ["| diagnostic | " + " | ".join(FAULTS) + " |", "|---|" + "---|" * len(FAULTS)]
    for name in DIAGNOSTICS:
        shares = {fault: f"{results['alarms'][name][fault] / count:.1%}".replace(".0%", "%") for fault in FAULTS}
        cells = (form[expectation(name, fault)].format(share) + " *" * ((name, fault) in wrong) for fault, share in shares.items())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    head = (
        f"Share of {count} repetitions that raise the alarm; {results['images']} images of {results['draws']} draws each. "
        f"Bold: must be caught. Plain: blind by construction, false alarms alone, at most {ALARM:.0%} (a report's verdict: at most "
        f"{results['report_rate']:.1%}). In brackets: may be seen. A star: not as expected."
    )
    return "\n".join([head, "", *lines]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--processes", type=int, help="at a time; all cores by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the counts")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table of the counts that are there")
    given = parser.parse_args()
    if not given.table:
        write_json(given.out, measured(given.repetitions, given.images, given.processes))
    results = json.loads(given.out.read_text())
    print(table(results))
    print(f"not as expected: {unexpected(results) or 'nothing'}")


if __name__ == "__main__":
    main()
