"""`astroflow infer`: a catalog and its images in, a posterior catalog out, over Dask. `verify` proves that no row is missing.

The output folder holds ``run.json`` (what was asked, of which bundle, with which versions) and ``catalog/part-*.parquet``, one file
per partition, each renamed into place when complete. Running the same command again goes on with what is missing.
"""

__all__ = ["InferenceResult", "check_draws", "infer", "population_of", "recorded_run", "verify"]

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.catalogs.recipe import load_catalog
from astroflow.catalogs.sources import Source, open_source
from astroflow.errors import ConfigError, IncompleteError, InputError, OutputError
from astroflow.files import clear_stages
from astroflow.pipelines.progress import reporter
from astroflow.pipelines.scheduler import bounded, cluster, prepare_workers
from astroflow.pipelines.tally import Tally, tally
from astroflow.pipelines.tasks import InferenceJob, infer_partition, part_counts, prepare_worker, read_part
from astroflow.posteriors.exact.certificate import LEAST_DRAWS, likelihood_gaps
from astroflow.posteriors.exact.population import PopulationVerdict, judge_population
from astroflow.posteriors.exact.refine import least_budget
from astroflow.posteriors.exact.residuals import DIRECTIONS
from astroflow.posteriors.validated import read_validation
from astroflow.provenance import provenance, write_json

ROWS_PER_PARTITION = 2000
SCALE_TOLERANCE = 0.01


@dataclass(frozen=True)
class InferenceResult:
    """Where a posterior catalog is, how many rows it has, by quality, and what is known of them together.

    `tally` says why rows are suspect, and counts verdicts where rows are certified; `validated` are lines that say what coverage was
    measured of the bundle, `population` what certificates say of all rows together.
    """

    catalog: Path
    rows: int
    good: int
    suspect: int
    unusable: int
    tally: Tally
    validated: tuple[str, ...]
    population: PopulationVerdict | None = None


def infer(
    catalog: str | Path,
    *,
    bundle: Path,
    out: Path,
    n_draws: int = 256,
    seed: int = 0,
    keep_samples: bool = False,
    certify: bool = False,
    refine_budget: int = 0,
    rows_per_partition: int = ROWS_PER_PARTITION,
    scheduler: str | None = None,
    workers: int | None = None,
) -> InferenceResult:
    """Infer every object of a catalog.

    Parameters
    ----------
    catalog : str or Path
        Data-source recipe: a name in the folder ``catalogs``, or a path.
    bundle : Path
        The trained posterior.
    out : Path
        The output folder; one that holds the same run is resumed.
    n_draws : int
        Posterior draws per object that the summaries are made of.
    seed : int
        With an object's id it fixes its draws.
    keep_samples : bool
        Write the draws as well.
    certify : bool
        Weigh the draws by the exact likelihood and test residuals: more columns, and the flags `INFERENCE_POOR` and `MODEL_POOR`.
    refine_budget : int
        Refine rows whose draws fail the certificate, with at most so many evaluations of the likelihood each; 0 refines none. Needs
        `certify`.
    rows_per_partition : int
        Rows per task and file.
    scheduler, workers : optional
        See `cluster`.

    Raises
    ------
    InputError, ConfigError, BundleError
        If the catalog, its images as a whole, or the bundle cannot be used.
    OutputError
        If the folder holds another run.
    """
    check_draws(n_draws, certify, refine_budget)
    if rows_per_partition < 1:
        raise ConfigError(f"--rows-per-partition must be at least 1; got {rows_per_partition}")
    recipe = load_catalog(catalog)
    source = open_source(recipe)
    from astroflow.posteriors.bundle import load_posterior

    posterior = load_posterior(bundle)
    validated = read_validation(bundle, posterior.digest)
    scale, trained = recipe.pixel_scale_arcsec, posterior.stamp.pixel_scale_arcsec
    if abs(scale / trained - 1) > SCALE_TOLERANCE:
        raise InputError(
            f"the catalog {catalog} has {scale:g} arcsec per pixel; the bundle {bundle} was trained at {trained:g}. "
            "Use a bundle for this pixel scale"
        )
    gaps = likelihood_gaps(posterior.forward_model) if refine_budget else []
    if gaps:
        raise ConfigError(f"--refine: the likelihood does not follow {'; '.join(gaps)}, so refined error bars would be too small")
    options = {
        "n_draws": n_draws, "seed": seed, "keep_samples": keep_samples, "certify": certify, "refine_budget": refine_budget,
        "rows_per_partition": rows_per_partition,
    }  # fmt: skip
    asked = {
        "catalog": recipe.model_dump(mode="json"), "rows": source.n_rows, "ids_sha256": _digest_of(source.row_keys().tolist()),
        "bundle": posterior.digest, **options,
    }  # fmt: skip
    _claim(out, asked, seed)
    parts = out / "catalog"
    parts.mkdir(exist_ok=True)
    job = InferenceJob(
        str(bundle.resolve()),
        posterior.digest,
        str(parts.resolve()),
        n_draws,
        seed,
        keep_samples,
        certify,
        refine_budget,
        {"seed": str(seed)},
    )
    partitions = source.partitions(rows_per_partition)
    if not partitions:
        _write_empty(source, posterior, job)
    totals = dict.fromkeys(("rows", "good", "suspect", "unusable"), 0)
    there = {p.index for p in partitions if job.part(p.index).exists()}
    waiting = [p for p in partitions if p.index not in there]
    arguments = ((source.only(p), p, job) for p in waiting)
    with reporter("rows") as progress:

        def count(counts: dict[str, int]) -> None:
            for name in totals:
                totals[name] += counts[name]
            progress("infer", totals["rows"], source.n_rows, {"unusable": totals["unusable"]})

        for index in sorted(there):
            count(part_counts(job.part(index)))
        if waiting:
            with cluster(scheduler, workers) as client:
                prepare_workers(client, prepare_worker, job.bundle, job.digest)
                for counts in bounded(client, infer_partition, arguments):
                    count(counts)
    clear_stages(out)
    clear_stages(parts)
    if totals["rows"] != source.n_rows:
        raise IncompleteError(f"{out} has {totals['rows']} of {source.n_rows} rows; run the same command again")
    lines = (validated,) if isinstance(validated, str) else tuple(validated.lines())
    counted = tally(parts, certified=certify)
    return InferenceResult(parts, **totals, tally=counted, validated=lines, population=population_of(parts) if certify else None)


def check_draws(n_draws: int, certify: bool, refine_budget: int) -> None:
    """Refuse what no run could do.

    Raises
    ------
    ConfigError
        If the draws are too few for what is asked of them.
    """
    if n_draws < 32:
        raise ConfigError(f"--draws must be at least 32, for the quantiles; got {n_draws}")
    if certify and n_draws < LEAST_DRAWS:
        raise ConfigError(f"--certify needs at least {LEAST_DRAWS} --draws, or nothing can pass; got {n_draws}")
    if refine_budget and not certify:
        raise ConfigError("--refine needs --certify: it is for rows that fail their certificates")
    if refine_budget and refine_budget < least_budget(n_draws):
        raise ConfigError(f"--refine-budget must be at least {least_budget(n_draws)} for {n_draws} draws; got {refine_budget}")


def population_of(parts: Path) -> PopulationVerdict:
    """Judge all rows of a certified posterior catalog, a folder of parts, together."""
    names = [name for direction in DIRECTIONS for name in (direction, f"{direction}_sd")] + ["chi2_p", "residual_p"]
    tables = [read_part(file, names) for file in sorted(parts.glob("part-*.parquet"))]
    return judge_population({name: np.concatenate([t.column(name).to_numpy() for t in tables]) for name in names})


def verify(out: Path) -> dict[str, Any]:
    """Prove that a posterior catalog has one row for each input row, made by one bundle.

    Raises
    ------
    InputError
        If the folder holds no run, or rows are missing, repeated, of other ids or of another bundle.
    """
    asked = recorded_run(out)
    if asked is None:
        raise InputError(f"{out} holds no inference run: it has no run.json")
    files = sorted((out / "catalog").glob("part-*.parquet"))
    if not files:
        raise IncompleteError(f"{out} has no parts yet; run `astroflow infer` again")
    tables = [read_part(file, ["row_index", "id", "bundle", "quality"]) for file in files]
    index, quality = (np.concatenate([np.asarray(t.column(name)) for t in tables]) for name in ("row_index", "quality"))
    ids, bundles = ([value for t in tables for value in t.column(name).to_pylist()] for name in ("id", "bundle"))
    rows = asked["rows"]
    others = sorted({str(b)[:12] for b in bundles if b != asked["bundle"]})
    if others:
        raise InputError(f"{out}: {', '.join(others)} made some of the rows; the run's bundle is {asked['bundle'][:12]}")
    outside = index[(index < 0) | (index >= rows)]
    if len(outside):
        raise InputError(f"{out} has row {outside[0]}, which the catalog of {rows} rows has not; its parts are not of one run")
    times = np.bincount(index.astype(np.int64), minlength=rows)
    if (times > 1).any():
        row = int(np.flatnonzero(times > 1)[0])
        raise InputError(f"{out} has row {row} {times[row]} times, and {int((times > 1).sum())} rows more than once; a part is there twice")
    if len(index) < rows:
        raise IncompleteError(f"{out} has {len(index)} of {rows} rows; run `astroflow infer` again to complete it")
    if _digest_of([ids[i] for i in np.argsort(index)]) != asked["ids_sha256"]:
        raise InputError(f"{out}: the ids are not those of the input catalog")
    return {"rows": rows, "bundle": asked["bundle"]} | {
        name: int((quality == k).sum()) for k, name in enumerate(("good", "suspect", "unusable"))
    }


def recorded_run(out: Path) -> dict[str, Any] | None:
    """Return what the run in a folder was asked for, or None where there is no run."""
    record = out / "run.json"
    if not record.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["asked"]
        if not {"catalog", "rows", "ids_sha256", "bundle"} <= set(found):
            raise KeyError("asked")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record} is not the record of an inference run ({error!r})") from None
    return found


def _claim(out: Path, asked: dict[str, Any], seed: int) -> None:
    """Make the output folder this run's, or refuse."""
    found = recorded_run(out)
    if found is not None:
        defaults = {"certify": False, "refine_budget": 0}  # of runs that were begun before there was such a thing
        changed = [key for key in asked if found.get(key, defaults.get(key)) != json.loads(json.dumps(asked[key]))]
        if changed:
            raise OutputError(f"{out} holds another run ({', '.join(changed)} differ); give another --out, or remove it")
        return
    if out.is_file():
        raise OutputError(f"{out} is a file; --out names a folder")
    if out.exists() and any(not file.name.startswith(".run.json.") for file in out.iterdir()):
        raise OutputError(f"{out} is not empty and holds no inference run; give another --out")
    write_json(out / "run.json", {"asked": asked, **provenance(asked["catalog"], seed)})


def _digest_of(ids: list[Any]) -> str:
    return hashlib.sha256("\n".join(str(i) for i in ids).encode()).hexdigest()


def _write_empty(source: Source, posterior: Any, job: InferenceJob) -> None:
    """Write a part without rows, so that an empty catalog still gives a readable one."""
    from astroflow.catalogs.posterior_columns import posterior_columns
    from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table, write_parquet
    from astroflow.posteriors.ensemble import Ensemble

    nothing = np.zeros(0)
    keys = source.row_keys()
    info = RowInfo(
        row_index=nothing, ids=keys, ra=nothing, dec=nothing, x=nothing, y=nothing, snr=nothing, binning=nothing,
        flags=np.zeros(0, np.int64), notes=np.zeros(0, str),
    )  # fmt: skip
    ensemble = isinstance(posterior.estimator, Ensemble)
    described = posterior_columns(posterior.parameters, ensemble=ensemble, certified=job.certify, refined=job.refine_budget > 0)
    names = [column.name for column in described]
    samples = np.zeros((0, job.n_draws, len(posterior.parameters)), np.float32) if job.keep_samples else None
    table = build_posterior_table(posterior.parameters, info, dict.fromkeys(names, nothing), bundle=job.digest, samples=samples)
    write_parquet(table, job.part(0))
