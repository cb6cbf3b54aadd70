"""How near a bundle's draws are to exact posteriors of the same galaxies, as they are and once they are refined."""

__all__ = ["NOT_COMPARED", "NO_REFERENCE", "Closeness", "ReferenceScore", "against_exact", "exact_posteriors", "reference", "remembering"]

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.diagnostics.reference import ReferencePosteriors, load_reference, wasserstein
from astroflow.diagnostics.two_sample import c2st
from astroflow.errors import InputError
from astroflow.pipelines.journal import Journal
from astroflow.pipelines.validation.html import explained, paragraph, section, table
from astroflow.posteriors.exact.certificate import likelihood_gaps
from astroflow.posteriors.posterior import Posterior
from astroflow.randomness import generator
from astroflow.sims.recipe import simulator_from_data
from astroflow.types import Array, Progress

TITLE = "Against exact posteriors"
FLOOR_GALAXIES = 5
"""Galaxies, spread over all, whose exact draws are told from each other: what the classifier makes of one and the same posterior."""
NO_REFERENCE = "Not looked at: give reference posteriors of this forward model with --reference."
NOT_COMPARED = "Not compared, which is no pass: "
SBIBM_DRAWS = 10_000
"""A side, in published figures."""


@dataclass(frozen=True)
class Closeness:
    """How far draws are from exact ones, for N galaxies.

    `c2st` ``(N,)`` is a classifier's accuracy, 0.5 where it cannot tell them apart; `wasserstein` ``(N, P)`` in posterior sd.
    """

    c2st: Array
    wasserstein: Array

    def line(self) -> str:
        """Say the accuracy in words."""
        low, middle, high = np.quantile(self.c2st, [0.16, 0.5, 0.84])
        return f"C2ST {middle:.3f} in the median, {low:.3f} to {high:.3f} for two in three"


@dataclass(frozen=True)
class ReferenceScore:
    """A posterior against the exact posteriors of a file; `unusable` of its galaxies have no posterior."""

    file: str
    names: tuple[str, ...]
    """Of the parameters."""
    unusable: int
    amortized: Closeness
    refined: Closeness | None
    """None where the likelihood does not follow the forward model, so that nothing can be refined."""
    draws: int
    """A side, that each classifier is given."""
    floor: Array
    """C2ST of two halves of the exact draws of a few galaxies, `draws` / 2 a side: what no posterior can be better than, but by chance."""

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        kinds = {"amortized": self.amortized, "refined": self.refined}
        scores = {
            kind: None if found is None else {"c2st": found.c2st.tolist(), "wasserstein": found.wasserstein.tolist()}
            for kind, found in kinds.items()
        }
        return {
            "file": self.file,
            "parameters": list(self.names),
            "unusable": self.unusable,
            "draws": self.draws,
            "floor": self.floor.tolist(),
            **scores,
        }


def exact_posteriors(file: Path, posterior: Posterior) -> ReferencePosteriors:
    """Load exact posteriors that a bundle can be compared with.

    Raises
    ------
    InputError
        If they are of other parameters, stamps, priors, PSFs or noise.
    """
    exact = load_reference(file)
    if "reference" in posterior.forward_model:
        raise InputError(f"{file} cannot be compared with: the bundle's forward model is Python code")
    own = simulator_from_data(posterior.forward_model)
    pairs = {
        "parameters": (exact.names, posterior.parameters.names),
        "stamp": (exact.simulator.stamp, posterior.stamp),
        "prior": (exact.simulator.parameters.prior, posterior.parameters.prior),
        "psf": (exact.simulator.psf, own.psf),
        "noise": (exact.simulator.noise, own.noise),
    }
    for what, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise InputError(f"{file} holds exact posteriors of another forward model: its {what} is {theirs}, that of the bundle {ours}")
    return exact


Runs = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]
"""Calls a function with each of many argument tuples, in whatever order: `itertools.starmap` does, and Dask."""


def against_exact(
    posterior: Posterior, exact: ReferencePosteriors, file: str, seed: int, runs: Runs = itertools.starmap, progress: Progress | None = None
) -> ReferenceScore | str:
    """Compare a posterior's draws with exact ones, galaxy by galaxy; and so refined ones, where the likelihood allows refining.

    Parameters
    ----------
    posterior : Posterior
        The bundle's.
    exact : ReferencePosteriors
        Exact draws and the stamps that they are of.
    file : str
        Where they are from.
    seed : int
        Seeds draws and classifiers.
    runs : callable, optional
        Trains the classifiers, which take about a minute of a core each: many at a time, if it can.
    progress : callable, optional
        Told after every classifier.

    Returns
    -------
    ReferenceScore or str
        Why there is none, where no galaxy has a posterior.
    """
    encoded = posterior.encode(exact.stamps)
    usable = np.flatnonzero(encoded.framed.usable)
    if not len(usable):
        return f"{NOT_COMPARED}none of the galaxies of {file} has a posterior."
    encoded, n_draws = encoded[usable], exact.theta.shape[1]
    draws = [posterior.sample(encoded, n_draws, seed)]
    if not likelihood_gaps(posterior.forward_model):
        draws.append(posterior.refine(encoded, n_draws, seed).draws)
    prior, theta, u = exact.simulator.parameters.prior, exact.theta[usable], exact.u[usable]
    accuracies = np.full((len(draws) + 1, len(usable)), np.nan)
    pairs = [*np.ndindex(len(draws), len(usable)), *((len(draws), row) for row in _spread_out(len(usable)))]
    jobs = (
        (k, row, *((prior.inverse(draws[k][row].astype(np.float64)), u[row]) if k < len(draws) else _halves(u[row], seed, row)), seed)
        for k, row in pairs
    )
    for done, (k, row, accuracy) in enumerate(runs(_told_apart, jobs), 1):
        accuracies[k, row] = accuracy
        if progress is not None:
            progress("reference", done, len(pairs), {})
    floor = accuracies[-1][np.isfinite(accuracies[-1])]
    scores = [Closeness(accuracy, wasserstein(ours, theta)) for accuracy, ours in zip(accuracies[:-1], draws, strict=True)]
    refined = scores[1] if len(scores) > 1 else None
    return ReferenceScore(file, posterior.parameters.names, len(exact.stamps) - len(usable), scores[0], refined, n_draws, floor)


def remembering(file: Path, runs: Runs) -> Runs:
    """Return runs of classifiers that take from a file what they answered before, and add to it what they answer now.

    A comparison takes hours; one that was stopped goes on with the classifiers that are missing.
    """

    def run(function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        known, waiting = _answers(file), []
        for job in jobs:
            answer = known.get(_key(job))
            if answer is None:
                waiting.append(job)
            else:
                yield job[0], job[1], answer
        keys = {job[:2]: _key(job) for job in waiting}
        with Journal(file) as journal:
            for kind, row, answer in runs(function, waiting):
                journal.write(key=keys[kind, row], accuracy=answer)
                yield kind, row, answer

    return run


def _answers(file: Path) -> dict[str, float]:
    """Read what classifiers have answered; a line that was cut off is one that has not."""
    known = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            known[str(found["key"])] = float(found["accuracy"])
    return known


def _key(job: tuple[Any, ...]) -> str:
    """Return what an answer depends on: the draws that are told apart, and the seed."""
    _, _, ours, exact, seed = job
    return hashlib.sha256(b"".join((ours.tobytes(), exact.tobytes(), str(seed).encode()))).hexdigest()


def _spread_out(galaxies: int) -> list[int]:
    """Return the places of a few among all."""
    return [int(place) for place in np.unique(np.linspace(0, galaxies - 1, FLOOR_GALAXIES).round())]


def _halves(exact: Array, seed: int, row: int) -> tuple[Array, Array]:
    """Split draws at random: those of a chain are in an order."""
    shuffled = generator(seed, "halves", row).permutation(exact)
    half = len(exact) // 2
    return shuffled[:half], shuffled[half : 2 * half]


def _told_apart(kind: int, row: int, ours: Array, exact: Array, seed: int) -> tuple[int, int, float]:
    return kind, row, c2st(ours, exact, seed=seed)


def reference(found: ReferenceScore | str) -> str:
    """Return the comparison as a section of the page."""
    if isinstance(found, str):
        return section(TITLE, paragraph(found))
    kinds = [("as they are", found.amortized)] + ([] if found.refined is None else [("refined", found.refined)])
    rows = []
    for k, name in enumerate(found.names):
        rows.append((name, *(f"{statistic(one.wasserstein[:, k]):.3f}" for _, one in kinds for statistic in (np.median, np.max))))
    head = ("", *(f"{words}, {statistic}" for words, _ in kinds for statistic in ("median", "largest")))
    refined = "they cannot be refined, as the likelihood does not follow the forward model" if found.refined is None else (
        f"once refined, {found.refined.line()}"
    )  # fmt: skip
    floor = f"{np.median(found.floor):.3f} in the median, {found.floor.min():.3f} to {found.floor.max():.3f}"
    return explained(
        TITLE,
        table("Wasserstein distance in posterior standard deviations", head, rows),
        shows=f"{len(found.amortized.c2st)} galaxies whose posterior was sampled with the exact likelihood ({found.file}): a classifier "
        f"that tries to tell {found.draws} of those draws from as many of this posterior's is right half of the time where they are alike "
        "(C2ST). Refined draws are this posterior's own, mended by the exact likelihood.",
        reading="Good: C2ST below 0.6, and below 0.53 once refined; distances below 0.1. Bad: C2ST near 1, or distances of half a "
        f"standard deviation and more. The classifier is that of sbibm, whose published figures have {SBIBM_DRAWS} draws a side. From "
        "fewer it learns less, and the same posterior comes out nearer to a half: compare with the floor, which is what it makes of two "
        "halves of the exact draws, and not with figures of more draws.",
        found=f"{found.amortized.line()}; {refined}. The floor, {found.draws // 2} draws a side of {len(found.floor)} galaxies, is "
        f"{floor}. {found.unusable} galaxies have no posterior.",
        do="Where exact likelihoods can be had, `astroflow infer --certify --refine` mends draws row by row.",
    )
