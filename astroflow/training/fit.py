"""Train a posterior on stored simulations, and save it as a bundle."""

__all__ = ["train_posterior"]

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

from astroflow.config import Recipe
from astroflow.errors import ConfigError
from astroflow.posteriors.bundle import BundleConfig, build_estimator, check_free, save_bundle
from astroflow.posteriors.familiarity import Familiarity
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.recipe import Architecture
from astroflow.provenance import provenance, write_json
from astroflow.sims.recipe import simulator_from_data
from astroflow.training.feed import SimulationFeed
from astroflow.training.loop import TrainingResult, fit_estimator
from astroflow.training.polish import polish_flow
from astroflow.training.recipe import EstimatorRecipe
from astroflow.training.training_set import TrainingSet
from astroflow.types import Progress

FAMILIAR = 4096
"""So many simulations say what is familiar; the held-out ones alone are too few for limits that one in a thousand exceeds."""


def train_posterior(
    recipe: EstimatorRecipe, data: TrainingSet, out: Path, seed: int, progress: Progress | None = None
) -> tuple[Posterior, TrainingResult]:
    """Train on a training set and write a bundle.

    Parameters
    ----------
    recipe : EstimatorRecipe
        Architecture and optimisation.
    data : TrainingSet
        Complete stored simulations; their own forward model is what the bundle is for.
    out : Path
        The bundle's folder. Checkpoints lie beside it, in ``<out>.checkpoint``; they can be removed once the bundle is there.
    seed : int
        Seeds initial weights, order, turns, masks and noise.
    progress : callable, optional
        Told after every step.

    Returns
    -------
    posterior : Posterior
    result : TrainingResult

    Raises
    ------
    ConfigError
        If the checkpoint belongs to another training, or the simulations are too few.
    OutputError
        If `out` holds something that is no bundle.
    """
    check_free(out)
    simulator = simulator_from_data(data.recipe)
    training = recipe.training
    turns = training.turns and simulator.parameters.prior_is_symmetric()
    feed = SimulationFeed(data, simulator, training.batch_size, seed, training.validation, turns)
    config = BundleConfig(
        architecture=Architecture(summary=recipe.summary, flow=recipe.flow), parameters=simulator.parameters, stamp=simulator.stamp,
        forward_model=data.recipe, training={},
    )  # fmt: skip
    estimator = build_estimator(config, seed)
    held_out = feed.held_out()
    batch = feed.batch(held_out)
    # scales are measured on training galaxies, not on the held-out ones
    first = next(iter(feed.epoch(0)))
    estimator.adapt(first, first["theta"], first["auxiliary"])
    folder = out.with_name(f"{out.name}.checkpoint")
    _check_same_run(folder, recipe, data, seed)
    result = fit_estimator(estimator, feed, batch, training, folder / "state.safetensors", progress)
    result = dataclasses.replace(result, best_score=polish_flow(estimator, feed, batch, training, seed, progress))
    familiar = feed.observed_anew(FAMILIAR)
    context, _ = estimator.encode(feed.batch(familiar))
    record: dict[str, Any] = {
        "seed": seed, "simulations": data.n, "simulation_seed": data.seed, "turns": turns, "epochs": len(result.history),
        "best_epoch": result.best_epoch, "held_out_log_score": result.best_score, "held_out": len(held_out),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    record |= {
        key: value
        for key, value in provenance(recipe.model_dump(mode="json"), seed).items()
        if key in ("recipe", "versions", "git_revision")
    }
    posterior = Posterior(
        estimator=estimator, parameters=simulator.parameters, stamp=simulator.stamp,
        familiarity=Familiarity.of(familiar.stamps, context), forward_model=data.recipe, training=record,
    )  # fmt: skip
    digest = save_bundle(out, posterior, held_out.stamps)
    write_json(out / "history.json", result.history)
    return dataclasses.replace(posterior, digest=digest), result


def _check_same_run(folder: Path, recipe: Recipe, data: TrainingSet, seed: int) -> None:
    """Refuse to resume from the checkpoint of another run."""
    stamp = {"recipe": recipe.model_dump(mode="json"), "seed": seed, "data": {"n": data.n, "seed": data.seed, "recipe": data.recipe}}
    path = folder / "run.json"
    if path.exists():
        found = json.loads(path.read_text())
        if found != json.loads(json.dumps(stamp)):
            changed = ", ".join(k for k in stamp if json.loads(json.dumps(stamp[k])) != found.get(k))
            raise ConfigError(f"{folder} holds the checkpoint of another training ({changed} differ); remove it, or give another --out")
    else:
        write_json(path, stamp)
