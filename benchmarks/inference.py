"""Catalog inference: images per second from a tile on disk to a Parquet part, one process, reading and writing included.

The tile is a mock survey. The posterior is untrained: its speed is that of a trained one. What each stage costs is printed too.
"""

import tempfile
import time
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

from astroflow.catalogs.mock_survey import write_mock_survey  # noqa: E402
from astroflow.catalogs.recipe import load_catalog  # noqa: E402
from astroflow.catalogs.sources import open_source  # noqa: E402
from astroflow.config import load_recipe  # noqa: E402
from astroflow.pipelines.catalog_run.inputs import file_states  # noqa: E402
from astroflow.pipelines.catalog_run.ledger import Ledger  # noqa: E402
from astroflow.pipelines.tasks import InferenceJob, infer_partition  # noqa: E402
from astroflow.posteriors.bundle import BundleConfig, build_estimator, load_posterior, save_bundle  # noqa: E402
from astroflow.posteriors.familiarity import Familiarity  # noqa: E402
from astroflow.posteriors.inputs import network_inputs  # noqa: E402
from astroflow.posteriors.posterior import Posterior  # noqa: E402
from astroflow.posteriors.recipe import Architecture  # noqa: E402
from astroflow.sims.recipe import simulator_data, simulator_from_data  # noqa: E402
from astroflow.training.recipe import EstimatorRecipe  # noqa: E402

OBJECTS = 1500


def main() -> None:
    """Time one partition, and its stages, and print rates."""
    recipe = load_recipe(EstimatorRecipe, "demo", "configs")
    data = simulator_data(recipe.simulations.simulator)
    simulator = simulator_from_data(data)
    config = BundleConfig(
        architecture=Architecture(summary=recipe.summary, flow=recipe.flow),
        parameters=simulator.parameters,
        stamp=simulator.stamp,
        forward_model=data,
        training={},
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stamps = simulator.draw(range(200), 1).stamps
        estimator = build_estimator(config, 1)
        inputs = network_inputs(stamps)
        context, _ = estimator.encode(inputs)
        posterior = Posterior(estimator, simulator.parameters, simulator.stamp, Familiarity.of(stamps, context), forward_model=data)
        digest = save_bundle(folder / "bundle", posterior, stamps)
        survey = write_mock_survey(simulator, folder / "survey", n_objects=OBJECTS, seed=1)
        source = open_source(load_catalog(survey.recipe))
        (partition,) = source.partitions(OBJECTS)
        for draws in (64, 256):
            for timed in (False, True):  # loads and compiles first
                out = folder / f"{draws}-{timed}"
                job = InferenceJob(str(folder / "bundle"), digest, Ledger(out, "benchmark"), draws, 0, False)
                begin = time.perf_counter()
                infer_partition(source, partition, job, file_states(source.files(partition)), False)
                seconds = time.perf_counter() - begin
            print(f"infer, {draws:3d} draws each: {OBJECTS / seconds:6.0f} galaxies/s, reading and writing included")
        posterior = load_posterior(folder / "bundle")
        _stages(posterior, source, partition)


def _stages(posterior: Posterior, source: object, partition: object) -> None:
    """Print what each stage costs."""
    from astroflow.posteriors.framing import frame

    def clock(what: str, work: object) -> object:
        begin = time.perf_counter()
        value = work()  # type: ignore[operator]
        print(f"  {what:28s} {1e3 * (time.perf_counter() - begin) / OBJECTS:6.3f} ms a galaxy")
        return value

    cutouts = clock("reading cutouts", lambda: list(source.read(partition, posterior.stamp.size)))  # type: ignore[attr-defined]
    framed = clock("framing", lambda: frame(cutouts, posterior.stamp))  # type: ignore[arg-type]
    inputs = clock("network inputs", lambda: network_inputs(framed.stamps))  # type: ignore[attr-defined]
    posterior.estimator.encode(inputs)  # type: ignore[arg-type]
    clock("network", lambda: posterior.estimator.encode(inputs))  # type: ignore[arg-type]
    encoded = clock("framing, network and flags", lambda: posterior.encode(cutouts))  # type: ignore[arg-type]
    posterior.sample(encoded, 256)  # type: ignore[arg-type]
    draws = clock("256 draws", lambda: posterior.sample(encoded, 256))  # type: ignore[arg-type]
    clock("summaries", lambda: posterior.summary_columns(encoded, draws))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
