"""How good the point estimates are and how much was learned, for faint and for bright galaxies.

Everything is binned by the *estimated* signal-to-noise ratio, which is a function of the data. Never bin by a true parameter: a
posterior is calibrated over (truth, image) pairs drawn together, and stays so in any subset chosen by looking at the image, but
not in one chosen by looking at the truth. Among galaxies whose true magnitude is faint, even the exact posterior is biased bright,
as it should be, because the prior pulls the noisy ones back. The same holds for the true S/N, which knows the noiseless image.
"""

__all__ = ["Accuracy", "SNR_EDGES", "accuracy"]

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from astroflow.diagnostics.ranks import checked_draws, pit
from astroflow.errors import InputError
from astroflow.types import Array

SNR_EDGES = (10.0, 30.0, 100.0, 300.0)
"""Inner edges of the S/N bins; the first and last bins are open."""
MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""


class Accuracy(NamedTuple):
    """Point accuracy and contraction per bin of estimated S/N (first axis) and parameter (second). NaN where a bin is empty."""

    edges: Array
    """``(K + 1,)`` edges in S/N; the outer ones are infinite."""
    n_images: Array
    """``(K,)`` images."""
    bias: Array
    """``(K, P)`` median of posterior mean minus truth, parameter's unit."""
    scatter: Array
    """``(K, P)`` 1.48 times the median absolute deviation of that difference, parameter's unit."""
    rms_z: Array
    """``(K, P)`` rms of (posterior mean - truth) / posterior sd; 1 for an exact posterior, more if it is overconfident."""
    contraction: Array
    """``(K, P)`` median posterior sd over the prior's; 1 means that the images said nothing."""
    coverage_68: Array
    """``(K, P)`` share of truths in the central 68 % interval."""
    coverage_95: Array
    """``(K, P)`` in the central 95 % interval."""

    @property
    def labels(self) -> tuple[str, ...]:
        """How a table or plot writes each bin, such as ``10-30``."""
        inner = [f"{edge:g}" for edge in self.edges[1:-1]]
        if not inner:
            return ("all",)
        return (f"< {inner[0]}", *(f"{a}-{b}" for a, b in itertools.pairwise(inner)), f"> {inner[-1]}")


def accuracy(
    draws: Array,
    truth: Array,
    snr_estimated: Array,
    prior_sd: Array,
    *,
    snr_edges: Sequence[float] = SNR_EDGES,
    values: Array | None = None,
) -> Accuracy:
    """Measure accuracy, contraction and coverage per bin of estimated S/N.

    Parameters
    ----------
    draws, truth : ndarray
        ``(N, S, P)`` and ``(N, P)``.
    snr_estimated : ndarray
        ``(N,)`` signal-to-noise ratio estimated from the image, never the simulation's own.
    prior_sd : ndarray
        ``(P,)`` standard deviation of the prior, parameters' units.
    snr_edges : sequence of float
        Rising inner edges; empty for one bin.
    values : ndarray, optional
        ``(N, P)`` PIT values, where they are known already.
    """
    draws, truth = checked_draws(draws, truth)
    snr, prior_sd = np.asarray(snr_estimated, np.float64), np.asarray(prior_sd, np.float64)
    n, _, p = draws.shape
    if snr.shape != (n,) or np.isnan(snr).any():
        raise InputError(f"`snr_estimated` must be one number per image, {n} in all, without NaN; got shape {snr.shape}")
    if prior_sd.shape != (p,) or not (np.isfinite(prior_sd) & (prior_sd > 0)).all():
        raise InputError(f"`prior_sd` must be {p} positive numbers; got {prior_sd}")
    if list(snr_edges) != sorted(set(snr_edges)):
        raise InputError(f"`snr_edges` must rise; got {list(snr_edges)}")
    values = pit(draws, truth) if values is None else np.asarray(values)
    error = draws.mean(1, dtype=np.float64) - truth
    sd = draws.std(1, dtype=np.float64, ddof=1 if draws.shape[1] > 1 else 0)
    # Draws that are all the same claim no error at all: keep the z-score finite, and huge.
    z = error / np.maximum(sd, 1e-9 * prior_sd)
    tail = 2 * np.abs(values - 0.5)
    which = np.searchsorted(np.asarray(snr_edges, np.float64), snr, side="right")
    bins = len(snr_edges) + 1
    table = np.full((6, bins, p), np.nan)
    for k in range(bins):
        rows = which == k
        if not rows.any():
            continue
        bias = np.median(error[rows], 0)
        scatter = MAD_TO_SD * np.median(np.abs(error[rows] - bias), 0)
        contraction = np.median(sd[rows], 0) / prior_sd
        inside = (tail[rows] <= 0.68).mean(0), (tail[rows] <= 0.95).mean(0)
        table[:, k] = bias, scatter, np.sqrt((z[rows] ** 2).mean(0)), contraction, *inside
    edges = np.array([-np.inf, *snr_edges, np.inf])
    return Accuracy(edges, np.bincount(which, minlength=bins), *table)
