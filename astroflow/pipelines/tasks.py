"""What workers do: pure functions, plain arguments in, one file or a modest answer out. No Dask here.

A worker builds a simulator or loads a bundle once and keeps it for all its tasks.
"""

__all__ = ["InferenceJob", "draw_simulations", "infer_partition", "infer_rows", "loaded", "part_name", "prepare_worker", "simulate_shard"]

import contextlib
import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astroflow.catalogs.derived import summarize_derived
from astroflow.catalogs.hats import check_part, part_path
from astroflow.catalogs.healpix import spatial_index
from astroflow.catalogs.parts import parquet_bytes, sorted_by_sky
from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table
from astroflow.catalogs.sky import SkyFrame
from astroflow.catalogs.sources import Partition, Source
from astroflow.errors import BundleError, ConfigError
from astroflow.pipelines.catalog_run.inputs import FileState, check_unchanged, unchanged
from astroflow.pipelines.catalog_run.ledger import Ledger, Receipt
from astroflow.pipelines.catalog_run.pieces import in_pieces
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.exact.certify import recertified
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.kept import Kept
from astroflow.provenance import deciding_versions
from astroflow.sims.recipe import simulator_from_data
from astroflow.sims.simulator import Simulator
from astroflow.training.training_set import TrainingSet
from astroflow.types import Array, Cutout, Simulation

if TYPE_CHECKING:
    import pyarrow as pa

    from astroflow.posteriors.posterior import Posterior

BLOCK_ROWS = 512
BLOCK_BYTES = 200_000_000
"""Cutouts of a block, of which two are held at once: wide ones, of recipes with large binnings, come in smaller blocks."""
CUTOUT_BYTES = 9  # a pixel's value, noise and mask


@dataclass(frozen=True)
class InferenceJob:
    """What every task of a catalog run needs to know.

    `bundle` and `digest` name the posterior, `ledger` keeps parts; with `certify`, rows get certificates from as many draws, and those that
    fail are refined with at most `refine_budget` evaluations of the likelihood each, unless that is 0. With `by_sky`, the catalog is a HATS
    catalog, whose rows have an index on the sky. With `keep_contexts`, rows keep what draws can be made again from.
    """

    bundle: str
    digest: str
    ledger: Ledger
    n_draws: int
    seed: int
    keep_samples: bool
    certify: bool = False
    refine_budget: int = 0
    by_sky: bool = False
    keep_contexts: bool = False
    information: dict[str, str] = field(default_factory=dict)


@functools.lru_cache(maxsize=2)
def _simulator(data: str) -> Simulator:
    return simulator_from_data(json.loads(data))


def simulate_shard(path: str, shard: int) -> int:
    """Draw and write one shard of a training set, unless it is there already; return how many simulations it holds."""
    data = TrainingSet.open(Path(path))
    rows = data.rows(shard)
    if not data.has(shard):
        simulator = _simulator(json.dumps(data.recipe, sort_keys=True))
        data.write(shard, simulator.draw_noiseless(np.asarray(rows), data.seed))
    return len(rows)


def draw_simulations(data: str, start: int, stop: int, seed: int) -> tuple[int, Simulation]:
    """Draw the simulations of ids `start` to `stop` of a forward model given as JSON; return `start` with them."""
    return start, _simulator(data).draw(np.arange(start, stop), seed)


@functools.lru_cache(maxsize=2)
def loaded(bundle: str, digest: str) -> "Posterior":
    """Load a bundle once per process. The digest is part of the key, so that a replaced bundle is seen."""
    from astroflow.posteriors.bundle import load_posterior

    posterior = load_posterior(bundle)
    if posterior.digest != digest:
        raise BundleError(f"{bundle} has changed since this run began: its digest is {posterior.digest[:12]}, expected {digest[:12]}")
    return posterior


def prepare_worker(bundle: str, digest: str, versions: Mapping[str, str]) -> None:
    """Give TensorFlow one thread in this process and load the bundle, before the first task.

    Parameters
    ----------
    bundle, digest : str
        Where the bundle lies, and what it has to be.
    versions : mapping of str to str
        The driver's, of packages that bits depend on.

    Raises
    ------
    ConfigError
        If this process has others.
    BundleError
        If the bundle is another one.
    """
    other = {name: found for name, found in deciding_versions().items() if found != versions[name]}
    if other:
        told = ", ".join(f"{name} {found} instead of {versions[name]}" for name, found in other.items())
        raise ConfigError(f"a worker has {told}: its rows would have other bits. Install the same versions everywhere")
    from astroflow.networks.loading import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    # a process that has run TensorFlow already keeps its threads
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded(bundle, digest)


def infer_partition(source: Source, partition: Partition, job: InferenceJob, files: Mapping[str, FileState], careful: bool) -> Receipt:
    """Read, infer and keep one partition of a catalog.

    Parameters
    ----------
    source : Source
        Holds the partition's rows.
    partition : Partition
        Which they are. One that is finished already is left as it is.
    job : InferenceJob
        What to do with them.
    files : mapping of str to tuple
        The files that the rows share, as they were when the run was planned.
    careful : bool
        The partition has taken workers along, or raised what nobody expected: work in pieces, and flag the rows that do as `CRASHED`.

    Returns
    -------
    Receipt
        Of the part, which is in the run's ledger.

    Raises
    ------
    InputError
        If one of the files is not what it was.
    """
    part = part_name(partition)
    finished = job.ledger.finished(part)
    if finished is not None:
        return finished
    if careful:
        table = _in_pieces(source, partition, job, files)
    else:
        with unchanged(files):
            table = infer_rows(source, partition, job)
    if partition.pixel is not None:
        table = sorted_by_sky(table)
        check_part(table, *partition.pixel)
    return job.ledger.keep(part, parquet_bytes(table), Tally.of(table))


def part_name(partition: Partition) -> str:
    """Return the path of a partition's part below the catalog's folder.

    Rows without a position on the sky have no place in a HATS catalog; their parts lie beside its data.
    """
    return f"part-{partition.index:05d}.parquet" if partition.pixel is None else str(part_path(*partition.pixel))


def _in_pieces(source: Source, partition: Partition, job: InferenceJob, files: Mapping[str, FileState]) -> "pa.Table":
    def some(start: int, stop: int) -> Partition:
        return replace(partition, rows=partition.rows[start:stop])

    def work(start: int, stop: int) -> "pa.Table":
        with unchanged(files):
            return infer_rows(source, some(start, stop), job)

    def give_up(row: int, why: str) -> "pa.Table":
        # a file that is cut short under a reader's hands kills it: that would be no fault of the row
        check_unchanged(files)
        return infer_rows(source, some(row, row + 1), job, crashed=why)

    return in_pieces(len(partition), job.ledger.pieces(part_name(partition)), work, give_up)


def infer_rows(source: Source, partition: Partition, job: InferenceJob, crashed: str = "") -> "pa.Table":
    """Return the rows of a partition with their posteriors, in the partition's order.

    Parameters
    ----------
    source : Source
        Holds the rows.
    partition : Partition
        Which they are.
    job : InferenceJob
        What to do with them.
    crashed : str
        Why they are given up, if they are: then no file is touched.
    """
    import pyarrow as pa

    posterior = loaded(job.bundle, job.digest)
    side = posterior.stamp.size * max(posterior.stamp.binning)
    at_once = min(BLOCK_ROWS, max(1, BLOCK_BYTES // (CUTOUT_BYTES * side**2)))
    if crashed:
        cutouts, frame = iter(source.refuse(partition, Flag.CRASHED, crashed)), source.catalog_frame(partition)
    else:
        cutouts, frame = source.read(partition, side), source.sky_frame(partition)
    positions = source.only(partition).positions()
    tables, start = [], 0
    for block in _read_ahead(cutouts, at_once):
        rows = slice(start, start := start + len(block))
        encoded = posterior.encode(block, halved=job.keep_contexts)
        marks = np.zeros(len(block), np.int64)
        if job.certify:
            encoded, certificate = posterior.sharpen(encoded, posterior.certify(encoded, job.n_draws, job.seed), job.n_draws, job.seed)
        draws = posterior.sample(encoded, job.n_draws, job.seed)
        judged: dict[str, Array] = {"linearized": encoded.fitted.astype(np.int8)}
        if encoded.disagreement is not None:
            judged["disagreement"] = encoded.disagreement
        if job.certify:
            if job.refine_budget:
                refined = posterior.refine(encoded, job.n_draws, job.seed, job.refine_budget, certificate.inference == Verdict.FAILED)
                draws, judged = refined.draws, judged | refined.columns(certificate)
                if job.keep_contexts:
                    judged["draws_refined"] = draws
                certificate = recertified(posterior, encoded, certificate, refined)
            judged |= certificate.columns()
            marks = certificate.flags()
        columns, flags = posterior.summary_columns(encoded, draws)
        columns |= judged
        columns |= Kept.columns(encoded) if job.keep_contexts else {}
        flags |= marks
        zero_points = np.array([cutout.zero_point for cutout in block])
        columns |= summarize_derived(draws, posterior.parameters, zero_points, _rows_of(frame, rows))
        info = RowInfo(
            row_index=partition.rows[rows], ids=encoded.framed.stamps.ids, ra=positions.ra[rows], dec=positions.dec[rows],
            x=frame.x[rows], y=frame.y[rows], snr=encoded.snr, binning=encoded.framed.stamps.binning, flags=flags,
            notes=np.array(encoded.framed.notes),
        )  # fmt: skip
        tables.append(
            build_posterior_table(
                posterior.parameters, info, columns, bundle=job.digest, samples=draws if job.keep_samples else None,
                healpix=spatial_index(info.ra, info.dec) if job.by_sky else None, information=job.information,
            )
        )  # fmt: skip
    return pa.concat_tables(tables)


def _read_ahead(cutouts: Iterator[Cutout], at_once: int) -> Iterator[list[Cutout]]:
    """Yield blocks of cutouts; the next one is read while the caller works on the last."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(lambda: list(itertools.islice(cutouts, at_once)))
        while block := following.result():
            following = reader.submit(lambda: list(itertools.islice(cutouts, at_once)))
            yield block


def _rows_of(frame: SkyFrame, rows: slice) -> SkyFrame:
    return SkyFrame(frame.ra[rows], frame.dec[rows], frame.x[rows], frame.y[rows], frame.jacobian[rows], frame.pixel_scale_arcsec)
