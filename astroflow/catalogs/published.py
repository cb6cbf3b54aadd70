"""Published structural parameters, brought to astroflow's conventions, to compare posteriors with."""

__all__ = ["PublishedRecipe", "read_published"]

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pydantic

from astroflow.catalogs.paths import check_file
from astroflow.catalogs.recipe import DataPath
from astroflow.config import Recipe
from astroflow.errors import InputError
from astroflow.types import Array

FIT = ("surface brightness at R_e", "re", "n", "q", "boxiness", "x0", "y0", "position angle")


class PublishedRecipe(Recipe):
    """A table of published fits in the format that GalSim's RealGalaxy catalogs come with.

    Its `sersicfit` holds the surface brightness at R_e, R_e in pixels along the major axis, n, q, boxiness, x0, y0 and the position angle;
    `flux` holds the total flux of that fit.
    """

    kind: Literal["galsim_sersicfit"] = "galsim_sersicfit"
    path: DataPath
    """The ``..._fits.fits`` table; environment variables as in catalog recipes."""
    zero_point: float
    """AB magnitude of one unit of flux."""
    pixel_scale_arcsec: pydantic.PositiveFloat
    """The pixel that R_e counts."""


def read_published(recipe: PublishedRecipe, ids: Sequence[str]) -> dict[str, Array]:
    """Read published mag, log10_re (arcsec, semi-major), log10_n and q of given ids; NaN where an id is not there or its fit failed.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a column.
    """
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    path = recipe.path
    check_file(path, "table of published fits")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            table = Table.read(path, format="fits", hdu=1, unit_parse_strict="silent")
        found = {str(i): row for row, i in enumerate(np.asarray(table["IDENT"]).tolist())}
        fit = np.asarray(table["sersicfit"], np.float64)
        flux = np.asarray(table["flux"], np.float64)[:, 0]
    except KeyError as error:
        raise InputError(f"{path} has no column {error.args[0]!r}; expected IDENT, sersicfit and flux") from None
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"cannot read published fits from {path}: {error}") from None
    if fit.ndim != 2 or fit.shape[1] != len(FIT):
        raise InputError(f"column 'sersicfit' of {path} has shape {fit.shape}; expected (rows, {len(FIT)}): {', '.join(FIT)}")
    rows = np.array([found.get(i, -1) for i in ids], np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "mag": recipe.zero_point - 2.5 * np.log10(flux),
            "log10_re": np.log10(fit[:, FIT.index("re")] * recipe.pixel_scale_arcsec),
            "log10_n": np.log10(fit[:, FIT.index("n")]),
            "q": fit[:, FIT.index("q")],
        }
    # a last row for ids that are not there
    return {name: np.append(np.where(np.isfinite(value), value, np.nan), np.nan)[rows] for name, value in values.items()}
