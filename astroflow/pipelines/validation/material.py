"""What a validation looks at besides ranks: functions of the data, and galaxies to show."""

__all__ = ["EXAMPLES", "brightness", "data_bins", "data_features", "example_galaxies"]

import math
from collections.abc import Mapping

import numpy as np

from astroflow.diagnostics.calibration_report import CalibrationReport
from astroflow.diagnostics.local import Bins, quantile_bins
from astroflow.diagnostics.local_verdict import LocalVerdict
from astroflow.errors import AstroflowError
from astroflow.pipelines.validation.accuracy import Example
from astroflow.posteriors.encoded import Encoded
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.validated import BY_SNR
from astroflow.sims.parameters import Parameters
from astroflow.sims.recipe import simulator_from_data
from astroflow.types import Array

EXAMPLES = 4
"""Galaxies of each kind on the page."""
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


def data_features(encoded: Encoded, other_draws: Array, parameters: Parameters) -> dict[str, Array]:
    """Return what the data say: estimated S/N, posterior medians of sizes and profiles, the PSF's width, the masked share.

    Medians are of `other_draws` ``(N, S, P)`` than those that are ranked: where a median happens to be high, the truth's rank among
    the very draws that it is of is low, and an exact posterior would fail.
    """
    stamps = encoded.framed.stamps
    by: dict[str, Array] = {BY_SNR: encoded.snr}
    for k, member in enumerate(parameters.members):
        if member.spin == 0 and not member.ucd.startswith("phot.mag"):
            by[f"median {member.name}"] = np.median(other_draws[..., k], axis=1)
    # as wide as a Gaussian of the same moments
    by["PSF width, pixel included [arcsec]"] = FWHM_PER_SIGMA * encoded.framed.measured_psfs["sigma"] * stamps.stamp_scale_arcsec
    by["masked share"] = stamps.mask.mean((1, 2, 3))
    return by


def data_bins(features: Mapping[str, Array]) -> list[Bins]:
    """Sort galaxies by each of some functions of the data; those that are the same for all are left out, but never the S/N."""
    binnings = [quantile_bins(name, values) for name, values in features.items()]
    return [bins for bins in binnings if len(bins.edges) > 2 or bins.name == BY_SNR]


def brightness(encoded: Encoded, other_draws: Array, parameters: Parameters) -> tuple[str, Array]:
    """Return a name and ``(N,)`` by which galaxies are sorted for their accuracy: the median magnitude, or the S/N if there is none."""
    for k, member in enumerate(parameters.members):
        if member.ucd.startswith("phot.mag"):
            return f"median {member.name}", np.median(other_draws[..., k], axis=1)
    return BY_SNR, encoded.snr


def example_galaxies(posterior: Posterior, encoded: Encoded, draws: Array, report: CalibrationReport) -> Example | str:
    """Draw the galaxies whose truth lies deepest inside the joint posterior, and furthest out; or say why there are none.

    Only galaxies on pixels that are not binned: their models are exact as drawn. Where L-C2ST was run, those that it was asked about: its
    p-values hold for all of these at once, and so for any that are picked by their truth.
    """
    if "reference" in posterior.forward_model:
        return "None could be drawn: the bundle's forward model is Python code."
    local = report.local_c2st
    asked = dict(zip(local.rows.tolist(), local.result.adjusted.tolist(), strict=True)) if isinstance(local, LocalVerdict) else None
    order = np.argsort(report.pit[:, -1], kind="stable")
    if asked is not None:
        order = order[np.isin(order, list(asked))]
    order = order[encoded.framed.stamps.binning[order] == 1]
    if len(order) < 2 * EXAMPLES:
        return f"Fewer than {2 * EXAMPLES} galaxies on pixels that are not binned."
    rows = np.concatenate([order[:EXAMPLES], order[: -EXAMPLES - 1 : -1]])
    framed, means = encoded.framed[rows], draws[rows].mean(1, dtype=np.float64)
    for axis, name in enumerate(("dx_arcsec", "dy_arcsec")):
        if name in posterior.parameters.names:
            means[:, posterior.parameters.names.index(name)] -= framed.shift_arcsec[:, axis]
    try:
        model = simulator_from_data(posterior.forward_model).render(means, framed.stamps)
    except AstroflowError as error:
        return f"None could be drawn: {error}"
    lines = zip(framed.stamps.ids.tolist(), encoded.snr[rows].tolist(), report.pit[rows, -1].tolist(), strict=True)
    captions = [f"{i}: S/N {snr:.0f}\nrank {rank:.3f}" for i, snr, rank in lines]
    if asked is not None:
        captions = [f"{text}, local p {asked[row]:.2g}" for text, row in zip(captions, rows.tolist(), strict=True)]
    return Example(framed.stamps, model, captions, np.repeat([False, True], EXAMPLES))
