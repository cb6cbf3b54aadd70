"""Kinds of flow on one network and the same fits: what splines buy, for the network's own posterior and for the linearised one.

Takes a bundle with a linearised stage, unless told otherwise the checkout's own. Its network stays as it is. New galaxies
are drawn, encoded and fitted once; then a flow of each kind is trained anew, for as many rounds, on the same contexts and on the same
fits, and weighed by the exact likelihood on galaxies of each bin of S/N. It is a comparison of kinds: the bundle's own flows have seen
more galaxies. Fits are kept in ``runs/flows``, so that a run that was stopped need not repeat them.
"""

import argparse
import dataclasses
import time
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
from efficiency import BINS, galaxies  # noqa: E402

from astroflow.posteriors.bundle import BundleConfig, build_estimator, build_linearized, load_posterior  # noqa: E402
from astroflow.posteriors.recipe import Architecture  # noqa: E402
from astroflow.sims.recipe import simulator_from_data  # noqa: E402
from astroflow.training.checkpoint import kept  # noqa: E402
from astroflow.training.feed import as_batch  # noqa: E402
from astroflow.training.flow_fit import fit_flow  # noqa: E402
from astroflow.training.fresh import FreshFeed  # noqa: E402
from astroflow.training.linearize import fit_linearized  # noqa: E402
from astroflow.training.recipe import TrainingRecipe  # noqa: E402

SEED, EPOCH, ROUNDS, CLIP = 41_000, 65_536, 20, 5.0
KINDS = {
    "MAF": {"kind": "maf"},
    "spline MAF": {"kind": "spline_maf"},
    "spline coupling": {"kind": "spline_coupling"},
}


def estimator_of(posterior, config):
    """Return an estimator with the bundle's network and a new flow."""
    estimator = build_estimator(config, SEED)
    flow = {f"{layer.name}/{v.path.split('/')[-1]}" for layer in estimator.flow.conditioners for v in layer.variables}
    known = posterior.estimator.variables
    for name, variable in estimator.variables.items():
        if name not in flow:
            variable.assign(known[name])
    return estimator


def weigh(name: str, posterior, simulation, draws: int, least: float) -> None:
    """Print the median efficiency of each bin, and the share below a half."""
    encoded = posterior.encode(simulation.stamps, least_snr=least)
    efficiency = posterior.certify(encoded, n_draws=draws, seed=1).efficiency
    cells = []
    for low, high in BINS:
        some = (simulation.snr > low) & (simulation.snr < high)
        cells.append(f"{np.median(efficiency[some]):.2f} {np.mean(efficiency[some] < 0.5):5.0%}")
    print(f"  {name:28s}" + "   ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, default=Path("benchmarks/reference_bundle"))
    parser.add_argument("--out", type=Path, default=Path("runs/flows"))
    parser.add_argument("--epochs", type=int, default=4, help=f"of {EPOCH} galaxies each, for either stage")
    parser.add_argument("--galaxies", type=int, default=100)
    parser.add_argument("--draws", type=int, default=512)
    given = parser.parse_args()
    posterior = load_posterior(given.bundle)
    simulator = simulator_from_data(posterior.forward_model)
    recipe = TrainingRecipe(epochs=1, polish=0, linearized=given.epochs, clip_norm=CLIP)
    feed = FreshFeed(simulator, recipe.batch_size, SEED, EPOCH, recipe.validation)
    held_out = feed.held_out()

    def encoded() -> dict[str, np.ndarray]:
        parts = []
        for epoch in range(given.epochs):
            for batch in feed.epoch(1000 + epoch):
                parts.append((batch["theta"], posterior.estimator.encode(batch)[0]))
        return {name: np.concatenate(values) for name, values in zip(("theta", "context"), zip(*parts, strict=True), strict=True)}

    contexts = kept(given.out / "contexts.safetensors", encoded)
    chosen = galaxies(simulator, given.galaxies)
    base = posterior.estimator.architecture
    held_context, _ = posterior.estimator.encode(as_batch(held_out))
    print("median efficiency, and share below a half, at S/N " + ", ".join(f"{low}-{high}" for low, high in BINS))
    weigh("the bundle's own: network", posterior, chosen, given.draws, np.inf)
    weigh("the bundle's own: linearised", posterior, chosen, given.draws, 0.0)
    for name, kind in KINDS.items():
        size = {"layers": base.flow.layers, "hidden": base.flow.hidden}
        stage_size = {"layers": base.linearized.flow.layers, "hidden": base.linearized.flow.hidden}
        architecture = Architecture(
            summary=base.summary, flow=kind | size, linearized={"steps": base.linearized.steps, "flow": kind | stage_size}
        )
        config = BundleConfig(
            architecture=architecture,
            parameters=posterior.parameters,
            stamp=posterior.stamp,
            forward_model=posterior.forward_model,
            training={},
        )
        estimator, stage = estimator_of(posterior, config), build_linearized(config, SEED)
        begin = time.perf_counter()
        score = fit_flow(
            estimator.log_prob_graph, [v for layer in estimator.flow.conditioners for v in layer.trainable_variables], contexts,
            lambda estimator=estimator: estimator.log_prob(held_out.theta[:, None], held_context)[:, 0],
            stage="flow", rounds=ROUNDS, clip_norm=CLIP, seed=SEED,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
        print(f"{name}: network's own, {seconds:.0f} s of training, held-out score {score:.3f} nats", flush=True)
        weigh("network", dataclasses.replace(posterior, estimator=estimator), chosen, given.draws, np.inf)
        begin = time.perf_counter()
        # fits start from the bundle's own answer and the gate mixes with it, so that the stage's flow is all that differs
        score = fit_linearized(stage, posterior.estimator, feed, held_out, recipe, SEED, folder=given.out)
        seconds = time.perf_counter() - begin
        print(f"{name}: linearised, {seconds:.0f} s of training and new fits, score {score:.3f} nats", flush=True)
        weigh("linearised", dataclasses.replace(posterior, linearized=stage), chosen, given.draws, 0.0)


if __name__ == "__main__":
    main()
