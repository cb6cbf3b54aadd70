"""What workers do: pure functions, plain arguments in, one file or a modest answer out. No Dask here.

A worker builds a simulator or loads a bundle once and keeps it for all its tasks.
"""

__all__ = ["InferenceJob", "draw_simulations", "infer_partition", "part_counts", "prepare_worker", "read_part", "simulate_shard"]

import contextlib
import functools
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astroflow.catalogs.derived import summarize_derived
from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table, write_parquet
from astroflow.catalogs.sky import SkyFrame
from astroflow.catalogs.sources import Partition, Source
from astroflow.errors import BundleError, InputError
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.exact.certify import recertified
from astroflow.sims.recipe import simulator_from_data
from astroflow.sims.simulator import Simulator
from astroflow.training.training_set import TrainingSet
from astroflow.types import Array, Simulation

if TYPE_CHECKING:
    import pyarrow as pa

    from astroflow.posteriors.posterior import Posterior

BLOCK_ROWS = 512
BLOCK_BYTES = 200_000_000
"""Cutouts that are held at once: wide ones, of recipes with large binnings, come in smaller blocks."""
CUTOUT_BYTES = 9  # a pixel's value, noise and mask


@dataclass(frozen=True)
class InferenceJob:
    """What every task of a catalog run needs to know.

    `bundle` and `digest` name the posterior, `out` is the folder of the parts; with `certify`, rows get certificates from as many draws,
    and those that fail are refined with at most `refine_budget` evaluations of the likelihood each, unless that is 0.
    """

    bundle: str
    digest: str
    out: str
    n_draws: int
    seed: int
    keep_samples: bool
    certify: bool = False
    refine_budget: int = 0
    information: dict[str, str] = field(default_factory=dict)

    def part(self, index: int) -> Path:
        """Return the file of a partition."""
        return Path(self.out) / f"part-{index:05d}.parquet"


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
def _posterior(bundle: str, digest: str) -> "Posterior":
    """Load a bundle once per process. The digest is part of the key, so that a replaced bundle is seen."""
    from astroflow.posteriors.bundle import load_posterior

    posterior = load_posterior(bundle)
    if posterior.digest != digest:
        raise BundleError(f"{bundle} has changed since this run began: its digest is {posterior.digest[:12]}, expected {digest[:12]}")
    return posterior


def prepare_worker(bundle: str, digest: str) -> None:
    """Give TensorFlow one thread in this process and load the bundle, before the first task."""
    from astroflow.networks.loading import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    # a process that has run TensorFlow already keeps its threads
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    _posterior(bundle, digest)


def infer_partition(source: Source, partition: Partition, job: InferenceJob) -> dict[str, int]:
    """Read, infer and write one partition of a catalog; return counts of rows by quality.

    A partition whose file is complete already is only counted.
    """
    path = job.part(partition.index)
    if not path.exists():
        write_parquet(_inferred(source, partition, job), path)
    return part_counts(path)


def part_counts(path: Path) -> dict[str, int]:
    """Count the rows of a part, good, suspect and unusable.

    Raises
    ------
    InputError
        If the part cannot be read.
    """
    values = np.asarray(read_part(path, ["quality"]).column("quality"))
    return {"rows": len(values)} | {name: int((values == k).sum()) for k, name in enumerate(("good", "suspect", "unusable"))}


def read_part(path: Path, columns: list[str]) -> "pa.Table":
    """Read columns of a part.

    Raises
    ------
    InputError
        If the part is damaged, or no part of a posterior catalog.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path, columns=columns).select(columns)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(
            f"{path} is no part of a posterior catalog, or damaged ({error}); remove it and run `astroflow infer` again"
        ) from None


def _inferred(source: Source, partition: Partition, job: InferenceJob) -> "pa.Table":
    import pyarrow as pa

    posterior = _posterior(job.bundle, job.digest)
    side = posterior.stamp.size * max(posterior.stamp.binning)
    cutouts = source.read(partition, side)
    at_once = min(BLOCK_ROWS, max(1, BLOCK_BYTES // (CUTOUT_BYTES * side**2)))
    frame = source.sky_frame(partition)
    positions = source.only(partition).positions()
    tables = []
    for start in range(0, len(partition), at_once):
        block = list(itertools.islice(cutouts, at_once))
        rows = slice(start, start + len(block))
        encoded = posterior.encode(block)
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
                certificate = recertified(posterior, encoded, certificate, refined)
            judged |= certificate.columns()
            marks = certificate.flags()
        columns, flags = posterior.summary_columns(encoded, draws)
        columns |= judged
        flags |= marks
        zero_points = np.array([cutout.zero_point for cutout in block])
        columns |= summarize_derived(draws, posterior.parameters, zero_points, _rows_of(frame, rows))
        info = RowInfo(
            row_index=np.asarray(partition.rows)[rows], ids=encoded.framed.stamps.ids, ra=positions.ra[rows], dec=positions.dec[rows],
            x=frame.x[rows], y=frame.y[rows], snr=encoded.snr, binning=encoded.framed.stamps.binning, flags=flags,
            notes=np.array(encoded.framed.notes),
        )  # fmt: skip
        samples = draws if job.keep_samples else None
        tables.append(
            build_posterior_table(posterior.parameters, info, columns, bundle=job.digest, samples=samples, information=job.information)
        )
    return pa.concat_tables(tables)


def _rows_of(frame: SkyFrame, rows: slice) -> SkyFrame:
    return SkyFrame(frame.ra[rows], frame.dec[rows], frame.x[rows], frame.y[rows], frame.jacobian[rows], frame.pixel_scale_arcsec)
