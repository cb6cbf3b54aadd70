"""Summaries of draws: moments and quantiles of every parameter, and whether the posterior leans on a bound."""

__all__ = ["QUANTILES", "draw_quantiles", "leans_on_bound", "summarize_draws"]

from collections.abc import Iterable

import numpy as np

from astroflow.sims.parameters import Parameters
from astroflow.sims.stamp import StampSpec, size_names
from astroflow.types import Array

QUANTILES = {"q025": 0.025, "q16": 0.16, "q50": 0.5, "q84": 0.84, "q975": 0.975}
NEAR = 0.015
LEAN_SHARE = 0.15


def summarize_draws(draws: Array, parameters: Parameters) -> dict[str, Array]:
    """Return mean, sd, quantiles and covariances of draws.

    Parameters
    ----------
    draws : ndarray
        ``(N, S, P)``.
    parameters : Parameters
        Names of the last axis.

    Returns
    -------
    dict of ndarray
        ``(N,)`` each: ``{p}_mean``, ``{p}_sd``, ``{p}_q025`` ... ``{p}_q975``, and ``cov_{p}_{q}`` for each pair.
    """
    wide = draws.astype(np.float64)
    mean = wide.mean(1)
    centred = wide - mean[:, None]
    covariance = np.einsum("nsp,nsq->npq", centred, centred) / max(draws.shape[1] - 1, 1)
    quantiles = np.stack(draw_quantiles(draws, QUANTILES.values()))
    out: dict[str, Array] = {}
    for k, name in enumerate(parameters.names):
        out[f"{name}_mean"] = mean[:, k]
        out[f"{name}_sd"] = np.sqrt(covariance[:, k, k])
        out |= {f"{name}_{label}": quantiles[j, :, k] for j, label in enumerate(QUANTILES)}
    for i, a in enumerate(parameters.names):
        out |= {f"cov_{a}_{b}": covariance[:, i, j] for j, b in enumerate(parameters.names) if j > i}
    return out


def draw_quantiles(draws: Array, levels: Iterable[float]) -> list[Array]:
    """Return quantiles over the draws of ``(N, S)`` or ``(N, S, P)``, one array ``(N,)`` or ``(N, P)`` for each level.

    They are those of `numpy.quantile`, by a sort of contiguous draws, for which processors have instructions: a fifth of its time. NaN
    where a draw is.
    """
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(draws, 1, -1)), axis=-1)  # NaN comes last
    last = ordered.shape[-1] - 1
    quantiles = []
    for level in levels:
        place = level * last
        low = min(int(place), max(last - 1, 0))
        below, above = ordered[..., low].astype(np.float64), ordered[..., min(low + 1, last)].astype(np.float64)
        between = below + (above - below) * (place - low)
        quantiles.append(np.where(np.isnan(ordered[..., -1]), np.nan, between))
    return quantiles


def leans_on_bound(draws: Array, binning: Array, parameters: Parameters, stamp: StampSpec) -> Array:
    """Say which posteriors put more than 15 % of their draws within 1.5 % of a bound's range.

    A bound of the size, the largest of several, includes the one that its binning sets. Sizes and indices count in logarithm.
    """
    lean = np.zeros(len(draws), bool)
    bounds = parameters.prior.bounds
    limits = np.array([stamp.re_limits_arcsec(int(b)) for b in binning]).reshape(-1, 2)
    sizes = [parameters.index(name) for name in size_names(parameters.names)]
    round_bounds = dict(parameters.pairs(2))

    def beyond(values: Array, low: Array, high: Array) -> Array:
        if (low > 0).all():
            values, low, high = np.log(values), np.log(low), np.log(high)
        margin = NEAR * (high - low)
        shares = (values < (low + margin)[:, None]).mean(1), (values > (high - margin)[:, None]).mean(1)
        return np.asarray(np.maximum(*shares) > LEAN_SHARE)

    for k, name in enumerate(parameters.names):
        low, high = (np.full(len(draws), b) for b in bounds[name])
        if k in round_bounds:
            modulus = np.hypot(draws[..., k], draws[..., round_bounds[k]])
            lean |= (modulus > (1 - NEAR) * high[:, None]).mean(1) > LEAN_SHARE
        elif k not in round_bounds.values() and sizes != [k]:
            lean |= beyond(draws[..., k], low, high)
    if sizes:
        least, most = np.array([bounds[parameters.names[k]] for k in sizes]).max(0)
        low, high = np.maximum(least, limits[:, 0]), np.minimum(most, limits[:, 1])
        lean |= beyond(draws[..., sizes].max(-1), low, high)
    return lean
