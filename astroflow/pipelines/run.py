"""`astroflow run`: train, validate, infer and report in one go, as a recipe of the folder ``pipelines/`` says.

Every stage resumes, so running the same command again after an interruption goes on where it stopped.
"""

__all__ = ["RunRecipe", "run"]

from pathlib import Path

import pydantic

from astroflow.config import Recipe, load_recipe
from astroflow.pipelines.infer import infer, verify
from astroflow.pipelines.report import ReportRecipe, report
from astroflow.pipelines.train import train
from astroflow.pipelines.validate import validate
from astroflow.posteriors.bundle import load_posterior
from astroflow.provenance import provenance, write_json


class TrainStage(Recipe):
    """Train a posterior."""

    recipe: str
    """Training recipe: a name in the folder `configs`, or a path."""
    seed: int = 0
    """Seeds simulations and training."""


class ValidateStage(Recipe):
    """Validate it on fresh simulations."""

    n: pydantic.PositiveInt = 2000
    """Simulations that are scored."""
    draws: pydantic.PositiveInt = 256
    """Posterior draws each."""
    seed: int = 20_000
    """Seeds the simulations."""


class InferStage(Recipe):
    """Infer a catalog."""

    catalog: str
    """Data-source recipe: a name in the folder `catalogs`, or a path."""
    draws: pydantic.PositiveInt = 256
    """Posterior draws per object."""
    seed: int = 0
    """Seeds the draws."""
    keep_samples: bool = False
    """Write the draws as well."""
    report: ReportRecipe | None = None
    """Pictures and comparisons; none by default."""


class RunRecipe(Recipe):
    """An end-to-end run."""

    description: str = ""
    """One sentence."""
    train: TrainStage
    """The training; it is left out where the output folder holds the bundle already."""
    validate_on: ValidateStage | None = ValidateStage()
    """The validation."""
    infer: dict[str, InferStage] = {}
    """The catalogs, by the name of their output folder."""


def run(name: str | Path, *, out: Path, scheduler: str | None = None, workers: int | None = None) -> list[str]:
    """Run a pipeline recipe.

    Parameters
    ----------
    name : str or Path
        A name in the folder ``pipelines``, or a path.
    out : Path
        Folder for `bundle`, `validation`, and one folder per catalog.
    scheduler, workers : optional
        See `cluster`.

    Returns
    -------
    list of str
        A summary for a terminal.
    """
    recipe = load_recipe(RunRecipe, name, "pipelines")
    write_json(out / "provenance.json", provenance(recipe.model_dump(mode="json"), recipe.train.seed))
    bundle = out / "bundle"
    lines = []
    if (bundle / "manifest.json").exists():
        posterior = load_posterior(bundle)
        lines.append(f"bundle {posterior.digest[:12]} was there already")
    else:
        posterior = train(recipe.train.recipe, out=bundle, seed=recipe.train.seed, scheduler=scheduler, workers=workers)
        lines.append(f"bundle {posterior.digest[:12]} trained, held-out log score {posterior.training['held_out_log_score']:.2f} nats")
    if recipe.validate_on is not None:
        stage = recipe.validate_on
        calibration = validate(bundle, out=out / "validation", n=stage.n, n_draws=stage.draws, seed=stage.seed)
        lines += [*calibration.coverage_table(), *calibration.contraction_table()]
    for folder, job in recipe.infer.items():
        infer(
            job.catalog, bundle=bundle, out=out / folder, n_draws=job.draws, seed=job.seed, keep_samples=job.keep_samples,
            scheduler=scheduler, workers=workers,
        )  # fmt: skip
        counts = verify(out / folder)
        lines.append(f"{folder}: {counts['rows']} rows, {counts['good']} good, {counts['suspect']} suspect, {counts['unusable']} unusable")
        if job.report is not None:
            lines += report(out / folder, bundle=bundle, out=out / f"{folder}_report", recipe=job.report)
    return lines
