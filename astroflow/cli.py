"""The command line: parse, call one function, print.

Progress and logs go to stderr, result paths (or ``--json``) to stdout. Exit codes: 0 done, 1 bug, 2 bad input, 3 done but with more flagged
rows than allowed, 4 incomplete: run again to resume. Heavy libraries load inside the commands, so ``--help`` answers at once.
"""

__all__ = ["main"]

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from astroflow.errors import AstroflowError, ConfigError, IncompleteError, nearest

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Calibrated posteriors of galaxy parameters from survey images.",
)


def _named(folder: Path) -> Path:
    # what is written beside a folder is called after it, so "." needs its name
    return folder if folder.name not in ("", "..") else folder.resolve()


Out = Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False, callback=_named)]
Seed = Annotated[int, typer.Option(min=0, help="Seeds every random draw.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a running Dask scheduler, or a cluster: one of configs/clusters/, by path or name. This machine otherwise.",
        show_default=False,
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes on this machine; one per core otherwise.", show_default=False)]
Bundle = Annotated[Path, typer.Option("--bundle", help="Trained posterior.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line, err=True)


def _load_tensorflow() -> None:
    from astroflow.networks.loading import import_tensorflow

    import_tensorflow()


def _result(paths: list[Path], facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"paths": [str(p) for p in paths], **facts}, sort_keys=True))
    else:
        for path in paths:
            typer.echo(str(path))


@app.command()
def demo(out: Out = Path("runs/demo"), workers: Workers = None, as_json: AsJson = False) -> None:
    """Run the whole path on a simulated survey: no data needed."""
    _load_tensorflow()
    from astroflow.pipelines.demo import demo as run_demo

    _say(run_demo(out, workers=workers))
    _result([out], {}, as_json)


@app.command()
def simulate(
    simulator: Annotated[str, typer.Argument(help="Forward model: a recipe of sims/, by path or name, or module:attribute.")],
    out: Out,
    n: Annotated[int, typer.Option("--n", help="How many galaxies.")] = 32_768,
    seed: Seed = 0,
    scheduler: Scheduler = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a training set with Dask; resumes by itself."""
    from astroflow.pipelines.simulate import simulate as run_simulate

    run_simulate(simulator, n=n, out=out, seed=seed, scheduler=scheduler, workers=workers)
    _result([out], {"simulations": n}, as_json)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Training recipe: one of configs/, by path or name.")],
    out: Out,
    data: Annotated[Path | None, typer.Option(help="Training set; simulated first otherwise.", show_default=False)] = None,
    seed: Seed = 0,
    scheduler: Scheduler = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Train a posterior and write its bundle; resumes by itself."""
    _load_tensorflow()
    from astroflow.pipelines.train import train as run_train

    posterior = run_train(recipe, out=out, data=data, seed=seed, scheduler=scheduler, workers=workers)
    score = posterior.training["held_out_log_score"]
    _say([f"held-out log score {score:.3f} nats per galaxy; bundle {posterior.digest[:12]}"])
    _result([out], {"digest": posterior.digest, "held_out_log_score": score}, as_json)


@app.command()
def validate(
    bundle: Annotated[Path, typer.Argument(help="Trained posterior.")],
    out: Out,
    n: Annotated[int, typer.Option("--n", min=100, help="Fresh simulations that are scored.")] = 2000,
    draws: Annotated[int, typer.Option(min=32, help="Posterior draws each.")] = 256,
    seed: Seed = 20_000,
    simulator: Annotated[
        str | None, typer.Option(help="Validate on this forward model instead of the bundle's own.", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="File of exact posteriors of the same forward model to compare with: about two minutes of a core for each galaxy, "
            "shared out over workers.",
            show_default=False,
        ),
    ] = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Check a posterior's calibration on fresh simulations."""
    _load_tensorflow()
    from astroflow.pipelines.validate import validate as run_validate

    report = run_validate(
        bundle, out=out, n=n, n_draws=draws, seed=seed, simulator=simulator, reference=reference, scheduler=scheduler, workers=workers
    )  # fmt: skip
    _say([*report.coverage_table(), *report.contraction_table(), *report.verdict])
    _result(
        [out / "report.html", out / "validation.json", out / "calibration.png", out / "accuracy.png"], {"passed": report.passed}, as_json
    )


@app.command()
def infer(
    catalog: Annotated[str, typer.Argument(help="Data-source recipe: one of catalogs/, by path or name.")],
    bundle: Bundle,
    out: Out,
    draws: Annotated[int, typer.Option(help="Posterior draws per object.")] = 256,
    seed: Seed = 0,
    samples: Annotated[bool, typer.Option("--samples", help="Write the draws as well.")] = False,
    contexts: Annotated[bool, typer.Option("--contexts", help="Keep what draws are made from, for redraw.")] = False,
    certify: Annotated[bool, typer.Option("--certify", help="Weigh the draws by the exact likelihood: two verdicts for each row.")] = False,
    refine: Annotated[bool, typer.Option("--refine", help="Refine rows whose draws fail the certificate; needs --certify.")] = False,
    refine_budget: Annotated[int, typer.Option(min=1, help="Most evaluations of the likelihood that refining a row may take.")] = 20_000,
    rows_per_partition: Annotated[
        int | None, typer.Option(help="The most rows per task and file; by the number of rows otherwise.", show_default=False)
    ] = None,
    allow_flagged: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of unusable rows that is fine; more gives exit code 3.")
    ] = 1.0,
    scheduler: Scheduler = None,
    workers: Workers = None,
    dask_report: Annotated[
        Path | None, typer.Option(help="Write Dask's report of what workers did when, HTML.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Infer a catalog with Dask: one row out per row in; resumes by itself."""
    _load_tensorflow()
    from astroflow.pipelines.infer import infer as run_infer

    result = run_infer(
        catalog, bundle=bundle, out=out, n_draws=draws, seed=seed, keep_samples=samples, keep_contexts=contexts, certify=certify,
        refine_budget=refine_budget if refine else 0, rows_per_partition=rows_per_partition, scheduler=scheduler, workers=workers,
        dask_report=dask_report,
    )  # fmt: skip
    _say(result.tally.lines())
    facts = result.tally.numbers()
    if result.population is not None:
        _say(result.population.lines())
        facts["population"] = result.population.numbers()
    _say(result.validated)
    facts["validated"] = list(result.validated)
    _result([result.catalog], facts, as_json)
    if result.tally.unusable > allow_flagged * max(result.tally.rows, 1):
        raise typer.Exit(3)


@app.command()
def plan(
    catalog: Annotated[str, typer.Argument(help="Data-source recipe: one of catalogs/, by path or name.")],
    bundle: Bundle,
    rows: Annotated[
        float | None, typer.Option(min=1, help="Rows of the run, as 2e10; the catalog's otherwise.", show_default=False)
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Cores of each, with a worker on each.")] = 1,
    draws: Annotated[int, typer.Option(help="As of infer.")] = 256,
    samples: Annotated[bool, typer.Option("--samples", help="As of infer.")] = False,
    certify: Annotated[bool, typer.Option("--certify", help="As of infer.")] = False,
    refine: Annotated[bool, typer.Option("--refine", help="As of infer.")] = False,
    refine_budget: Annotated[int, typer.Option(min=1, help="As of infer.")] = 20_000,
    rows_per_partition: Annotated[int | None, typer.Option(min=1, help="As of infer.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Measure here what infer will cost elsewhere: core-hours, wall time, bytes, tasks."""
    _load_tensorflow()
    from astroflow.pipelines.plan import plan as run_plan

    found = run_plan(
        catalog, bundle=bundle, rows=None if rows is None else round(rows), nodes=nodes, cores=cores, n_draws=draws, keep_samples=samples,
        certify=certify, refine_budget=refine_budget if refine else 0, rows_per_partition=rows_per_partition,
    )  # fmt: skip
    if as_json:
        _result([], found.numbers(), as_json)
    else:
        for line in found.lines():
            typer.echo(line)


@app.command()
def query(
    image: Annotated[Path, typer.Argument(help="FITS image of one galaxy.")],
    psf: Annotated[Path, typer.Option(help="FITS image of its PSF, pixel included.", show_default=False)],
    bundle: Bundle,
    out: Out,
    rms: Annotated[
        str | None,
        typer.Option(help="Noise map (FITS, rms without the galaxy's photons) or a number; measured otherwise.", show_default=False),
    ] = None,
    rms_includes_source: Annotated[
        bool, typer.Option("--rms-includes-source", help="The noise map holds the galaxy's photon noise: take it out with the gain.")
    ] = False,
    mask: Annotated[Path | None, typer.Option(help="FITS image, nonzero = ignore.", show_default=False)] = None,
    hdu: Annotated[str | None, typer.Option(help="Number or name of the image HDU.", show_default=False)] = None,
    psf_hdu: Annotated[str | None, typer.Option(help="Number or name of the PSF's HDU.", show_default=False)] = None,
    zero_point: Annotated[
        float | None, typer.Option(help="AB magnitude of one image unit; else from the header.", show_default=False)
    ] = None,
    pixel_scale: Annotated[float | None, typer.Option(help="Arcsec; from the WCS otherwise.", show_default=False)] = None,
    psf_oversampling: Annotated[int, typer.Option(min=1, help="PSF pixels per image pixel.")] = 1,
    gain: Annotated[
        float | None, typer.Option(help="Electrons per image unit; else GAIN of the header, else no photon noise.", show_default=False)
    ] = None,
    noise_correlation: Annotated[
        Path | None, typer.Option(help="FITS image of the noise's correlation; else the bundle's own.", show_default=False)
    ] = None,
    x: Annotated[float | None, typer.Option(help="Pixel column of the galaxy, from 0; the centre otherwise.", show_default=False)] = None,
    y: Annotated[float | None, typer.Option(help="Pixel row of the galaxy, from 0; the centre otherwise.", show_default=False)] = None,
    draws: Annotated[int, typer.Option(min=64, help="Posterior draws.")] = 2000,
    refine: Annotated[bool, typer.Option("--refine", help="Refine the posterior if its draws fail the certificate.")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Infer one galaxy: a table, a corner plot, and data, model and residual."""
    _load_tensorflow()
    from astroflow.pipelines.query import query as run_query
    from astroflow.posteriors.flags import flag_names

    result = run_query(
        image, psf=psf, bundle=bundle, out=out, rms=rms, rms_includes_source=rms_includes_source, mask=mask, hdu=hdu, psf_hdu=psf_hdu,
        zero_point=zero_point, pixel_scale_arcsec=pixel_scale, psf_oversampling=psf_oversampling, gain=gain,
        noise_correlation=noise_correlation, x=x, y=y, n_draws=draws, refine=refine, seed=seed,
    )  # fmt: skip
    names = flag_names(result.flags)
    _say([*result.remarks, *result.lines, f"flags: {', '.join(names) or 'none'}"])
    _result(result.files, {"flags": names, "remarks": result.remarks}, as_json)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Run recipe: one of pipelines/, by path or name.")],
    out: Out,
    scheduler: Scheduler = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Train, validate, infer and report in one go, as a recipe says; resumes by itself."""
    _load_tensorflow()
    from astroflow.pipelines.run import run as run_pipeline

    _say(run_pipeline(recipe, out=out, scheduler=scheduler, workers=workers))
    _result([out], {}, as_json)


@app.command("noise-correlation")
def noise_correlation(
    images: Annotated[list[Path], typer.Argument(help="FITS images of one survey and band.", metavar="IMAGE...")],
    out: Annotated[Path, typer.Option(help="FITS file for the map and its errors.", show_default=False)],
    mask: Annotated[list[Path] | None, typer.Option(help="FITS image, nonzero = ignore; once per image.", show_default=False)] = None,
    rms: Annotated[
        list[Path] | None, typer.Option(help="FITS noise map that the image is divided by; once per image.", show_default=False)
    ] = None,
    hdu: Annotated[str | None, typer.Option(help="Number or name of the images' HDU.", show_default=False)] = None,
    max_lag: Annotated[int, typer.Option(min=1, max=32, help="Longest lag along each axis, pixels.")] = 10,
    background: Annotated[int, typer.Option(min=4, help="Side of the boxes whose mean is taken off, pixels.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Measure the noise's correlation on blank sky, for recipes and queries."""
    from astroflow.pipelines.noise_correlation import noise_correlation as run_noise_correlation

    report = run_noise_correlation(
        images, out=out, masks=mask or (), rms=rms or (), hdu=hdu, max_lag=max_lag, background_pixels=background
    )  # fmt: skip
    _say(report.lines)
    _result([out], {"lag_x": report.lag_x, "lag_y": report.lag_y, "is_white": report.is_white}, as_json)


@app.command()
def verify(
    out: Annotated[Path, typer.Argument(help="Output folder of infer.")],
    against: Annotated[
        str | None, typer.Option(help="Recipe of the input catalog: read its ids again, and compare.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that a posterior catalog has one row for each input row, made by one bundle."""
    from astroflow.pipelines.verify import verify as run_verify

    facts = run_verify(out, against)
    _say([f"{facts['rows']} rows, each input row once, all by bundle {facts['bundle'][:12]}"])
    _result([out / "catalog"], facts, as_json)


@app.command()
def redraw(
    out: Annotated[Path, typer.Argument(help="Output folder of infer --contexts.")],
    to: Annotated[Path, typer.Option("--to", help="Parquet file for the draws.", show_default=False)],
    ids: Annotated[str | None, typer.Option(help="Of which rows, with commas between; all otherwise.", show_default=False)] = None,
    ids_file: Annotated[Path | None, typer.Option(help="A file with an id on each line, instead.", show_default=False)] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each.")] = 1000,
    seed: Annotated[int | None, typer.Option(min=0, help="The run's if not given: then its draws come first.", show_default=False)] = None,
    bundle: Annotated[Path | None, typer.Option(help="The run's bundle, if it has been moved.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Draw again from posteriors of a finished catalog, without its images."""
    if ids is not None and ids_file is not None:
        raise ConfigError("give --ids or --ids-file, not both")
    _load_tensorflow()
    from astroflow.pipelines.redraw import read_ids, write_draws
    from astroflow.pipelines.redraw import redraw as run_redraw

    wanted = read_ids(ids_file) if ids_file is not None else None if ids is None else ids.split(",")
    found = run_redraw(out, ids=wanted, n_draws=draws, seed=seed, bundle=bundle)
    write_draws(found, to)
    _result([to], {"rows": len(found.ids), "draws": draws, "without": int((found.counts == 0).sum())}, as_json)


@app.command()
def config(name: Annotated[str, typer.Argument(help="simulator, estimator, catalog, pipeline or cluster.")]) -> None:
    """Print a recipe's keys, defaults and meanings as YAML."""
    from astroflow.config import commented_defaults

    if name not in RECIPE_KINDS:
        raise ConfigError(f"no recipe kind {name!r}; known: {', '.join(RECIPE_KINDS)}.{nearest(name, RECIPE_KINDS)}")
    models = [getattr(importlib.import_module(module), model) for module, model in RECIPE_KINDS[name]]
    # several kinds are several YAML documents
    typer.echo("---\n".join(commented_defaults(model) for model in models), nl=False)


USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""What wrong options raise. Some versions of typer bring a click of their own, so click is not the place to import it from."""

INTERRUPTED = 130
"""What typer returns after Ctrl-C, as shells do."""

RECIPE_KINDS = {
    "simulator": [("astroflow.sims.recipe", "SimulatorRecipe")],
    "estimator": [("astroflow.training.recipe", "EstimatorRecipe")],
    "catalog": [("astroflow.catalogs.recipe", f"{kind}Recipe") for kind in ("Tiles", "Stamps", "RealGalaxy")],
    "pipeline": [("astroflow.pipelines.run", "RunRecipe")],
    "cluster": [("astroflow.pipelines.clusters", f"{kind}Recipe") for kind in ("Local", "Scheduler", "Batch", "Kubernetes")],
}


@app.command()
def doctor() -> None:
    """Print versions, devices and what is missing."""
    from astroflow.provenance import versions

    _load_tensorflow()
    found = versions()
    for name, text in found.items():
        typer.echo(f"{name:24s} {text}")
    import tensorflow as tf

    devices = [d.name for d in tf.config.list_physical_devices()]
    typer.echo(f"{'devices':24s} {', '.join(devices)}")
    typer.echo(f"{'cores':24s} {os.cpu_count()}")
    missing = [name for name, text in found.items() if text == "not installed"]
    if missing:
        raise ConfigError(f"not installed: {', '.join(missing)}; `make install` installs everything")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an expected error is one line and its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command and options; those of the process by default.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        code = app(list(sys.argv[1:] if arguments is None else arguments) or ["--help"], prog_name="astroflow", standalone_mode=False)
    except AstroflowError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)
    except USAGE_ERROR as error:
        where = error.ctx.command_path if error.ctx else "astroflow"
        typer.echo(f"error: {error.format_message().rstrip('.')} (see `{where} --help`)", err=True)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"error: {error.strerror or error}: {error.filename}", err=True)
        sys.exit(ConfigError.exit_code)
    if code == INTERRUPTED:
        typer.echo("interrupted; run the same command again to resume", err=True)
        sys.exit(IncompleteError.exit_code)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
