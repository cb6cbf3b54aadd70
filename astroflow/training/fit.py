"""Train a posterior on stored simulations, and save it as a bundle."""

__all__ = ["train_posterior"]

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.config import Recipe
from astroflow.errors import ConfigError
from astroflow.posteriors.bundle import BundleConfig, build_estimator, check_free, save_bundle
from astroflow.posteriors.familiarity import Familiarity
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.recipe import Architecture
from astroflow.provenance import provenance, write_json
from astroflow.sims.recipe import simulator_from_data
from astroflow.training.feed import Batch, SimulationFeed
from astroflow.training.loop import TrainingResult, fit_estimator
from astroflow.training.polish import polish_flow
from astroflow.training.recipe import EstimatorRecipe
from astroflow.training.training_set import TrainingSet
from astroflow.types import Progress

FAMILIAR = 4096
"""So many simulations say what is familiar; the held-out ones alone are too few for limits that one in a thousand exceeds."""

SCALED = 2048
"""So many simulations, or all, say which scales the network's inputs and its target have."""

SCALED_BYTES = 2**28
"""Fewer of them where stamps are so large that this is not enough for their inputs."""


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
        If the checkpoint belongs to another training, the simulations are too few, or they name Python code that the recipe does not.
    OutputError
        If `out` holds something that is no bundle.
    """
    check_free(out)
    _check_reference(recipe, data)
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
    first = _first(feed)
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
        noise_correlation=simulator.noise_correlation,
    )  # fmt: skip
    # before the bundle, whose manifest says that all is there
    write_json(out / "history.json", result.history)
    digest = save_bundle(out, posterior, held_out.stamps)
    return dataclasses.replace(posterior, digest=digest), result


def _first(feed: SimulationFeed) -> Batch:
    """Return the first batches of the first epoch as one."""
    batches: list[Batch] = []
    for batch in feed.epoch(0):
        batches.append(batch)
        rows, size = len(batch["theta"]), sum(values.nbytes for values in batch.values())
        if len(batches) * rows >= SCALED or len(batches) * size >= SCALED_BYTES:
            break
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _check_reference(recipe: EstimatorRecipe, data: TrainingSet) -> None:
    """Refuse to import Python code that only the data name: they may come from anywhere."""
    reference = data.recipe.get("reference")
    if reference is not None and reference != recipe.simulations.simulator:
        raise ConfigError(
            f"{data.path} was simulated by Python code, {reference!r}, while the training recipe's `simulations.simulator` is "
            f"{recipe.simulations.simulator!r}; to allow importing {reference!r}, name it there"
        )


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
