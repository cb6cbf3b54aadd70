"""Training: images per second of the demo's estimator, with fresh noise, masks and turns, and what the feed alone could deliver."""

import tempfile
import time
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402

from astroflow.config import load_recipe  # noqa: E402
from astroflow.posteriors.bundle import BundleConfig, build_estimator  # noqa: E402
from astroflow.posteriors.recipe import Architecture  # noqa: E402
from astroflow.sims.recipe import simulator_data, simulator_from_data  # noqa: E402
from astroflow.training.feed import SimulationFeed  # noqa: E402
from astroflow.training.loop import fit_estimator  # noqa: E402
from astroflow.training.recipe import EstimatorRecipe  # noqa: E402
from astroflow.training.training_set import TrainingSet  # noqa: E402

SIMULATIONS, EPOCHS = 2048, 8


def main() -> None:
    """Train a few epochs on a small training set and print rates."""
    recipe = load_recipe(EstimatorRecipe, "demo", "configs")
    data = simulator_data(recipe.simulations.simulator)
    simulator = simulator_from_data(data)
    with tempfile.TemporaryDirectory() as folder:
        stored = TrainingSet.create(
            Path(folder) / "set.zarr", n=SIMULATIONS, seed=1, recipe=data, parameters=simulator.parameters, stamp=simulator.stamp
        )
        for shard in stored.missing:
            stored.write(shard, simulator.draw_noiseless(np.asarray(stored.rows(shard)), 1))
        training = recipe.training.model_copy(update={"epochs": EPOCHS, "patience": EPOCHS})
        feed = SimulationFeed(stored, simulator, training.batch_size, 1, training.validation, True)
        begin = time.perf_counter()
        batches = sum(1 for _ in feed.epoch(0)) + sum(1 for _ in feed.epoch(1))
        print(f"feed alone   {batches * training.batch_size / (time.perf_counter() - begin):8.0f} images/s")
        config = BundleConfig(
            architecture=Architecture(summary=recipe.summary, flow=recipe.flow),
            parameters=simulator.parameters,
            stamp=simulator.stamp,
            forward_model=data,
            training={},
        )
        estimator = build_estimator(config, 1)
        held_out = feed.batch(feed.held_out())
        first = next(iter(feed.epoch(0)))
        estimator.adapt(first, first["theta"], first["auxiliary"])
        marks: list[float] = []

        def mark(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
            marks.append(time.perf_counter())

        fit_estimator(estimator, feed, held_out, training, progress=mark)
        # the first epoch holds the compilation
        steps = len(marks) - feed.steps_per_epoch
        rate = steps * training.batch_size / (marks[-1] - marks[feed.steps_per_epoch - 1])
        print(f"training     {rate:8.0f} images/s, validation after each epoch included")


if __name__ == "__main__":
    main()
