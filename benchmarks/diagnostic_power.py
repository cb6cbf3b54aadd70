"""Which diagnostic catches which fault: a matrix, over many repetitions, of a problem whose posterior is known.

Each repetition draws `--images` images (`astroflow.diagnostics.known`), plants each fault in turn, and asks each diagnostic, every one of
which raises a false alarm with a probability of 1 %. Printed is the share of repetitions that raise the alarm. For each pair it is known
beforehand whether the diagnostic must catch the fault, must be blind to it by construction, or may see some of it; a star marks what is
not as expected.
"""

import argparse
import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy import stats

from astroflow.diagnostics import (
    Outcome,
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

ALARM = 0.01
DRAWS, SWAPS = 100, 99
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


def in_bins(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    bins = [quantile_bins("S/N", problem.snr), *(quantile_bins(name, column) for name, column in zip("abc", draws.mean(1).T, strict=True))]
    results = calibrate_locally(pit(draws, problem.truth), problem.parameters.names, bins, alarm=ALARM)
    return any((result.outcome == Outcome.FAILED).any() for result in results)


def classifier(problem: KnownPosterior, claim: Claim, draws: np.ndarray) -> bool:
    return local_c2st(draws, problem.truth, problem.features, swaps=SWAPS, seed=problem.seed).overall <= ALARM


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
    "ranks in bins of the data": in_bins,
    "L-C2ST": classifier,
    "log score below a regression's": score,
}
"""Each says whether it raises the alarm, given images, what a posterior claims and its draws."""

CATCHES, BLIND, SOME = "catches", "blind", "some"
EXPECTED: dict[str, str] = {
    # in the order of FAULTS after "exact": x 0.8, x 1.2, shift, swapped, on average, correlations, prior
    "ranks (SBC)": "C C C C S B B",
    "ranks of functions": "C C C C S C B",
    "marginal coverage": "C C S C S B B",
    "z-scores": "C C C C S B B",
    "Mahalanobis ranks": "C C S C S C B",
    "highest density": "C C S C S C B",
    "TARP, points anywhere": "S S S C S S B",
    "TARP, points about images": "C C S C S S C",
    "TARP, points on one side": "C C C C S C C",
    "ranks in bins of the data": "C C C C C S C",
    "L-C2ST": "C C C C C C C",
    "log score below a regression's": "B B B C B S C",
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


def as_expected(alarms: int, repetitions: int, expected: str) -> bool:
    """Say whether a share of alarms is what is expected: nearly all, or no more than chance gives."""
    if expected == CATCHES:
        return alarms >= 0.95 * repetitions
    return expected == SOME or alarms <= stats.binom(repetitions, ALARM).ppf(0.999)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        seeds = range(given.repetitions)
        alarms = sum(
            map(np.asarray, pool.map(repetition, seeds, itertools.repeat(given.images))), np.zeros((len(DIAGNOSTICS), len(FAULTS)), int)
        )
    print(f"share of {given.repetitions} repetitions that raise the alarm; {given.images} images, {DRAWS} draws each\n")
    print("| diagnostic | " + " | ".join(FAULTS) + " |\n|---|" + "---|" * len(FAULTS))
    wrong = 0
    for name, row in zip(DIAGNOSTICS, alarms, strict=True):
        cells = []
        for fault, count in zip(FAULTS, row.tolist(), strict=True):
            good = as_expected(count, given.repetitions, expectation(name, fault))
            wrong += not good
            cells.append(f"{count / given.repetitions:.0%}{'' if good else ' *'}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    caught = (alarms >= 0.95 * given.repetitions).any(0)[1:]
    print(f"\n{wrong} not as expected; " + ("every fault is caught" if caught.all() else "a fault is caught by none"))


if __name__ == "__main__":
    main()
