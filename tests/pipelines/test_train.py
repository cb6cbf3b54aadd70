import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from safetensors.numpy import load_file

from astroflow.errors import ConfigError, IncompleteError, InputError, OutputError
from astroflow.pipelines.train import train


@contextlib.contextmanager
def running(recipe, data, out):
    """The command in a process group of its own, which is killed at the end whatever happens."""
    command = [sys.executable, "-m", "astroflow.cli", "train", str(recipe), "--data", str(data), "--out", str(out), "--json"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=out.parent)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_another_epoch(checkpoint, process):
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    deadline = time.monotonic() + 120
    while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_a_killed_training_ends_as_an_undisturbed_one(recipe_folder, small_training_set, small_bundle, tmp_path):
    """Killed as soon as an epoch is saved, and in the middle of another; `small_bundle` is the undisturbed run."""
    out, rng = tmp_path / "bundle", random.Random(3)
    arguments = (recipe_folder / "estimator.yaml", small_training_set.path, out)
    checkpoint = tmp_path / "bundle.checkpoint" / "state.safetensors"
    for longest in (0.0, 0.4):
        with running(*arguments) as process:
            wait_for_another_epoch(checkpoint, process)
            time.sleep(rng.uniform(0, longest))
            os.killpg(process.pid, signal.SIGKILL)
        assert not (out / "manifest.json").exists()
    with running(*arguments) as process:
        printed, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    result, undisturbed = json.loads(printed), json.loads((small_bundle / "config.json").read_text())["training"]
    assert result["held_out_log_score"] == pytest.approx(undisturbed["held_out_log_score"], rel=1e-5)
    history, other = (json.loads((folder / "history.json").read_text()) for folder in (out, small_bundle))
    assert [epoch["epoch"] for epoch in history] == [epoch["epoch"] for epoch in other]
    assert [epoch["val_loss"] for epoch in history] == pytest.approx([epoch["val_loss"] for epoch in other], rel=1e-5)
    one, two = (load_file(folder / "weights.safetensors") for folder in (out, small_bundle))
    assert set(one) == set(two)
    for name, value in one.items():
        assert value == pytest.approx(two[name], rel=1e-3, abs=1e-4), name
    assert (out / "learning_curve.png").stat().st_size > 5000
    assert not [file for file in tmp_path.rglob(".*")]


@pytest.fixture
def finished(small_bundle, tmp_path):
    return shutil.copytree(small_bundle, tmp_path / "bundle")


def test_a_bundle_that_is_there_is_kept_and_completed(finished, recipe_folder, small_training_set, small_posterior, digests):
    """A training may have been killed between the bundle and its learning curve."""
    before = digests(finished)
    posterior = train(recipe_folder / "estimator.yaml", out=finished, data=small_training_set.path, seed=0)
    assert posterior.digest == small_posterior.digest
    assert (finished / "learning_curve.png").stat().st_size > 5000
    assert {name: value for name, value in digests(finished).items() if name != "learning_curve.png"} == before


def test_another_training_does_not_replace_a_bundle(finished, recipe_folder, small_training_set, digests):
    before = digests(finished)
    with pytest.raises(OutputError, match=r"bundle of another training \(seed differ\)"):
        train(recipe_folder / "estimator.yaml", out=finished, data=small_training_set.path, seed=1)
    recipe = yaml.safe_load((recipe_folder / "estimator.yaml").read_text())
    recipe["training"]["epochs"] += 1
    (finished.parent / "longer.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(OutputError, match=r"\(recipe differ\)"):
        train(finished.parent / "longer.yaml", out=finished, data=small_training_set.path, seed=0)
    # without --data the recipe's own simulations would be drawn with another seed
    with pytest.raises(OutputError, match=r"\(recipe, simulation_seed differ\)"):
        train(recipe_folder / "estimator.yaml", out=finished, seed=0)
    assert digests(finished) == before


def test_an_incomplete_training_set_is_to_be_completed_first(recipe_folder, small_training_set, tmp_path):
    data = shutil.copytree(small_training_set.path, tmp_path / "data.zarr")
    (data / "images" / "c" / "1" / "0" / "0" / "0").unlink()
    with pytest.raises(IncompleteError, match=r"lacks 1 of its shards; run `astroflow simulate` again"):
        train(recipe_folder / "estimator.yaml", out=tmp_path / "bundle", data=data)
    with pytest.raises(InputError, match="no training set at"):
        train(recipe_folder / "estimator.yaml", out=tmp_path / "bundle", data=tmp_path / "nowhere.zarr")


def test_a_folder_of_something_else_is_left_alone(recipe_folder, small_training_set, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("one")
    with pytest.raises(OutputError, match="is not empty and holds no bundle"):
        train(recipe_folder / "estimator.yaml", out=tmp_path / "thesis", data=small_training_set.path)
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_fresh_simulations_need_no_training_set(small_forward_model, small_estimator, tmp_path):
    psf = small_forward_model["psf"] | {"fwhm_arcsec": {"kind": "uniform", "low": 0.58, "high": 0.66}}  # few sets of modes to compile
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(small_forward_model | {"engine": "fourier", "psf": psf}))
    data = small_estimator.model_dump(mode="json")
    data["simulations"] = {"simulator": str(tmp_path / "model.yaml"), "n": 192, "mode": "fresh"}
    data["training"] |= {"epochs": 2, "polish": 0}
    (tmp_path / "estimator.yaml").write_text(yaml.safe_dump(data))
    made = train(tmp_path / "estimator.yaml", out=tmp_path / "bundle", seed=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.checkpoint", "estimator.yaml", "model.yaml"]
    assert {name: made.training[name] for name in ("fresh", "simulations", "simulation_seed")} == {
        "fresh": True, "simulations": 192, "simulation_seed": 4,
    }  # fmt: skip
    assert [epoch["step"] for epoch in json.loads((tmp_path / "bundle" / "history.json").read_text())] == [3, 6]
    assert train(tmp_path / "estimator.yaml", out=tmp_path / "bundle", seed=4).digest == made.digest
    with pytest.raises(OutputError, match="of another training"):
        train(tmp_path / "estimator.yaml", out=tmp_path / "bundle", seed=5)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(small_forward_model))
    with pytest.raises(ConfigError, match="fresh simulations need `engine: fourier`"):
        train(tmp_path / "estimator.yaml", out=tmp_path / "other")
