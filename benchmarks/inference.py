"""Catalog inference on one core: how fast it is, and how fast the processor's arithmetic would let it be.

Four figures in one run, each the best of some repetitions, of one thread as workers have:

- the rate of a large matrix product, which is what the processor can do;
- the bare loop, network and draws from arrays that lie in memory, and its share of what its multiplications and additions would take at
  that rate (activations, of which a draw has hundreds, are counted as nothing);
- `infer`'s task, from a tile on disk to a Parquet part, and its share of the bare loop;
- what each of its stages costs.

The tile is a mock survey. The posterior is an untrained one of a recipe of configs/, unless a bundle is given: its speed is that of a
trained one.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

from astroflow.catalogs.derived import summarize_derived  # noqa: E402
from astroflow.catalogs.mock_survey import write_mock_survey  # noqa: E402
from astroflow.catalogs.recipe import load_catalog  # noqa: E402
from astroflow.catalogs.sources import Partition, Source, open_source  # noqa: E402
from astroflow.config import load_recipe  # noqa: E402
from astroflow.pipelines.catalog_run.inputs import file_states  # noqa: E402
from astroflow.pipelines.catalog_run.ledger import Ledger  # noqa: E402
from astroflow.pipelines.tasks import InferenceJob, infer_partition, prepare_worker  # noqa: E402
from astroflow.posteriors.bundle import BundleConfig, build_estimator, bundle_digest, load_posterior, save_bundle  # noqa: E402
from astroflow.posteriors.familiarity import Familiarity  # noqa: E402
from astroflow.posteriors.framing import frame  # noqa: E402
from astroflow.posteriors.inputs import network_inputs  # noqa: E402
from astroflow.posteriors.posterior import Posterior  # noqa: E402
from astroflow.posteriors.recipe import Architecture  # noqa: E402
from astroflow.provenance import deciding_versions  # noqa: E402
from astroflow.randomness import standard_normals  # noqa: E402
from astroflow.sims.recipe import simulator_data, simulator_from_data  # noqa: E402
from astroflow.training.recipe import EstimatorRecipe  # noqa: E402

OBJECTS, REPEATS = 2048, 5
SIDE = 1024
"""Of the matrices."""


def untrained(folder: Path, config: str) -> Path:
    """Write a bundle of a recipe with the weights that it begins with."""
    recipe = load_recipe(EstimatorRecipe, config, "configs")
    data = simulator_data(recipe.simulations.simulator)
    simulator = simulator_from_data(data)
    architecture = Architecture(summary=recipe.summary, flow=recipe.flow)
    made = BundleConfig(architecture=architecture, parameters=simulator.parameters, stamp=simulator.stamp, forward_model=data, training={})
    stamps = simulator.draw(range(200), 1).stamps
    estimator = build_estimator(made, 1)
    context, _ = estimator.encode(network_inputs(stamps))
    posterior = Posterior(estimator, simulator.parameters, simulator.stamp, Familiarity.of(stamps, context), forward_model=data)
    save_bundle(folder / "bundle", posterior, stamps)
    return folder / "bundle"


def best(work: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of some repetitions, after one that compiles."""
    work()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def matrix_rate() -> float:
    """Return multiplications and additions a second of a large matrix product."""
    a, b = (tf.random.stateless_normal((SIDE, SIDE), [1, k]) for k in (0, 1))
    product = tf.function(lambda: a @ b, autograph=False)
    return 2 * SIDE**3 / best(lambda: product().numpy())


def operations(posterior: Posterior) -> tuple[float, float]:
    """Return multiplications and additions of the network for an image, and of the flow for a draw: those of weights that count."""
    network = 0.0
    for layer in posterior.estimator.summary.model.layers:
        pixels = np.prod([int(side) for side in layer.output.shape[1:-1]])
        network += sum(2.0 * np.prod(weight.shape) * pixels for weight in layer.weights if len(weight.shape) >= 2)
    flow = 0.0
    for conditioner in posterior.estimator.flow.conditioners:
        network += sum(2.0 * np.prod(weight.shape) for weight in conditioner.weights_c)  # once for all draws
        seen = zip(conditioner.weights_x, conditioner.masks, strict=True)
        flow += sum(2.0 * float(np.sum(np.ones(weight.shape) if mask is None else mask)) for weight, mask in seen if weight is not None)
    return network, flow


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="a trained posterior")
    parser.add_argument("--config", default="demo", help="recipe of the untrained one, where no bundle is given")
    parser.add_argument("--draws", type=int, default=256)
    asked = parser.parse_args()
    # before anything runs: it cannot be changed later
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = asked.bundle or untrained(folder, asked.config)
        digest = bundle_digest(bundle)
        prepare_worker(str(bundle), digest, deciding_versions())
        posterior = load_posterior(bundle)
        survey = write_mock_survey(simulator_from_data(posterior.forward_model), folder / "survey", n_objects=OBJECTS, seed=1)
        source = open_source(load_catalog(survey.recipe))
        (partition,) = source.partitions(OBJECTS)
        measure(posterior, source, partition, InferenceJob(str(bundle), digest, Ledger(folder / "run", "benchmark"), asked.draws, 0, False))


def measure(posterior: Posterior, source: Source, partition: Partition, job: InferenceJob) -> None:
    """Print the figures of one partition."""
    estimator, draws = posterior.estimator, job.n_draws
    side = posterior.stamp.size * max(posterior.stamp.binning)
    cutouts = list(source.read(partition, side))
    stamps = frame(cutouts, posterior.stamp, posterior.noise_correlation).stamps
    inputs = network_inputs(stamps)
    context, _ = estimator.encode(inputs)

    def noise() -> Any:
        return standard_normals(0, "posterior", stamps.ids, (draws, len(posterior.parameters)))

    given = noise()
    rate, (network, flow) = matrix_rate(), operations(posterior)
    encode, sample = best(lambda: estimator.encode(inputs)), best(lambda: estimator.sample(context, given))
    bare = encode + sample
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s; network {network / 1e6:.1f} MFLOP an image, flow {flow / 1e3:.1f} kFLOP a draw")
    share = OBJECTS * (network + draws * flow) / rate / bare
    print(f"network and {draws} draws: {OBJECTS / bare:5.0f} galaxies/s on one core, {share:.0%} of what the arithmetic allows")
    files = file_states(source.files(partition))

    def infer() -> None:
        job.ledger.catalog.joinpath("part-00000.parquet").unlink(missing_ok=True)  # or it would be left as it is
        infer_partition(source, partition, job, files, False)

    whole = best(infer)
    print(f"infer, reading and writing: {OBJECTS / whole:5.0f} galaxies/s on one core, {bare / whole:.2f} of the bare loop")
    encoded = posterior.encode(cutouts)
    theta = posterior.sample(encoded, draws)
    sky, zero_points = source.sky_frame(partition), np.array([cutout.zero_point for cutout in cutouts])
    stages: dict[str, Callable[[], Any]] = {
        "reading cutouts": lambda: list(source.read(partition, side)),
        "framing": lambda: frame(cutouts, posterior.stamp, posterior.noise_correlation),
        "network inputs": lambda: network_inputs(stamps),
        "network": lambda: estimator.encode(inputs),
        "encoding, all of it": lambda: posterior.encode(cutouts),
        "base normals": noise,
        "flow": lambda: estimator.sample(context, given),
        "drawing, all of it": lambda: posterior.sample(encoded, draws),
        "summaries": lambda: posterior.summary_columns(encoded, theta),
        "derived columns": lambda: summarize_derived(theta, posterior.parameters, zero_points, sky),
    }
    for what, work in stages.items():
        print(f"  {what:20s} {1e3 * best(work) / OBJECTS:6.3f} ms a galaxy")


if __name__ == "__main__":
    main()
