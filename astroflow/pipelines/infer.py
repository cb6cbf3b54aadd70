"""`astroflow infer`: a catalog and its images in, a posterior catalog out, over Dask.

The output folder holds ``run.json`` (what was asked, of which bundle, with which versions), ``catalog``, the parts, and ``ledger``, a
receipt for each. ``manifest.json`` comes last. Running the same command again goes on with what is missing.
"""

__all__ = ["InferenceResult", "check_draws", "infer", "population_of"]

import contextlib
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.catalogs.parts import part_files, read_part
from astroflow.catalogs.recipe import load_catalog
from astroflow.catalogs.sources import Partition, Source, open_source
from astroflow.errors import ConfigError, IncompleteError, InputError
from astroflow.pipelines.catalog_run.conclusion import conclude
from astroflow.pipelines.catalog_run.engine import run_parts
from astroflow.pipelines.catalog_run.ledger import Ledger, Receipt
from astroflow.pipelines.catalog_run.lock import locked
from astroflow.pipelines.catalog_run.record import check_claim, claim, fingerprint, ids_sum, recorded_inputs
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.pipelines.clusters import cluster, load_cluster
from astroflow.pipelines.journal import Journal
from astroflow.pipelines.progress import reporter
from astroflow.pipelines.scheduler import check_reportable, outcomes, prepare_workers, reported
from astroflow.pipelines.tasks import InferenceJob, infer_partition, part_name, prepare_worker
from astroflow.posteriors.exact.certificate import LEAST_DRAWS, likelihood_gaps
from astroflow.posteriors.exact.population import PopulationVerdict, judge_population
from astroflow.posteriors.exact.refine import least_budget
from astroflow.posteriors.exact.residuals import DIRECTIONS
from astroflow.posteriors.validated import read_validation
from astroflow.provenance import deciding_versions

SCALE_TOLERANCE = 0.01


@dataclass(frozen=True)
class InferenceResult:
    """Where a posterior catalog is, and what is known of its rows.

    `tally` counts rows by quality and says why they are not good, `validated` are lines that say what coverage was measured of the
    bundle, `population` what certificates say of all rows together.
    """

    catalog: Path
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
    keep_contexts: bool = False,
    certify: bool = False,
    refine_budget: int = 0,
    rows_per_partition: int | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    dask_report: Path | None = None,
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
    keep_contexts : bool
        Keep what draws are made from, some hundred bytes a row, so that `redraw` can make any number of them later.
    certify : bool
        Weigh the draws by the exact likelihood and test residuals: more columns, and the flags `INFERENCE_POOR` and `MODEL_POOR`.
    refine_budget : int
        Refine rows whose draws fail the certificate, with at most so many evaluations of the likelihood each; 0 refines none. Needs
        `certify`.
    rows_per_partition : int, optional
        The most rows per task and file; by their number if not given.
    scheduler, workers : optional
        See `clusters.load_cluster`.
    dask_report : Path, optional
        HTML file for Dask's own report of what its workers did when.

    Raises
    ------
    InputError, ConfigError, BundleError
        If the catalog, its images as a whole, or the bundle cannot be used.
    OutputError
        If the folder holds another run.
    """
    check_draws(n_draws, certify, refine_budget)
    if rows_per_partition is not None and rows_per_partition < 1:
        raise ConfigError(f"--rows-per-partition must be at least 1; got {rows_per_partition}")
    if dask_report is not None:
        check_reportable(dask_report)
    load_cluster(scheduler, workers)  # what cannot be meant is refused before anything is read or written
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
    options: dict[str, Any] = {
        "n_draws": n_draws, "seed": seed, "keep_samples": keep_samples, "keep_contexts": keep_contexts, "certify": certify,
        "refine_budget": refine_budget,
        "by_sky": bool(np.isfinite(source.positions().ra).any()),
    }  # fmt: skip
    size = rows_per_partition or default_partition(source.n_rows, certify)
    asked = {
        "catalog": recipe.model_dump(mode="json"), "rows": source.n_rows, "ids_sum": hex(ids_sum(range(source.n_rows), source.row_keys())),
        "table_sha256": source.rows.digest(), "bundle": posterior.digest, "rows_per_partition": size,
        "versions": deciding_versions(), **options,
    }  # fmt: skip
    partitions = source.partitions(size, by_sky=options["by_sky"])
    files = [source.files(partition) for partition in partitions]
    check_claim(out, asked)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out), _resumable(out):
        claim(out, asked, (path for paths in files for path in paths), seed, bundle)
        ledger = Ledger(out, fingerprint(asked))
        job = InferenceJob(
            str(bundle.resolve()), posterior.digest, replace(ledger, out=out.resolve()), information={"seed": str(seed)}, **options
        )  # fmt: skip
        receipts = _finish_parts(source, partitions, files, job, scheduler, workers, dask_report)
        conclude(source, posterior, job, partitions, receipts)
    total = sum((receipt.tally for receipt in receipts), Tally())
    lines = (validated,) if isinstance(validated, str) else tuple(validated.lines())
    return InferenceResult(ledger.catalog, total, validated=lines, population=population_of(ledger.catalog) if certify else None)


@contextlib.contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Say of a disk that fails under the driver that the run can be resumed."""
    try:
        yield
    except OSError as error:
        raise IncompleteError(f"{out} cannot be written or read ({error}); mend that and run the same command again") from error


def default_partition(rows: int, certify: bool) -> int:
    """Return how many rows a partition has where nobody says: enough tasks for progress and many workers, and each worth its file."""
    least, most = (100, 2000) if certify else (500, 20_000)
    return min(max(rows // 16, least), most)


def _finish_parts(
    source: Source,
    partitions: list[Partition],
    files: list[list[str]],
    job: InferenceJob,
    scheduler: str | None,
    workers: int | None,
    dask_report: Path | None,
) -> list[Receipt]:
    """Make every part that is not there, and return the receipts of all."""
    ledger = job.ledger
    inputs = recorded_inputs(ledger.out)
    receipts: list[Receipt] = []
    rows, unusable = 0, 0
    with reporter("rows") as progress, Journal(ledger.out / "progress.jsonl") as journal:

        def count(receipt: Receipt) -> None:
            nonlocal rows, unusable
            receipts.append(receipt)
            rows, unusable = rows + receipt.tally.rows, unusable + receipt.tally.unusable
            progress("infer", rows, source.n_rows, {"unusable": unusable})

        def finished(receipt: Receipt) -> None:
            count(receipt)
            journal.write(part=receipt.part, rows=receipt.tally.rows, unusable=receipt.tally.unusable)

        names = [part_name(partition) for partition in partitions]
        with ThreadPoolExecutor() as pool:  # most of this is hashing what is there, which threads share
            there = list(pool.map(ledger.finished, names))
        waiting = [place for place, receipt in enumerate(there) if receipt is None]
        for receipt in there:
            if receipt is not None:
                count(receipt)

        def arguments(place: int, careful: bool) -> tuple[Any, ...]:
            partition = partitions[waiting[place]]
            expected = {path: inputs[path] for path in files[waiting[place]]}
            return source.only(partition), partition, job, expected, careful

        if waiting:
            ledger.reopen()
            journal.write(begun=len(waiting), finished=len(receipts))
            with cluster(scheduler, workers) as client, reported(client, dask_report):
                prepare_workers(client, prepare_worker, job.bundle, job.digest, deciding_versions())
                ask = functools.partial(outcomes, client, infer_partition)
                run_parts([names[place] for place in waiting], ask, arguments, ledger, finished, begun=bool(receipts))
    return receipts


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
    tables = [read_part(file, names) for file in part_files(parts)]
    return judge_population({name: np.concatenate([t.column(name).to_numpy() for t in tables]) for name in names})
