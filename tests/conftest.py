"""What every test shares: repeatable examples, quiet TensorFlow, and a small forward model."""

import os

# read when NumPy is first imported: small dense algebra on every core waits for the cores more than it computes
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import pytest
from made_once import ROOT, cache_folder, made_once

# TensorFlow reads this when it is first imported; its start-up lines hide what a test prints.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# read when numba is first imported: LSDB would compile for twenty seconds what tests need for milliseconds
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("repeatable")

MADE = cache_folder()

LONGEST = (
    "sims/fourier/test_engine.py", "posteriors/test_linearized.py", "posteriors/exact/test_refine.py", "posteriors/test_bundle.py",
    "pipelines/test_run.py", "pipelines/test_simulate.py", "pipelines/test_tasks.py", "training/test_general.py", "pipelines/test_infer.py",
    "pipelines/test_validate.py", "training/test_loop.py", "training/test_fit.py", "training/test_members.py",
)  # fmt: skip
"""Files that take minutes come first: the last of them would keep one process busy while the others have nothing to do."""


def pytest_collection_modifyitems(items):
    """Put the longest files first; the order within files stays."""
    place = {ROOT / "tests" / file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


SMALL_FORWARD_MODEL = {
    "stamp": {"size": 32, "pixel_scale_arcsec": 0.2, "zero_point": 27.0, "psf_size": 17, "binning": [1, 2], "re_pixels": [1.5, 5.0]},
    "galaxy": {
        "kind": "sersic",
        "n": {"kind": "log_uniform", "low": 0.7, "high": 2.5},
        "n_table": 8,  # profiles are tabulated at few indices, so that it starts fast
        "re_arcsec": {"kind": "size_magnitude", "low": 0.15, "high": 2.0},
    },
    "psf": {"kind": "moffat", "fwhm_arcsec": {"kind": "normal", "mean": 0.7, "sd": 0.1, "low": 0.5, "high": 0.9}, "beta": 3.0},
    "noise": {
        "kind": "ccd",
        "sky": {"kind": "log_uniform", "low": 1.0, "high": 4.0},
        "gain": {"kind": "log_uniform", "low": 150, "high": 400},
        "read_noise_electrons": 8.0,
    },
}

SMALL_ESTIMATOR = {
    "simulations": {"simulator": "small", "n": 1536},
    "summary": {"channels": {"image": [8, 16], "psf": [4]}, "dense": [64], "context": 16},
    "flow": {"layers": 3, "hidden": [32, 32]},
    "training": {"epochs": 6, "batch_size": 64, "learning_rate": 3e-3, "ema": 0.98},
}


@pytest.fixture(scope="session")
def small_forward_model():
    """A forward model as plain data, every default filled in."""
    from astroflow.sims.recipe import build_simulator

    return build_simulator(SMALL_FORWARD_MODEL, "small")[1]


@pytest.fixture(scope="session")
def small_simulator():
    """The simulator of `small_forward_model`."""
    from astroflow.sims.recipe import build_simulator

    return build_simulator(SMALL_FORWARD_MODEL, "small")[0]


@pytest.fixture(scope="session")
def small_estimator():
    """The recipe of the estimator in `small_bundle`."""
    from astroflow.config import parse_recipe
    from astroflow.training.recipe import EstimatorRecipe

    return parse_recipe(EstimatorRecipe, SMALL_ESTIMATOR, "small")


@pytest.fixture(scope="session")
def small_training_set(small_simulator, small_forward_model):
    """A complete training set of 1536 galaxies in three shards."""
    from astroflow.training.training_set import TrainingSet

    def make(path):
        data = TrainingSet.create(
            path, n=1536, seed=5, recipe=small_forward_model, parameters=small_simulator.parameters, stamp=small_simulator.stamp
        )
        for shard in data.shards:
            data.write(shard, small_simulator.draw_noiseless(data.rows(shard), seed=5))

    return TrainingSet.open(made_once(MADE, "simulations.zarr", make))


@pytest.fixture(scope="session")
def small_bundle(small_training_set, small_estimator):
    """A bundle that is trained for seconds: rough, but it works. Read it, do not write into it."""
    from astroflow.training.fit import train_posterior

    return made_once(MADE, "bundle", lambda path: train_posterior(small_estimator, small_training_set, path, seed=0))


@pytest.fixture(scope="session")
def small_posterior(small_bundle):
    """The posterior in `small_bundle`."""
    from astroflow.posteriors.bundle import load_posterior

    return load_posterior(small_bundle)


@pytest.fixture(scope="session")
def small_ensemble(small_posterior, small_simulator):
    """The posterior in `small_bundle` as one of two members; the other's weights are a little off. No training, but all else is there."""
    from dataclasses import replace

    import numpy as np

    from astroflow.posteriors.ensemble import build_any_estimator
    from astroflow.posteriors.familiarity import Familiarity
    from astroflow.posteriors.inputs import network_inputs
    from astroflow.posteriors.recipe import EnsembleRecipe

    one, rng = small_posterior.estimator, np.random.default_rng(3)
    architecture = one.architecture.model_copy(update={"epistemic": EnsembleRecipe(members=2)})
    both = build_any_estimator(architecture, one.shapes, one.target, one.dimensions, one.auxiliary)
    both.keep(0, one)
    other = both.member(0)
    for v in other.trainable_variables:
        v.assign_add(0.05 * np.std(v) * rng.normal(size=v.shape))
    both.keep(1, other)
    stamps = small_simulator.draw(np.arange(300), seed=77).stamps
    context, _ = both.encode(network_inputs(stamps))
    return replace(small_posterior, estimator=both, familiarity=Familiarity.of(stamps, context))
