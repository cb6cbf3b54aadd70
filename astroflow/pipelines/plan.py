"""`astroflow plan`: what a catalog run will cost, before anybody submits it.

Everything is measured here and now, on rows of the catalog itself: how long one core takes to read, infer and write a row, how many bytes
go in and out, how long a worker takes to be ready, and how many tasks a second a Dask scheduler hands out. The rest is arithmetic, and
the assumptions in it are printed with the result.
"""

__all__ = ["Plan", "Rates", "measure", "plan"]

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.catalogs.parts import parquet_bytes
from astroflow.catalogs.recipe import load_catalog
from astroflow.catalogs.sources import Partition, Source, open_source
from astroflow.errors import ConfigError
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.pipelines.clusters import cluster
from astroflow.pipelines.infer import check_draws, default_partition
from astroflow.pipelines.scheduler import bounded
from astroflow.pipelines.tasks import InferenceJob, infer_rows, prepare_worker
from astroflow.provenance import deciding_versions

MEASURED_ROWS, LEAST_SECONDS = 512, 3.0
"""Rows are measured in blocks of so many until so much time has gone by: shorter spans scatter."""
TASKS = 300
BUSY = 0.5
"""A scheduler that is busy for a larger share of the time makes workers wait."""
FILL = 0.5
"""Share of the most rows that a HEALPix partition has on average: one that is split leaves four, each between a quarter full and full."""


@dataclass(frozen=True)
class Rates:
    """What was measured on one core of this machine: seconds and bytes per row, and seconds of what comes once."""

    read_seconds: float
    infer_seconds: float
    write_seconds: float
    bytes_in: float
    """Pixels of the cutouts: values, noise and masks."""
    bytes_out: float
    file_bytes: float
    """A file's without any row: what its columns mean."""
    start_seconds: float
    """A worker's: importing, loading the bundle, compiling."""
    task_seconds: float
    """The scheduler's, per task."""
    rows: int
    """Of how many rows."""

    @property
    def row_seconds(self) -> float:
        """One row's, on one core."""
        return self.read_seconds + self.infer_seconds + self.write_seconds


@dataclass(frozen=True)
class Plan:
    """What a run of so many rows costs on so many cores."""

    rates: Rates
    rows: int
    nodes: int
    cores: int
    """Of a node."""
    rows_per_partition: int

    @property
    def tasks(self) -> int:
        """Partitions, each a task and a file."""
        return max(1, round(self.rows / (self.rows_per_partition * FILL)))

    @property
    def bytes_out(self) -> float:
        """What is written."""
        return self.rows * self.rates.bytes_out + self.tasks * self.rates.file_bytes

    @property
    def core_hours(self) -> float:
        """Of the rows alone."""
        return self.rows * self.rates.row_seconds / 3600

    @property
    def wall_hours(self) -> float:
        """With the start of the workers, and the last partition, for which all others wait; never less than the scheduler needs."""
        waves = self.rows * self.rates.row_seconds / min(self.nodes * self.cores, self.tasks)
        last = self.rows_per_partition * self.rates.row_seconds
        return (self.rates.start_seconds + max(waves, self.scheduler_hours * 3600) + last) / 3600

    @property
    def scheduler_hours(self) -> float:
        """That the scheduler is busy, all tasks together."""
        return self.tasks * self.rates.task_seconds / 3600

    def lines(self) -> list[str]:
        """Say it in words."""
        rates, workers = self.rates, self.nodes * self.cores
        busy = self.scheduler_hours / self.wall_hours
        shares = ", ".join(
            f"{1e3 * seconds:.3g} ms to {what}"
            for what, seconds in (("read", rates.read_seconds), ("infer", rates.infer_seconds), ("write", rates.write_seconds))
        )
        return [
            f"measured here on {rates.rows} rows: {1 / rates.row_seconds:.0f} rows/s on one core ({shares}); a worker is ready after "
            f"{rates.start_seconds:.0f} s; the scheduler takes {1e3 * rates.task_seconds:.2g} ms a task",
            f"{self.rows:,} rows on {self.nodes} x {self.cores} cores:",
            f"  {self.core_hours:,.1f} core-hours, {_time(self.wall_hours)} of wall time",
            f"  {self.tasks:,} tasks of at most {self.rows_per_partition:,} rows; the scheduler is busy for {_time(self.scheduler_hours)} "
            f"({busy:.1%} of the time)",
            f"  {_bytes(self.rows * rates.bytes_in)} in ({_bytes(rates.bytes_in * workers / rates.row_seconds)}/s while it lasts), "
            f"{_bytes(self.bytes_out)} out",
            *(f"assumed: {text}" for text in self.assumptions()),
            *(f"advice: {text}" for text in self.advice()),
        ]

    def assumptions(self) -> list[str]:
        """Return what was not measured."""
        told = [
            "rows are like the measured ones, and every core is as fast as the one here, also when all work at once",
            "storage gives the bytes above as fast as they are asked for; pixels count as they are in memory, uncompressed",
            f"partitions are {FILL:.0%} full on average, as pixels are split in four",
        ]
        return told

    def advice(self) -> list[str]:
        """Return what to change, where the run would waste what it has."""
        told, workers = [], self.nodes * self.cores
        if self.tasks < 3 * workers:
            told.append(f"{workers:,} workers share {self.tasks:,} tasks unevenly: give smaller --rows-per-partition")
        if self.scheduler_hours > BUSY * self.wall_hours:
            told.append("the scheduler is so busy that workers wait for it: give larger --rows-per-partition")
        return told

    def numbers(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        return {
            "rates": asdict(self.rates), "rows": self.rows, "nodes": self.nodes, "cores": self.cores, "tasks": self.tasks,
            "core_hours": self.core_hours, "wall_hours": self.wall_hours, "scheduler_hours": self.scheduler_hours,
            "bytes_in": self.rows * self.rates.bytes_in, "bytes_out": self.bytes_out, "assumptions": self.assumptions(),
            "advice": self.advice(),
        }  # fmt: skip


def plan(
    catalog: str | Path,
    *,
    bundle: Path,
    rows: int | None = None,
    nodes: int = 1,
    cores: int = 1,
    n_draws: int = 256,
    keep_samples: bool = False,
    certify: bool = False,
    refine_budget: int = 0,
    rows_per_partition: int | None = None,
) -> Plan:
    """Measure what a catalog run costs on this machine, and say what it will cost on others.

    Parameters
    ----------
    catalog : str or Path
        Data-source recipe, of which some rows are read.
    bundle : Path
        The trained posterior.
    rows : int, optional
        Rows of the run; as many as the catalog has if not given.
    nodes, cores : int
        Machines, and cores of each, with a worker on each core.
    n_draws, keep_samples, certify, refine_budget, rows_per_partition
        As of `infer`.

    Raises
    ------
    InputError, ConfigError, BundleError
        As `infer`, and if the catalog has no rows to measure on.
    """
    check_draws(n_draws, certify, refine_budget)
    source = open_source(load_catalog(catalog))
    if not source.n_rows:
        raise ConfigError(f"{catalog} has no rows to measure on")
    total = source.n_rows if rows is None else rows
    size = rows_per_partition or default_partition(total, certify)
    with tempfile.TemporaryDirectory() as folder:
        job = InferenceJob(
            str(bundle.resolve()), "", Ledger(Path(folder), "plan"), n_draws, 0, keep_samples, certify, refine_budget,
            by_sky=bool(np.isfinite(source.positions().ra).any()),
        )  # fmt: skip
        rates = measure(source, job)
    return Plan(rates, total, nodes, cores, size)


def measure(source: Source, job: InferenceJob) -> Rates:
    """Do some rows as a worker does, and take the time.

    Parameters
    ----------
    source : Source
        The catalog; its rows are taken in the order in which they are read, from the beginning again when they are too few.
    job : InferenceJob
        What is done with them. Its digest is filled in.
    """
    from astroflow.posteriors.bundle import bundle_digest

    job = replace(job, digest=bundle_digest(Path(job.bundle)))
    blocks = _blocks(source, job.by_sky)
    begin = time.perf_counter()
    prepare_worker(job.bundle, job.digest, deciding_versions())
    # compiles what it needs for the first rows
    first = next(blocks)
    infer_rows(source.only(first), first, job)
    start = time.perf_counter() - begin
    spent = dict.fromkeys(("read", "infer", "write"), 0.0)
    rows, bytes_in, bytes_out, empty = 0, 0, 0, 0
    side = _side(job)
    while sum(spent.values()) < LEAST_SECONDS:
        partition = next(blocks)
        own = source.only(partition)
        clock = time.perf_counter()
        cutouts = list(own.read(partition, side))
        read = time.perf_counter() - clock
        bytes_in += sum(array.nbytes for cutout in cutouts for array in (cutout.image, cutout.rms, cutout.mask) if array is not None)
        del cutouts
        clock = time.perf_counter()
        table = infer_rows(own, partition, job)
        inferred = time.perf_counter() - clock
        clock = time.perf_counter()
        receipt = job.ledger.keep("measured.parquet", parquet_bytes(table), Tally.of(table))
        spent["write"] += time.perf_counter() - clock
        spent["read"] += read
        spent["infer"] += max(inferred - read, 0.0)
        empty = len(parquet_bytes(table.slice(0, 0)))
        rows, bytes_out = rows + len(partition), bytes_out + receipt.bytes - empty
    per_row = {f"{what}_seconds": seconds / rows for what, seconds in spent.items()}
    return Rates(
        **per_row, bytes_in=bytes_in / rows, bytes_out=bytes_out / rows, file_bytes=empty, start_seconds=start,
        task_seconds=_task_seconds(), rows=rows,
    )  # fmt: skip


def _blocks(source: Source, by_sky: bool) -> Iterator[Partition]:
    """Yield blocks of rows, without end."""
    while True:
        yield from source.partitions(MEASURED_ROWS, by_sky=by_sky)


def _side(job: InferenceJob) -> int:
    from astroflow.pipelines.tasks import loaded

    stamp = loaded(job.bundle, job.digest).stamp
    return stamp.size * max(stamp.binning)


def _task_seconds() -> float:
    """Return how long a scheduler takes to hand out a task that is nothing and to take back its answer."""
    with cluster(None, 1) as client:
        list(bounded(client, abs, ((1,) for _ in range(20))))
        begin = time.perf_counter()
        list(bounded(client, abs, ((1,) for _ in range(TASKS))))
        return (time.perf_counter() - begin) / TASKS


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes" if hours >= 1 / 60 else f"{3600 * hours:.1f} seconds"


def _bytes(amount: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} PB"
