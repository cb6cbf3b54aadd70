"""Training: images per second of the demo's estimator, on stored and on fresh simulations, and what each feed alone could deliver.

Stored simulations get new noise, masks and turns in every epoch; fresh ones also new galaxies and PSFs. The two are trained in turns,
so that a machine's moods meet both alike.
"""

import argparse
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
from astroflow.training.feed import SimulationFeed, as_batch  # noqa: E402
from astroflow.training.fresh import FreshFeed  # noqa: E402
from astroflow.training.loop import fit_estimator  # noqa: E402
from astroflow.training.recipe import EstimatorRecipe  # noqa: E402
from astroflow.training.training_set import TrainingSet  # noqa: E402

SIMULATIONS, EPOCHS, ROUNDS = 4096, 5, 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="demo")
    recipe = load_recipe(EstimatorRecipe, parser.parse_args().config, "configs")
    data = simulator_data(recipe.simulations.simulator)
    simulator = simulator_from_data(data)
    training = recipe.training.model_copy(update={"epochs": EPOCHS, "patience": EPOCHS})
    with tempfile.TemporaryDirectory() as folder:
        stored = TrainingSet.create(
            Path(folder) / "set.zarr", n=SIMULATIONS, seed=1, recipe=data, parameters=simulator.parameters, stamp=simulator.stamp
        )
        for shard in stored.missing:
            stored.write(shard, simulator.draw_noiseless(np.asarray(stored.rows(shard)), 1))
        feeds = {
            "stored": SimulationFeed(stored, simulator, training.batch_size, 1, training.validation, True),
            "fresh": FreshFeed(simulator, training.batch_size, 1, SIMULATIONS, training.validation),
        }
        seconds: dict[str, list[float]] = {name: [] for name in feeds}
        for name, feed in feeds.items():
            next(iter(feed.epoch(0)))  # compiles
            begin = time.perf_counter()
            batches = sum(1 for _ in feed.epoch(1))
            print(f"{name}: feed alone {1000 * (time.perf_counter() - begin) / batches:6.1f} ms a step", flush=True)
        config = BundleConfig(
            architecture=Architecture(summary=recipe.summary, flow=recipe.flow),
            parameters=simulator.parameters,
            stamp=simulator.stamp,
            forward_model=data,
            training={},
        )
        for _ in range(ROUNDS):
            for name, feed in feeds.items():
                estimator = build_estimator(config, 1)
                held_out = as_batch(feed.held_out())
                first = next(iter(feed.epoch(0)))
                estimator.adapt(first, first["theta"], first["auxiliary"])
                marks: list[float] = []
                fit_estimator(estimator, feed, held_out, training, progress=lambda *_, marks=marks: marks.append(time.perf_counter()))
                # the first epoch holds the compilation
                steps = np.diff(marks[feed.steps_per_epoch :])
                seconds[name] += [np.sum(steps) / len(steps)]
        for name, values in seconds.items():
            print(f"{name}: {1000 * np.mean(values):6.1f} ms a step, {training.batch_size / np.mean(values):6.0f} images/s")
        share = 1 - np.mean(seconds["stored"]) / np.mean(seconds["fresh"])
        print(f"drawing simulations anew takes {100 * share:.0f} % of a step, beside reading stored ones")


if __name__ == "__main__":
    main()
