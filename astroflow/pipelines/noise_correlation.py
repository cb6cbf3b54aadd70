"""`astroflow noise-correlation`: images of a survey in; the correlation of their noise out, as a file that recipes and queries take."""

__all__ = ["CorrelationReport", "noise_correlation"]

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from astroflow.catalogs.fits_images import read_fits_image
from astroflow.errors import InputError
from astroflow.files import atomic_write
from astroflow.sims.blank_sky import MeasuredCorrelation, measure_noise_correlation
from astroflow.sims.correlation import repaired
from astroflow.sims.noise_correlation import REPAIR_TOLERANCE
from astroflow.types import Array

SHOWN = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2))
"""Lags (dx, dy) that are printed."""
LIKELY_ERRORS = 4
"""So many standard errors may separate the map that is written from the one that was measured."""


@dataclass(frozen=True)
class CorrelationReport:
    """What was measured, in lines to print, and the figures of the nearest lags."""

    lines: list[str]
    lag_x: float
    """Correlation of neighbours along x."""
    lag_y: float
    """Correlation of neighbours along y."""
    is_white: bool
    """Whether the noise cannot be told from independent pixels."""


def noise_correlation(
    images: Sequence[Path],
    *,
    out: Path,
    masks: Sequence[Path] = (),
    rms: Sequence[Path] = (),
    hdu: str | None = None,
    max_lag: int = 10,
    background_pixels: int = 64,
) -> CorrelationReport:
    """Measure the noise correlation on blank sky of FITS images, and write it.

    Parameters
    ----------
    images : sequence of Path
        FITS images of one survey and band.
    out : Path
        The file that is written: the map ``(2 max_lag + 1, 2 max_lag + 1)``, and in a second HDU its standard errors. Negative power, which
        no noise has and measured maps have by chance, is taken out.
    masks, rms : sequence of Path, optional
        One FITS image per image: nonzero = ignore; noise maps that images are divided by.
    hdu : str, optional
        Number or name of the images' HDU, where files hold several.
    max_lag, background_pixels : int
        As in `astroflow.sims.blank_sky.measure_noise_correlation`.

    Raises
    ------
    InputError
        If a file cannot be used, too little blank sky is left, or the result is the correlation of no noise.
    """
    if out.is_dir():
        raise InputError(f"--out must be a file for the map, such as noise_correlation.fits; {out} is a folder")
    for name, given in (("--mask", masks), ("--rms", rms)):
        if given and len(given) != len(images):
            raise InputError(f"{name} must be given once per image, in their order; got {len(given)} for {len(images)} images")
    place = int(hdu) if hdu is not None and hdu.isdigit() else hdu
    pictures = [_read(path, place, "image") for path in images]
    measured = measure_noise_correlation(
        pictures,
        [_read(path, None, "mask") for path in masks] or None,
        max_lag,
        rms=[_read(path, None, "noise map") for path in rms] or None,
        background_pixels=background_pixels,
    )
    usable, change = repaired(measured.correlation)
    if change > max(REPAIR_TOLERANCE, LIKELY_ERRORS * float(measured.error.max())):
        raise InputError(
            f"what was measured is no correlation of any noise: without negative power it would differ by {change:.3f}. "
            "Give more blank sky, a smaller --max-lag, or masks of all sources"
        )
    _write(out, usable, measured)
    across, up = (float(measured.correlation[max_lag + dy, max_lag + dx]) for dx, dy in SHOWN[:2])
    return CorrelationReport(_lines(out, measured, change), across, up, measured.is_white)


def _read(path: Path, hdu: int | str | None, what: str) -> Array:
    return read_fits_image(path, hdu, what)[0]


def _write(out: Path, usable: Array, measured: MeasuredCorrelation) -> None:
    header = fits.Header()
    header["PIXELS"] = (measured.pixels, "pixels of blank sky")
    header["SKYRMS"] = (measured.rms, "their standard deviation")
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(usable, header), fits.ImageHDU(measured.error, name="ERROR")]).writeto(stream)
    atomic_write(out, stream.getvalue())


def _lines(out: Path, measured: MeasuredCorrelation, change: float) -> list[str]:
    middle = len(measured.correlation) // 2
    lines = [f"{measured.pixels} pixels of blank sky, rms {measured.rms:.4g}"]
    for dx, dy in SHOWN:
        if max(abs(dx), abs(dy)) <= middle:
            value, error = (a[middle + dy, middle + dx] for a in (measured.correlation, measured.error))
            lines.append(f"lag ({dx}, {dy:2d})  {value:7.4f} +- {error:.4f}")
    if change > 0:
        lines.append(f"negative power, which no noise has, was taken out; that changed the map by up to {change:.4f}")
    if measured.is_white:
        lines.append("warning: this cannot be told from independent pixels; a recipe is better without it")
    lines.append(f"in a recipe: correlation: {{kind: image, path: {out.name}, max_lag: {middle}}}")
    return lines
