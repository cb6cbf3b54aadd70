r"""Certificates: what the exact likelihood says of an amortized posterior, image by image.

Two questions with two answers that are never merged:

- *Inference.* Do the draws represent the posterior of this likelihood? Draws :math:`\theta_s \sim q` have the importance weights
  :math:`w_s = p(d \mid \theta_s)\, p(\theta_s) / q(\theta_s)`. If q is the posterior they are equal. The effective sample size
  :math:`(\sum w)^2 / \sum w^2` and the Pareto shape k-hat of their tail (Vehtari et al. 2024, https://arxiv.org/abs/1507.02646) measure
  how far it is; their mean is the evidence.
- *Model.* Can this likelihood have made this image at all? Chi-squared of the best draw, and the structure of its residual (`residuals`).

Neither is asked where the likelihood cannot follow the simulator (`likelihood_gaps`, binned stamps): the answer is then "not applicable".
"""

__all__ = ["Certificate", "Verdict", "likelihood_gaps", "weigh"]

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from astroflow.types import Array

LEAST_DRAWS = 256
LEAST_EFFICIENCY = 0.5
LEAST_P = 1e-3


class Verdict(IntEnum):
    """The answer to one of the two questions."""

    NOT_APPLICABLE = -1
    FAILED = 0
    OK = 1


@dataclass(frozen=True)
class Certificate:
    """What was found for N images; every array ``(N,)``.

    `efficiency` is the effective sample size over the number of draws; `k_hat` the Pareto shape; `log_evidence` that of the image, nats,
    with its standard error; `chi_squared` that of the best draw and `dof` its expectation; `chi_squared_p` and `residual_p` their
    p-values; `inference` and `model` are `Verdict` values. Where a verdict is not applicable, its figures are NaN.
    """

    efficiency: Array
    k_hat: Array
    log_evidence: Array
    log_evidence_error: Array
    chi_squared: Array
    dof: Array
    chi_squared_p: Array
    residual_p: Array
    inference: Array
    model: Array

    def columns(self) -> dict[str, Array]:
        """Return the figures as columns of a catalog."""
        return {
            "ess_fraction": self.efficiency, "k_hat": self.k_hat, "log_evidence": self.log_evidence,
            "log_evidence_error": self.log_evidence_error, "chi2": self.chi_squared, "chi2_dof": self.dof, "chi2_p": self.chi_squared_p,
            "residual_p": self.residual_p, "inference_ok": self.inference, "model_ok": self.model,
        }  # fmt: skip


def weigh(log_weights: Array) -> dict[str, Array]:
    """Say how far draws are from the target that their importance weights are for.

    Parameters
    ----------
    log_weights : ndarray
        ``(N, S)``, log of target over proposal; minus infinity where the target is zero.

    Returns
    -------
    dict of ndarray
        `efficiency`, `k_hat`, `log_evidence`, `log_evidence_error` and `verdict`, each ``(N,)``.
    """
    from arviz_stats.base.array import array_stats

    n, draws = log_weights.shape
    log_weights = np.where(np.isnan(log_weights), -np.inf, log_weights)
    largest = log_weights.max(1, keepdims=True)
    dead = ~np.isfinite(largest[:, 0])
    relative = np.exp(log_weights - np.where(np.isfinite(largest), largest, 0))
    total, squares = relative.sum(1), (relative**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(dead, 0.0, total**2 / squares)
        evidence = np.where(dead, -np.inf, largest[:, 0] + np.log(total / draws))
        error = np.sqrt(np.maximum(1 / effective - 1 / draws, 0))
    k_hat = np.full(n, np.inf)
    # weights that are all equal have no tail to fit; those of zero must not be part of it
    floor = np.maximum(log_weights, largest - 700)
    alive = np.flatnonzero(~dead & (np.ptp(floor, axis=1) > 1e-9))
    k_hat[~dead] = -np.inf
    if len(alive):
        k_hat[alive] = array_stats.psislw(floor[alive], axis=-1)[1]
    limit = min(0.7, 1 - 1 / np.log10(draws))
    good = (effective >= LEAST_EFFICIENCY * draws) & (k_hat < limit) & (draws >= LEAST_DRAWS)
    return {
        "efficiency": effective / draws, "k_hat": k_hat, "log_evidence": evidence, "log_evidence_error": error,
        "verdict": np.where(good, Verdict.OK, Verdict.FAILED),
    }  # fmt: skip


KNOWN_PARTS = {"galaxy": ("sersic", "bulge_disc"), "psf": ("moffat", "kolmogorov", "images"), "noise": ("rms", "ccd")}


def likelihood_gaps(forward_model: Mapping[str, Any]) -> list[str]:
    """Say what a forward model does that the pixel likelihood does not follow, one phrase each; empty if it follows exactly."""
    if "galaxy" not in forward_model:
        return ["the forward model is Python code"]
    gaps = [
        f"{part} of kind {forward_model[part]['kind']!r}" for part, kinds in KNOWN_PARTS.items() if forward_model[part]["kind"] not in kinds
    ]
    psf = forward_model["psf"]
    side = forward_model["stamp"]["psf_size"]
    if psf["kind"] in ("moffat", "kolmogorov"):
        if psf.get("image_size") is None:
            gaps.append("wings of the PSF beyond its image (set `psf.image_size`)")
        elif psf["image_size"] > side:
            gaps.append(f"wings of the PSF beyond {side} pixels (`psf.image_size` is larger than `stamp.psf_size`)")
    return gaps
