"""One cell of the benchmark: simulate, train once, draw for every observation, compare with the reference posterior.

A cell is a task, a number of simulations and an estimator. Each observation of it is one line of JSON in the file of results; lines that
are there, of the same settings and packages, are not measured again.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from astroflow.diagnostics.two_sample import c2st
from astroflow.randomness import generator
from astroflow.training.general import GeneralConfig, train_estimator
from benchmarks.sbibm.tasks import Task
from benchmarks.sbibm.wheel import Wheel

DRAWS = 10_000
"""As many as a reference posterior holds."""
SCORED = 4000
"""New simulations that a log score is the mean over."""
SEED = 0
RECOMMENDED = "recommended"
FLOWS: dict[str, dict] = {
    RECOMMENDED: {},
    "maf": {"kind": "maf"},
    "spline_coupling": {"kind": "spline_coupling", "layers": 3, "bins": 10},
    "mixture": {"kind": "mixture"},
}
"""Estimators: the recommended one is the default of `train_estimator`, a spline MAF; the others have another conditional distribution."""


PACKAGES = ("tensorflow", "tensorflow-probability", "keras", "numpy", "scikit-learn")
"""That decide results."""
FIRST = {"recommended": "1b8008392308"}
"""Settings of lines from before they were recorded."""


class Cell(NamedTuple):
    """What is trained once."""

    task: str
    simulations: int
    estimator: str


def settings_of(task: Task, estimator: str) -> GeneralConfig:
    """Return the configuration of `train_estimator`."""
    flow = {"flow": FLOWS[estimator]} if FLOWS[estimator] else {}
    return GeneralConfig.model_validate({"bounds": task.bounds, "seed": SEED, **flow})


def digest_of(estimator: str) -> str:
    """Return a digest of an estimator's settings, all defaults written out, and of the packages that train it; bounds are the task's."""
    flow = {"flow": FLOWS[estimator]} if FLOWS[estimator] else {}
    settings = GeneralConfig.model_validate({"seed": SEED, **flow}).model_dump(mode="json", exclude_none=True)
    known = {"settings": settings, "draws": DRAWS, "versions": {name: version(name) for name in PACKAGES}}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def digest_in(line: Mapping) -> str | None:
    """Return the digest that a line was measured with."""
    return line.get("settings", FIRST.get(line["estimator"]))


def missing(cell: Cell, observations: Sequence[int], results: Sequence[dict]) -> list[int]:
    """Return the observations of a cell that have no result of these settings."""
    digest = digest_of(cell.estimator)
    done = {line["observation"] for line in results if cell._asdict().items() <= line.items() and digest_in(line) == digest}
    return [number for number in observations if number not in done]


def measure(cell: Cell, task: Task, observations: Sequence[int], wheel: Wheel) -> Iterator[dict]:
    """Train, and yield the line of each observation."""
    rng, digest = generator(SEED, f"sbibm {cell.task}", cell.simulations), digest_of(cell.estimator)
    theta = task.prior(cell.simulations, rng)
    x = task.features(task.simulate(theta, rng))
    start, cpu = time.perf_counter(), time.process_time()
    estimator = train_estimator(theta, x, settings_of(task, cell.estimator))
    training, training_cpu = time.perf_counter() - start, time.process_time() - cpu
    new = task.prior(SCORED, generator(SEED, f"sbibm {cell.task}", "new"))
    context, _ = estimator.encode({"x": task.features(task.simulate(new, generator(SEED, f"sbibm {cell.task}", "new data")))})
    log_score = float(np.mean(estimator.log_prob(new[:, None].astype(np.float32), context)))
    noise = rng.standard_normal((1, DRAWS, theta.shape[1]), dtype=np.float32)
    for k, number in enumerate(observations):
        context, _ = estimator.encode({"x": task.features(wheel.observation(cell.task, number)[None])})
        if k == 0:
            estimator.sample(context, noise)  # compiles
        start, cpu = time.perf_counter(), time.process_time()
        draws = estimator.sample(context, noise)[0]
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        yield {
            **cell._asdict(),
            "observation": number,
            "settings": digest,
            "c2st": round(c2st(draws, wheel.reference(cell.task, number)), 4),
            "log_score": round(log_score, 4),
            "training_seconds": round(training, 1),
            "training_cpu_seconds": round(training_cpu, 1),
            "seconds_per_10000_draws": float(f"{seconds:.3g}"),
            "cpu_seconds_per_10000_draws": float(f"{cpu:.3g}"),
        }
