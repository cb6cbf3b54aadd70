"""`astroflow demo`: the whole path on a simulated survey, without any data.

It trains a posterior, validates it, draws a survey tile with a catalog of 500 galaxies (some unusable on purpose), infers the catalog over a
local Dask cluster, proves that no row is missing, compares the posteriors with the truth, and queries one galaxy cut from the tile.
"""

__all__ = ["demo"]

from pathlib import Path

import numpy as np

from astroflow.catalogs.fits_images import read_fits_image, write_fits_image
from astroflow.catalogs.mock_survey import MockSurvey, write_mock_survey
from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.pipelines.infer import infer, verify
from astroflow.pipelines.query import query
from astroflow.pipelines.run import RunRecipe, run
from astroflow.sims.recipe import load_simulator
from astroflow.types import Array

SEED = 7
OBJECTS = 500


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
    from astroflow.config import load_recipe
    from astroflow.training.recipe import EstimatorRecipe

    lines = run(recipe, out=out, workers=workers)
    config = load_recipe(EstimatorRecipe, load_recipe(RunRecipe, recipe, "pipelines").train.recipe, "configs")
    simulator = load_simulator(config.simulations.simulator)
    survey = write_mock_survey(simulator, out / "survey", n_objects=OBJECTS, seed=SEED)
    infer(survey.recipe, bundle=out / "bundle", out=out / "inference", n_draws=256, seed=SEED, rows_per_partition=125, workers=workers)
    counts = verify(out / "inference")
    table = read_posterior_catalog(out / "inference" / "catalog")
    lines.append(f"tile: {counts['rows']} rows in, {counts['rows']} rows out; {counts['good']} good, {counts['suspect']} suspect, {counts['unusable']} unusable")
    lines.append(_tile_coverage(table, survey, simulator.parameters.names))
    row = int(np.flatnonzero(np.asarray(table["quality"]) == 0)[np.argmax(np.asarray(table["snr"].filled(0))[np.asarray(table["quality"]) == 0])])
    image, psf, rms = _cut_one(survey, float(table["x"][row]), float(table["y"][row]), simulator.stamp.size, out / "query")
    answer = query(
        image, psf=psf, rms=str(rms), bundle=out / "bundle", out=out / "query", zero_point=simulator.stamp.zero_point, seed=SEED,
        pixel_scale_arcsec=simulator.stamp.pixel_scale_arcsec, gain=float(read_fits_image(survey.image)[1]["GAIN"]),
    )  # fmt: skip
    lines.append(f"query of galaxy {table['id'][row]}: {answer.lines[0]}")
    places = {
        "posterior (bundle)": out / "bundle",
        "calibration": out / "validation" / "calibration.png",
        "posterior catalog": out / "inference" / "catalog",
        "one galaxy": out / "query" / "corner.png",
    }
    return lines + [f"{what:20s} {place}" for what, place in places.items()]


def _tile_coverage(table: object, survey: MockSurvey, names: tuple[str, ...]) -> str:
    """Return how many true parameters lie in the 68 and 95 % intervals of the usable rows."""
    from pyarrow import parquet

    truth = parquet.read_table(survey.truth)
    good = np.asarray(table["quality"]) < 2  # type: ignore[index]
    inside = {"q16": [], "q025": []}  # type: ignore[var-annotated]
    for name in names:
        true = np.asarray(truth.column(name), np.float64)[good]
        for low, high in (("q16", "q84"), ("q025", "q975")):
            a, b = (np.asarray(table[f"{name}_{q}"].filled(np.nan), np.float64)[good] for q in (low, high))  # type: ignore[index]
            inside[low].append(np.mean((true > a) & (true < b)))
    return f"tile: {np.mean(inside['q16']):.1%} of the true parameters lie in 68 % intervals, {np.mean(inside['q025']):.1%} in 95 % intervals"


def _cut_one(survey: MockSurvey, x: float, y: float, side: int, folder: Path) -> tuple[Path, Path, Path]:
    """Cut one galaxy from the tile, as a survey's cutout service would."""
    from astropy.wcs import WCS

    pixels, header = read_fits_image(survey.image)
    noise, _ = read_fits_image(survey.noise)
    left, low = round(x - (side - 1) / 2), round(y - (side - 1) / 2)
    window = (slice(max(low, 0), low + side), slice(max(left, 0), left + side))
    wcs = WCS(header)[window].to_header()

    def write(name: str, array: Array) -> Path:
        write_fits_image(folder / name, array[window], wcs)
        return folder / name

    return write("galaxy.fits", pixels), survey.psf, write("galaxy_rms.fits", noise)
