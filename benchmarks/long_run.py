"""A catalog run of a million rows on this machine: rows a second, memory of every process over time, and what the engine costs.

The survey is synthetic: a few tiles of mock galaxies, each asked for at many positions that differ by less than a pixel, so that the images
fit on a disk while every row is a question of its own. `astroflow infer` is watched from outside; before and after it, the same rows go
through a bare loop, in as many processes as the run has workers: read, infer, write Parquet, and nothing that makes a run safe.

Everything is below ``--out``; the survey is made once. Prints the figures, and writes ``long_run.json`` and ``long_run.png``.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ASTROFLOW = Path(sys.executable).with_name("astroflow")
SEED, DRAWS = 71, 256
TILES, GALAXIES, PER_PARTITION = 8, 2500, 20_000
BARE_ROWS = 6000
"""Rows of the bare loop, in each process."""
LARGE = 300e6
"""Bytes; smaller processes are helpers of Python's."""


def make_survey(folder: Path, bundle: Path, rows: int) -> Path:
    """Write tiles of a bundle's forward model and a table of so many rows; return its recipe."""
    import pyarrow as pa
    import yaml
    from astropy.io import fits
    from astropy.wcs import WCS

    from astroflow.catalogs.mock_survey import write_mock_survey
    from astroflow.catalogs.parts import write_parquet
    from astroflow.sims.recipe import simulator_from_data

    recipe = folder / "survey.yaml"
    if recipe.exists():
        return recipe
    data = json.loads((bundle / "config.json").read_text())["forward_model"]
    simulator = simulator_from_data(data)
    rng = np.random.default_rng(SEED)
    columns: dict[str, list[np.ndarray]] = {"ra": [], "dec": [], "tile": []}
    for number in range(TILES):
        files = write_mock_survey(simulator, folder / f"tile{number}", GALAXIES, seed=SEED + number)
        for name in ("image", "noise", "mask"):
            with fits.open(getattr(files, name), mode="update") as opened:
                opened[0].header["CRVAL1"] += 1.0 * number  # side by side on the sky
        with fits.open(files.image) as opened:
            header, shape = opened[0].header, opened[0].data.shape
        from pyarrow import parquet

        truth = parquet.read_table(files.truth)
        n = rows * (number + 1) // TILES - rows * number // TILES
        which = np.arange(n) % GALAXIES
        x, y = (truth.column(name).to_numpy()[which] + rng.uniform(-0.5, 0.5, n) for name in ("x_corner", "y_corner"))
        off = np.array(truth.column("trouble").to_pylist())[which] == "off the tile"
        ra, dec = WCS(header).all_pix2world(x, np.where(off, y + 10 * shape[0], y), 0)
        for name, values in (("ra", ra), ("dec", dec), ("tile", np.full(n, f"tile{number}"))):
            columns[name].append(values)
        described = yaml.safe_load(files.recipe.read_text())
    table: dict[str, Any] = {name: np.concatenate(values) for name, values in columns.items()}
    order = rng.permutation(rows)  # a table need not be in the order of the sky
    table = {"id": 10_000_000_000 + np.arange(rows)} | {name: values[order] for name, values in table.items()}
    write_parquet(pa.table(table | {"tile": table["tile"].tolist()}), folder / "table.parquet")
    described["table"]["path"] = "table.parquet"
    described["columns"] |= {"tile": "tile"}
    for part in ("image", "noise", "mask", "psf"):
        described[part]["path"] = "{tile}/" + described[part]["path"]
    recipe.write_text(yaml.safe_dump(described, sort_keys=False))
    return recipe


class Memory(threading.Thread):
    """Looks at the memory of a process and its children every few seconds."""

    def __init__(self, pid: int, every: float) -> None:
        super().__init__(daemon=True)
        self.root, self.every, self.begin = psutil.Process(pid), every, time.time()
        self.found: dict[int, list[tuple[float, int]]] = {}

    def run(self) -> None:
        while self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE:
            for process in [self.root, *self.root.children(recursive=True)]:
                try:
                    used = process.memory_info().rss
                except psutil.Error:
                    continue
                self.found.setdefault(process.pid, []).append((time.time() - self.begin, used))
            time.sleep(self.every)

    def workers(self) -> list[np.ndarray]:
        """Return ``(seconds, bytes)`` of each large child that lived for most of the time."""
        everything = [np.array(found) for pid, found in self.found.items() if pid != self.root.pid]
        longest = max(len(found) for found in everything)
        return [found for found in everything if len(found) > longest / 2 and found[:, 1].max() > LARGE]

    def driver(self) -> np.ndarray:
        """Return ``(seconds, bytes)`` of the process itself."""
        return np.array(self.found[self.root.pid])


def growth(found: np.ndarray, begin: float, end: float) -> float:
    """Return by how much a process's memory is larger in the last fifth of the time than in the second, as a share."""
    share = (found[:, 0] - begin) / (end - begin)
    early, late = (np.median(found[(share >= low) & (share < low + 0.2), 1]) for low in (0.2, 0.8))
    return float(late / early - 1)


def bare(recipe: str, bundle: str, number: int, n: int, start: Any, answers: Any) -> None:
    """Read, infer and write rows without any of what makes a run safe, in a process of one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from astroflow.catalogs.parts import parquet_bytes
    from astroflow.catalogs.recipe import load_catalog
    from astroflow.catalogs.sources import open_source
    from astroflow.pipelines.catalog_run.ledger import Ledger
    from astroflow.pipelines.tasks import InferenceJob, infer_rows, prepare_worker
    from astroflow.posteriors.bundle import bundle_digest
    from astroflow.provenance import deciding_versions

    digest = bundle_digest(Path(bundle))
    prepare_worker(bundle, digest, deciding_versions())
    source = open_source(load_catalog(recipe))
    job = InferenceJob(bundle, digest, Ledger(Path("nowhere"), "bare"), DRAWS, 0, False, by_sky=True)
    partition = source.partitions(n, by_sky=True)[number]
    own = source.only(partition)
    del source
    infer_rows(own, own.partitions(512, by_sky=True)[0], job)  # compiles
    start.wait()
    begin = time.perf_counter()
    table = infer_rows(own, partition, job)
    Path(f"{recipe}.bare{number}").write_bytes(parquet_bytes(table))
    answers.put(len(partition) / (time.perf_counter() - begin))
    Path(f"{recipe}.bare{number}").unlink()


def bare_rate(recipe: Path, bundle: Path, processes: int) -> float:
    """Return rows a second of the bare loop."""
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(processes), spawn.Queue()
    running = [spawn.Process(target=bare, args=(str(recipe), str(bundle), k, BARE_ROWS, start, answers)) for k in range(processes)]
    for process in running:
        process.start()
    rates = [answers.get() for _ in running]
    for process in running:
        process.join()
    return sum(rates)


def watched_run(recipe: Path, bundle: Path, out: Path, workers: int, every: float) -> tuple[Memory, dict[str, Any]]:
    """Run `astroflow infer` and look at it."""
    shutil.rmtree(out, ignore_errors=True)
    command = [ASTROFLOW, "infer", recipe, "--bundle", bundle, "--out", out, "--workers", str(workers), "--draws", str(DRAWS)]
    command += ["--rows-per-partition", str(PER_PARTITION)]
    begin = time.time()
    with open(out.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        memory = Memory(process.pid, every)
        memory.start()
        code = process.wait()
    seconds = time.time() - begin
    if code:
        raise SystemExit(f"infer ended with exit code {code}; see {out.with_suffix('.log')}")
    lines = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    times = np.array([line["time"] for line in lines if "part" in line]) - begin
    done = np.cumsum([line["rows"] for line in lines if "part" in line])
    # from the first of the parts, when every worker is busy, to where the last ones are not all there
    steady = slice(workers, len(times) - workers)
    rate = (done[steady][-1] - done[steady][0]) / (times[steady][-1] - times[steady][0])
    facts = {
        "seconds": seconds,
        "rows": int(done[-1]),
        "parts": len(times),
        "steady_rate": float(rate),
        "whole_rate": float(done[-1] / seconds),
    }
    return memory, facts | {"steady": [float(times[steady][0]), float(times[steady][-1])], "times": times.tolist(), "done": done.tolist()}


def draw(memory: Memory, facts: dict[str, Any], path: Path) -> None:
    """Draw rows and memory over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(np.array(facts["times"]) / 60, np.array(facts["done"]) / 1e6)
    top.set_ylabel("million rows done")
    bottom.plot(memory.driver()[:, 0] / 60, memory.driver()[:, 1] / 1e9, label="driver")
    for number, found in enumerate(memory.workers()):
        bottom.plot(found[:, 0] / 60, found[:, 1] / 1e9, label=f"worker {number + 1}")
    bottom.set_ylim(0)
    bottom.set_xlabel("minutes")
    bottom.set_ylabel("resident memory [GB]")
    bottom.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("benchmarks/reference_bundle"))
    parser.add_argument("--out", type=Path, default=Path("runs/long"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--every", type=float, default=5.0, help="seconds between looks at the memory")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    recipe = make_survey(asked.out / f"survey{asked.rows}", asked.bundle, asked.rows)
    before = bare_rate(recipe, asked.bundle, asked.workers)
    print(f"bare loop before: {before:.0f} rows/s in {asked.workers} processes", flush=True)
    memory, facts = watched_run(recipe, asked.bundle, asked.out / "run", asked.workers, asked.every)
    after = bare_rate(recipe, asked.bundle, asked.workers)
    print(f"bare loop after:  {after:.0f} rows/s")
    begin, end = facts["steady"]
    grown = [growth(found, begin, end) for found in memory.workers()]
    facts |= {"bare": [before, after], "overhead": (before + after) / 2 / facts["steady_rate"] - 1, "workers_growth": grown}
    facts |= {"driver_growth": growth(memory.driver(), begin, end), "driver_peak": float(memory.driver()[:, 1].max())}
    facts["workers_peak"] = [float(found[:, 1].max()) for found in memory.workers()]
    (asked.out / "long_run.json").write_text(json.dumps(facts, indent=1))
    draw(memory, facts, asked.out / "long_run.png")
    print(f"{facts['rows']:,} rows in {facts['seconds']:.0f} s: {facts['whole_rate']:.0f} rows/s with start and end")
    print(f"steady: {facts['steady_rate']:.0f} rows/s; the engine costs {facts['overhead']:+.1%} over the bare loop")
    peaks = ", ".join(f"{peak / 1e9:.2f}" for peak in facts["workers_peak"])
    print(f"workers: at most {peaks} GB, growing by {', '.join(f'{one:+.1%}' for one in grown)} from the second fifth to the last")
    print(f"driver: at most {facts['driver_peak'] / 1e9:.2f} GB, growing by {facts['driver_growth']:+.1%}")


if __name__ == "__main__":
    main()
