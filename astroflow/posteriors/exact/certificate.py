r"""Certificates: what the exact likelihood says of an amortized posterior, image by image.

Two questions with two answers that are never merged:

- *Inference.* Do the draws represent the posterior of this likelihood? Draws :math:`\theta_s \sim q` have the importance weights
  :math:`w_s = p(d \mid \theta_s)\, p(\theta_s) / q(\theta_s)`. If q is the posterior they are equal. The effective sample size
  :math:`(\sum w)^2 / \sum w^2` and the Pareto shape k-hat of their tail (Vehtari et al. 2024, https://arxiv.org/abs/1507.02646) measure
  how far it is; their mean is the evidence. Weights cannot see a mode that no draw has visited, so some draws of the prior are weighed as
  well, and the share of the posterior where q is practically zero is estimated from them (`missed_mass`). Modes much narrower than the
  prior escape even these.
- *Model.* Can this likelihood have made this image at all? Chi-squared of the best fit, and the structure of its residual (`residuals`).

Neither is asked where the likelihood cannot follow the simulator (`likelihood_gaps`, stamps that came binned): the answer is then
"not applicable".
"""

__all__ = ["Certificate", "Verdict", "likelihood_gaps", "missed_mass", "weigh"]

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.posteriors.exact.residuals import DIRECTIONS
from astroflow.posteriors.flags import Flag
from astroflow.types import Array

if TYPE_CHECKING:
    from astroflow.posteriors.exact.population import PopulationVerdict

LEAST_DRAWS = 256
LEAST_EFFICIENCY = 0.5
LEAST_P = 1e-3
NOWHERE = 0.01
"""Where the proposal's share of the mixture is below this share of the prior's, it has practically nothing."""
MOST_MISSED = 0.05


class Verdict(IntEnum):
    """The answer to one of the two questions."""

    NOT_APPLICABLE = -1
    FAILED = 0
    OK = 1


@dataclass(frozen=True)
class Certificate:
    """What was found for N images; every array ``(N,)`` but one.

    `efficiency` is the effective sample size over the number of draws; `k_hat` the Pareto shape; `missed` the share of the posterior that
    draws of the prior found where the posterior in question has nothing; `log_evidence` that of the image, nats, with its standard error
    (under the whole prior: where there are several binnings, less the log of the share of it that the row's binning serves);
    `chi_squared` that of the optimum and `dof` its expectation; `chi_squared_p` and `residual_p` their p-values; `nuisances` ``(N, K,
    2)`` the amplitude and standard error of each of `population.DIRECTIONS`; `inference` and `model` are `Verdict` values. Where a
    verdict is not applicable, its figures are NaN.
    """

    efficiency: Array
    k_hat: Array
    missed: Array
    log_evidence: Array
    log_evidence_error: Array
    chi_squared: Array
    dof: Array
    chi_squared_p: Array
    residual_p: Array
    nuisances: Array
    inference: Array
    model: Array

    def columns(self) -> dict[str, Array]:
        """Return the figures as columns of a catalog."""
        pairs = [(name, f"{name}_sd") for name in DIRECTIONS]
        return {name: self.nuisances[:, k, j] for k, pair in enumerate(pairs) for j, name in enumerate(pair)} | {
            "ess_fraction": self.efficiency, "k_hat": self.k_hat, "missed": self.missed, "log_evidence": self.log_evidence,
            "log_evidence_error": self.log_evidence_error, "chi2": self.chi_squared, "chi2_dof": self.dof, "chi2_p": self.chi_squared_p,
            "residual_p": self.residual_p, "inference_ok": self.inference, "model_ok": self.model,
        }  # fmt: skip

    def population(self, bins: Array | None = None) -> "dict[Any, PopulationVerdict]":
        """Judge all rows together; see `judge_population`. With `bins` ``(N,)``, those of each value, by that value; else by ``"all"``."""
        from astroflow.posteriors.exact.population import judge_bins

        return judge_bins(self.columns(), np.full(len(self.model), "all") if bins is None else bins)

    def flags(self) -> Array:
        """Return the bits `INFERENCE_POOR` and `MODEL_POOR` of verdicts that failed."""
        poor = [(self.inference, Flag.INFERENCE_POOR), (self.model, Flag.MODEL_POOR)]
        return np.asarray(sum(np.where(verdict == Verdict.FAILED, int(flag), 0) for verdict, flag in poor), np.int64)


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
    draws = log_weights.shape[1]
    log_weights = np.where(np.isnan(log_weights), -np.inf, log_weights)
    largest = log_weights.max(1, keepdims=True)
    dead = ~np.isfinite(largest[:, 0])
    relative = np.exp(log_weights - np.where(np.isfinite(largest), largest, 0))
    total, squares = relative.sum(1), (relative**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(dead, 0.0, total**2 / squares)
        evidence = np.where(dead, -np.inf, largest[:, 0] + np.log(total / draws))
        error = np.sqrt(np.maximum(1 / effective - 1 / draws, 0))
    k_hat = np.array([_pareto_shape(row) for row in log_weights])
    limit = min(0.7, 1 - 1 / np.log10(draws))
    good = (effective >= LEAST_EFFICIENCY * draws) & (k_hat < limit) & (draws >= LEAST_DRAWS)
    return {
        "efficiency": effective / draws, "k_hat": k_hat, "log_evidence": evidence, "log_evidence_error": error,
        "verdict": np.where(good, Verdict.OK, Verdict.FAILED),
    }  # fmt: skip


def _pareto_shape(log_weights: Array) -> float:
    """Return k-hat of one row: minus infinity for equal weights, infinity where no tail can be fitted."""
    from arviz_stats.base.array import array_stats

    largest = log_weights.max()
    if not np.isfinite(largest):
        return np.inf
    finite = np.maximum(log_weights, largest - 700)
    if np.ptp(finite) < 1e-9:
        return -np.inf
    try:
        # smoothed weights, which nobody reads, may overflow for the heaviest tails; where one weight is all there is, nothing can be fitted
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            # it is meant for leave-one-out log densities, and weighs by their inverse
            shape = float(array_stats.psislw(-finite)[1])
    except ValueError:
        return np.inf
    return np.inf if np.isnan(shape) else shape


def missed_mass(log_target: Array, log_proposal: Array, log_prior: Array, draws: int) -> Array:
    """Estimate how much of the posterior lies where the proposal is practically zero.

    Parameters
    ----------
    log_target, log_proposal, log_prior : ndarray
        ``(N, S + M)`` unnormalised posterior, proposal and prior at S draws of the proposal and then M of the prior.
    draws : int
        S.

    Returns
    -------
    ndarray
        ``(N,)``, a share between 0 and 1.
    """
    total = log_target.shape[1]
    share = np.log([draws / total, 1 - draws / total])
    mixture = np.logaddexp(share[0] + log_proposal, share[1] + log_prior)
    log_weights = np.where(np.isfinite(log_target), log_target - mixture, -np.inf)
    largest = log_weights.max(1, keepdims=True)
    weights = np.exp(log_weights - np.where(np.isfinite(largest), largest, 0))
    elsewhere = share[0] + log_proposal < share[1] + log_prior + np.log(NOWHERE)
    return np.asarray((weights * elsewhere).sum(1) / np.maximum(weights.sum(1), 1e-300))


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
