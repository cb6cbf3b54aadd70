"""Ours against published measurements of the same galaxies: offset and scatter, from robust statistics.

Published fits are no truth, so this is a comparison, not a calibration. Flagged rows are kept for the picture and left out of
the numbers.
"""

__all__ = ["Comparison", "compare"]

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from astroflow.diagnostics.accuracy import MAD_TO_SD
from astroflow.errors import InputError
from astroflow.types import Array


class Comparison(NamedTuple):
    """Two catalogs of the same N galaxies, P quantities."""

    names: tuple[str, ...]
    """The quantities."""
    published: Array
    """``(N, P)``; NaN where there is none."""
    inferred: Array
    """``(N, P)``; NaN where there is none."""
    error: Array
    """``(N, P)`` posterior sd of `inferred`; NaN where it is not known."""
    flagged: Array
    """``(N,)`` bool: left out of the numbers below."""
    n_used: Array
    """``(P,)`` rows used."""
    offset: Array
    """``(P,)`` median of inferred minus published."""
    scatter: Array
    """``(P,)`` 1.48 times the median absolute deviation from it."""

    def table(self) -> list[str]:
        """Return the numbers as lines for a terminal."""
        lines = [f"{'inferred - published':24s} {'rows':>5s} {'offset':>9s} {'scatter':>9s}"]
        rows = zip(self.names, self.n_used, self.offset, self.scatter, strict=True)
        return lines + [f"{name:24s} {count:5d} {offset:+9.4f} {scatter:9.4f}" for name, count, offset, scatter in rows]


def compare(
    published: Mapping[str, Array],
    inferred: Mapping[str, Array],
    *,
    error: Mapping[str, Array] | None = None,
    flagged: Array | None = None,
) -> Comparison:
    """Compare the quantities that both catalogs name, in the order of `published`.

    Parameters
    ----------
    published, inferred : mapping of str to ndarray
        ``(N,)`` columns of the same galaxies in the same order; NaN where missing.
    error : mapping of str to ndarray, optional
        ``(N,)`` posterior sd of inferred columns; a quantity may be left out.
    flagged : ndarray of bool, optional
        ``(N,)`` rows to leave out of the numbers.
    """
    names = tuple(name for name in published if name in inferred)
    if not names:
        raise InputError(f"the two catalogs share no column: {', '.join(published)} and {', '.join(inferred)}")
    theirs, ours = (np.stack([np.asarray(c[name], np.float64) for name in names], -1) for c in (published, inferred))
    sd = np.stack([np.asarray((error or {}).get(name, np.full(len(ours), np.nan)), np.float64) for name in names], -1)
    left_out = np.zeros(len(ours), bool) if flagged is None else np.asarray(flagged, bool)
    if theirs.shape != ours.shape or sd.shape != ours.shape or left_out.shape != ours.shape[:1]:
        raise InputError(f"columns must be of the same galaxies; got {theirs.shape}, {ours.shape}, {sd.shape} and {left_out.shape}")
    difference = ours - theirs
    used = np.isfinite(difference) & ~left_out[:, None]
    offset, scatter = np.full(len(names), np.nan), np.full(len(names), np.nan)
    for i in range(len(names)):
        if used[:, i].any():
            values = difference[used[:, i], i]
            offset[i] = np.median(values)
            scatter[i] = MAD_TO_SD * np.median(np.abs(values - offset[i]))
    return Comparison(names, theirs, ours, sd, left_out, used.sum(0), offset, scatter)
