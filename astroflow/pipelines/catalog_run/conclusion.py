"""The end of a catalog run: its parts become a catalog that other programs open, and the manifest says that it is whole."""

__all__ = ["conclude"]

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from astroflow.catalogs.hats import write_hats
from astroflow.catalogs.parts import parquet_bytes, part_files
from astroflow.catalogs.posterior_columns import KEPT, posterior_columns
from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table
from astroflow.catalogs.sources import Partition, Source
from astroflow.errors import IncompleteError, OutputError
from astroflow.pipelines.catalog_run.ledger import Receipt
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.pipelines.tasks import InferenceJob
from astroflow.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

    from astroflow.posteriors.posterior import Posterior


def conclude(source: Source, posterior: "Posterior", job: InferenceJob, partitions: list[Partition], receipts: list[Receipt]) -> None:
    """Finish a run of which every part is there.

    Parts that were grouped by sky become a HATS catalog; one without rows gets a part that says which columns it would have.

    Parameters
    ----------
    source : Source
        The input.
    posterior : Posterior
        Whose parameters the columns are of.
    job : InferenceJob
        What was asked.
    partitions, receipts : list
        All of the run.

    Raises
    ------
    IncompleteError
        If they do not hold all rows.
    OutputError
        If there are files among the parts that are not of this run.
    """
    ledger = job.ledger
    total = sum((receipt.tally for receipt in receipts), Tally())
    if total.rows != source.n_rows:
        raise IncompleteError(f"{ledger.out} has {total.rows} of {source.n_rows} rows; run the same command again")
    if not partitions:
        table = _without_rows(source, posterior, job)
        receipts = [ledger.keep("part-00000.parquet", parquet_bytes(table), Tally.of(table))]
    foreign = sorted({str(file.relative_to(ledger.catalog)) for file in part_files(ledger.catalog)} - {one.part for one in receipts})
    if foreign:
        raise OutputError(f"{ledger.catalog / foreign[0]} is no part of this run; take it away and run the same command again")
    changed = [receipt.part for receipt in receipts if not ledger.stands(receipt)]
    if changed:
        raise IncompleteError(f"{ledger.catalog / changed[0]} has changed since it was made; run the same command again")
    placed = [(*partition.pixel, len(partition)) for partition in partitions if partition.pixel is not None]
    if placed:
        schema = _without_rows(source, posterior, job).schema
        facts = {"astroflow_run": ledger.run, "astroflow_bundle": job.digest}
        write_hats(
            ledger.catalog,
            name=ledger.out.resolve().name,
            schema=schema,
            parts=placed,
            created=datetime.now(UTC),
            facts=facts,
            stage_in=ledger.stage,
        )
    ledger.conclude(receipts, {"rows": total.rows, "tally": total.numbers(), "bundle": job.digest})


def _without_rows(source: Source, posterior: "Posterior", job: InferenceJob) -> "pa.Table":
    """Return a part without rows."""
    from astroflow.posteriors.ensemble import Ensemble

    nothing, keys = np.zeros(0), source.row_keys()[:0]
    info = RowInfo(
        row_index=nothing, ids=keys, ra=nothing, dec=nothing, x=nothing, y=nothing, snr=nothing, binning=nothing,
        flags=np.zeros(0, np.int64), notes=np.zeros(0, str),
    )  # fmt: skip
    described = posterior_columns(
        posterior.parameters, ensemble=isinstance(posterior.estimator, Ensemble), certified=job.certify, refined=job.refine_budget > 0
    )
    summary: dict[str, Array] = dict.fromkeys((column.name for column in described), nothing)
    draws = np.zeros((0, job.n_draws, len(posterior.parameters)), np.float32)
    if job.keep_contexts:
        summary |= {column.name: nothing for column in KEPT if column.type == "float32"}
        summary |= {"context": np.zeros((0, 0)), "fit": np.zeros((0, 0)), "draws_refined": draws}
    return build_posterior_table(
        posterior.parameters, info, summary, bundle=job.digest, samples=draws if job.keep_samples else None,
        healpix=np.zeros(0, np.int64) if job.by_sky else None, information=job.information,
    )  # fmt: skip
