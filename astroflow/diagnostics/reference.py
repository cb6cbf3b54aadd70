"""Reference posteriors: galaxies whose exact posterior is known by sampling it, kept in one file with the images themselves.

A file is self-contained: quantised images, which are the data; PSF images in float16, which are the PSFs once their sum is one; noise
levels, truths, the forward model; and draws of each exact posterior. Draws are kept in float16, whitened: ``u = mean + factor z`` on the
prior's scale, where parameters are standard normals (`JointPrior.forward`). `benchmarks/reference_posteriors.py` makes them.
"""

__all__ = ["ReferencePosteriors", "load_reference", "wasserstein"]

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from astroflow.errors import InputError
from astroflow.sims.recipe import simulator_from_data
from astroflow.sims.simulator import Simulator
from astroflow.types import Array, Stamps

LEVELS_PER_RMS = 4
"""Steps of a quantised image in one rms."""


@dataclass(frozen=True)
class ReferencePosteriors:
    """N galaxies and S draws of the exact posterior of each.

    `theta` ``(N, S, P)`` draws in physical units and `u` the same on the prior's scale; `truth` ``(N, P)``; `snr` ``(N,)`` the true S/N;
    `rhat` and `ess` ``(N, P)`` of the chains behind them; `log_evidence` and `log_evidence_error` ``(N,)`` by importance sampling.
    """

    simulator: Simulator
    stamps: Stamps
    truth: Array
    snr: Array
    theta: Array
    u: Array
    rhat: Array
    ess: Array
    log_evidence: Array
    log_evidence_error: Array
    about: dict[str, Any]
    """How it was made: seeds, lengths of chains, versions."""

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self.simulator.parameters.names


def observed(levels: Array, rms: Array, psf: Array, ids: Array, simulator: Simulator) -> Stamps:
    """Return the stamps of stored numbers: images are ``levels * rms / 4``, PSFs ``psf / sum(psf)``, summed in float64."""
    star = psf.astype(np.float64)
    images = levels * (rms.astype(np.float64) / LEVELS_PER_RMS)[:, None, None]
    return Stamps(
        images=images.astype(np.float32), psf=(star / star.sum((1, 2), keepdims=True)).astype(np.float32)[:, None],
        rms=rms.astype(np.float32), ids=ids, zero_point=simulator.stamp.zero_point,
        pixel_scale_arcsec=simulator.stamp.pixel_scale_arcsec,
    )  # fmt: skip


def load_reference(path: str | Path) -> ReferencePosteriors:
    """Load a file of reference posteriors.

    Raises
    ------
    InputError
        If it is not there, or is no such file.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        about = json.loads(str(held["about"]))
        simulator = simulator_from_data(about.pop("forward_model"))
        u = held["mean"][:, None] + np.einsum("nij,nsj->nsi", held["factor"], held["z"].astype(np.float64))
        stamps = observed(held["levels"], held["rms"], held["psf"], held["ids"], simulator)
        figures = {name: held[name] for name in ("truth", "snr", "rhat", "ess", "log_evidence", "log_evidence_error")}
    except FileNotFoundError as error:
        raise InputError(f"no file of reference posteriors at {path}") from error
    except (KeyError, ValueError, OSError) as error:
        # NumPy takes whatever it does not know for a pickle, and advises to trust it
        why = "it is no NumPy archive" if "pickle" in str(error) else error
        raise InputError(f"{path} is no file of reference posteriors: {why}. benchmarks/reference_posteriors.py makes one") from error
    return ReferencePosteriors(simulator, stamps, theta=simulator.parameters.prior.forward(u), u=u, about=about, **figures)


def wasserstein(draws: Array, reference: Array, weights: Array | None = None) -> Array:
    """Return one-dimensional Wasserstein distances, in standard deviations of the reference.

    About 0.03 between two samples of 2000 independent draws of one posterior; 0.24 for draws that are 1.3 times too wide.

    Parameters
    ----------
    draws : ndarray
        ``(N, S, P)``.
    reference : ndarray
        ``(N, R, P)`` of the same parameters.
    weights : ndarray, optional
        ``(N, S)`` importance weights of the draws.

    Returns
    -------
    ndarray
        ``(N, P)``; NaN where a draw is not finite.
    """
    draws, reference = np.asarray(draws, np.float64), np.asarray(reference, np.float64)
    if draws.ndim != 3 or reference.ndim != 3 or draws.shape[::2] != reference.shape[::2]:
        raise InputError(f"`draws` and `reference` must be (N, draws, P) of the same N and P; got {draws.shape} and {reference.shape}")
    distance = np.full(draws.shape[::2], np.nan)
    for i, k in np.argwhere(np.isfinite(draws).all(1)).tolist():
        one = stats.wasserstein_distance(draws[i, :, k], reference[i, :, k], None if weights is None else weights[i])
        distance[i, k] = one / reference[i, :, k].std()
    return distance
