"""Posterior draws a second, from images to draws: astroflow beside sbi (PyTorch) and BayesFlow (Keras), with networks of the same sizes.

Run it with astroflow's Python and name the peers': both are started in turn, several times, on one core each, and the best of each is
compared, so that both meet the same machine. Weights are as they are before training, which draws as fast.

    .venv/bin/python -m benchmarks.peers.draw_rates --peers runs/peers/venv-flows/bin/python

Alike are the images (64 x 64, one band), the convolutions and dense layers of the summary network, its context of 32 numbers, and the
flow: five masked autoregressive layers of 64 and 64 units beside sbi's, five coupling layers of splines beside BayesFlow's, as neither has
the other's. Each is asked as its documentation says, for many images in one call.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, DRAWS, SIDE, PARAMETERS, CONTEXT = 256, 256, 64, 7, 32
CHANNELS, DENSE, HIDDEN, LAYERS, BINS = (16, 32, 64), (192, 192), (64, 64), 5, 8
REPEATS, ROUNDS = 3, 3
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
METHODS = {"sbi maf": "maf", "sbi zuko_maf": "maf", "bayesflow jax": "spline_coupling", "bayesflow torch": "spline_coupling"}
"""What a peer is asked for, and the kind of astroflow's flow that is its like."""


def images() -> np.ndarray:
    """Return noise of the shape of images."""
    return np.random.default_rng(0).normal(size=(IMAGES, SIDE, SIDE, 1)).astype(np.float32)


def astroflow(kind: str) -> Callable[[], Any]:
    """Return what draws with astroflow's estimator."""
    from astroflow.networks.loading import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    from astroflow.networks.targets import box_bijector
    from astroflow.posteriors.estimator import Estimator
    from astroflow.posteriors.recipe import Architecture
    from astroflow.randomness import standard_normals

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    flow = {"kind": kind, "layers": LAYERS, "hidden": HIDDEN} | ({} if kind == "maf" else {"bins": BINS})
    summary = {"channels": {"image": CHANNELS}, "blocks": 0, "dense": DENSE, "context": CONTEXT}
    architecture = Architecture.model_validate({"summary": summary, "flow": flow})
    estimator = Estimator(architecture, {"image": (SIDE, SIDE, 1)}, box_bijector([None] * PARAMETERS), PARAMETERS, (), 0)
    pixels = images()

    def draw() -> Any:
        context, _ = estimator.encode({"image": pixels})
        return estimator.sample(context, standard_normals(0, "posterior", np.arange(IMAGES), (DRAWS, PARAMETERS)))

    return draw


def sbi(kind: str) -> Callable[[], Any]:
    """Return what draws with sbi's direct posterior. Its environment."""
    import torch
    from sbi.inference.posteriors import DirectPosterior
    from sbi.neural_nets import posterior_nn
    from sbi.utils import BoxUniform
    from torch import nn

    torch.set_num_threads(1)
    layers: list[Any] = []
    for before, channels in zip((1, *CHANNELS), CHANNELS, strict=False):
        layers += [nn.Conv2d(before, channels, 5 if before == 1 else 3, stride=2, padding=2 if before == 1 else 1), nn.SiLU()]
    side = SIDE // 2 ** len(CHANNELS)
    layers.append(nn.Flatten())
    widths = (CHANNELS[-1] * side**2, *DENSE)
    for before, units in zip(widths, DENSE, strict=False):
        layers += [nn.Linear(before, units), nn.SiLU()]
    summary = nn.Sequential(*layers, nn.Linear(DENSE[-1], CONTEXT))
    pixels = torch.from_numpy(np.moveaxis(images(), -1, 1).copy())
    widths_of = {"num_blocks": len(HIDDEN), "hidden_features": HIDDEN[0]} if kind == "maf" else {"hidden_features": HIDDEN}
    build = posterior_nn(kind, embedding_net=summary, num_transforms=LAYERS, z_score_x="none", z_score_theta="none", **widths_of)
    estimator = build(torch.randn(IMAGES, PARAMETERS), pixels)
    wide = BoxUniform(-1e6 * torch.ones(PARAMETERS), 1e6 * torch.ones(PARAMETERS))
    posterior = DirectPosterior(estimator, wide)
    return lambda: posterior.sample_batched((DRAWS,), x=pixels, max_sampling_batch_size=10_000, show_progress_bars=False)


def bayesflow(backend: str) -> Callable[[], Any]:
    """Return what draws with BayesFlow's approximator. Its environment."""
    os.environ["KERAS_BACKEND"] = backend
    import bayesflow
    import keras

    if backend == "torch":
        import torch

        torch.set_num_threads(1)

    class Summary(bayesflow.networks.SummaryNetwork):
        """Convolutions and dense layers."""

        def __init__(self) -> None:
            super().__init__()
            self.layers_ = [
                keras.layers.Conv2D(channels, 5 if k == 0 else 3, strides=2, padding="same", activation="silu")
                for k, channels in enumerate(CHANNELS)
            ]
            self.layers_ += [keras.layers.Flatten(), *(keras.layers.Dense(units, activation="silu") for units in DENSE)]
            self.layers_.append(keras.layers.Dense(CONTEXT))

        def call(self, x: Any, **_: Any) -> Any:
            for layer in self.layers_:
                x = layer(x)
            return x

    flow = bayesflow.networks.CouplingFlow(
        depth=LAYERS, transform="spline", transform_kwargs={"bins": BINS}, subnet_kwargs={"widths": HIDDEN, "activation": "silu"}
    )
    adapter = bayesflow.Adapter().rename("theta", "inference_variables").rename("image", "summary_variables")
    approximator = bayesflow.approximators.ContinuousApproximator(
        inference_network=flow, summary_network=Summary(), adapter=adapter, standardize=None
    )
    approximator.compile(optimizer=keras.optimizers.Adam())
    pixels = images()
    data = bayesflow.datasets.OfflineDataset(
        {"theta": np.random.default_rng(1).normal(size=(IMAGES, PARAMETERS)).astype(np.float32), "image": pixels}, 64, adapter
    )
    approximator.fit(dataset=data, epochs=1, verbose=0)  # which builds it
    return lambda: approximator.sample(num_samples=DRAWS, conditions={"image": pixels})


def measure(method: str) -> float:
    """Return draws a second of a method in this process, the best of some repetitions."""
    if hasattr(os, "sched_setaffinity"):  # JAX heeds no number of threads
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    draw = {"astroflow": astroflow, "sbi": sbi, "bayesflow": bayesflow}[method.split()[0]](method.split()[1])
    draw()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        draw()
        seconds.append(time.perf_counter() - begin)
    return IMAGES * DRAWS / min(seconds)


def asked_of(python: Path | str, method: str) -> float:
    """Return what a method gives in a process of its own."""
    ended = subprocess.run(
        [str(python), "-m", "benchmarks.peers.draw_rates", "--measure", method], env=os.environ | ONE_THREAD, capture_output=True, text=True
    )
    if ended.returncode:
        raise SystemExit(f"{method} failed: {ended.stderr[-2000:]}")
    return float(json.loads(ended.stdout.splitlines()[-1]))


def main() -> None:
    """Compare, or measure one method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the Python of the environment of requirements-flows.txt")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return
    if asked.peers is None or not asked.peers.is_file():
        parser.error("--peers has to name a Python; README.md here says how to make its environment")
    for theirs, kind in METHODS.items():
        ours = f"astroflow {kind}"
        rates: dict[str, float] = {ours: 0.0, theirs: 0.0}
        for _ in range(ROUNDS):
            for name, place in ((ours, sys.executable), (theirs, asked.peers)):
                rates[name] = max(rates[name], asked_of(place, name))
        figures = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
        print(f"{figures} draws/s on one core: {rates[ours] / rates[theirs]:.1f} times", flush=True)


if __name__ == "__main__":
    main()
