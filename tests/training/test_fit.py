import json
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

import astroflow.training.fit as fit
import astroflow.training.members as members
from astroflow.config import parse_recipe
from astroflow.errors import ConfigError, OutputError
from astroflow.posteriors.bundle import load_posterior
from astroflow.training.fit import train_posterior
from astroflow.training.fresh import FreshFeed
from astroflow.training.loop import TrainingResult
from astroflow.training.recipe import EstimatorRecipe

TINY = {
    "simulations": {"simulator": "small"},
    "summary": {"channels": {"image": [4], "psf": [2]}, "blocks": 0, "dense": [8], "context": 4},
    "flow": {"layers": 1, "hidden": [8]},
    "training": {"epochs": 3, "batch_size": 256, "learning_rate": 3e-3, "polish": 0},
}


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def tiny():
    return parse_recipe(EstimatorRecipe, TINY, "tiny")


@pytest.fixture
def stopped(monkeypatch):
    """Stop where the training would begin, and keep what it would begin with."""
    seen = {}

    def begin(estimator, feed, held_out, recipe, checkpoint, progress):
        seen.update(estimator=estimator, feed=feed, checkpoint=checkpoint)
        raise KilledError

    monkeypatch.setattr(members, "fit_estimator", begin)
    return seen


def test_the_bundle_says_how_it_was_trained(small_posterior, small_bundle, small_training_set, small_estimator, small_forward_model):
    record = small_posterior.training
    assert (record["seed"], record["simulations"], record["simulation_seed"], record["held_out"]) == (0, 1536, 5, 77)
    assert record["turns"] is True
    assert EstimatorRecipe.model_validate(record["recipe"]) == small_estimator
    assert record["versions"]["tensorflow"].startswith("2.21")
    assert small_posterior.forward_model == small_forward_model == small_training_set.recipe
    history = json.loads((small_bundle / "history.json").read_text())
    assert len(history) == record["epochs"]
    scores = [-h["val_loss"] for h in history]
    assert record["best_epoch"] == int(np.argmax(scores))
    assert record["held_out_log_score"] >= max(scores) - 1e-4, "polishing is only kept where it helps"


def test_training_learns(small_posterior, small_simulator, small_training_set):
    history_gain = small_posterior.training["held_out_log_score"]
    prior = small_simulator.parameters.prior.log_prob(small_training_set.read(1459, 1536).theta.astype(np.float64)).mean()
    assert history_gain > prior + 4


def test_a_killed_training_ends_with_the_same_bundle(tiny, small_training_set, tmp_path):
    one, _ = train_posterior(tiny, small_training_set, tmp_path / "one", seed=2)

    def kill(stage, done, total, figures):
        if done == 8:  # in the second epoch of five steps each
            raise KilledError

    with pytest.raises(KilledError):
        train_posterior(tiny, small_training_set, tmp_path / "other", seed=2, progress=kill)
    assert not (tmp_path / "other").exists()
    steps = []
    other, result = train_posterior(tiny, small_training_set, tmp_path / "other", seed=2, progress=lambda *args: steps.append(args[:2]))
    assert [done for stage, done in steps if stage == "train"] == list(range(6, 16)), "it goes on after the first epoch"
    assert len(result.history) == 3
    # within rounding: several threads may add up in another order
    first, second = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "other"))
    for before, after in zip(first, second, strict=True):
        assert before == pytest.approx(after, abs=1e-4)
    loaded = load_posterior(tmp_path / "other")
    assert loaded.digest == other.digest
    for name, value in one.estimator.variables.items():
        assert np.allclose(loaded.estimator.variables[name], value, atol=1e-4), name


def test_a_training_killed_among_its_fits_repeats_nothing(small_training_set, tmp_path):
    stage = {
        "linearized": {"steps": 1, "flow": {"layers": 1, "hidden": [8]}},
        "training": TINY["training"] | {"epochs": 1, "polish": 1, "linearized": 3},
    }
    recipe = parse_recipe(EstimatorRecipe, TINY | stage, "tiny")
    one, _ = train_posterior(recipe, small_training_set, tmp_path / "one", seed=2)

    def kill(stage, done, total, figures):
        if stage == "fit" and done > 5:  # in the second epoch of five steps each
            raise KilledError

    with pytest.raises(KilledError):
        train_posterior(recipe, small_training_set, tmp_path / "other", seed=2, progress=kill)
    told = []
    other, _ = train_posterior(recipe, small_training_set, tmp_path / "other", seed=2, progress=lambda *args: told.append(args[:2]))
    assert not {stage for stage, _ in told} & {"train", "polish"}
    assert min(done for stage, done in told if stage == "fit") > 5, "the fits of the first epoch are there"
    assert max(done for stage, done in told if stage == "fit") == 15
    assert not list((tmp_path / "other.checkpoint").glob("fits-*")), "they are no longer needed"
    for name, value in one.linearized.variables.items():
        assert np.allclose(other.linearized.variables[name], value, atol=1e-3), name


def test_an_ensemble_with_a_linearised_stage_is_one_bundle(small_training_set, small_simulator, tmp_path):
    several = {
        "epistemic": {"kind": "ensemble", "members": 2},
        "linearized": {"steps": 1, "flow": {"layers": 1, "hidden": [8]}},
        "training": TINY["training"] | {"epochs": 1, "linearized": 1},
    }
    recipe = parse_recipe(EstimatorRecipe, TINY | several, "tiny")
    posterior, result = train_posterior(recipe, small_training_set, tmp_path / "bundle", seed=2)
    assert [record["member"] for record in result.history] == [0, 1]
    loaded = load_posterior(tmp_path / "bundle")
    stamps = small_simulator.draw(range(9), seed=4).stamps
    assert np.array_equal(loaded.sample(stamps, 16, seed=1), posterior.sample(stamps, 16, seed=1))
    one, other = (loaded.estimator.member(k).variables["layer0/context0"] for k in (0, 1))
    assert not np.allclose(one, other)
    assert loaded.training["held_out_log_score"] == pytest.approx(result.best_score)
    assert loaded.training["recipe"]["epistemic"] == {"kind": "ensemble", "members": 2}


def test_an_elbo_counts_the_galaxies_that_training_sees(tiny, small_training_set, small_forward_model, tmp_path, monkeypatch):
    """Stored ones once, fresh ones always, mixed ones half and half."""
    seen = []

    def begin(estimator, feed, held_out, recipe, seed, simulations, *_):
        seen.append(simulations)
        raise KilledError

    monkeypatch.setattr(fit, "fit_members", begin)
    monkeypatch.setattr(fit, "build_estimator", lambda *_: types.SimpleNamespace(adapt=lambda *_: None))
    monkeypatch.setattr(fit, "_first", lambda feed: {"theta": None, "auxiliary": None})
    monkeypatch.setattr(fit, "as_batch", lambda simulation: {})
    monkeypatch.setattr(FreshFeed, "held_out", lambda self: None)
    fast = small_forward_model | {"engine": "fourier", "psf": small_forward_model["psf"] | {"image_size": 17}}
    data = {"stored": small_training_set, "mixed": replace(small_training_set, recipe=fast), "fresh": fast}
    for mode, given in data.items():
        simulations = tiny.simulations.model_copy(update={"mode": mode, "n": 512})
        with pytest.raises(KilledError):
            train_posterior(tiny.model_copy(update={"simulations": simulations}), given, tmp_path / mode, seed=2)
    assert seen == [1280, 1280 + 3 * 1280, 3 * 512]


def test_the_checkpoint_of_another_run_is_refused(tiny, small_training_set, tmp_path, stopped):
    out = tmp_path / "bundle"
    with pytest.raises(KilledError):
        train_posterior(tiny, small_training_set, out, seed=2)
    assert stopped["checkpoint"] == tmp_path / "bundle.checkpoint" / "state.safetensors"
    with pytest.raises(
        ConfigError, match=r"bundle.checkpoint holds the checkpoint of another training \(seed differ\); remove it, or give another --out"
    ):
        train_posterior(tiny, small_training_set, out, seed=3)
    longer = tiny.model_copy(update={"training": tiny.training.model_copy(update={"epochs": 5})})
    with pytest.raises(ConfigError, match=r"\(recipe differ\)"):
        train_posterior(longer, small_training_set, out, seed=2)
    with pytest.raises(ConfigError, match=r"\(data differ\)"):
        train_posterior(tiny, replace(small_training_set, seed=99), out, seed=2)
    with pytest.raises(KilledError):
        train_posterior(tiny, small_training_set, out, seed=2)


def test_the_posterior_knows_the_noise_correlation_it_was_trained_with(
    tiny, small_training_set, small_forward_model, tmp_path, monkeypatch
):
    rng = np.random.default_rng(0)
    nothing = types.SimpleNamespace(adapt=lambda *_: None, encode=lambda batch: (rng.normal(size=(len(batch["theta"]), 4)), {}))
    monkeypatch.setattr(fit, "build_estimator", lambda *_: nothing)
    monkeypatch.setattr(fit, "fit_members", lambda *_: TrainingResult([], 0, 0.0))
    monkeypatch.setattr(fit, "save_bundle", lambda *_: "digest")
    values = [[0.0, 0.1, 0.0], [0.3, 1.0, 0.3], [0.0, 0.1, 0.0]]
    noise = small_forward_model["noise"] | {"correlation": {"kind": "values", "values": values}}
    for place, recipe, expected in (("one", small_forward_model | {"noise": noise}, values), ("other", small_forward_model, None)):
        posterior, _ = train_posterior(tiny, replace(small_training_set, recipe=recipe), tmp_path / place, seed=2)
        assert np.array_equal(posterior.noise_correlation, expected) if expected else posterior.noise_correlation is None


def test_a_folder_of_something_else_is_refused_before_hours_of_training(tiny, small_training_set, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("Introduction")
    with pytest.raises(OutputError, match="is not empty and holds no bundle; give another --out"):
        train_posterior(tiny, small_training_set, tmp_path / "thesis", seed=2)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis"]


def test_stamps_are_turned_only_where_the_prior_allows_it(tiny, small_training_set, small_forward_model, tmp_path, stopped):
    with pytest.raises(KilledError):
        train_posterior(tiny, small_training_set, tmp_path / "a", seed=2)
    assert stopped["feed"].turns
    galaxy = small_forward_model["galaxy"] | {"dx_arcsec": {"kind": "normal", "mean": 0.05, "sd": 0.1, "low": -0.5, "high": 0.5}}
    lopsided = replace(small_training_set, recipe=small_forward_model | {"galaxy": galaxy})
    with pytest.raises(KilledError):
        train_posterior(tiny, lopsided, tmp_path / "b", seed=2)
    assert not stopped["feed"].turns
    still = tiny.model_copy(update={"training": tiny.training.model_copy(update={"turns": False})})
    with pytest.raises(KilledError):
        train_posterior(still, small_training_set, tmp_path / "c", seed=2)
    assert not stopped["feed"].turns


def test_scales_are_those_of_training_galaxies(tiny, small_training_set, tmp_path, stopped):
    with pytest.raises(KilledError):
        train_posterior(tiny, small_training_set, tmp_path / "a", seed=2)
    theta = np.concatenate([batch["theta"] for batch in stopped["feed"].epoch(0)])
    assert len(theta) == 1280, "one batch is too few to measure by"
    scale = stopped["estimator"].standardise
    real = np.asarray(stopped["estimator"].target.inverse(theta))
    assert np.allclose(scale.mean, real.mean(0), atol=1e-4)
    assert np.allclose(scale.scale, real.std(0), rtol=1e-3)


def test_scales_of_small_batches_are_measured_on_many(tiny, small_training_set, tmp_path, stopped):
    small = tiny.model_copy(update={"training": tiny.training.model_copy(update={"batch_size": 8})})
    for name in ("one", "again"):
        with pytest.raises(KilledError):
            train_posterior(small, small_training_set, tmp_path / name, seed=2)
        real = np.asarray(stopped["estimator"].target.inverse(small_training_set.read(0, 1459).theta))
        found = stopped["estimator"].standardise
        assert np.allclose(found.mean, real.mean(0), atol=0.15)
        assert np.allclose(found.scale, real.std(0), rtol=0.1)
        first = stopped.setdefault("first", np.asarray(found.mean))
        assert np.array_equal(first, found.mean)


def test_python_code_that_only_the_data_name_is_not_run(tiny, small_training_set, small_simulator, tmp_path, stopped, monkeypatch):
    """A training set may come from anywhere; what it names is imported only where the recipe names it too."""
    imported = []
    module = types.ModuleType("somebodys")
    module.make = lambda: imported.append("make") or small_simulator
    monkeypatch.setitem(sys.modules, "somebodys", module)
    named = replace(small_training_set, recipe={"reference": "somebodys:make"})
    with pytest.raises(
        ConfigError, match=r"simulated by Python code, 'somebodys:make', .*is 'small'; to allow importing .*, name it there"
    ):
        train_posterior(tiny, named, tmp_path / "a", seed=2)
    assert imported == []
    assert not list(tmp_path.iterdir())
    allowed = tiny.model_copy(update={"simulations": tiny.simulations.model_copy(update={"simulator": "somebodys:make"})})
    with pytest.raises(KilledError):
        train_posterior(allowed, named, tmp_path / "a", seed=2)
    assert imported
