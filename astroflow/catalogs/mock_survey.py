"""A small survey to practise on: one tile with all that a real one has, and the truth about its galaxies.

The galaxies, their PSF and noise come from a simulator, so the posterior trained on it should be calibrated on the tile too. Each
lies on a jittered grid where neighbours hardly overlap. The catalog's positions scatter evenly by half a pixel around corners
of pixels, from which the true offsets `dx_arcsec`, `dy_arcsec` count: just where the centre of an even-sized stamp falls. The WCS is turned
by 20 degrees, so that image axes are not sky axes. Some rows are unusable on purpose, as in any real catalog.
"""

__all__ = ["MockSurvey", "write_mock_survey"]

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from astropy.wcs import WCS

from astroflow.catalogs.fits_images import write_fits_image
from astroflow.catalogs.parts import write_parquet
from astroflow.errors import ConfigError
from astroflow.randomness import generator, standard_normals
from astroflow.sims import Simulator
from astroflow.sims.correlation import correlated_normals
from astroflow.sims.noise import add_noise
from astroflow.types import Array

CENTRE_RA, CENTRE_DEC, NORTH_DEGREES = 150.1, 2.2, 20.0
FIRST_ID = 10_000_000_001
UNUSABLE_SHARE = 0.04
NOISE_VARIATION = 0.1
CORRELATION = "noise_correlation.fits"
TROUBLES = ("off the tile", "no position", "under a mask", "dead pixels")


class MockSurvey(NamedTuple):
    """Where the files of a mock survey are."""

    recipe: Path
    """``survey.yaml``, the catalog recipe: give it to `astroflow infer`."""
    catalog: Path
    """Ids and positions, Parquet."""
    truth: Path
    """The true parameters and what is wrong with a row, Parquet."""
    image: Path
    noise: Path
    mask: Path
    psf: Path


def write_mock_survey(simulator: Simulator, out: str | Path, n_objects: int = 500, seed: int = 0) -> MockSurvey:
    """Draw a survey tile and write its files.

    Parameters
    ----------
    simulator : Simulator
        Gives galaxies, PSF and noise; binnings other than 1 and its mask population are not used.
    out : str or Path
        A folder; it is made.
    n_objects : int
        Rows of the catalog; about 4 % of them are unusable on purpose.
    seed : int
        The same seed makes the same survey.
    """
    if n_objects < 25:
        raise ConfigError(f"`n_objects` is {n_objects}; a survey needs at least 25")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = MockSurvey(
        recipe=folder / "survey.yaml", catalog=folder / "catalog.parquet", truth=folder / "truth.parquet", image=folder / "tile.fits",
        noise=folder / "tile_rms.fits", mask=folder / "tile_mask.fits", psf=folder / "psf.fits",
    )  # fmt: skip
    scale, size = simulator.stamp.pixel_scale_arcsec, simulator.stamp.size
    point = simulator.psf.draw(generator(seed, "survey psf"), scale)
    levels = simulator.noise.levels(generator(seed, "survey noise"), 1)
    gain = float(levels.gain[0, 0])
    corners, width, height = _grid(n_objects, size, generator(seed, "survey grid"))
    trouble = _troubles(n_objects, generator(seed, "survey troubles"))

    theta = np.empty((n_objects, len(simulator.parameters)), np.float32)
    clean = np.zeros((height, width), np.float64)
    for row in range(n_objects):
        theta[row] = simulator.parameters.prior.forward(generator(seed, "survey galaxy", row).normal(size=theta.shape[1]))
        galaxy = simulator.galaxy.profile(
            dict(zip(simulator.parameters.names, theta[row].tolist(), strict=True)), simulator.stamp.zero_point
        )
        # Twice the stamp's side: light spills over to the neighbours as it does on the sky.
        _add(clean, point.observed(galaxy, scale, 1, 2 * size), corners[row])
    rms = (float(levels.rms[0, 0]) * _variation(height, width)).astype(np.float32)
    normals = standard_normals(seed, "survey pixels", np.arange(height), (width,))
    correlation, sky = simulator.noise_correlation, None
    if correlation is not None:
        sky = correlated_normals(generator(seed, "survey sky"), correlation, np.ones(1, np.int64), (height, width))
        write_fits_image(folder / CORRELATION, correlation)
    image = add_noise(clean[None, None].astype(np.float32), rms, np.array([[gain]]), normals[None, None], sky)[0, 0]
    mask = _spoil(image, corners, trouble)

    wcs = _wcs(width, height, scale)
    header = wcs.to_header()
    header["MAGZERO"] = simulator.stamp.zero_point
    if math.isfinite(gain):
        header["GAIN"] = gain
    write_fits_image(files.image, image, header)
    write_fits_image(files.noise, rms, wcs.to_header())
    write_fits_image(files.mask, mask, wcs.to_header())
    write_fits_image(files.psf, point.image(scale, 1, simulator.stamp.psf_size))
    _write_tables(files, simulator, theta, corners, trouble, wcs, generator(seed, "survey positions"))
    files.recipe.write_text(_recipe(files, simulator, seed, has_gain=math.isfinite(gain)))
    return files


def _grid(n: int, size: int, rng: np.random.Generator) -> tuple[Array, int, int]:
    """Return pixel corners ``(n, 2)`` (x, y) on a jittered grid in random order, and the tile's width and height."""
    step = size + size // 4
    across = math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    margin = size // 2
    cells = rng.permutation(across * down)[:n]
    jitter = rng.integers(-(size // 8), size // 8 + 1, (n, 2))
    corners = np.stack([cells % across, cells // across], 1) * step + step // 2 + margin + jitter + 0.5
    # Two odd ones that can be used: so near the edge that a strip of their stamps is missing.
    corners[-2] = (size // 4 + 0.5, corners[-2, 1])
    corners[-1] = (corners[-1, 0], size // 4 + 0.5)
    return corners, across * step + 2 * margin, down * step + 2 * margin


def _troubles(n: int, rng: np.random.Generator) -> Array:
    """Choose what is wrong with each row: 0 nothing, else 1 + an index of TROUBLES. The last two rows are spared."""
    chosen = rng.permutation(n - 2)[: round(UNUSABLE_SHARE * n)]
    out = np.zeros(n, np.int64)
    out[chosen] = 1 + np.arange(len(chosen)) % len(TROUBLES)
    return out


def _add(tile: Array, stamp: Array, corner: Array) -> None:
    """Add an even-sided stamp whose centre falls on a pixel corner, cut at the tile's border."""
    half = stamp.shape[0] // 2
    left, bottom = int(corner[0] + 0.5) - half, int(corner[1] + 0.5) - half
    x0, x1, y0, y1 = max(left, 0), min(left + 2 * half, tile.shape[1]), max(bottom, 0), min(bottom + 2 * half, tile.shape[0])
    if x0 < x1 and y0 < y1:
        tile[y0:y1, x0:x1] += stamp[y0 - bottom : y1 - bottom, x0 - left : x1 - left]


def _variation(height: int, width: int) -> Array:
    """Return how the noise varies over the tile: a gradient, and quarters of different depth, as dithered exposures leave."""
    y, x = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
    steps = np.where((x > 0.45) != (y > 0.55), 1.0, -1.0)
    return 1 + NOISE_VARIATION * (0.5 * steps + (x - 0.5) + (y - 0.5))


def _spoil(image: Array, corners: Array, trouble: Array) -> Array:
    """Kill pixels of the image in place and return the mask, bit 0 = saturated or bright star."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mask = np.zeros(image.shape, np.uint8)
    for kind, (cx, cy) in zip(trouble, corners, strict=True):
        if kind == 3:
            mask[np.hypot(x - cx, y - cy) < 20] |= 1
        elif kind == 4:
            image[np.hypot(x - cx, y - cy) < 30] = np.nan
    return mask


def _wcs(width: int, height: int, scale: float) -> WCS:
    wcs = WCS(naxis=2)
    angle = math.radians(NORTH_DEGREES)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [CENTRE_RA, CENTRE_DEC]
    wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2]
    turn = np.array([[-math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    wcs.wcs.cd = turn * scale / 3600
    return wcs


def _write_tables(
    files: MockSurvey, simulator: Simulator, theta: Array, corners: Array, trouble: Array, wcs: WCS, rng: np.random.Generator
) -> None:
    import pyarrow as pa

    n = len(theta)
    ids = FIRST_ID + np.arange(n)
    scale = simulator.stamp.pixel_scale_arcsec
    measured = corners + rng.uniform(-0.5, 0.5, (n, 2))
    measured[trouble == 1] += np.array([0.0, 10.0]) * corners.max()
    ra, dec = wcs.all_pix2world(measured[:, 0], measured[:, 1], 0)
    ra[trouble == 2] = np.nan
    offset = np.stack([_column(simulator, theta, name) / scale for name in ("dx_arcsec", "dy_arcsec")], 1)
    true_ra, true_dec = wcs.all_pix2world(*(corners + offset).T, 0)
    degrees = {"unit": "deg"}
    catalog = pa.schema(
        [pa.field("id", pa.int64()), pa.field("ra", pa.float64(), metadata=degrees), pa.field("dec", pa.float64(), metadata=degrees)]
    )
    write_parquet(pa.table([ids, ra, dec], schema=catalog), files.catalog)
    columns: dict[str, Any] = {"id": ids, "ra_true": true_ra, "dec_true": true_dec, "x_corner": corners[:, 0], "y_corner": corners[:, 1]}
    columns |= {name: theta[:, place] for place, name in enumerate(simulator.parameters.names)}
    # what a posterior should find: offsets from the catalog's position, not from the pixel corner that the galaxy was drawn about
    for axis, name in enumerate(("dx_arcsec", "dy_arcsec")):
        if name in columns:
            columns[name] = columns[name] + (corners - measured)[:, axis] * scale
    columns["trouble"] = np.array(["", *TROUBLES])[trouble].tolist()
    write_parquet(pa.table(columns), files.truth)


def _column(simulator: Simulator, theta: Array, name: str) -> Array:
    if name not in simulator.parameters.names:
        return np.zeros(len(theta))
    return np.asarray(simulator.parameters.column(theta, name), np.float64)


def _recipe(files: MockSurvey, simulator: Simulator, seed: int, *, has_gain: bool) -> str:
    data: dict[str, Any] = {
        "kind": "tiles",
        "description": f"Mock survey tile drawn from {simulator.name}, seed {seed}",
        "table": {"path": files.catalog.name},
        "columns": {"id": "id", "ra": "ra", "dec": "dec"},
        "image": {"path": files.image.name},
        "noise": {"path": files.noise.name, "kind": "rms"},
        "mask": {"path": files.mask.name, "bits": [0]},
        "psf": {"path": files.psf.name},
        "zero_point": "MAGZERO",
        "pixel_scale_arcsec": simulator.stamp.pixel_scale_arcsec,
    }
    if simulator.noise_correlation is not None:
        # the whole file: what lies beyond it is uncorrelated
        data["noise"]["correlation"] = {"kind": "image", "path": CORRELATION, "max_lag": len(simulator.noise_correlation) // 2}
    if has_gain:
        data["gain"] = "GAIN"
    return "# A mock survey tile; paths are relative to this file.\n" + yaml.safe_dump(data, sort_keys=False)
