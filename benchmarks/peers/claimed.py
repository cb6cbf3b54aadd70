"""Claimed errors of a PyImfit fit, in the compared quantities. NumPy and SciPy alone.

PyImfit gives standard deviations of its parameters, without their covariance, and zero for those that end at a bound. re, n and q are
among them. The flux is not, and depends on four that are strongly correlated: its error needs the covariance, which is the inverse of the
curvature of chi-squared, made here as PyImfit makes it, from differences of model images.
"""

from typing import Protocol

import numpy as np

from benchmarks.peers.conventions import compared_from_pyimfit

LARGEST_STEP = {"X0": 0.1, "Y0": 0.1, "PA": 1.0, "ell": 0.01}
"""Of differences, where a tenth of the error is more; of the other parameters a hundredth of the value."""


class Fitter(Protocol):
    """What is needed of ``pyimfit.Imfit``."""

    def getModelImage(self, *, newParameters: np.ndarray) -> np.ndarray: ...  # noqa: N802


def claimed_errors(
    fitter: Fitter, found: dict[str, float], errors: np.ndarray, rms: np.ndarray, zero_point: float, scale: float
) -> np.ndarray:
    """Return ``(4,)`` standard deviations of the compared quantities; NaN of those at a bound.

    `found` are the best parameters, in PyImfit's order, and `errors` its own ``(7,)`` of them.
    """
    names, values = list(found), np.array(list(found.values()))
    errors = np.where(errors > 0, errors, np.nan)
    steps = np.fmin(0.1 * errors, [LARGEST_STEP.get(name, 0.01 * value) for name, value in found.items()])
    slopes, of_mag = [], []
    for k in np.flatnonzero(np.isfinite(errors)):
        step = np.where(np.arange(len(names)) == k, steps[k], 0.0)
        images = [fitter.getModelImage(newParameters=values + sign * step) for sign in (1, -1)]
        slopes.append(((images[0] - images[1]) / (2 * rms)).ravel())
        above, below = (compared_from_pyimfit(dict(zip(names, values + sign * step, strict=True)), zero_point, scale) for sign in (1, -1))
        of_mag.append((above[0] - below[0]) / 2)
    covariance = np.linalg.pinv(np.array(slopes) @ np.array(slopes).T, hermitian=True)  # of free parameters, in steps
    of = dict(zip(names, errors, strict=True))
    re, n = (of[name] / (found[name] * np.log(10)) for name in ("r_e", "n"))
    return np.array([np.sqrt(of_mag @ covariance @ of_mag), re, n, of["ell"]])
