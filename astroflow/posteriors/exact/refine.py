r"""Refining: a poor amortized posterior becomes the exact one, and says what that took.

The flow's draws, and some of the prior, are weighed by the exact likelihood. Where the flow is good enough, resampling more of its draws is
all. Where not, a mixture is fitted to the weighed draws, draws are taken from it and weighed in their turn, and so on until a
mixture's fresh draws carry nearly equal weights: adaptive importance sampling, with weights against the mean of all mixtures so far
(Cornuet et al. 2012, https://arxiv.org/abs/0907.1254). Weights that a handful of draws carry are tempered for a fit. The prior takes
part in every round, so that a mode that the flow has missed can be found.

The draws handed out are distinct: systematic resampling from a pool so large that no draw is wanted twice. Where the budget ends first, the
amortized draws stay.
"""

__all__ = ["Found", "Method", "Refinement", "Search", "least_budget", "refine"]

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from astroflow.posteriors.exact.certificate import MOST_MISSED, Certificate, Verdict, missed_mass, weigh
from astroflow.posteriors.exact.density import ExactPosterior, candidates, log_normal, on_prior_scale
from astroflow.posteriors.exact.mixture import StudentMixture, fit_mixture
from astroflow.posteriors.exact.resampling import MOST_CLIPPED, clipped_share, resample, tempered
from astroflow.randomness import generator
from astroflow.types import Array

if TYPE_CHECKING:
    from astroflow.posteriors.encoded import Encoded
    from astroflow.posteriors.posterior import Posterior

ROUND = 512
"""Draws of a round."""
POOL = 8
"""A good flow is asked for so many times the draws wanted, so that none has to be taken twice."""
PRIOR_DRAWS = 64
"""Weighed beside the first round of the flow's."""
BLOCK = 64
"""Rows whose draws are in memory together."""
REFERENCES = 8
"""Models about which a likelihood that is not exact is expanded."""
EXPANSIONS = (1, 3)
"""Rounds before which that is done anew, about better draws; the rounds before are forgotten."""
COMPONENTS = (1, 2, 4, 6)
"""Of the first mixtures; the last number from then on."""
LEAST_TEMPERED = 100
"""Effective draws that a fit is given, by tempering their weights."""
MOST_K_HAT = 0.7
"""Of the pool that draws are chosen from."""


class Method(IntEnum):
    """How a row's draws came about."""

    NOT_APPLICABLE = -1
    """As the network gives them: the exact likelihood does not apply."""
    POOR = 0
    """The budget ended before better ones were good: as the network gives them."""
    RESAMPLED = 1
    """The amortized draws, resampled by their weights."""
    ADAPTED = 2
    """Draws of adapted mixtures, resampled by their weights."""


@dataclass(frozen=True)
class Refinement:
    """Refined posteriors of N images, and what they cost.

    `draws` ``(N, S, P)`` in physical units are distinct and of equal weight where `method` is positive, amortized where it is not, NaN
    for unusable rows. `best` ``(N, P)`` is the most probable point found, in the frame. Every other array is ``(N,)``: `method`
    (`Method`); `efficiency` and `k_hat` of the last proposal's fresh draws; `missed`, the share of the posterior where that proposal has
    nothing; `log_evidence` of the image with its standard error, as of `Certificate`; `clipped`, the share of the weight that was cut to
    keep draws distinct; `evaluations` of the likelihood. NaN where not applicable.
    """

    draws: Array
    best: Array
    method: Array
    efficiency: Array
    k_hat: Array
    missed: Array
    log_evidence: Array
    log_evidence_error: Array
    clipped: Array
    evaluations: Array

    def columns(self, amortized: Certificate) -> dict[str, Array]:
        """Return the columns that say how rows were refined; `amortized` is what was known of them before."""
        return {"refined": self.method, "refine_evaluations": self.evaluations, "ess_fraction_amortized": amortized.efficiency}


FIGURES = ("best", "efficiency", "k_hat", "missed", "log_evidence", "log_evidence_error", "clipped")


def least_budget(n_draws: int) -> int:
    """Return the smallest sensible budget: a first look, and a pool to choose `n_draws` from."""
    return ROUND + PRIOR_DRAWS + 4 * max(ROUND, n_draws)


def refine(posterior: "Posterior", encoded: "Encoded", rows: Array, n_draws: int, seed: int, budget: int) -> Refinement:
    """Refine the given rows, which certificates apply to; see `Posterior.refine`."""
    draws = posterior.sample(encoded, n_draws, seed)
    figures = {name: np.full(len(encoded), np.nan) for name in FIGURES}
    figures["best"] = np.full((len(encoded), draws.shape[-1]), np.nan)
    method, evaluations = np.full(len(encoded), Method.NOT_APPLICABLE, np.int8), np.zeros(len(encoded), np.int64)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        chosen = encoded[block]
        theta, density = candidates(posterior, chosen, max(ROUND, POOL * n_draws), PRIOR_DRAWS, seed)
        u, density = on_prior_scale(posterior.parameters.prior, theta, density)
        for k, row in enumerate(block.tolist()):
            one = chosen[np.array([k])]
            rng = generator(seed, "refine", one.framed.stamps.ids[0].item())
            found = Search(ExactPosterior(posterior, one, theta[k, :REFERENCES]), rng, n_draws, budget).run(u[k], density[k])
            method[row], evaluations[row] = found.method, found.evaluations
            if found.method != Method.POOR:
                draws[row] = posterior.unframed(found.draws[None], one)[0]
            for name in FIGURES:
                figures[name][row] = getattr(found, name)
    return Refinement(draws=draws, method=method, evaluations=evaluations, **figures)


@dataclass(frozen=True)
class Found:
    """Of one row: a `Refinement` without the row axis, draws in the frame."""

    draws: Array
    best: Array
    method: Method
    efficiency: float
    k_hat: float
    missed: float
    log_evidence: float
    log_evidence_error: float
    clipped: float
    evaluations: int


class Search:
    """The search for draws of one row that represent its exact posterior.

    Parameters
    ----------
    exact : ExactPosterior
        What is to be drawn from.
    rng : numpy.random.Generator
        The row's own.
    n_draws, budget : int
        How many draws are wanted, and how many evaluations they may take.
    """

    def __init__(self, exact: ExactPosterior, rng: np.random.Generator, n_draws: int, budget: int) -> None:
        self.exact, self.rng, self.n_draws, self.budget = exact, rng, n_draws, budget

    def run(self, u: Array, density: Array) -> Found:
        """Start from draws of the flow, and last some of the prior, with the flow's density at them."""
        flow = len(u) - PRIOR_DRAWS
        density = np.where(np.isfinite(density), density, -np.inf)
        first = np.r_[:ROUND, flow : len(u)]
        target = self.exact.log_prob(u[first])
        missed = missed_mass(target[None], density[None, first], log_normal(u[None, first]), ROUND)[0]
        last = weigh(_log_ratio(target, density[first])[None, :ROUND]) | {"missed": missed}
        if last["verdict"] == Verdict.OK and missed <= MOST_MISSED:
            target = target[:ROUND]
            while True:
                weights = _log_ratio(target, density[: len(target)])
                if self._good(last, weights):
                    return self._found(Method.RESAMPLED, u[: len(target)], weights, last)
                more = u[len(target) : min(len(target) + ROUND, flow)]
                # the other half of the budget is for mixtures
                if not len(more) or self.exact.evaluations + len(more) > self.budget / 2:
                    return self._adapt(u[: len(target)], weights, last)
                target = np.concatenate([target, self.exact.log_prob(more)])
        shares = np.log([ROUND / len(first), PRIOR_DRAWS / len(first)])
        both = np.logaddexp(shares[0] + density[first], shares[1] + log_normal(u[first]))
        return self._adapt(u[first], _log_ratio(target, both), last)

    def _adapt(self, u: Array, log_weights: Array, last: dict[str, Array]) -> Found:
        """Fit mixtures, beginning with weighed draws, until one's own draws are good."""
        us: list[Array] = []
        targets: list[Array] = []
        mixtures: list[StudentMixture] = []
        rounds = 0
        while self.exact.evaluations + ROUND <= self.budget:
            weights = tempered(log_weights, LEAST_TEMPERED)
            if rounds in EXPANSIONS and not self.exact.is_exact:
                self.exact.expand_about(u[self.rng.choice(len(u), REFERENCES, p=weights)])
                us, targets, mixtures = [], [], []
            mixture = fit_mixture(u, weights, COMPONENTS[min(rounds, len(COMPONENTS) - 1)], self.rng)
            us.append(mixture.draw(self.rng, ROUND))
            targets.append(self.exact.log_prob(us[-1]))
            mixtures.append(mixture)
            rounds += 1
            # the prior is part of the mixture: there is nowhere that it does not reach
            last = weigh(_log_ratio(targets[-1], mixture.log_prob(us[-1]))[None]) | {"missed": np.zeros(())}
            u = np.concatenate(us)
            density = np.logaddexp.reduce([one.log_prob(u) for one in mixtures], 0) - np.log(len(mixtures))
            log_weights = _log_ratio(np.concatenate(targets), density)
            settled = self.exact.is_exact or rounds > max(EXPANSIONS)
            if settled and last["verdict"] == Verdict.OK and self._good(last, log_weights):
                return self._found(Method.ADAPTED, u, log_weights, last)
        return self._found(Method.POOR, u, log_weights, last)

    def _good(self, last: dict[str, Array], log_weights: Array) -> bool:
        """Say whether draws can be chosen from a pool: its own tail is light, and none has to be taken twice."""
        enough = len(log_weights) > self.n_draws and clipped_share(log_weights, self.n_draws) <= MOST_CLIPPED
        return enough and bool(weigh(log_weights[None])["k_hat"][0] < MOST_K_HAT)

    def _found(self, method: Method, u: Array, log_weights: Array, last: dict[str, Array]) -> Found:
        pooled = weigh(log_weights[None])
        n = min(self.n_draws, len(u))
        chosen = resample(log_weights, n, self.rng)
        return Found(
            draws=self.exact.to_theta(u[chosen]), best=self.exact.best, method=method, efficiency=last["efficiency"][0],
            k_hat=last["k_hat"][0], missed=float(last["missed"]), log_evidence=pooled["log_evidence"][0],
            log_evidence_error=pooled["log_evidence_error"][0], clipped=clipped_share(log_weights, n), evaluations=self.exact.evaluations,
        )  # fmt: skip


def _log_ratio(target: Array, density: Array) -> Array:
    """Return log weights; a draw whose density is no number is not used."""
    with np.errstate(invalid="ignore"):
        ratio = target - density
    return np.where(np.isfinite(ratio), ratio, -np.inf)
