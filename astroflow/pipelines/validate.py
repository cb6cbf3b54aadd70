"""`astroflow validate`: is a posterior calibrated on galaxies that it has never seen?"""

__all__ = ["summary", "validate"]

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from astroflow.diagnostics.baseline import LinearGaussianBaseline
from astroflow.diagnostics.calibration import CalibrationReport, calibrate
from astroflow.errors import ConfigError
from astroflow.pipelines.progress import reporter
from astroflow.pipelines.scheduler import bounded, cluster
from astroflow.pipelines.tasks import draw_simulations
from astroflow.plots.calibration import plot_accuracy, plot_calibration
from astroflow.plots.style import save_figure
from astroflow.posteriors.bundle import load_posterior
from astroflow.posteriors.flags import Flag
from astroflow.provenance import provenance, write_json
from astroflow.sims.recipe import simulator_data
from astroflow.types import Simulation

BLOCK = 100
BASELINE_SHARE = 1.5
"""The baseline regression is fitted on this many times as many simulations as are scored."""

LEAST_SHARED = 1000
"""A local cluster takes seconds to start; fewer simulations than this are drawn without one."""
LEAST_SIMULATIONS, LEAST_DRAWS = 100, 32


def validate(
    bundle: Path,
    *,
    out: Path,
    n: int = 2000,
    n_draws: int = 256,
    seed: int = 20_000,
    simulator: str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
) -> CalibrationReport:
    """Draw fresh simulations and measure ranks, coverage, accuracy and log score of a bundle's posterior on them.

    Parameters
    ----------
    bundle : Path
        The trained posterior.
    out : Path
        Folder for ``validation.json`` and the pictures.
    n : int
        Fresh simulations that are scored; half as many again train the regression on image moments that is the baseline.
    n_draws : int
        Posterior draws each.
    seed : int
        Seeds the simulations; keep it different from the training's.
    simulator : str, optional
        Forward model to validate on, instead of the bundle's own. Needed for bundles trained on a simulator of your own Python.
    scheduler, workers : optional
        See `cluster`; a few simulations are drawn without one.

    Returns
    -------
    CalibrationReport

    Raises
    ------
    ConfigError
        If the simulations are those of the training, too few, or of a simulator that is not named.
    """
    if n < LEAST_SIMULATIONS or n_draws < LEAST_DRAWS:
        raise ConfigError(
            f"--n must be at least {LEAST_SIMULATIONS} and --draws at least {LEAST_DRAWS} to say anything; got {n} and {n_draws}"
        )
    posterior = load_posterior(bundle)
    if seed == posterior.training.get("simulation_seed"):
        raise ConfigError(f"--seed {seed} is the seed of the training simulations; validate on others")
    if "reference" in posterior.forward_model and simulator is None:
        reference = posterior.forward_model["reference"]
        raise ConfigError(f"this bundle was trained on {reference!r}; name it with --simulator to allow importing it")
    forward_model = simulator_data(simulator) if simulator else posterior.forward_model
    fitted = round(n * BASELINE_SHARE)
    drawn = _drawn(forward_model, n + fitted, seed, scheduler, workers)
    held_out, for_baseline = drawn[:n], drawn[n:]
    encoded = posterior.encode(held_out.stamps)
    usable = encoded.framed.usable
    draws = posterior.sample(encoded, n_draws, seed)
    log_prob = posterior.log_prob(held_out.theta, encoded)
    baseline = LinearGaussianBaseline.fit(for_baseline, posterior.parameters).log_prob(held_out.theta, held_out.stamps)
    report = calibrate(
        draws[usable], log_prob[usable], held_out.theta[usable], encoded.snr[usable], posterior.parameters,
        baseline_log_prob=baseline[usable], seed=seed,
    )  # fmt: skip
    flagged = {str(flag.name): int(((encoded.flags & flag) != 0).sum()) for flag in Flag}
    record = {
        **report.to_json(), "bundle": posterior.digest, "simulator": simulator, "simulations": n, "draws": n_draws,
        "unusable": int((~usable).sum()), "flags": flagged, "summary": summary(report),
        "provenance": provenance(posterior.forward_model, seed),
    }  # fmt: skip
    save_figure(plot_calibration(report), out / "calibration.png")
    save_figure(plot_accuracy(report), out / "accuracy.png")
    # last: `astroflow run` takes it for a sign that the rest is there
    write_json(out / "validation.json", record)
    return report


def summary(report: CalibrationReport) -> list[str]:
    """Return a validation as lines for a terminal: coverage, and posterior-to-prior widths per bin of S/N."""
    return [*report.coverage_table(), *report.contraction_table()]


def _drawn(forward_model: Mapping[str, Any], n: int, seed: int, scheduler: str | None, workers: int | None) -> Simulation:
    """Draw simulations of ids 0 .. n-1, telling how far it is."""
    jobs = [(json.dumps(forward_model), start, min(start + BLOCK, n), seed) for start in range(0, n, BLOCK)]
    parts: dict[int, Simulation] = {}
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(reporter("images"))
        progress("validate", 0, n, {})
        finished: Iterator[tuple[int, Simulation]]
        if scheduler is None and n < LEAST_SHARED:
            finished = itertools.starmap(draw_simulations, jobs)
        else:
            finished = bounded(stack.enter_context(cluster(scheduler, workers)), draw_simulations, jobs)
        for start, part in finished:
            parts[start] = part
            progress("validate", sum(len(done) for done in parts.values()), n, {})
    return Simulation.joined([parts[start] for start in sorted(parts)])
