"""Training the linearised stage: the finished network's answers are fitted, and the stage's flow learns what the fits leave open.

Simulations come from the same feed as the network's, whole and with every systematic; only the fit is simplified. The network
is not touched. Last, the gate learns from simulations of its own which of the two to believe, and how much.
"""

__all__ = ["fit_linearized"]

import functools
from pathlib import Path

import numpy as np

from astroflow.posteriors.ensemble import AnyEstimator
from astroflow.posteriors.gate import MOST, log_mixture
from astroflow.posteriors.inputs import network_inputs
from astroflow.posteriors.linearized import Linearization, LinearizedStage
from astroflow.training.checkpoint import kept
from astroflow.training.feed import GalaxyFeed
from astroflow.training.flow_fit import fit_flow
from astroflow.training.recipe import TrainingRecipe
from astroflow.types import Array, Progress, Simulation

ROUNDS = 20
GATE_ROUNDS = 20
GATED = 16_384
"""At most so many simulations, of galaxies that neither posterior was trained on, teach the gate,"""
SCORED = 5
"""but for one in so many, on which it is scored."""


def fit_linearized(
    stage: LinearizedStage,
    estimator: AnyEstimator,
    feed: GalaxyFeed,
    held_out: Simulation,
    recipe: TrainingRecipe,
    seed: int,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> float:
    """Fit the flow and the gate of a linearised stage, in place.

    Parameters
    ----------
    stage : LinearizedStage
        Untrained.
    estimator : Estimator or Ensemble
        Trained.
    feed : GalaxyFeed
        Training simulations; `recipe.linearized` epochs of it, those that follow the polishing's, and unseen ones for the gate.
    held_out : Simulation
        What the flow is scored on.
    recipe : TrainingRecipe
        The optimisation.
    seed : int
        Seeds the order of the simulations.
    progress : callable, optional
        Told after every block of fits and every round.
    folder : Path, optional
        Where the fits of each epoch are kept, so that a training that was killed need not repeat them.

    Returns
    -------
    float
        Log score of the mixture of both, nats per object, on galaxies that nothing was trained on.
    """
    first = recipe.epochs + recipe.polish
    total = recipe.linearized * feed.steps_per_epoch
    done = 0

    def fitted(epoch: int) -> dict[str, Array]:
        nonlocal done
        parts: list[tuple[Array, Array]] = []
        for simulation in feed.blocks(epoch):
            fits = _fits(stage, estimator, simulation)
            y = stage.whiten(simulation.theta, fits)
            used = fits.converged & np.isfinite(y).all(1)
            parts.append((y[used], fits.features[used]))
            done += len(simulation)
            if progress is not None:
                progress("fit", done // recipe.batch_size, total, {})
        return {name: np.concatenate(values) for name, values in zip(("y", "features"), zip(*parts, strict=True), strict=True)}

    epochs = []
    for epoch in range(first, first + recipe.linearized):
        epochs.append(kept(folder / f"fits-{epoch}.safetensors" if folder else None, functools.partial(fitted, epoch)))
        done = len(epochs) * feed.steps_per_epoch * recipe.batch_size
    arrays = {name: np.concatenate([one[name] for one in epochs]) for name in ("y", "features")}
    stage.scale.adapt(arrays["features"])
    held = _fits(stage, estimator, held_out)
    truth, held = held_out.theta[held.converged, None], held[held.converged]

    def scores() -> Array:
        return stage.log_prob(truth, held)[:, 0]

    fit_flow(
        lambda y, features: stage.flow.log_prob(y, stage.scale(features)), stage.trainable_variables, arrays, scores,
        stage="linearized", rounds=ROUNDS, clip_norm=recipe.clip_norm, seed=seed, progress=progress,
    )  # fmt: skip
    return _fit_gate(stage, estimator, feed.unseen(GATED), recipe, seed, progress)


def _fit_gate(
    stage: LinearizedStage,
    estimator: AnyEstimator,
    simulation: Simulation,
    recipe: TrainingRecipe,
    seed: int,
    progress: Progress | None,
) -> float:
    """Fit the gate to simulations of galaxies that neither posterior was trained on; the score of the mixture on the last of them."""
    context, _ = estimator.encode(network_inputs(simulation.stamps))
    fits = stage.fit(context, estimator.guess(context), simulation.stamps)
    theta = simulation.theta[:, None]
    own, linear = estimator.log_prob(theta, context)[:, 0], stage.log_prob(theta, fits)[:, 0]
    # where both are nothing, rounding has put the truth on a bound, which tells neither from the other
    known = np.flatnonzero(fits.converged & (np.isfinite(own) | np.isfinite(linear)))
    split = len(known) - max(1, len(known) // SCORED)
    seen, held = known[:split], known[split:]

    def scores() -> Array:
        share = np.asarray(stage.gate(stage.scale(fits.features[held])))
        return log_mixture(share, own[held], linear[held])

    return fit_flow(
        lambda advantage, features: stage.gate.log_gain(advantage, stage.scale(features)), stage.gate.trainable_variables,
        {"advantage": np.clip(own[seen] - linear[seen], -MOST, MOST), "features": fits.features[seen]}, scores,
        stage="gate", rounds=GATE_ROUNDS, clip_norm=recipe.clip_norm, seed=seed, progress=progress,
    )  # fmt: skip


def _fits(stage: LinearizedStage, estimator: AnyEstimator, simulation: Simulation) -> Linearization:
    context, _ = estimator.encode(network_inputs(simulation.stamps))
    return stage.fit(context, estimator.guess(context), simulation.stamps)
