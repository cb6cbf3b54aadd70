import json

import numpy as np
import pytest

import astroflow.pipelines.validate as module
from astroflow.errors import ConfigError
from astroflow.pipelines.validate import summary, validate


@pytest.fixture(scope="module")
def validated(small_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("validated")
    return out, validate(small_bundle, out=out, n=200, n_draws=64, seed=77)


def test_a_report_of_numbers_and_pictures(validated, small_posterior):
    out, report = validated
    assert sorted(file.name for file in out.iterdir()) == ["accuracy.png", "calibration.png", "validation.json"]
    assert all((out / name).stat().st_size > 20_000 for name in ("accuracy.png", "calibration.png"))
    record = json.loads((out / "validation.json").read_text())
    assert record["bundle"] == small_posterior.digest
    assert (record["simulations"], record["draws"], record["provenance"]["seed"], record["simulator"]) == (200, 64, 77, None)
    assert record["passed"] == report.passed
    assert record["summary"] == summary(report)
    assert record["names"] == [*small_posterior.parameters.names, "joint"]
    assert record["unusable"] + len(report.pit) == 200
    assert record["unusable"] <= 10
    assert np.isfinite(record["gain_over_baseline"]["mean"])
    fraction = np.array(record["coverage"]["fraction"])
    assert ((fraction >= 0) & (fraction <= 1)).all()
    assert (np.diff(fraction, axis=0) >= 0).all()


def test_a_spoilt_bundle_does_not_pass(other_bundle, validated, tmp_path):
    report = validate(other_bundle, out=tmp_path, n=200, n_draws=64, seed=77)
    assert not report.passed
    assert any(line.startswith("FAIL") for line in report.verdict)
    assert report.log_score.mean < validated[1].log_score.mean
    assert json.loads((tmp_path / "validation.json").read_text())["passed"] is False


def test_workers_draw_the_same_simulations(small_bundle, validated, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEAST_SHARED", 0)
    monkeypatch.setattr(module, "BLOCK", 30)
    shared = validate(small_bundle, out=tmp_path, n=200, n_draws=64, seed=77, workers=2)
    np.testing.assert_array_equal(shared.pit, validated[1].pit)


def test_the_training_simulations_are_no_test(small_bundle, tmp_path):
    with pytest.raises(ConfigError, match="--seed 5 is the seed of the training simulations"):
        validate(small_bundle, out=tmp_path, n=200, seed=5)
    assert not list(tmp_path.iterdir())


def test_too_few_simulations_say_nothing(small_bundle, tmp_path):
    with pytest.raises(ConfigError, match="at least 100"):
        validate(small_bundle, out=tmp_path, n=20, seed=77)
    with pytest.raises(ConfigError, match="at least 32"):
        validate(small_bundle, out=tmp_path, n=200, n_draws=8, seed=77)
