"""`astroflow run`: train, validate, infer and report in one go, as a recipe of the folder ``pipelines/`` says.

Every stage resumes, so running the same command again after an interruption goes on where it stopped.
"""

__all__ = ["RunRecipe", "run"]

import contextlib
import json
import re
from pathlib import Path

import pydantic

from astroflow.config import Recipe, load_recipe
from astroflow.errors import ConfigError
from astroflow.pipelines.infer import check_draws, infer
from astroflow.pipelines.report import ReportRecipe, report
from astroflow.pipelines.train import train
from astroflow.pipelines.validate import summary, validate
from astroflow.pipelines.verify import verify
from astroflow.posteriors.validated import attach_validation, read_validation
from astroflow.provenance import provenance, write_json

TAKEN = ("bundle", "bundle.checkpoint", "bundle.simulations.zarr", "validation")


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
    certify: bool = False
    """Weigh the draws by the exact likelihood, and test residuals."""
    refine_budget: int = 0
    """Refine rows that fail, with at most so many evaluations of the likelihood each; 0 refines none."""
    report: ReportRecipe | None = None
    """Pictures and comparisons; none by default."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> "InferStage":
        try:
            check_draws(self.draws, self.certify, self.refine_budget)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class RunRecipe(Recipe):
    """An end-to-end run."""

    description: str = ""
    """One sentence."""
    train: TrainStage
    """The training; a bundle that is in the output folder already is kept if this training would make the same."""
    validate_on: ValidateStage | None = ValidateStage()
    """The validation."""
    infer: dict[str, InferStage] = {}
    """The catalogs, by the name of their output folder."""

    @pydantic.field_validator("infer")
    @classmethod
    def _folders(cls, stages: dict[str, InferStage]) -> dict[str, InferStage]:
        for name in stages:
            if name in TAKEN or not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(
                    f"{name!r} cannot be a folder beside {', '.join(TAKEN)}; use another name of letters, digits, _, - and dots"
                )
        return stages


def run(name: str | Path, *, out: Path, scheduler: str | None = None, workers: int | None = None) -> list[str]:
    """Run a pipeline recipe.

    Parameters
    ----------
    name : str or Path
        A name in the folder ``pipelines``, or a path.
    out : Path
        Folder for `bundle`, `validation`, and one folder per catalog.
    scheduler, workers : optional
        See `clusters.load_cluster`.

    Returns
    -------
    list of str
        A summary for a terminal.
    """
    recipe = load_recipe(RunRecipe, name, "pipelines")
    write_json(out / "provenance.json", provenance(recipe.model_dump(mode="json"), recipe.train.seed))
    bundle = out / "bundle"
    there = (bundle / "manifest.json").exists()
    posterior = train(recipe.train.recipe, out=bundle, seed=recipe.train.seed, scheduler=scheduler, workers=workers)
    made = "was there already" if there else "trained"
    lines = [f"bundle {posterior.digest[:12]} {made}, held-out log score {posterior.training['held_out_log_score']:.2f} nats"]
    if recipe.validate_on is not None:
        lines += _validated(recipe.validate_on, bundle, posterior.digest, out / "validation", scheduler, workers)
    for folder, job in recipe.infer.items():
        infer(
            job.catalog, bundle=bundle, out=out / folder, n_draws=job.draws, seed=job.seed, keep_samples=job.keep_samples,
            certify=job.certify, refine_budget=job.refine_budget,
            scheduler=scheduler, workers=workers,
        )  # fmt: skip
        counts = verify(out / folder)
        by_quality = ", ".join(f"{counts[name]} {name}" for name in ("good", "suspect", "unusable"))
        lines.append(f"{folder}: {counts['rows']} rows, {by_quality}")
        if job.report is not None:
            lines += report(out / folder, bundle=bundle, out=out / f"{folder}_report", recipe=job.report)
    return lines


def _validated(stage: ValidateStage, bundle: Path, digest: str, out: Path, scheduler: str | None, workers: int | None) -> list[str]:
    """Validate, unless this very validation is there already."""
    path = out / "validation.json"
    if path.is_file() and (out / "report.html").is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        same = (found["bundle"], found["simulations"], found["draws"], found["provenance"]["seed"], found["simulator"])
        if same == (digest, stage.n, stage.draws, stage.seed, None):
            if isinstance(read_validation(bundle, digest), str):  # the bundle was made anew
                with contextlib.suppress(OSError):
                    attach_validation(bundle, digest, found)
            return list(found["summary"])
    made = validate(bundle, out=out, n=stage.n, n_draws=stage.draws, seed=stage.seed, scheduler=scheduler, workers=workers)
    return summary(made)
