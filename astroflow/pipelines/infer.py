"""`astroflow infer`: a catalog and its images in, a posterior catalog out, over Dask. `verify` proves that no row is missing.

The output folder holds ``run.json`` (what was asked, of which bundle, with which versions) and ``catalog/part-*.parquet``, one file
per partition, each renamed into place when complete. Running the same command again goes on with what is missing.
"""

__all__ = ["InferenceResult", "infer", "verify"]

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.catalogs.recipe import load_catalog
from astroflow.catalogs.sources import Source, open_source
from astroflow.errors import ConfigError, IncompleteError, InputError, OutputError
from astroflow.pipelines.progress import reporter
from astroflow.pipelines.scheduler import bounded, cluster, prepare_workers
from astroflow.pipelines.tasks import InferenceJob, infer_partition, prepare_worker
from astroflow.provenance import provenance, write_json

ROWS_PER_PARTITION = 2000


@dataclass(frozen=True)
class InferenceResult:
    """Where a posterior catalog is and how many rows it has, by quality."""

    catalog: Path
    rows: int
    good: int
    suspect: int
    unusable: int


def infer(
    catalog: str | Path,
    *,
    bundle: Path,
    out: Path,
    n_draws: int = 256,
    seed: int = 0,
    keep_samples: bool = False,
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
    if n_draws < 32:
        raise ConfigError(f"--draws must be at least 32, for the quantiles; got {n_draws}")
    if rows_per_partition < 1:
        raise ConfigError(f"--rows-per-partition must be at least 1; got {rows_per_partition}")
    recipe = load_catalog(catalog)
    source = open_source(recipe)
    from astroflow.posteriors.bundle import load_posterior

    posterior = load_posterior(bundle)
    scale = recipe.pixel_scale_arcsec
    if abs(scale / posterior.stamp.pixel_scale_arcsec - 1) > 0.01:
        raise InputError(
            f"the catalog {catalog} has {scale:g} arcsec per pixel; the bundle {bundle} was trained at {posterior.stamp.pixel_scale_arcsec:g}. "
            "Use a bundle for this pixel scale"
        )
    options = {"n_draws": n_draws, "seed": seed, "keep_samples": keep_samples, "rows_per_partition": rows_per_partition}
    asked = {"catalog": recipe.model_dump(mode="json"), "rows": source.n_rows, "ids_sha256": _ids_digest(source), "bundle": posterior.digest, **options}
    _claim(out, asked, seed)
    parts = out / "catalog"
    parts.mkdir(exist_ok=True)
    job = InferenceJob(str(bundle.resolve()), posterior.digest, str(parts.resolve()), n_draws, seed, keep_samples, {"seed": str(seed)})
    partitions = source.partitions(rows_per_partition)
    if not partitions:
        _write_empty(source, posterior, job)
    totals = dict.fromkeys(("rows", "good", "suspect", "unusable"), 0)
    waiting = [p for p in partitions if not job.part(p.index).exists()]
    arguments = ((source.only(p), p, job) for p in partitions if p in waiting)
    finished = [p for p in partitions if p not in waiting]
    with reporter("infer", "rows") as progress:

        def count(counts: dict[str, int]) -> None:
            for name in totals:
                totals[name] += counts[name]
            progress("infer", totals["rows"], source.n_rows, {"unusable": totals["unusable"]})

        for partition in finished:
            count(infer_partition(source, partition, job))
        if waiting:
            with cluster(scheduler, workers) as client:
                prepare_workers(client, prepare_worker, job.bundle, job.digest)
                for counts in bounded(client, infer_partition, arguments):
                    count(counts)
    if totals["rows"] != source.n_rows:
        raise IncompleteError(f"{out} has {totals['rows']} of {source.n_rows} rows; run the same command again")
    return InferenceResult(parts, **totals)


def verify(out: Path) -> dict[str, Any]:
    """Prove that a posterior catalog has one row for each input row, made by one bundle.

    Raises
    ------
    InputError
        If the folder holds no run, or rows are missing, repeated, of other ids or of another bundle.
    """
    from pyarrow import parquet

    record = out / "run.json"
    if not record.is_file():
        raise InputError(f"{out} holds no inference run: it has no run.json")
    asked = json.loads(record.read_text())["asked"]
    files = sorted((out / "catalog").glob("part-*.parquet"))
    if not files:
        raise IncompleteError(f"{out} has no parts yet; run `astroflow infer` again")
    tables = [parquet.read_table(file, columns=["row_index", "id", "bundle", "quality"]) for file in files]
    index = np.concatenate([np.asarray(t.column("row_index")) for t in tables])
    ids = [value for t in tables for value in t.column("id").to_pylist()]
    bundles = {value for t in tables for value in t.column("bundle").to_pylist()}
    if len(index) < asked["rows"]:
        raise IncompleteError(f"{out} has {len(index)} of {asked['rows']} rows; run `astroflow infer` again to complete it")
    if not np.array_equal(np.sort(index), np.arange(asked["rows"])):
        raise InputError(f"{out}: row numbers are not 0 .. {asked['rows'] - 1}, each once; the parts are not of one run")
    ordered = [ids[i] for i in np.argsort(index)]
    if _digest_of(ordered) != asked["ids_sha256"]:
        raise InputError(f"{out}: the ids are not those of the input catalog")
    if bundles - {asked["bundle"]}:
        raise InputError(f"{out}: rows were made by other bundles than {asked['bundle'][:12]}: {', '.join(str(b)[:12] for b in bundles)}")
    quality = np.concatenate([np.asarray(t.column("quality")) for t in tables])
    return {"rows": len(index), "bundle": asked["bundle"], **{name: int((quality == k).sum()) for k, name in enumerate(("good", "suspect", "unusable"))}}


def _claim(out: Path, asked: dict[str, Any], seed: int) -> None:
    """Make the output folder this run's, or refuse."""
    record = out / "run.json"
    if record.is_file():
        found = json.loads(record.read_text()).get("asked", {})
        changed = [key for key in asked if found.get(key) != json.loads(json.dumps(asked[key]))]
        if changed:
            raise OutputError(f"{out} holds another run ({', '.join(changed)} differ); give another --out, or remove it")
        return
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty and holds no inference run; give another --out")
    write_json(record, {"asked": asked, **provenance(asked["catalog"], seed)})


def _ids_digest(source: Source) -> str:
    return _digest_of(source.row_keys().tolist())


def _digest_of(ids: list[Any]) -> str:
    return hashlib.sha256("\n".join(str(i) for i in ids).encode()).hexdigest()


def _write_empty(source: Source, posterior: Any, job: InferenceJob) -> None:
    """Write a part without rows, so that an empty catalog still gives a readable one."""
    from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table, posterior_columns, write_parquet

    nothing = np.zeros(0)
    keys = source.row_keys()
    info = RowInfo(
        row_index=nothing, ids=keys, ra=nothing, dec=nothing, x=nothing, y=nothing, snr=nothing, binning=nothing,
        flags=np.zeros(0, np.int64), notes=np.zeros(0, str),
    )  # fmt: skip
    names = [column.name for column in posterior_columns(posterior.parameters)]
    samples = np.zeros((0, job.n_draws, len(posterior.parameters)), np.float32) if job.keep_samples else None
    table = build_posterior_table(posterior.parameters, info, dict.fromkeys(names, nothing), bundle=job.digest, samples=samples)
    write_parquet(table, job.part(0))
