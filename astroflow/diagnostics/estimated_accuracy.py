"""What the medians of a posterior are worth, in the form of the Euclid Morphology Challenge, but in bins of what the data say.

The challenge bins by true magnitude (`point_accuracy`), which is fair to codes that are compared on the same galaxies, and unfair to
posteriors: among galaxies that are chosen by their truth even an exact one is biased. Here bins are of an estimated magnitude, where an
exact posterior's medians have no median error, whatever the prior.

Galaxies without a posterior have no estimated magnitude and are in no bin.
"""

__all__ = ["EstimatedAccuracy", "error_kinds", "estimated_accuracy"]

from typing import Any, NamedTuple

import numpy as np

from astroflow.diagnostics.local import Bins, quantile_bins
from astroflow.diagnostics.point_accuracy import Kind, PointAccuracy, point_accuracy
from astroflow.diagnostics.ranks import checked_draws
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

BINS = 5


class EstimatedAccuracy(NamedTuple):
    """Scores of posterior medians in K bins of a function of the data."""

    bins: Bins
    scores: dict[str, PointAccuracy]
    """Of each quantity; see `error_kinds`."""

    @property
    def n_images(self) -> Array:
        """``(K,)``."""
        return np.array([(self.bins.which == k).sum() for k in range(len(self.bins.edges) - 1)])

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain numbers; None where a bin is empty."""

        def plain(values: Array) -> list[float | None]:
            return [float(value) if np.isfinite(value) else None for value in values]

        scores = {
            name: {"kind": found.kind} | {key: plain(getattr(found, key)) for key in ("bias", "dispersion", "outliers")}
            for name, found in self.scores.items()
        }
        return {"by": self.bins.name, "edges": self.bins.edges.tolist(), "images": self.n_images.tolist(), "scores": scores}


def error_kinds(parameters: Parameters) -> dict[str, Kind]:
    """Say how errors of each quantity are counted: of fluxes and sizes relative, of Sersic indices in dex, of all else plain.

    A magnitude is scored as ``flux``, an ellipticity also as the axis ratio ``q``; positions are left out.
    """
    kinds: dict[str, Kind] = {}
    for member in parameters.members:
        if member.ucd.startswith("pos."):
            continue
        if member.ucd.startswith("phot.mag"):
            kinds[_flux(member.name)] = "relative"
        elif member.ucd.startswith("phys.angSize"):
            kinds[member.name] = "relative"
        else:
            kinds[member.name] = "dex" if member.name.rpartition("_")[2] == "n" else "plain"
    return kinds | {_axis_ratio(parameters.names[first]): "plain" for first, _ in parameters.pairs(2)}


def estimated_accuracy(draws: Array, truth: Array, parameters: Parameters, name: str, values: Array) -> EstimatedAccuracy:
    """Score posterior medians in bins of a function of the data.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)`` and ``(N, P)``.
    parameters : Parameters
        Their names and meanings.
    name : str
        What the galaxies are sorted by.
    values : ndarray
        ``(N,)`` a function of the data, such as a magnitude estimated from the image.

    Raises
    ------
    InputError
        If shapes disagree, or something is not finite.
    """
    draws, truth = checked_draws(draws, truth)
    estimates = {key: np.median(drawn, axis=1) for key, drawn in _quantities(draws, parameters).items()}
    bins = quantile_bins(name, values, BINS)
    edges = [*bins.edges[:-1], np.nextafter(bins.edges[-1], np.inf)]  # the largest value is in the last bin
    scores = point_accuracy(estimates, _quantities(truth, parameters), error_kinds(parameters), values, edges)
    return EstimatedAccuracy(bins, scores)


def _quantities(theta: Array, parameters: Parameters) -> dict[str, Array]:
    theta = theta.astype(np.float64)
    found = dict(zip(parameters.names, np.moveaxis(theta, -1, 0), strict=True))
    for member in parameters.members:
        if member.ucd.startswith("phot.mag"):
            found[_flux(member.name)] = 10 ** (-0.4 * found[member.name])
    for first, second in parameters.pairs(2):
        size = np.hypot(theta[..., first], theta[..., second])
        found[_axis_ratio(parameters.names[first])] = (1 - size) / (1 + size)
    return found


def _flux(name: str) -> str:
    return name.replace("mag", "flux") if "mag" in name else f"{name}_flux"


def _axis_ratio(first: str) -> str:
    return f"{first.removesuffix('1').removesuffix('e')}q"
