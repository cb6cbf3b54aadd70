"""What few simulations cost, and which posterior admits it: one network, an ensemble and variational flows on a tenth of the simulations.

All are trained on the same stored galaxies of a forward model, with the same recipe, and judged on galaxies that none has seen: some like
those of the training, and some outside it, behind PSFs wider than any there. Coverage is of central intervals of each parameter and of
regions of highest density; what counts is how far each parameter is off, because averages over parameters let errors cancel. Besides come
log score, width, the share that familiarity flags, and how well `disagreement` tells galaxies outside from those inside (AUC: one half by
chance, one always). The same network on all simulations is the standard.

Simulations and bundles stay in ``runs/epistemic``, so a run that was stopped goes on where it was; one with other options is refused there.
At the end comes a figure, ``coverage.png``.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from scipy import stats  # noqa: E402

from astroflow.config import parse_recipe  # noqa: E402
from astroflow.diagnostics import central_coverage, density_credibility, pit  # noqa: E402
from astroflow.errors import AstroflowError, ConfigError  # noqa: E402
from astroflow.plots.style import save_figure, style  # noqa: E402
from astroflow.posteriors.bundle import load_posterior  # noqa: E402
from astroflow.posteriors.flags import Flag  # noqa: E402
from astroflow.posteriors.posterior import Posterior  # noqa: E402
from astroflow.sims.recipe import simulator_data, simulator_from_data  # noqa: E402
from astroflow.training.fit import train_posterior  # noqa: E402
from astroflow.training.recipe import EstimatorRecipe  # noqa: E402
from astroflow.training.training_set import TrainingSet  # noqa: E402
from astroflow.types import Simulation  # noqa: E402

SEED, JUDGED = 51_000, 52_000
ROUNDS = 12
"""Passes over all simulations; over a tenth of them three times as many, by which held-out scores have long stopped rising."""
RECIPE: dict[str, Any] = {
    "summary": {"channels": {"image": [8, 16, 32], "psf": [8]}, "dense": [96, 96], "context": 24},
    "flow": {"layers": 4, "hidden": [48, 48]},
}
LEVELS = np.linspace(0.05, 0.95, 19)
WIDER = (1.3, 1.8)
"""PSFs outside the training: from and to so many times the widest there."""
ODD = int(Flag.OOD_PSF | Flag.OOD_RMS | Flag.OOD_IMAGE | Flag.OOD_GAIN)


class Judged(NamedTuple):
    """What a posterior makes of galaxies whose parameters are known."""

    off: np.ndarray
    """``(L, P)`` share of truths in central intervals, less the level; negative is too sure."""
    joint_off: np.ndarray
    """``(L,)`` the same in regions of highest density."""
    score: float
    widths: np.ndarray
    flagged: float
    apart: np.ndarray | None


class Clock:
    """Adds up the seconds of a training in a file, so that those before a kill count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = float(path.read_text()) if path.exists() else 0.0
        self.begin = self.written = time.perf_counter()

    def __call__(self, *_: Any) -> None:
        """Write the sum every few seconds: what `train_posterior` tells after each step."""
        if time.perf_counter() > self.written + 5:
            self.write()

    def write(self) -> None:
        self.written = time.perf_counter()
        self.path.write_text(f"{self.before + self.written - self.begin:.0f}")


def kinds(members: int) -> dict[str, tuple[bool, dict[str, Any] | None]]:
    """Name every posterior: is it trained on all simulations, and what is epistemic about it."""
    return {
        "one network, all": (True, None),
        "one network": (False, None),
        f"ensemble of {members}": (False, {"kind": "ensemble", "members": members}),
        "variational, last layers": (False, {"kind": "variational"}),
        "variational, whole flow": (False, {"kind": "variational", "layers": "all"}),
    }


def stored(path: Path, recipe: dict[str, Any], n: int) -> TrainingSet:
    """Return `n` stored simulations; those that are there are not drawn again."""
    simulator = simulator_from_data(recipe)
    data = TrainingSet.create(path, n=n, seed=SEED, recipe=recipe, parameters=simulator.parameters, stamp=simulator.stamp)
    for shard in data.missing:
        data.write(shard, simulator.draw_noiseless(np.asarray(data.rows(shard)), SEED))
    return data


def wider(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a forward model with PSFs wider than any of a training with `recipe`."""
    widest = recipe.get("psf", {}).get("fwhm_arcsec", {})
    widest = widest.get("high", widest.get("value")) if isinstance(widest, dict) else widest
    if not isinstance(widest, int | float):
        raise ConfigError("the forward model's PSFs have no largest `fwhm_arcsec`, so none can be wider; choose another --simulator")
    low, high = (round(factor * widest, 4) for factor in WIDER)
    return recipe | {"psf": recipe["psf"] | {"fwhm_arcsec": {"kind": "uniform", "low": low, "high": high}}}


def trained(
    name: str, data: TrainingSet, epochs: int, epistemic: dict[str, Any] | None, simulator: str, out: Path
) -> tuple[Posterior, float]:
    """Return a posterior and the seconds of its training; what is there already is not trained again, if it is the same."""
    bundle = out / name.replace(", ", "-").replace(" ", "_")
    training = {"epochs": epochs, "batch_size": min(64, max(8, data.n // 16))}
    content = RECIPE | {"simulations": {"simulator": simulator}, "training": training, "epistemic": epistemic}
    recipe = parse_recipe(EstimatorRecipe, content, "epistemic")
    clock = Clock(bundle.with_name(f"{bundle.name}.seconds"))
    if not (bundle / "manifest.json").exists():
        train_posterior(recipe, data, bundle, SEED, clock)
        clock.write()
    posterior = load_posterior(bundle)
    asked = {"recipe": recipe.model_dump(mode="json"), "seed": SEED, "simulations": data.n, "forward_model": data.recipe}
    found = posterior.training | {"forward_model": posterior.forward_model}
    changed = ", ".join(key for key, value in asked.items() if found.get(key) != value)
    if changed:
        raise ConfigError(f"{bundle} is of another run ({changed} differ); give another --out, or remove it")
    return posterior, float(clock.path.read_text()) if clock.path.exists() else np.nan


def judge(posterior: Posterior, galaxies: Simulation, n_draws: int) -> Judged:
    """Compare draws and densities with the truth."""
    encoded = posterior.encode(galaxies.stamps)
    usable = encoded.framed.usable
    draws = posterior.sample(encoded, n_draws, seed=1)
    score = posterior.log_prob(galaxies.theta, encoded)[usable].astype(np.float64)
    joint = density_credibility(posterior.log_prob(draws, encoded)[usable], score)
    draws = draws[usable]
    return Judged(
        off=central_coverage(pit(draws, galaxies.theta[usable]), LEVELS).fraction - LEVELS[:, None],
        joint_off=np.array([np.mean(joint <= level) for level in LEVELS]) - LEVELS,
        score=float(np.mean(score)),
        widths=draws.std(1),
        flagged=float(np.mean((encoded.flags[usable] & ODD) != 0)),
        apart=None if encoded.disagreement is None else encoded.disagreement[usable],
    )


def chance(galaxies: int) -> np.ndarray:
    """Return the mean of |share inside - level| ``(L,)`` that chance gives an exact posterior."""
    return np.sqrt(2 / np.pi * LEVELS * (1 - LEVELS) / galaxies)


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return how often a galaxy outside has the larger disagreement of a pair."""
    return float(stats.mannwhitneyu(outside, inside).statistic / (len(inside) * len(outside)))


def line(name: str, judged: Judged, standard: Judged, names: tuple[str, ...]) -> str:
    """Say how far off a posterior is: of all parameters, of the worst, jointly."""
    each = np.abs(judged.off).mean(0)
    worst = int(np.argmax(each))
    verdict = "sure" if judged.off[:, worst].mean() < 0 else "wide"
    apart = "" if judged.apart is None else f"{np.median(judged.apart):6.3f}"
    return (
        f"{name:25s} {each.mean():.3f}   {each[worst]:.3f} {names[worst]:>11s} too {verdict}   {np.abs(judged.joint_off).mean():.3f}   "
        f"{judged.score:9.2f}   {np.median(judged.widths.mean(0) / standard.widths.mean(0)):.2f}   {judged.flagged:.3f}   {apart:6s}"
    )


def run(given: argparse.Namespace) -> None:
    recipe = simulator_data(given.simulator)
    given.out.mkdir(parents=True, exist_ok=True)
    everything = stored(given.out / "all.zarr", recipe, given.simulations)
    tenth = stored(given.out / "tenth.zarr", recipe, given.simulations // 10)
    places = {"inside": recipe, "outside": wider(recipe)}
    galaxies = {
        place: simulator_from_data(data).draw(np.arange(given.galaxies), JUDGED + k) for k, (place, data) in enumerate(places.items())
    }
    head = "|share inside - level|: of each parameter, of the worst, jointly; log score; width; flagged; disagreement"
    found: dict[str, dict[str, Judged]] = {}
    times = {}
    for name, (whole, epistemic) in kinds(given.members).items():
        data, epochs = (everything, ROUNDS) if whole else (tenth, 3 * ROUNDS)
        posterior, times[name] = trained(name, data, epochs, epistemic, given.simulator, given.out)
        found[name] = {place: judge(posterior, drawn, given.draws) for place, drawn in galaxies.items()}
        print(f"{name}: {times[name]:.0f} s of training", flush=True)
    standard = next(iter(found.values()))
    for place in places:
        print(f"\n{place} the training\n{'':25s} {head}")
        for name, judged in found.items():
            print(line(name, judged[place], standard[place], posterior.parameters.names))
        print(f"{'an exact one, by chance':25s} {chance(given.galaxies).mean():.3f}")
    print("\nAUC of disagreement, outside against inside")
    for name, judged in found.items():
        inside, outside = judged["inside"].apart, judged["outside"].apart
        if inside is not None and outside is not None:
            print(f"{name:25s} {auc(inside, outside):.3f}")
    draw(found, given.galaxies, given.out / "coverage.png")


def draw(found: dict[str, dict[str, Judged]], galaxies: int, path: Path) -> None:
    """Draw how far shares inside are off, inside and outside the training, and how disagreement tells one from the other."""
    with style():
        figure = Figure(figsize=(10.5, 6.4), layout="constrained")
        axes = figure.subplots(2, 3)
        for row, place in zip(axes, ("inside", "outside"), strict=True):
            row[0].fill_between(LEVELS, 0, 2 * chance(galaxies), color="0.85", lw=0)
            band = 2 * np.sqrt(LEVELS * (1 - LEVELS) / galaxies)
            row[1].fill_between(LEVELS, -band, band, color="0.85", lw=0, label="chance")
            row[1].axhline(0, color="0.5", lw=1)
            for k, (name, judged) in enumerate(found.items()):
                dash = "--" if name.endswith("all") else "-"
                each = np.abs(judged[place].off)
                row[0].plot(LEVELS, each.mean(1), ls=dash, color=f"C{k}")
                row[0].plot(LEVELS, each[:, np.argmax(each.mean(0))], ls=":", lw=1, color=f"C{k}")
                row[1].plot(LEVELS, judged[place].joint_off, ls=dash, color=f"C{k}", label=name)
            row[0].set(title=f"each parameter, {place} the training", ylabel="|share inside - level|\n(dotted: the worst parameter)")
            row[0].set_ylim(bottom=0)
            row[1].set(title=f"jointly, {place} the training", ylabel="share inside - level\n(below: too sure)")
        for axis in axes[1, :2]:
            axis.set_xlabel("credible level")
        axes[0, 2].plot([0, 1], [0, 1], color="0.5", lw=1)
        names = list(found)
        for k, judged in enumerate(found.values()):
            inside, outside = judged["inside"].apart, judged["outside"].apart
            if inside is not None and outside is not None:
                limits = np.quantile(np.concatenate([inside, outside]), np.linspace(1, 0, 201))
                false, true = ((values[:, None] >= limits).mean(0) for values in (inside, outside))
                axes[0, 2].plot([0, *false], [0, *true], color=f"C{k}")
                names[k] += f" (area under the curve {auc(inside, outside):.2f})"
        axes[0, 2].set(
            title="outside found by disagreement", xlabel="share of galaxies inside that are taken for outside",
            ylabel="share of galaxies outside that are found",
        )  # fmt: skip
        axes[1, 2].axis("off")
        axes[1, 2].legend(axes[1, 1].get_legend_handles_labels()[0], ["chance, about two sd", *names], loc="upper left")
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulator", default="reference")
    parser.add_argument("--simulations", type=int, default=40_000)
    parser.add_argument("--galaxies", type=int, default=4000)
    parser.add_argument("--draws", type=int, default=320)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/epistemic"))
    try:
        run(parser.parse_args())
    except AstroflowError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
