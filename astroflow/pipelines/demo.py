"""`astroflow demo`: the whole path on a simulated survey, without any data.

It trains a posterior, validates it, draws a survey tile with a catalog of 500 galaxies (some unusable on purpose), infers the
catalog over a local Dask cluster, proves that no row is missing, compares the posteriors with the truth, and queries one galaxy
cut from the tile.
"""

__all__ = ["demo"]

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy.wcs import WCS

from astroflow.catalogs.fits_images import read_fits_image, write_fits_image
from astroflow.catalogs.mock_survey import MockSurvey, write_mock_survey
from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.pipelines.infer import infer
from astroflow.pipelines.query import query
from astroflow.pipelines.run import run
from astroflow.pipelines.verify import verify
from astroflow.posteriors.bundle import load_posterior
from astroflow.sims.recipe import simulator_from_data

if TYPE_CHECKING:
    from astropy.table import Table

SEED = 7
OBJECTS = 500
ROWS_PER_PARTITION = 125


def demo(out: Path, *, recipe: str = "demo", workers: int | None = None) -> list[str]:
    """Run the demonstration.

    Parameters
    ----------
    out : Path
        Everything is written below it; run it again to resume.
    recipe : str
        Pipeline recipe that says how to train and validate.
    workers : int, optional
        Local worker processes.

    Returns
    -------
    list of str
        What was made, where it is, and how good it is.
    """
    lines = run(recipe, out=out, workers=workers)
    simulator = simulator_from_data(load_posterior(out / "bundle").forward_model)
    survey = write_mock_survey(simulator, out / "survey", n_objects=OBJECTS, seed=SEED)
    infer(
        survey.recipe, bundle=out / "bundle", out=out / "inference", n_draws=256, seed=SEED, rows_per_partition=ROWS_PER_PARTITION,
        workers=workers,
    )  # fmt: skip
    counts = verify(out / "inference")
    table = read_posterior_catalog(out / "inference" / "catalog")
    by_quality = ", ".join(f"{counts[name]} {name}" for name in ("good", "suspect", "unusable"))
    lines.append(f"tile: {OBJECTS} rows in, {counts['rows']} rows out; {by_quality}")
    lines.append(_tile_coverage(table, survey, simulator.parameters.names))
    row = _brightest(table)
    side = simulator.stamp.size * max(simulator.stamp.binning)
    galaxy = _cut_one(survey, float(table["x"][row]), float(table["y"][row]), side, out / "query")
    answer = query(
        galaxy.image, psf=survey.psf, rms=str(galaxy.rms), mask=galaxy.mask, bundle=out / "bundle", out=out / "query", seed=SEED,
        x=galaxy.x, y=galaxy.y,
    )  # fmt: skip
    lines.append(f"query of galaxy {table['id'][row]}: {answer.lines[0]}")
    places = {
        "posterior (bundle)": out / "bundle",
        "calibration": out / "validation" / "report.html",
        "posterior catalog": out / "inference" / "catalog",
        "one galaxy": out / "query" / "corner.png",
    }
    return lines + [f"{what:20s} {place}" for what, place in places.items()]


def _tile_coverage(table: "Table", survey: MockSurvey, names: tuple[str, ...]) -> str:
    """Say how many true parameters lie in the 68 and 95 % intervals of the usable rows."""
    from pyarrow import parquet

    truth = parquet.read_table(survey.truth)
    usable = np.asarray(table["quality"]) < 2
    shares = []
    for low, high in (("q16", "q84"), ("q025", "q975")):
        inside = []
        for name in names:
            true = np.asarray(truth.column(name))[usable]
            a, b = (np.asarray(table[f"{name}_{quantile}"])[usable] for quantile in (low, high))
            inside.append(np.mean((true > a) & (true < b)))
        shares.append(np.mean(inside))
    return f"tile: {shares[0]:.1%} of the true parameters lie in 68 % intervals, {shares[1]:.1%} in 95 % intervals"


def _brightest(table: "Table") -> int:
    """Return the row of the highest S/N among the good ones, or among the usable ones where none is good."""
    quality, snr = np.asarray(table["quality"]), np.ma.filled(np.ma.asarray(table["snr"], np.float64), -np.inf)
    return int(np.lexsort((-snr, quality))[0])


class _Galaxy(NamedTuple):
    """A cutout's files, its gain, and the pixel where its galaxy is."""

    image: Path
    rms: Path
    mask: Path
    x: float
    y: float


def _cut_one(survey: MockSurvey, x: float, y: float, side: int, folder: Path) -> _Galaxy:
    """Cut one galaxy from the tile, as a survey's cutout service would."""
    header = read_fits_image(survey.image)[1]
    left, low = max(round(x - (side - 1) / 2), 0), max(round(y - (side - 1) / 2), 0)
    window = (slice(low, low + side), slice(left, left + side))
    wcs = WCS(header)[window].to_header()
    wcs.update({key: header[key] for key in ("MAGZERO", "GAIN") if key in header})

    def cut(whole: Path, name: str) -> Path:
        write_fits_image(folder / name, read_fits_image(whole)[0][window], wcs)
        return folder / name

    return _Galaxy(
        image=cut(survey.image, "galaxy.fits"), rms=cut(survey.noise, "galaxy_rms.fits"), mask=cut(survey.mask, "galaxy_mask.fits"),
        x=x - left, y=y - low,
    )  # fmt: skip
