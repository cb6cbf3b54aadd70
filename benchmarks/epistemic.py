"""What few simulations cost, and which posterior admits it: one network, an ensemble and variational flows on a tenth of the simulations.

All are trained on the same stored galaxies of a forward model, with the same recipe, and judged on galaxies that none has seen: coverage of
central intervals and of regions of highest density, log score, and width. The same network on all simulations is the standard.
Each bundle stays in ``runs/epistemic``, so a run that was stopped goes on where it was. At the end comes a figure, ``coverage.png``.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from astroflow.config import parse_recipe  # noqa: E402
from astroflow.diagnostics import central_coverage, density_credibility, pit  # noqa: E402
from astroflow.plots.style import save_figure, style  # noqa: E402
from astroflow.posteriors.bundle import load_posterior  # noqa: E402
from astroflow.sims.recipe import load_simulator, simulator_data  # noqa: E402
from astroflow.training.fit import train_posterior  # noqa: E402
from astroflow.training.recipe import EstimatorRecipe  # noqa: E402
from astroflow.training.training_set import TrainingSet  # noqa: E402

SEED, JUDGED = 51_000, 52_000
ROUNDS = 12
"""Passes over all simulations; over a tenth of them three times as many, by which held-out scores have long stopped rising."""
RECIPE: dict[str, Any] = {
    "summary": {"channels": {"image": [8, 16, 32], "psf": [8]}, "dense": [96, 96], "context": 24},
    "flow": {"layers": 4, "hidden": [48, 48]},
}
LEVELS = np.linspace(0.05, 0.95, 19)
NAMED = (0.5, 0.68, 0.9, 0.95)


def kinds(members: int) -> dict[str, tuple[bool, dict[str, Any] | None]]:
    """Name every posterior: is it trained on all simulations, and what is epistemic about it."""
    return {
        "one network, all": (True, None),
        "one network": (False, None),
        f"ensemble of {members}": (False, {"kind": "ensemble", "members": members}),
        "variational, last layers": (False, {"kind": "variational"}),
        "variational, whole flow": (False, {"kind": "variational", "layers": "all"}),
    }


def stored(path: Path, simulator: str, n: int) -> TrainingSet:
    """Return `n` stored simulations, drawn unless they are there."""
    drawn = load_simulator(simulator)
    if not path.exists():
        data = TrainingSet.create(path, n=n, seed=SEED, recipe=simulator_data(simulator), parameters=drawn.parameters, stamp=drawn.stamp)
        for shard in data.shards:
            data.write(shard, drawn.draw_noiseless(np.asarray(data.rows(shard)), SEED))
    return TrainingSet.open(path)


def trained(name: str, data: TrainingSet, epochs: int, epistemic: dict[str, Any] | None, simulator: str, out: Path) -> tuple[Any, float]:
    """Return a posterior and the seconds of its training; what is there already is not trained again."""
    bundle = out / name.replace(", ", "-").replace(" ", "_")
    if not (bundle / "manifest.json").exists():
        content = RECIPE | {"simulations": {"simulator": simulator}, "training": {"epochs": epochs}, "epistemic": epistemic}
        begin = time.perf_counter()
        train_posterior(parse_recipe(EstimatorRecipe, content, "epistemic"), data, bundle, SEED)
        (bundle.parent / f"{bundle.name}.seconds").write_text(f"{time.perf_counter() - begin:.0f}")
    return load_posterior(bundle), float((bundle.parent / f"{bundle.name}.seconds").read_text())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulator", default="reference")
    parser.add_argument("--simulations", type=int, default=40_000)
    parser.add_argument("--galaxies", type=int, default=4000)
    parser.add_argument("--draws", type=int, default=320)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/epistemic"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    everything = stored(given.out / "all.zarr", given.simulator, given.simulations)
    tenth = stored(given.out / "tenth.zarr", given.simulator, given.simulations // 10)
    judged = load_simulator(given.simulator).draw(np.arange(given.galaxies), JUDGED)
    print("                          coverage at 0.50, 0.68, 0.90, 0.95: of each parameter (mean), jointly; log score; widths; apart; s")
    curves, standard = {}, None
    for name, (whole, epistemic) in kinds(given.members).items():
        data, epochs = (everything, ROUNDS) if whole else (tenth, 3 * ROUNDS)
        posterior, seconds = trained(name, data, epochs, epistemic, given.simulator, given.out)
        encoded = posterior.encode(judged.stamps)
        draws = posterior.sample(encoded, given.draws, seed=1)
        score = posterior.log_prob(judged.theta, encoded).astype(np.float64)
        density = posterior.log_prob(draws, encoded)
        joint = density_credibility(density, score)
        marginal = pit(draws, judged.theta)
        widths = draws.std(1)
        standard = widths if standard is None else standard
        apart = "" if encoded.disagreement is None else f"{np.median(encoded.disagreement):5.2f}"
        cells = " ".join(f"{v:.3f}" for v in central_coverage(marginal, NAMED).fraction.mean(1))
        cells += "   " + " ".join(f"{np.mean(joint <= level):.3f}" for level in NAMED)
        width = np.median(widths / standard)
        print(f"{name:25s} {cells}   {np.mean(score):6.2f}  {width:.2f}  {apart:5s} {seconds:6.0f}", flush=True)
        shares = central_coverage(marginal, LEVELS).fraction.mean(1), np.array([np.mean(joint <= level) for level in LEVELS])
        curves[name] = shares
    draw(curves, given.galaxies, given.out / "coverage.png")


def draw(curves: dict[str, tuple[np.ndarray, np.ndarray]], galaxies: int, path: Path) -> None:
    """Draw how much more, or less, often the truth is inside than it should be."""
    with style():
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for place, (axis, title) in enumerate(zip(axes, ("each parameter by itself", "all parameters jointly"), strict=True)):
            band = 2 * np.sqrt(LEVELS * (1 - LEVELS) / galaxies)
            axis.fill_between(LEVELS, -band, band, color="0.85", lw=0, label="chance, two sd")
            axis.axhline(0, color="0.5", lw=1)
            for name, shares in curves.items():
                dash = "--" if name.endswith("all") else "-"
                axis.plot(LEVELS, shares[place] - LEVELS, ls=dash, label=name)
            axis.set(xlabel="credible level", title=title)
        axes[0].set_ylabel("share of truths inside, less the level\n(below: too sure)")
        axes[1].legend(loc="best", fontsize=8)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
