"""Polishing: the flow alone, fitted once more to what the finished summary network says.

While both are trained, the context of an image still moves from step to step, and the flow learns widths that allow for it. What is
kept in the end is the moving average of the weights, whose contexts are steadier: its posteriors come out a few per cent too wide.
So the simulations are encoded a few times more, each with fresh noise, and the flow is fitted to these contexts by maximum likelihood.
The summary is not touched, a step costs a hundredth of a training step, and the result is kept only if the held-out score is better.
"""

__all__ = ["polish_flow"]

from collections.abc import Mapping

import numpy as np

from astroflow.posteriors.estimator import Estimator
from astroflow.training.flow_fit import fit_flow
from astroflow.training.loop import Feed
from astroflow.training.recipe import TrainingRecipe
from astroflow.types import Array, Progress

ROUNDS = 20


def polish_flow(
    estimator: Estimator, feed: Feed, held_out: Mapping[str, Array], recipe: TrainingRecipe, seed: int, progress: Progress | None = None
) -> float:
    """Fit the flow to the contexts of a trained summary network, in place.

    Parameters
    ----------
    estimator : Estimator
        Trained.
    feed : Feed
        Training batches; `recipe.polish` epochs of it are encoded, those that would follow the training's.
    held_out : mapping of str to ndarray
        Inputs and `theta` that decide whether the result is kept.
    recipe : TrainingRecipe
        The optimisation.
    seed : int
        Seeds the order of the contexts.
    progress : callable, optional
        Told after every round.

    Returns
    -------
    float
        Held-out log score of what was kept, nats per object.
    """
    held_context, _ = estimator.encode(held_out)
    held_theta = np.asarray(held_out["theta"], np.float32)[:, None]

    def scores() -> Array:
        return estimator.log_prob(held_theta, held_context)[:, 0]

    if not recipe.polish:
        return float(np.mean(scores(), dtype=np.float64))
    contexts, thetas = [], []
    for epoch in range(recipe.epochs, recipe.epochs + recipe.polish):
        for batch in feed.epoch(epoch):
            contexts.append(estimator.encode(batch)[0])
            thetas.append(np.asarray(batch["theta"], np.float32))
    variables = [v for layer in estimator.flow.conditioners for v in layer.trainable_variables]
    arrays = {"theta": np.concatenate(thetas), "context": np.concatenate(contexts)}
    return fit_flow(
        estimator.log_prob_graph, variables, arrays, scores,
        stage="polish", rounds=ROUNDS, clip_norm=recipe.clip_norm, seed=seed, progress=progress,
    )  # fmt: skip
