"""`astroflow train`: from a training recipe to a bundle, simulating first where no training set is given."""

__all__ = ["train"]

import json
from pathlib import Path
from typing import Any

from astroflow.config import load_recipe
from astroflow.errors import IncompleteError, OutputError
from astroflow.pipelines.progress import reporter
from astroflow.pipelines.simulate import simulate
from astroflow.plots.learning_curve import plot_learning_curve
from astroflow.plots.style import save_figure
from astroflow.posteriors.bundle import check_free, load_posterior
from astroflow.posteriors.posterior import Posterior
from astroflow.sims.recipe import simulator_data
from astroflow.training.fit import train_posterior
from astroflow.training.recipe import EstimatorRecipe
from astroflow.training.training_set import TrainingSet


def train(
    name: str | Path, *, out: Path, data: Path | None = None, seed: int = 0, scheduler: str | None = None, workers: int | None = None
) -> Posterior:
    """Train a posterior and write its bundle, `history.json` and a learning curve; a bundle that is there already is kept.

    Parameters
    ----------
    name : str or Path
        Training recipe: a name in the folder ``configs``, or a path.
    out : Path
        The bundle's folder. A killed training resumes from ``<out>.checkpoint``.
    data : Path, optional
        A complete training set. Without one, fresh simulations are drawn in every step, or the recipe's own are made and stored in
        ``<out>.simulations.zarr``, as the recipe's `simulations.mode` says.
    seed : int
        Seeds simulations and training.
    scheduler, workers : optional
        For the simulations, see `cluster`.

    Raises
    ------
    OutputError
        If the folder holds the bundle of another training.
    """
    recipe = load_recipe(EstimatorRecipe, name, "configs")
    check_free(out)
    if (out / "manifest.json").exists():
        kept = _kept(out, recipe, data, seed)
        _complete(out)
        return kept
    simulations: TrainingSet | dict[str, Any]
    if data is None and recipe.simulations.mode == "fresh":
        simulations = simulator_data(recipe.simulations.simulator)
    else:
        if data is None:
            data = out.with_name(f"{out.name}.simulations.zarr")
            simulate(recipe.simulations.simulator, n=recipe.simulations.n, out=data, seed=seed, scheduler=scheduler, workers=workers)
        simulations = TrainingSet.open(data)
        if simulations.missing:
            missing = len(simulations.missing)
            raise IncompleteError(
                f"{data} lacks {missing} of its shards; run `astroflow simulate` again with the same arguments to complete it"
            )
    with reporter("steps") as progress:
        posterior, _ = train_posterior(recipe, simulations, out, seed, progress)
    _complete(out)
    return posterior


def _complete(out: Path) -> None:
    """Draw the learning curve, unless it is there: a training can be killed after its bundle is complete."""
    history = out / "history.json"
    if history.is_file() and not (out / "learning_curve.png").is_file():
        save_figure(plot_learning_curve(json.loads(history.read_text(encoding="utf-8"))), out / "learning_curve.png")


def _kept(out: Path, recipe: EstimatorRecipe, data: Path | None, seed: int) -> Posterior:
    """Return the bundle that is there already, if this training would make the same."""
    posterior, training = load_posterior(out), recipe.model_dump(mode="json")
    found = {key: posterior.training.get(key) for key in ("recipe", "seed", "simulations", "simulation_seed")}
    found["forward model"] = posterior.forward_model
    if data is None:
        n, drawn, model = recipe.simulations.n, seed, simulator_data(recipe.simulations.simulator)
    else:
        given = TrainingSet.open(data)
        n, drawn, model = given.n, given.seed, given.recipe
        # the recipe's own simulations are not used
        found["recipe"], training = (
            {key: value for key, value in (r or {}).items() if key != "simulations"} for r in (found["recipe"], training)
        )
    asked = {"recipe": training, "seed": seed, "simulations": n, "simulation_seed": drawn, "forward model": model}
    changed = [key for key, value in asked.items() if found[key] != value]
    if changed:
        raise OutputError(f"{out} holds the bundle of another training ({', '.join(changed)} differ); give another --out, or remove it")
    return posterior
