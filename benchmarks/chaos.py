"""Catalog runs that are disturbed at random moments, resumed, and compared byte by byte with one that nothing happened to.

Each run infers the same tile on a cluster of two workers, with a tiny bundle. In the middle of it, at a moment that its seed says, one
thing goes wrong: workers are killed or frozen, the scheduler or the driver is killed, the disk is full for a while, or a file of the tile
is cut short. The run is then started again until it ends. It must verify against its input, and its parts must be those of the calm run.

Every finished run is a line of ``results.jsonl``; running the command again goes on with the seeds that are missing. The disk that fills up
is a small tmpfs, which needs the right to mount; without it that disturbance is left out, and said to be.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from pyarrow import parquet

ASTROFLOW = Path(sys.executable).with_name("astroflow")
DASK = Path(sys.executable).with_name("dask")
SEED, OBJECTS, COPIES, DRAWS, ROWS = 61, 144, 25, 64, 200
SIMULATOR: dict[str, Any] = {
    "stamp": {"size": 32, "pixel_scale_arcsec": 0.2, "zero_point": 27.0, "psf_size": 17},
    "galaxy": {
        "kind": "sersic",
        "n": {"kind": "log_uniform", "low": 0.7, "high": 2.5},
        "n_table": 8,
        "re_arcsec": {"kind": "size_magnitude", "low": 0.15, "high": 2.0},
    },
    "psf": {"kind": "moffat", "fwhm_arcsec": {"kind": "normal", "mean": 0.7, "sd": 0.1, "low": 0.5, "high": 0.9}, "beta": 3.0},
    "noise": {"kind": "ccd", "sky": 2.0, "gain": 300.0, "read_noise_electrons": 8.0},
}
RECIPE: dict[str, Any] = {
    "summary": {"channels": {"image": [8, 16], "psf": [8]}, "dense": [32], "context": 16},
    "flow": {"layers": 2, "hidden": [16]},
    "training": {"epochs": 2},
}
DISK_MEGABYTES = 48
RESUMES = 6
"""Starts of one run before it counts as one that does not come to its end."""
ENDED = {0: "done", 4: "incomplete", -signal.SIGKILL: "killed"}


class Cluster:
    """A scheduler and two workers, each a process of its own, which are started again when they have died."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[bytes]]()
        self.log = open(folder / "cluster.log", "ab")  # noqa: SIM115
        # a worker that is silent for so long counts as lost, so that one that is thawed finds its work done by others;
        # one that loads a bundle is silent too
        quick = {"SCHEDULER__WORKER_TTL": "45s", "WORKER__LIFETIME__RESTART": "False", "COMM__TIMEOUTS__CONNECT": "20s"}
        self.environment = os.environ | {f"DASK_DISTRIBUTED__{name}": value for name, value in quick.items()}
        self.address = ""

    def ready(self) -> str:
        """Return the address of a cluster whose processes all live."""
        if not self.processes or any(process.poll() is not None for process in self.processes):
            self.stop()
            file = self.folder / "scheduler.json"
            file.unlink(missing_ok=True)
            self._start("scheduler", "--port", "0", "--scheduler-file", file, "--host", "127.0.0.1", "--no-dashboard")
            while not file.exists() or not file.read_text():
                time.sleep(0.1)
            self.address = json.loads(file.read_text())["address"]
            self._start_workers()
        return self.address

    def mend(self) -> None:
        """Start workers again if those who watch over them have died too, as a batch system would: a scheduler waits for them for ever."""
        if self.processes[0].poll() is None and self.processes[1].poll() is not None:
            self.processes.pop()
            self._start_workers()

    def _start_workers(self) -> None:
        options = ["--nworkers", "2", "--nthreads", "1", "--death-timeout", "120", "--host", "127.0.0.1", "--no-dashboard"]
        self._start("worker", self.address, *options)

    def _start(self, *words: Any) -> None:
        self.processes.append(
            subprocess.Popen([DASK, *map(str, words)], stdout=self.log, stderr=self.log, env=self.environment, cwd=self.folder)
        )

    def workers(self) -> list[psutil.Process]:
        """Return the processes that work, not those that watch over them."""
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            found = psutil.Process(self.processes[1].pid).children(recursive=True)
            return [one for one in found if "resource_tracker" not in " ".join(one.cmdline())]
        return []

    def kill_scheduler(self) -> None:
        self.processes[0].kill()

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            process.wait()
        self.processes = []


def prepare(folder: Path) -> tuple[Path, Path]:
    """Return a tiny bundle and a survey's recipe, made unless they are there. Its rows are few galaxies under many ids."""
    import yaml

    from astroflow.networks.loading import import_tensorflow

    bundle, recipe = folder / "bundle", folder / "survey" / "survey.yaml"
    if (bundle / "manifest.json").exists() and recipe.exists():
        return bundle, recipe
    import_tensorflow()
    from astroflow.catalogs.mock_survey import write_mock_survey
    from astroflow.config import parse_recipe
    from astroflow.sims.recipe import build_simulator
    from astroflow.training.fit import train_posterior
    from astroflow.training.recipe import EstimatorRecipe
    from astroflow.training.training_set import TrainingSet

    simulator, data = build_simulator(SIMULATOR, "chaos")
    (folder / "simulator.yaml").write_text(yaml.safe_dump(data))
    stored = TrainingSet.create(folder / "data.zarr", n=512, seed=SEED, recipe=data, parameters=simulator.parameters, stamp=simulator.stamp)
    for shard in stored.shards:
        stored.write(shard, simulator.draw_noiseless(np.asarray(stored.rows(shard)), SEED))
    estimator = RECIPE | {"simulations": {"simulator": str(folder / "simulator.yaml")}}
    train_posterior(parse_recipe(EstimatorRecipe, estimator, "chaos"), stored, bundle, SEED)
    survey = write_mock_survey(simulator, folder / "survey", OBJECTS, SEED)
    table = parquet.read_table(survey.catalog)
    many = pa.concat_tables([table.set_column(0, "id", pa.array(np.asarray(table["id"]) + 10_000 * k)) for k in range(COPIES)])
    parquet.write_table(many, survey.catalog)
    return bundle, recipe


def command(recipe: Path, bundle: Path, out: Path, address: str) -> list[str]:
    options = ["--draws", DRAWS, "--rows-per-partition", ROWS, "--scheduler", address]
    return [str(word) for word in (ASTROFLOW, "infer", recipe, "--bundle", bundle, "--out", out, *options)]


def parts(out: Path) -> dict[str, str]:
    """Return the digests of the catalog's files, those left out that tell when they were made."""
    files = [file for file in sorted((out / "catalog").rglob("*")) if file.is_file() and not file.name.endswith("properties")]
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Yield a folder on a disk of its own, or None where nothing can be mounted."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)  # what a killed run has left
    options = ["-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def fill(disk: Path) -> Path:
    """Take all that is left of a disk."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)
    return filler


def disturb(
    what: str, chance: random.Random, window: float, cluster: Cluster, driver: subprocess.Popen[bytes], recipe: Path, disk: Path | None
) -> bool:
    """Wait for a moment, and do it; what is only disturbed for a while is put right again. Say whether the run was still going on."""
    time.sleep(chance.uniform(0, window))
    met = driver.poll() is None and (what not in ("workers", "freeze") or bool(cluster.workers()))
    if what == "driver":
        driver.kill()
    elif what == "scheduler":
        cluster.kill_scheduler()
    elif what == "workers":
        for _ in range(chance.randint(1, 3)):
            for worker in chance.sample(cluster.workers(), k=min(len(cluster.workers()), chance.randint(1, 2))):
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            time.sleep(chance.uniform(0.5, 6))
    elif what == "freeze":
        frozen = cluster.workers()[:1]
        for worker in frozen:
            worker.suspend()
        time.sleep(chance.choice([chance.uniform(1, 12), 60]))
        for worker in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()
    elif what == "disk" and disk is not None:
        filler = fill(disk)
        time.sleep(chance.uniform(1, 12))
        filler.unlink()
    elif what == "source":
        tile = recipe.with_name("tile.fits")
        when, content = tile.stat(), tile.read_bytes()
        os.truncate(tile, len(content) // 2)
        time.sleep(chance.uniform(0.5, 5))
        with open(tile, "r+b") as file:
            file.write(content)
        os.utime(tile, ns=(when.st_atime_ns, when.st_mtime_ns))
    return met


def disturbed_run(seed: int, folder: Path, survey: Path, bundle: Path, cluster: Cluster, disk: Path | None, calm: dict[str, Any]) -> Any:
    """Make one run, and return what came of it."""
    chance = random.Random(seed)
    kinds = ["workers", "freeze", "scheduler", "driver", "source"] + (["disk"] if disk is not None else [])
    what = kinds[seed % len(kinds)]
    place = disk if what == "disk" and disk is not None else folder
    out, copy = place / f"run{seed}", folder / f"survey{seed}"
    for leftover in (out, copy):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(survey.parent, copy)
    recipe = copy / survey.name
    codes, problems, met = [], [], False
    with open(folder / "driver.log", "ab") as log:
        for start in range(RESUMES):
            log.write(f"--- {seed} {what} start {start}\n".encode())
            log.flush()
            driver = subprocess.Popen(command(recipe, bundle, out, cluster.ready()), stdout=log, stderr=log)
            if start == 0:
                met = disturb(what, chance, calm["seconds"], cluster, driver, recipe, disk)
            while driver.poll() is None:
                time.sleep(0.5)
                cluster.mend()
            codes.append(ENDED.get(driver.returncode, str(driver.returncode)))
            if codes[-1] == "done":
                break
    # a scheduler that dies before the driver has reached it is one that is not there: a wrong address, for all that the driver knows
    unexpected = set(codes) - set(ENDED.values()) - ({"2"} if what == "scheduler" else set())
    if unexpected:
        problems.append(f"ended with {', '.join(sorted(unexpected))}")
    if codes[-1] != "done":
        problems.append("did not come to its end")
    else:
        checked = subprocess.run([ASTROFLOW, "verify", out, "--against", recipe], capture_output=True, text=True)
        if checked.returncode != 0:
            problems.append(f"does not verify: {checked.stderr.strip().splitlines()[-1]}")
        found = parts(out)
        if found != calm["parts"]:
            differ = {name for name in {*found, *calm["parts"]} if found.get(name) != calm["parts"].get(name)}
            problems.append(f"other bytes in {', '.join(sorted(differ)[:3])}")
    if not problems:
        for leftover in (out, copy):
            shutil.rmtree(leftover)
    return {"seed": seed, "what": what, "met": met, "starts": codes, "problems": problems}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/chaos"))
    given = parser.parse_args()
    folder = given.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bundle, survey = prepare(folder)
    cluster, results = Cluster(folder), folder / "results.jsonl"
    try:
        calm_out, record = folder / "calm", folder / "calm.json"
        if not record.exists():
            shutil.rmtree(calm_out, ignore_errors=True)
            seconds = []
            for out in (folder / "first", calm_out):  # the first one starts the workers and loads their bundle
                begin = time.monotonic()
                subprocess.run(command(survey, bundle, out, cluster.ready()), check=True)
                seconds.append(time.monotonic() - begin)
            if parts(folder / "first") != parts(calm_out):
                raise SystemExit("two calm runs differ: nothing can be compared with them")
            shutil.rmtree(folder / "first")
            record.write_text(json.dumps({"seconds": seconds[1], "parts": parts(calm_out)}))
        calm = json.loads(record.read_text())
        done = {json.loads(line)["seed"] for line in results.read_text().splitlines()} if results.exists() else set()
        with small_disk(folder / "disk") as disk:
            if disk is None:
                print("no disk can be mounted here: full disks are left out", file=sys.stderr)
            for seed in range(given.runs):
                if seed in done:
                    continue
                begin = time.monotonic()
                found = disturbed_run(seed, folder, survey, bundle, cluster, disk, calm)
                with open(results, "a") as file:
                    file.write(json.dumps(found | {"seconds": round(time.monotonic() - begin, 1)}) + "\n")
                print(f"{seed:4d} {found['what']:9s} {' '.join(found['starts']):30s} {'; '.join(found['problems']) or 'good'}", flush=True)
    finally:
        cluster.stop()
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    for what in sorted({line["what"] for line in lines}):
        of = [line for line in lines if line["what"] == what]
        again, bad = sum(len(line["starts"]) > 1 for line in of), sum(bool(line["problems"]) for line in of)
        met = sum(line["met"] for line in of)
        print(f"{what:9s} {len(of):4d} runs, {met:4d} disturbed before their end, {again:4d} started again, {bad} with problems")


if __name__ == "__main__":
    main()
