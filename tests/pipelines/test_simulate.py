import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from astroflow.errors import ConfigError, OutputError
from astroflow.pipelines.simulate import simulate


def stages(out):
    """What writers have staged and not renamed yet, beside the training set or in it."""
    return [f for f in [*out.parent.glob(f".{out.name}.*"), *out.glob(".*")] if f.exists()]


def shards(out):
    return len(list((out / "ids" / "c").glob("*")))


def wait_until(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@contextlib.contextmanager
def running(recipe, out, workers):
    """The command in a process group of its own, which is killed at the end whatever happens."""
    command = [sys.executable, "-m", "astroflow.cli", "simulate", str(recipe), "--n", "1536", "--seed", "5", "--workers", str(workers)]
    process = subprocess.Popen([*command, "--out", str(out)], start_new_session=True, stderr=subprocess.PIPE, text=True, cwd=out.parent)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.dask
def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(recipe_folder, small_training_set, tmp_path, digests):
    """Killed while galaxies are drawn, while a shard is written, and (the main process alone) between shards."""
    out, rng = tmp_path / "simulations.zarr", random.Random(20)
    with running(recipe_folder / "small.yaml", out, 2) as process:
        wait_until(lambda: (out / "zarr.json").exists(), process)
        time.sleep(rng.uniform(0.2, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
    with running(recipe_folder / "small.yaml", out, 2) as process:
        wait_until(lambda: stages(out), process)
        time.sleep(rng.uniform(0, 0.05))
        os.killpg(process.pid, signal.SIGKILL)
    with running(recipe_folder / "small.yaml", out, 1) as process:
        there = shards(out)
        wait_until(lambda: shards(out) > there, process)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.wait()
        # not one of the two is waited for: the orphans of the last run may still write
        with running(recipe_folder / "small.yaml", out, 1) as last:
            said = last.communicate(timeout=120)[1]
            assert last.returncode == 0, said
    assert said.splitlines()[-1].startswith("simulate: 1536/1536 images")
    assert digests(out, without={"provenance.json"}) == digests(small_training_set.path)
    assert stages(out) == []
    assert [file.name for file in tmp_path.iterdir()] == ["simulations.zarr"]
    record = json.loads((out / "provenance.json").read_text())
    assert record["seed"] == 5
    assert record["recipe"]["stamp"]["size"] == 32


@pytest.mark.dask
def test_an_existing_scheduler_makes_the_same_shards(recipe_folder, small_training_set, scheduler, tmp_path):
    """Ids and the seed decide, not the size of the set: its first rows are those of a larger one."""
    data = simulate(recipe_folder / "small.yaml", n=40, out=tmp_path / "small.zarr", seed=5, scheduler=scheduler)
    made, larger = data.read(0, 40), small_training_set.read(0, 40)
    for name in ("theta", "images", "psf", "binning", "ids"):
        np.testing.assert_array_equal(getattr(made, name), getattr(larger, name), strict=True)
    # complete: nothing to do, no cluster
    simulate(recipe_folder / "small.yaml", n=40, out=tmp_path / "small.zarr", seed=5, scheduler="tcp://127.0.0.1:1")


def test_another_set_does_not_go_into_the_same_folder(recipe_folder, small_training_set):
    with pytest.raises(OutputError, match=r"another training set \(n, seed differ\)"):
        simulate(recipe_folder / "small.yaml", n=7, out=small_training_set.path, seed=6)


def test_some_galaxies_are_needed(recipe_folder, tmp_path):
    with pytest.raises(ConfigError, match="--n must be at least 1; got 0"):
        simulate(recipe_folder / "small.yaml", n=0, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
