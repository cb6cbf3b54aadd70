"""`astroflow validate`: is a posterior calibrated on galaxies that it has never seen?"""

__all__ = ["summary", "validate"]

import contextlib
import functools
import itertools
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.diagnostics.baseline import LinearGaussianBaseline
from astroflow.diagnostics.calibration import calibrate
from astroflow.diagnostics.calibration_report import CalibrationReport
from astroflow.diagnostics.estimated_accuracy import estimated_accuracy
from astroflow.diagnostics.reference import ReferencePosteriors
from astroflow.errors import AstroflowError, ConfigError
from astroflow.files import atomic_write
from astroflow.pipelines.clusters import cluster
from astroflow.pipelines.progress import reporter
from astroflow.pipelines.scheduler import bounded
from astroflow.pipelines.tasks import draw_simulations
from astroflow.pipelines.validation.material import brightness, data_bins, data_features, example_galaxies
from astroflow.pipelines.validation.page import validation_page
from astroflow.pipelines.validation.reference import (
    NO_REFERENCE,
    NOT_COMPARED,
    ReferenceScore,
    against_exact,
    exact_posteriors,
    remembering,
)
from astroflow.plots.calibration import plot_accuracy, plot_calibration
from astroflow.plots.style import save_figure
from astroflow.posteriors.bundle import load_posterior
from astroflow.posteriors.encoded import Encoded
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.validated import attach_validation
from astroflow.provenance import provenance, write_json
from astroflow.sims.recipe import simulator_data
from astroflow.types import Array, Simulation

BLOCK = 100
BASELINE_SHARE = 1.5
"""The baseline regression is fitted on this many times as many simulations as are scored."""

LEAST_SHARED = 1000
"""A local cluster takes seconds to start; fewer simulations than this are drawn without one."""
LEAST_SIMULATIONS, LEAST_DRAWS = 100, 32
DENSITY_DRAWS = 64
"""Draws at which a posterior's density is asked for: ranks among them are as good as among more."""
MEDIAN_DRAWS = 64
"""Draws of which medians are taken for bins."""


def validate(
    bundle: Path,
    *,
    out: Path,
    n: int = 2000,
    n_draws: int = 256,
    seed: int = 20_000,
    simulator: str | None = None,
    reference: Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
) -> CalibrationReport:
    """Draw fresh simulations and measure on them how well a bundle's posterior is calibrated.

    Validated on its own forward model, the verdict and the coverage in bins of S/N are attached to the bundle, for `infer` and `query`.

    Parameters
    ----------
    bundle : Path
        The trained posterior.
    out : Path
        Folder for ``report.html``, ``validation.json`` and the pictures.
    n : int
        Fresh simulations that are scored; half as many again train the regression on image moments that is the baseline.
    n_draws : int
        Posterior draws each.
    seed : int
        Seeds the simulations; keep it different from the training's.
    simulator : str, optional
        Forward model to validate on, instead of the bundle's own. Needed for bundles trained on a simulator of your own Python.
    reference : Path, optional
        Exact posteriors of galaxies of the same forward model (`load_reference`) to compare with: about two minutes of a core for each
        galaxy, shared out over the workers. If the comparison breaks off, everything else is there, and the page says so.
    scheduler, workers : optional
        See `clusters.load_cluster`; a few simulations are drawn without one.

    Returns
    -------
    CalibrationReport

    Raises
    ------
    ConfigError
        If the simulations are those of the training, too few, or of a simulator that is not named, or if too few have a posterior.
    InputError
        If the reference posteriors are of another forward model.
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
    exact = None if reference is None else exact_posteriors(reference, posterior)
    fitted = round(n * BASELINE_SHARE)
    with _noted() as troubles:
        drawn = _drawn(forward_model, n + fitted, seed, scheduler, workers)
        held_out, for_baseline = drawn[:n], drawn[n:]
        encoded = posterior.encode(held_out.stamps)
        flags, usable = encoded.flags, encoded.framed.usable
        if usable.sum() < LEAST_SIMULATIONS:
            raise ConfigError(f"{usable.sum()} of {n} simulations have a posterior, too few to say anything; see the flags of `infer`")
        encoded, held_out = encoded[np.flatnonzero(usable)], held_out[usable]
        draws = posterior.sample(encoded, n_draws, seed)
        others = posterior.sample(encoded, MEDIAN_DRAWS, seed + 1)
        report = _measured(posterior, encoded, draws, others, held_out, for_baseline, seed)
        points = estimated_accuracy(draws, held_out.theta, posterior.parameters, *brightness(encoded, others, posterior.parameters))
        examples = example_galaxies(posterior, encoded, draws, report)
        figures = {"calibration": plot_calibration(report), "accuracy": plot_accuracy(report)}
    record = {
        **report.to_json(), "bundle": posterior.digest, "simulator": simulator, "simulations": n, "draws": n_draws,
        "point_accuracy": points.to_json(),
        "unusable": int((~usable).sum()), "flags": {str(flag.name): int(((flags & flag) != 0).sum()) for flag in Flag},
        "summary": summary(report), "provenance": provenance(posterior.forward_model, seed),
    }  # fmt: skip
    if forward_model == posterior.forward_model:
        try:
            kept = attach_validation(bundle, posterior.digest, record)
            troubles += [] if kept is None else [f"{kept} stays attached to {bundle}, not this one"]
        except OSError as error:
            troubles.append(f"{bundle} cannot be written, so `infer` and `query` will not know of this validation ({error.strerror})")
            warnings.warn(troubles[-1], RuntimeWarning, stacklevel=2)
    for name, figure in figures.items():
        save_figure(figure, out / f"{name}.png")

    def write(compared: ReferenceScore | str) -> None:
        page = validation_page(report, record, points=points, figures=figures, examples=examples, reference=compared, warnings=troubles)
        atomic_write(out / "report.html", page.encode())
        # last: `astroflow run` takes it for a sign that the rest is there
        found = {"why_no_reference": compared, "reference": None} if isinstance(compared, str) else {"reference": compared.to_json()}
        write_json(out / "validation.json", record | found)

    if exact is None or reference is None:
        write(NO_REFERENCE)
        return report
    write(f"{NOT_COMPARED}the comparison has not ended.")  # which it may never do: it takes hours
    with _noted() as more:
        try:
            compared = _compared(posterior, exact, reference.name, seed, scheduler, workers, out / "classifiers.jsonl")
        except AstroflowError as error:
            compared = f"{NOT_COMPARED}{error}"
            warnings.warn(f"exact posteriors could not be compared with: {error}", RuntimeWarning, stacklevel=2)
    troubles += more
    write(compared)
    return report


@contextlib.contextmanager
def _noted() -> Iterator[list[str]]:
    """Keep a list of the warnings that come up inside, each once and with how often it did, and let them come up once afterwards."""
    texts: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            # what nobody asked to ignore, as often as it comes, and not once for each line of code
            warnings.simplefilter("always", append=True)
            yield texts
    finally:
        found = Counter((one.category.__name__, str(one.message)) for one in caught)
        texts += [f"{kind}: {text}" + (f" ({count} times)" if count > 1 else "") for (kind, text), count in found.items()]
        distinct = {(one.category, str(one.message)): one for one in caught}
        for one in distinct.values():
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _measured(
    posterior: Posterior, encoded: Encoded, draws: Array, others: Array, held_out: Simulation, for_baseline: Simulation, seed: int
) -> CalibrationReport:
    regression = LinearGaussianBaseline.fit(for_baseline, posterior.parameters)
    features = data_features(encoded, others, posterior.parameters)
    return calibrate(
        draws, posterior.log_prob(held_out.theta, encoded), held_out.theta, encoded.snr, posterior.parameters,
        baseline_log_prob=regression.log_prob(held_out.theta, held_out.stamps),
        log_prob_draws=posterior.log_prob(draws[:, :DENSITY_DRAWS], encoded), estimate=regression.mean(held_out.stamps),
        binnings=data_bins(features), features=features, seed=seed,
    )  # fmt: skip


def _compared(
    posterior: Posterior, exact: ReferencePosteriors, file: str, seed: int, scheduler: str | None, workers: int | None, answers: Path
) -> ReferenceScore | str:
    with reporter("classifiers") as progress, cluster(scheduler, workers) as client:
        return against_exact(posterior, exact, file, seed, remembering(answers, functools.partial(bounded, client)), progress)


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
