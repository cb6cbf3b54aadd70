"""A cluster, a survey and an inferred catalog, made once for every test of a pipeline."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session", autouse=True)
def loaded_once():
    """Loading a bundle compiles its sampler for seconds, so calls in this process share what they load of unchanged files."""
    from astroflow.pipelines import demo, query, report, train, validate
    from astroflow.posteriors import bundle

    load, loaded = bundle.load_posterior, {}

    def load_posterior(path):
        files = sorted(file for file in Path(path).glob("*") if file.is_file()) if Path(path).is_dir() else []
        key = tuple((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files)
        if not files:
            return load(path)
        if key not in loaded:
            loaded[key] = load(path)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (bundle, demo, query, report, train, validate):
            patch.setattr(module, "load_posterior", load_posterior)
        yield


@pytest.fixture(scope="session")
def scheduler():
    """The address of a cluster of two workers; it stays until the last test."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=40) as local:
        yield local.scheduler_address


@pytest.fixture(scope="session")
def recipe_folder(small_forward_model, small_estimator, tmp_path_factory):
    """A folder with the small forward model and its estimator as recipes, as a user would write them."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "small.yaml").write_text(yaml.safe_dump(small_forward_model))
    estimator = small_estimator.model_dump(mode="json")
    estimator["simulations"]["simulator"] = str(folder / "small.yaml")
    (folder / "estimator.yaml").write_text(yaml.safe_dump(estimator))
    return folder


@pytest.fixture(scope="session")
def survey(small_simulator, tmp_path_factory):
    """A tile with a catalog of sixty galaxies, two of them unusable on purpose."""
    from astroflow.catalogs.mock_survey import write_mock_survey

    return write_mock_survey(small_simulator, tmp_path_factory.mktemp("survey"), n_objects=60, seed=3)


@pytest.fixture(scope="session")
def inferred(survey, small_bundle, scheduler, tmp_path_factory):
    """The survey's posterior catalog in three parts, draws included. Read it, do not write into it."""
    from astroflow.pipelines.infer import infer

    out = tmp_path_factory.mktemp("inferred") / "run"
    infer(survey.recipe, bundle=small_bundle, out=out, n_draws=64, seed=9, keep_samples=True, rows_per_partition=20, scheduler=scheduler)
    return out


@pytest.fixture
def copied(inferred, tmp_path):
    """A copy of `inferred` to spoil."""
    return Path(shutil.copytree(inferred, tmp_path / "copy"))


@pytest.fixture
def digests():
    """A function: sha256 of every file below a folder, by its path."""

    def of(folder, without=()):
        files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
        return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.name not in without}

    return of


@pytest.fixture(scope="session")
def other_bundle(small_posterior, small_simulator, tmp_path_factory):
    """The small bundle with its flow's weights spoilt: it loads and answers, but wrongly."""
    import dataclasses

    import numpy as np

    from astroflow.posteriors.bundle import BundleConfig, build_estimator, save_bundle

    whole, parts = small_posterior, ("parameters", "stamp", "forward_model", "training")
    config = BundleConfig(architecture=whole.estimator.architecture, **{name: getattr(whole, name) for name in parts})
    estimator, rng = build_estimator(config), np.random.default_rng(1)
    flow = {id(v) for layer in estimator.flow.conditioners for v in layer.variables}
    for name, variable in estimator.variables.items():
        value = whole.estimator.variables[name].numpy()
        variable.assign(value + (id(variable) in flow) * rng.normal(0, 0.1, value.shape))
    path = tmp_path_factory.mktemp("other") / "bundle"
    save_bundle(path, dataclasses.replace(whole, estimator=estimator), small_simulator.draw(np.arange(8), 1).stamps)
    return path
