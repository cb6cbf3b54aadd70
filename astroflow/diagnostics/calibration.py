"""`calibrate`: everything a validation run says about a posterior, in one report.

It takes held-out simulations, a posterior's draws for them and its log density at their true parameters, and gathers ranks, ECDFs,
coverage, accuracy and contraction per bin of estimated S/N, the log score, tests of the joint posterior, calibration in bins of what the
data say and image by image, and the factors that would mend error bars, in one `CalibrationReport`.
"""

__all__ = ["calibrate"]

from collections.abc import Mapping, Sequence

import numpy as np

from astroflow.diagnostics.accuracy import SNR_EDGES, accuracy
from astroflow.diagnostics.calibration_report import JOINT, CalibrationReport
from astroflow.diagnostics.conformal import conformal_factors
from astroflow.diagnostics.coverage import LEVELS, central_coverage, region_coverage
from astroflow.diagnostics.joint import joint_tests
from astroflow.diagnostics.local import Bins, calibrate_locally, fixed_bins
from astroflow.diagnostics.local_verdict import judge_images
from astroflow.diagnostics.log_score import log_score, log_score_gain
from astroflow.diagnostics.ranks import checked_draws, ecdf_difference, joint_pit, ks_uniform, pit, rank_histogram
from astroflow.diagnostics.sharpness import sharpness
from astroflow.errors import InputError
from astroflow.posteriors.validated import BY_SNR
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

CONFORMAL_LEVELS = (0.68, 0.95)
OUTSIDE = 8.0
"""Draws that lie outside the prior, as those of another code may, count as so many of its standard deviations out in joint tests."""


def calibrate(
    draws: Array,
    log_prob: Array,
    truth: Array,
    snr_estimated: Array,
    parameters: Parameters,
    prior_sd: Array | None = None,
    *,
    baseline_log_prob: Array | None = None,
    log_prob_draws: Array | None = None,
    estimate: Array | None = None,
    binnings: Sequence[Bins] = (),
    features: Mapping[str, Array] | None = None,
    snr_edges: tuple[float, ...] = SNR_EDGES,
    bins: int = 20,
    level: float = 0.95,
    seed: int = 0,
) -> CalibrationReport:
    """Measure how calibrated and how informative a posterior is.

    Parameters
    ----------
    draws : ndarray
        ``(N, S, P)`` posterior draws for N held-out simulations, rows without a posterior left out.
    log_prob : ndarray
        ``(N,)`` the posterior's log density at the truths, physical units.
    truth : ndarray
        ``(N, P)`` the true parameters, drawn from the prior.
    snr_estimated : ndarray
        ``(N,)`` S/N estimated from the image or from the posterior, never the simulation's own.
    parameters : Parameters
        Names, units and labels.
    prior_sd : ndarray, optional
        ``(P,)`` the prior's standard deviation; that of the truths by default, as they are draws from it.
    baseline_log_prob : ndarray, optional
        ``(N,)`` log density of the same truths under a baseline.
    log_prob_draws : ndarray, optional
        ``(N, D)`` the posterior's log density at the first D of its draws, for regions of highest density.
    estimate : ndarray, optional
        ``(N, P)`` on the prior's scale, made from the images by anything but this posterior, such as the mean of
        `LinearGaussianBaseline`: for TARP with points that look at the image.
    binnings : sequence of Bins
        Functions of the data in whose bins calibration is looked at again, parameters and joint regions alike, see `quantile_bins`.
    features : mapping of str to ndarray, optional
        ``(N,)`` functions of the data, the most telling first, none of them made from these draws, for L-C2ST (`judge_images`), which is
        left out without.
    snr_edges : tuple of float
        Inner edges of the S/N bins of accuracy and of conformal factors: fixed beforehand, not chosen by these images.
    bins : int
        Bins of the rank histograms.
    level : float
        Of the simultaneous bands.
    seed : int
        Seeds the jitter of the ranks.
    """
    draws, truth = checked_draws(draws, truth)
    if truth.shape[1] != len(parameters):
        raise InputError(f"`truth` has {truth.shape[1]} parameters; expected {len(parameters)}: {', '.join(parameters.names)}")
    if np.shape(log_prob) != truth.shape[:1]:
        raise InputError(f"`log_prob` must be one number per image, {len(truth)} in all; got shape {np.shape(log_prob)}")
    values = pit(draws, truth, seed=seed)
    every = np.concatenate([values, joint_pit(draws, truth, seed=seed)[:, None]], axis=1)
    sd = truth.std(0, dtype=np.float64) if prior_sd is None else prior_sd
    joint = joint_tests(
        *(_on_prior_scale(values, parameters) for values in (draws, truth)),
        log_prob_draws=log_prob_draws, log_prob_truth=log_prob, estimate=estimate, scale=np.ones(len(parameters)), seed=seed,
    )  # fmt: skip
    credibility, regions = np.concatenate([every[:, -1:], joint.values], axis=1), (JOINT, *joint.names)
    by_snr = fixed_bins(BY_SNR, snr_estimated, snr_edges)
    return CalibrationReport(
        parameters=parameters,
        n_draws=draws.shape[1],
        pit=every,
        ks_p=ks_uniform(every),
        ranks=rank_histogram(every, bins=bins, level=level),
        ecdf=ecdf_difference(every, level=level),
        coverage=central_coverage(values, LEVELS),
        curve=central_coverage(values, np.linspace(0.02, 0.98, 49)),
        accuracy=accuracy(draws, truth, snr_estimated, sd, snr_edges=snr_edges, values=values),
        sharpness=sharpness(draws, truth, sd),
        log_score=log_score(log_prob),
        gain=None if baseline_log_prob is None else log_score_gain(log_prob, baseline_log_prob),
        joint_tests=joint,
        joint_coverage=region_coverage(credibility, LEVELS),
        local=tuple(
            calibrate_locally(np.concatenate([values, credibility], 1), (*parameters.names, *regions), binnings, regions=regions)
        ),
        local_c2st=None if features is None else judge_images(draws, truth, features, seed=seed),
        conformal=tuple(conformal_factors(draws, truth, by_snr, level=level) for level in CONFORMAL_LEVELS),
    )  # fmt: skip


def _on_prior_scale(theta: Array, parameters: Parameters) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        u = parameters.prior.inverse(np.asarray(theta, np.float64))
    return np.where(np.isfinite(u), np.clip(u, -OUTSIDE, OUTSIDE), OUTSIDE)
