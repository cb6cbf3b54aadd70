"""Training whatever the recipe asks for: one network, the members of an ensemble, or a distribution of weights.

Members are trained one after the other, each from its own initial weights, on epochs of the feed that no other member sees: of stored
simulations that is another order and other noise, of fresh ones other galaxies. What is held out is the same for all. Each keeps its own
checkpoint, so a killed training goes on with the member at which it stopped.
"""

__all__ = ["fit_members"]

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from astroflow.posteriors.ensemble import AnyEstimator, Ensemble
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import VariationalRecipe
from astroflow.randomness import generator
from astroflow.training.checkpoint import kept
from astroflow.training.loop import Feed, TrainingResult, fit_estimator
from astroflow.training.polish import polish_flow
from astroflow.training.recipe import TrainingRecipe
from astroflow.training.variational import VariationalWeights
from astroflow.types import Array, Progress

SCORE = "held-out score"
STRIDE = 100_000
"""Epochs from where one member's begin to the next one's."""


@dataclasses.dataclass(frozen=True)
class _Later:
    """A feed whose epochs are counted from a later one."""

    feed: Feed
    first: int

    @property
    def steps_per_epoch(self) -> int:
        return self.feed.steps_per_epoch

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Mapping[str, Array]]:
        return self.feed.epoch(self.first + epoch, first)


def fit_members(
    estimator: AnyEstimator,
    feed: Feed,
    held_out: Mapping[str, Array],
    recipe: TrainingRecipe,
    seed: int,
    simulations: int,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train an estimator, or all that an ensemble consists of, in place.

    Parameters
    ----------
    estimator : Estimator or Ensemble
        Standardised already.
    feed : Feed
        Training batches.
    held_out : mapping of str to ndarray
        Inputs, `theta` and `auxiliary` of the held-out objects.
    recipe : TrainingRecipe
        The optimisation, of each member.
    seed : int
        Seeds the order of contexts in polishing, and draws of weights.
    simulations : int
        How many different simulations a whole training sees, against which a distribution of weights is weighed.
    folder : Path, optional
        Where checkpoints are kept.
    progress : callable, optional
        Told after every step.

    Returns
    -------
    TrainingResult
        Records of an ensemble's epochs say which `member` they are of; the epochs of all follow each other, and `best_epoch` is the best
        of them. The score is the mixture's.
    """
    fit = _Fit(feed, held_out, recipe, seed, folder, progress)
    if isinstance(estimator, Estimator):
        return fit.one(estimator)
    epistemic = estimator.architecture.epistemic
    result = fit.variational(estimator, epistemic, simulations) if isinstance(epistemic, VariationalRecipe) else fit.apart(estimator)
    context, _ = estimator.encode(held_out)
    scores = estimator.log_prob(np.asarray(held_out["theta"], np.float32)[:, None], context)
    return dataclasses.replace(result, best_score=float(np.mean(scores, dtype=np.float64)))


@dataclasses.dataclass(frozen=True)
class _Fit:
    """What all ways of training need to know."""

    feed: Feed
    held_out: Mapping[str, Array]
    recipe: TrainingRecipe
    seed: int
    folder: Path | None
    progress: Progress | None

    def one(self, estimator: Estimator) -> TrainingResult:
        """Train one network and polish its flow, or take what an earlier, killed run has made of it."""
        result = fit_estimator(estimator, self.feed, self.held_out, self.recipe, self._file("state.safetensors"), self.progress)

        def made() -> dict[str, Array]:
            score = polish_flow(estimator, self.feed, self.held_out, self.recipe, self.seed, self.progress)
            return {name: v.numpy() for name, v in estimator.variables.items()} | {SCORE: np.array(score)}

        arrays = kept(self._file("polished.safetensors"), made)
        for name, variable in estimator.variables.items():
            variable.assign(arrays[name])
        return dataclasses.replace(result, best_score=float(arrays[SCORE]))

    def apart(self, ensemble: Ensemble) -> TrainingResult:
        """Train the members of a deep ensemble, each by itself."""
        history: list[dict[str, float]] = []
        for k in range(ensemble.size):
            progress = _told_of(k, ensemble.size, self.progress)
            own = dataclasses.replace(self, feed=_Later(self.feed, k * STRIDE), folder=self._file(f"member{k}"), progress=progress)
            member = ensemble.untrained(k)
            history += [{"member": k, **record} for record in own.one(member).history]
            ensemble.keep(k, member)
        best = int(np.argmin([record["val_loss"] for record in history]))
        return TrainingResult(history, best, -history[best]["val_loss"])

    def variational(self, ensemble: Ensemble, recipe: VariationalRecipe, simulations: int) -> TrainingResult:
        """Train the distribution of the flow's weights, and draw the members' from it.

        There is no polishing, which would make the flow surer of itself than the evidence lower bound allows.
        """
        estimator = ensemble.untrained(0)
        weights = VariationalWeights.of_flow(estimator, recipe, simulations)
        state = self._file("state.safetensors")
        result = fit_estimator(estimator, self.feed, self.held_out, self.recipe, state, self.progress, weights=weights, seed=self.seed)
        for k in range(ensemble.size):
            weights.place(generator(self.seed, "members", k).standard_normal(weights.size, np.float32))
            ensemble.keep(k, estimator)
        return result

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name


def _told_of(k: int, members: int, progress: Progress | None) -> Progress | None:
    """Return a callback that says which member a stage is of."""
    if progress is None:
        return None
    return lambda stage, done, total, figures: progress(f"{stage} {k + 1} of {members}", done, total, figures)
