"""Training the linearised stage: the finished network's answers are fitted, and the stage's flow learns what the fits leave open.

Simulations come from the same feed as the network's, whole and with every systematic; only the fit is simplified. The network
is not touched. Last, the gate learns from simulations of its own which of the two to believe, and how much.
"""

__all__ = ["fit_linearized"]

import numpy as np

from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.gate import MOST, log_mixture
from astroflow.posteriors.inputs import network_inputs
from astroflow.posteriors.linearized import Linearization, LinearizedStage
from astroflow.training.feed import GalaxyFeed
from astroflow.training.flow_fit import fit_flow
from astroflow.training.recipe import TrainingRecipe
from astroflow.types import Array, Progress, Simulation

ROUNDS = 20
GATE_ROUNDS = 20
GATED = 16_384
"""At most so many simulations, of galaxies that neither posterior was trained on, teach the gate."""


def fit_linearized(
    stage: LinearizedStage,
    estimator: Estimator,
    feed: GalaxyFeed,
    held_out: Simulation,
    recipe: TrainingRecipe,
    seed: int,
    progress: Progress | None = None,
) -> float:
    """Fit the flow and the gate of a linearised stage, in place.

    Parameters
    ----------
    stage : LinearizedStage
        Untrained.
    estimator : Estimator
        Trained.
    feed : GalaxyFeed
        Training simulations; `recipe.linearized` epochs of it, those that follow the polishing's, and unseen ones for the gate.
    held_out : Simulation
        What the result is scored on.
    recipe : TrainingRecipe
        The optimisation.
    seed : int
        Seeds the order of the simulations.
    progress : callable, optional
        Told after every block of fits and every round.

    Returns
    -------
    float
        Held-out log score of the mixture of both, nats per object.
    """
    first = recipe.epochs + recipe.polish
    total = recipe.linearized * feed.steps_per_epoch
    features, residuals, done = [], [], 0
    for epoch in range(first, first + recipe.linearized):
        for simulation in feed.blocks(epoch):
            fits = _fits(stage, estimator, simulation)
            features.append(fits.features)
            residuals.append(stage.whiten(simulation.theta, fits))
            done += len(simulation)
            if progress is not None:
                progress("fit", done // recipe.batch_size, total, {})
    arrays: dict[str, Array] = {"y": np.concatenate(residuals), "features": np.concatenate(features)}
    stage.scale.adapt(arrays["features"])
    held = _fits(stage, estimator, held_out)

    def score() -> float:
        return float(np.mean(stage.log_prob(held_out.theta[:, None], held), dtype=np.float64))

    fit_flow(
        lambda y, features: stage.flow.log_prob(y, stage.scale(features)), stage.trainable_variables, arrays, score,
        stage="linearized", rounds=ROUNDS, clip_norm=recipe.clip_norm, seed=seed, progress=progress,
    )  # fmt: skip
    return _fit_gate(stage, estimator, feed.unseen(GATED), held_out, recipe, seed, progress)


def _fit_gate(
    stage: LinearizedStage,
    estimator: Estimator,
    simulation: Simulation,
    held_out: Simulation,
    recipe: TrainingRecipe,
    seed: int,
    progress: Progress | None,
) -> float:
    """Fit the gate to simulations of galaxies that neither posterior was trained on; the held-out score of the mixture."""

    def densities(simulation: Simulation) -> tuple[Array, Array, Array]:
        """Return both log densities at the truth, the network's own first, and the features: of fits that converged."""
        context, _ = estimator.encode(network_inputs(simulation.stamps))
        fits = stage.fit(context, estimator.guess(context), simulation.stamps)
        theta = simulation.theta[:, None]
        own, linear = estimator.log_prob(theta, context)[:, 0], stage.log_prob(theta, fits)[:, 0]
        # where both are nothing, rounding has put the truth on a bound, which tells neither from the other
        known = fits.converged & (np.isfinite(own) | np.isfinite(linear))
        return own[known], linear[known], fits.features[known]

    own, linear, features = densities(simulation)
    held_own, held_linear, held_features = densities(held_out)

    def score() -> float:
        share = np.asarray(stage.gate(stage.scale(held_features)))
        return float(np.mean(log_mixture(share, held_own, held_linear), dtype=np.float64))

    return fit_flow(
        lambda advantage, features: stage.gate.log_gain(advantage, stage.scale(features)), stage.gate.trainable_variables,
        {"advantage": np.clip(own - linear, -MOST, MOST), "features": features}, score,
        stage="gate", rounds=GATE_ROUNDS, clip_norm=recipe.clip_norm, seed=seed, progress=progress,
    )  # fmt: skip


def _fits(stage: LinearizedStage, estimator: Estimator, simulation: Simulation) -> Linearization:
    context, _ = estimator.encode(network_inputs(simulation.stamps))
    return stage.fit(context, estimator.guess(context), simulation.stamps)
