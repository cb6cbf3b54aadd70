"""Train a posterior on simulations, stored or fresh, and save it as a bundle."""

__all__ = ["train_posterior"]

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.config import Recipe
from astroflow.errors import ConfigError
from astroflow.posteriors.bundle import BundleConfig, build_estimator, build_linearized, check_free, save_bundle
from astroflow.posteriors.familiarity import Familiarity
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.recipe import Architecture
from astroflow.provenance import provenance, write_json
from astroflow.sims.recipe import simulator_from_data
from astroflow.sims.simulator import Simulator
from astroflow.training.feed import Batch, GalaxyFeed, SimulationFeed, as_batch
from astroflow.training.fresh import FreshFeed, MixedFeed
from astroflow.training.linearize import fit_linearized
from astroflow.training.loop import TrainingResult
from astroflow.training.members import fit_members
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
    recipe: EstimatorRecipe, data: TrainingSet | dict[str, Any], out: Path, seed: int, progress: Progress | None = None
) -> tuple[Posterior, TrainingResult]:
    """Train on simulations and write a bundle.

    Parameters
    ----------
    recipe : EstimatorRecipe
        Architecture and optimisation.
    data : TrainingSet or dict
        Complete stored simulations, whose own forward model is what the bundle is for; or a forward model alone, as `simulator_data` gives
        it, whose galaxies are drawn anew in every step.
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
    stored, forward_model = (data, data.recipe) if isinstance(data, TrainingSet) else (None, data)
    if stored:
        _check_reference(recipe, stored)
    simulator = simulator_from_data(forward_model)
    training = recipe.training
    turns = training.turns and stored is not None and simulator.parameters.prior_is_symmetric()
    feed = _feed(recipe, simulator, stored, seed, turns)
    architecture = Architecture(summary=recipe.summary, flow=recipe.flow, linearized=recipe.linearized, epistemic=recipe.epistemic)
    config = BundleConfig(
        architecture=architecture, parameters=simulator.parameters, stamp=simulator.stamp, forward_model=forward_model, training={}
    )
    estimator, stage = build_estimator(config, seed), build_linearized(config, seed)
    held_out = feed.held_out()
    batch = as_batch(held_out)
    # scales are measured on training galaxies, not on the held-out ones
    first = _first(feed)
    estimator.adapt(first, first["theta"], first["auxiliary"])
    folder = out.with_name(f"{out.name}.checkpoint")
    _check_same_run(folder, recipe, _identity(data), seed)
    result = fit_members(estimator, feed, batch, training, seed, feed.distinct(training.epochs), folder, progress)
    linearized_score = None if stage is None else fit_linearized(stage, estimator, feed, held_out, training, seed, progress, folder)
    familiar = feed.observed_anew(FAMILIAR)
    context, _ = estimator.encode(as_batch(familiar))
    record: dict[str, Any] = {
        "seed": seed, "simulations": stored.n if stored else recipe.simulations.n, "simulation_seed": stored.seed if stored else seed,
        "fresh": not isinstance(feed, SimulationFeed), "turns": turns, "epochs": len(result.history),
        "best_epoch": result.best_epoch, "held_out_log_score": result.best_score, "held_out": len(held_out),
        "linearized_log_score": linearized_score,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    record |= {
        key: value
        for key, value in provenance(recipe.model_dump(mode="json"), seed).items()
        if key in ("recipe", "versions", "git_revision")
    }
    posterior = Posterior(
        estimator=estimator, linearized=stage, parameters=simulator.parameters, stamp=simulator.stamp,
        familiarity=Familiarity.of(familiar.stamps, context), forward_model=forward_model, training=record,
        noise_correlation=simulator.noise_correlation,
    )  # fmt: skip
    # before the bundle, whose manifest says that all is there
    write_json(out / "history.json", result.history)
    digest = save_bundle(out, posterior, held_out.stamps)
    for file in folder.glob("fits-*.safetensors"):  # the largest part of the checkpoint
        file.unlink()
    return dataclasses.replace(posterior, digest=digest), result


def _feed(recipe: EstimatorRecipe, simulator: Simulator, stored: TrainingSet | None, seed: int, turns: bool) -> GalaxyFeed:
    training, mode = recipe.training, recipe.simulations.mode

    def fresh(n: int) -> FreshFeed:
        return FreshFeed(simulator, training.batch_size, seed, n, training.validation)

    if stored is None:
        return fresh(recipe.simulations.n)
    from_store = SimulationFeed(stored, simulator, training.batch_size, seed, training.validation, turns)
    return MixedFeed(from_store, fresh(stored.n)) if mode == "mixed" else from_store


def _first(feed: GalaxyFeed) -> Batch:
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


def _identity(data: TrainingSet | dict[str, Any]) -> dict[str, Any]:
    """Say what simulations these are."""
    return {"n": data.n, "seed": data.seed, "recipe": data.recipe} if isinstance(data, TrainingSet) else {"recipe": data}


def _check_same_run(folder: Path, recipe: Recipe, data: dict[str, Any], seed: int) -> None:
    """Refuse to resume from the checkpoint of another run."""
    stamp = {"recipe": recipe.model_dump(mode="json"), "seed": seed, "data": data}
    path = folder / "run.json"
    if path.exists():
        found = json.loads(path.read_text())
        if found != json.loads(json.dumps(stamp)):
            changed = ", ".join(k for k in stamp if json.loads(json.dumps(stamp[k])) != found.get(k))
            raise ConfigError(f"{folder} holds the checkpoint of another training ({changed} differ); remove it, or give another --out")
    else:
        write_json(path, stamp)
