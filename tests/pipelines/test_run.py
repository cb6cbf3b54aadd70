import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.errors import ConfigError, OutputError
from astroflow.pipelines import run as module
from astroflow.pipelines.demo import demo
from astroflow.pipelines.run import run


@pytest.fixture(scope="module")
def recipe(recipe_folder, survey, tmp_path_factory):
    """A whole run as a user would write it; its training is the one of `small_bundle`, but for the seed of its simulations."""
    folder = tmp_path_factory.mktemp("run")
    estimator = yaml.safe_load((recipe_folder / "estimator.yaml").read_text())
    estimator["simulations"]["n"] = 768
    estimator["training"]["epochs"] = 2
    (folder / "estimator.yaml").write_text(yaml.safe_dump(estimator))
    whole = {
        "description": "A small run",
        "train": {"recipe": str(folder / "estimator.yaml"), "seed": 5},
        "validate_on": {"n": 100, "draws": 64, "seed": 6},
        "infer": {"tile": {"catalog": str(survey.recipe), "draws": 64, "report": {"contact_sheet": 6}}},
    }
    (folder / "whole.yaml").write_text(yaml.safe_dump(whole))
    return folder / "whole.yaml"


@pytest.fixture(scope="module")
def finished(recipe, scheduler, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    return out, run(recipe, out=out, scheduler=scheduler)


@pytest.mark.slow
@pytest.mark.dask
def test_every_stage_leaves_its_results(finished):
    out, lines = finished
    assert lines[0].startswith("bundle ")
    assert "trained, held-out log score" in lines[0]
    assert any(line.startswith("coverage of") for line in lines)
    assert any(line.startswith("S/N ") for line in lines)
    assert any(line.startswith("tile: 60 rows, ") and line.endswith(" 2 unusable") for line in lines)
    names = {file.name for file in out.iterdir()}
    assert names == {"bundle", "bundle.checkpoint", "bundle.simulations.zarr", "provenance.json", "tile", "tile_report", "validation"}
    assert {file.name for file in (out / "tile_report").iterdir()} == {"contact_sheet.png", "report.json"}
    assert json.loads((out / "provenance.json").read_text())["recipe"]["train"]["seed"] == 5


def test_the_same_run_again_finds_everything_done(finished, recipe, monkeypatch, digests):
    out, lines = finished
    before = digests(out, without={"provenance.json", "report.json"})
    monkeypatch.setattr(module, "validate", lambda *_, **__: pytest.fail("this validation is there already"))
    again = run(recipe, out=out, scheduler="tcp://127.0.0.1:1")
    assert again[0] == lines[0].replace("trained", "was there already")
    assert again[1:] == lines[1:]
    assert digests(out, without={"provenance.json", "report.json"}) == before


def test_a_bundle_of_another_training_is_not_used(finished, recipe, tmp_path):
    whole = yaml.safe_load(recipe.read_text())
    whole["train"]["seed"] = 8
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(OutputError, match=r"bundle of another training \(seed, simulation_seed differ\)"):
        run(tmp_path / "other.yaml", out=finished[0])


def test_another_validation_is_done_anew(finished, recipe, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "validate", lambda *_, **options: asked.append(options))
    monkeypatch.setattr(module, "summary", lambda _: ["validated"])
    out = shutil.copytree(finished[0], tmp_path / "out")
    whole = yaml.safe_load(recipe.read_text())
    whole["validate_on"]["n"], whole["infer"] = 150, {}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(whole))
    assert run(tmp_path / "more.yaml", out=out)[1:] == ["validated"]
    assert [options["n"] for options in asked] == [150]


def test_folder_names_are_names(recipe, tmp_path):
    whole = yaml.safe_load(recipe.read_text())
    for name in ("bundle", "../elsewhere", "a/b", ""):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(whole | {"infer": {name: whole["infer"]["tile"]}}))
        with pytest.raises(ConfigError, match="`infer`"):
            run(tmp_path / "bad.yaml", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.dask
def test_the_demo_goes_on_to_a_survey_its_catalog_and_a_query(finished, recipe, tmp_path, monkeypatch):
    """What `make demo` does, small; what it shares with the run, training and validation, is there already."""
    monkeypatch.chdir(tmp_path)
    whole = yaml.safe_load(recipe.read_text()) | {"infer": {}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(whole))
    out = Path(shutil.copytree(finished[0], tmp_path / "demo"))
    lines = demo(out, recipe=str(tmp_path / "tiny.yaml"), workers=1)
    table = read_posterior_catalog(out / "inference" / "catalog")
    assert len(table) == 500
    counts = re.fullmatch(
        r"tile: 500 rows in, 500 rows out; (\d+) good, (\d+) suspect, (\d+) unusable", next(line for line in lines if "rows in" in line)
    )
    assert [int(n) for n in counts.groups()] == [int((table["quality"] == k).sum()) for k in range(3)]
    assert int(counts[3]) == 20
    shares = re.fullmatch(
        r"tile: (.+)% of the true parameters lie in 68 % intervals, (.+)% in 95 % intervals",
        next(line for line in lines if "true par" in line),
    )
    # a tiny network on a crowded tile gets 63 %; offsets that count from another place than the catalog's make it 55 %
    assert 58 < float(shares[1]) < 80
    assert float(shares[1]) < float(shares[2]) <= 100
    (query,) = (line for line in lines if line.startswith("query of galaxy"))
    identity, snr = re.fullmatch(r"query of galaxy (\d+): S/N (\d+)", query).groups()
    row = table["id"].tolist().index(int(identity))
    assert float(snr) == pytest.approx(float(table["snr"][row]), rel=0.02)
    assert "coverage of" in "\n".join(lines)
    places = [line[20:].strip() for line in lines[-4:]]
    assert places == [str(out / p) for p in ("bundle", "validation/report.html", "inference/catalog", "query/corner.png")]
    assert all((tmp_path / place).exists() for place in places)
    assert {file.name for file in tmp_path.iterdir()} == {"demo", "tiny.yaml"}
