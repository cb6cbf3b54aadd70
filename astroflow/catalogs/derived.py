"""Quantities that follow from the parameters: flux, axis ratio, circularised radius, and what they are on the sky.

`derive` works draw by draw, so any function of the posterior stays exact; `summarize_derived` reduces the draws to columns.
Each quantity is there when the parameters that it needs are: a model without `mag` has no flux.
"""

__all__ = ["DERIVED", "derive", "summarize_derived"]

from typing import NamedTuple

import numpy as np

from astroflow.catalogs.sky import SkyFrame, position_angle, sky_ellipticity, sky_position
from astroflow.posteriors.summary import draw_quantiles
from astroflow.sims.parameters import Parameters
from astroflow.sims.sersics import axis_ratio
from astroflow.types import Array


class Derived(NamedTuple):
    """A quantity that follows from parameters."""

    needs: tuple[str, ...]
    unit: str
    ucd: str
    description: str


DERIVED = {
    "flux": Derived(("mag",), "", "phot.flux", "Total flux of the untruncated profile in image units, 10^(0.4 (zero point - mag))"),
    "q": Derived(("e1", "e2"), "", "src.ellipticity", "Axis ratio b/a, (1 - |e|) / (1 + |e|)"),
    "re_circ_arcsec": Derived(("re_arcsec", "e1", "e2"), "arcsec", "phys.angSize", "Circularised half-light radius, re_arcsec * sqrt(q)"),
}
QUANTILES = {"q16": 0.16, "q50": 0.5, "q84": 0.84}


def derive(draws: Array, parameters: Parameters, zero_point: float | Array) -> dict[str, Array]:
    """Turn posterior draws into draws of derived quantities.

    Parameters
    ----------
    draws : ndarray
        ``(N, S, P)`` physical parameters.
    parameters : Parameters
        Their names.
    zero_point : float or ndarray
        AB magnitude of one image unit, one or ``(N,)``.

    Returns
    -------
    dict
        ``(N, S)`` float64 arrays: those of `flux`, `q` and `re_circ_arcsec` whose parameters exist.
    """
    value = {name: np.asarray(parameters.column(draws, name), np.float64) for name in parameters.names}
    out: dict[str, Array] = {}
    if "mag" in value:
        out["flux"] = 10 ** (0.4 * (np.asarray(zero_point, np.float64).reshape(-1, 1) - value["mag"]))
    if "e1" in value and "e2" in value:
        out["q"] = axis_ratio(value["e1"], value["e2"])
        if "re_arcsec" in value:
            out["re_circ_arcsec"] = value["re_arcsec"] * np.sqrt(out["q"])
    return out


def summarize_derived(
    draws: Array,
    parameters: Parameters,
    zero_point: float | Array,
    frame: SkyFrame | None = None,
    centre_dx_arcsec: float | Array = 0.0,
    centre_dy_arcsec: float | Array = 0.0,
) -> dict[str, Array]:
    """Reduce draws of derived quantities to the columns of a posterior catalog.

    Parameters
    ----------
    draws, parameters, zero_point
        As in `derive`.
    frame : SkyFrame, optional
        The objects' frames on the sky; without one there are no sky columns.
    centre_dx_arcsec, centre_dy_arcsec : float or ndarray
        Where the stamp's centre, from which `dx_arcsec` and `dy_arcsec` count, lies relative to the frame's position: along +x
        and +y, pixels times the pixel scale; one or ``(N,)``.

    Returns
    -------
    dict
        ``(N,)`` arrays: ``{name}_mean``, ``_sd``, ``_q16``, ``_q50``, ``_q84`` of each derived quantity; with a frame also `ra_fit`,
        `dec_fit` (at the mean offset), `pa_deg` (circular mean), `pa_deg_sd`, `e1_sky`, `e2_sky` (means) and their `_sd`.
    """
    out: dict[str, Array] = {}
    for name, values in derive(draws, parameters, zero_point).items():
        out[f"{name}_mean"], out[f"{name}_sd"] = values.mean(1), values.std(1)
        for suffix, quantile in zip(QUANTILES, draw_quantiles(values, QUANTILES.values()), strict=True):
            out[f"{name}_{suffix}"] = quantile
    if frame is None:
        return out
    known = set(parameters.names)
    if {"dx_arcsec", "dy_arcsec"} <= known:
        dx, dy = (parameters.column(draws, name).mean(1, dtype=np.float64) for name in ("dx_arcsec", "dy_arcsec"))
        out["ra_fit"], out["dec_fit"] = sky_position(frame, dx + centre_dx_arcsec, dy + centre_dy_arcsec)
    if {"e1", "e2"} <= known:
        e1, e2 = sky_ellipticity(frame, parameters.column(draws, "e1"), parameters.column(draws, "e2"))
        phase = np.exp(2j * np.deg2rad(position_angle(e1, e2))).mean(1)
        out["pa_deg"] = np.rad2deg(np.angle(phase) / 2) % 180
        out["pa_deg_sd"] = np.rad2deg(np.sqrt(-2 * np.log(np.clip(np.abs(phase), 1e-12, 1)))) / 2
        for name, values in (("e1_sky", e1), ("e2_sky", e2)):
            out[name], out[f"{name}_sd"] = values.mean(1), values.std(1)
    return out
