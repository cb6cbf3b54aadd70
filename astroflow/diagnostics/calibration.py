"""`calibrate`: everything a validation run says about a posterior, in one report.

It takes held-out simulations, a posterior's draws for them and its log density at their true parameters, and gathers ranks, ECDFs,
coverage, accuracy per bin of estimated S/N, the log score, tests of the joint posterior, and calibration in bins of what the data say. The
report draws nothing (see `astroflow.plots`), turns into strict JSON, and prints as a few lines.
"""

__all__ = ["CalibrationReport", "calibrate"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.diagnostics.accuracy import SNR_EDGES, Accuracy, accuracy
from astroflow.diagnostics.coverage import LEVELS, Coverage, central_coverage
from astroflow.diagnostics.joint import JointTests, joint_tests
from astroflow.diagnostics.local import Bins, LocalCalibration, Outcome, calibrate_locally
from astroflow.diagnostics.log_score import LogScore, log_score, log_score_gain
from astroflow.diagnostics.ranks import (
    ECDFDifference,
    RankHistogram,
    checked_draws,
    ecdf_difference,
    joint_pit,
    ks_uniform,
    pit,
    rank_histogram,
)
from astroflow.errors import InputError
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

KS_THRESHOLD = 0.001
"""A parameter fails below this Kolmogorov-Smirnov p-value."""
COVERAGE_TOLERANCE = 0.03
"""A parameter fails where coverage at 68 or 95 % is off by more than this, or 3.3 binomial errors if that is more (few images)."""
JOINT = "joint"
MARKS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAIL", Outcome.UNKNOWN: "?"}
OUTSIDE = 8.0
"""Draws that lie outside the prior, as those of another code may, count as so many of its standard deviations out in joint tests."""


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """What held-out simulations say about a posterior. Columns of `pit` and all that is made of it: the parameters, then ``joint``."""

    parameters: Parameters
    n_draws: int
    """Posterior draws per image."""
    pit: Array
    """``(N, P + 1)`` PIT of each parameter, then of the truth's Mahalanobis distance (see `ranks.joint_pit`)."""
    ks_p: Array
    """``(P + 1,)`` Kolmogorov-Smirnov p-values."""
    ranks: RankHistogram
    ecdf: ECDFDifference
    coverage: Coverage
    """At 50, 68, 90 and 95 %."""
    curve: Coverage
    """At many levels, for drawing."""
    accuracy: Accuracy
    log_score: LogScore
    """Nats per image, physical units."""
    gain: LogScore | None
    """Log score minus the baseline's; None without one."""
    joint_tests: JointTests
    """On the prior's scale."""
    local: tuple[LocalCalibration, ...] = ()
    """In bins of functions of the data; columns are those of `pit`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, then ``joint``."""
        return (*self.parameters.names, JOINT)

    @property
    def problems(self) -> tuple[tuple[str, ...], ...]:
        """What is wrong with each of `names`, in words; empty where nothing is."""
        return tuple(self._problems(i) for i in range(len(self.names)))

    @property
    def miscovered(self) -> Array:
        """``(L, P)`` bool: the coverages that are judged, at 68 and 95 %, and off."""
        judged = np.isclose(self.coverage.levels, 0.68) | np.isclose(self.coverage.levels, 0.95)
        off = np.abs(self.coverage.fraction - self.coverage.levels[:, None])
        wrong = off > np.maximum(COVERAGE_TOLERANCE, 3.3 * self.coverage.error)[:, None]
        return np.asarray(wrong & judged[:, None])

    @property
    def complete(self) -> bool:
        """False where there were too few images for some test."""
        local = any((found.outcome == Outcome.UNKNOWN).any() for found in self.local)
        return not local and not (self.joint_tests.outcome == Outcome.UNKNOWN).any()

    @property
    def passed(self) -> bool:
        """True where nothing has a problem: no parameter, nor their joint distribution, nowhere; and no truth has density zero.

        Tests that had too few images are no problem: see `complete`. An exact posterior passes at least 95 times in 100.
        """
        failed = (self.joint_tests.outcome == Outcome.FAILED).any() or any((found.outcome == Outcome.FAILED).any() for found in self.local)
        return not any(self.problems) and not self.log_score.excluded and not failed

    def _problems(self, i: int) -> tuple[str, ...]:
        found = []
        lean = (self.pit[:, i].mean() - 0.5) * np.sqrt(12 * len(self.pit))
        joint = i == len(self.parameters)
        if self.ks_p[i] < KS_THRESHOLD:
            found.append("ranks are not uniform")
            if joint:
                found.append(f"truths lie too {'far out' if lean > 0 else 'close in'}")
            elif abs(lean) > 4:
                found.append(f"biased: the posterior lies too {'low' if lean > 0 else 'high'}")
        if joint:  # a central interval of a distance is no credible region
            return tuple(found)
        wrong = np.flatnonzero(self.miscovered[:, i])
        if len(wrong):
            off = self.coverage.fraction[wrong, i] - self.coverage.levels[wrong]
            kind = "too narrow (overconfident)" if off.sum() < 0 else "too wide (underconfident)"
            shares = (f"{self.coverage.fraction[k, i]:.1%} of the truths in {self.coverage.levels[k]:.0%} intervals" for k in wrong)
            found.append(f"{kind}: {', '.join(shares)}")
        return tuple(found)

    @property
    def verdict(self) -> list[str]:
        """One line for each parameter, each test of the joint distribution, each kind of bins, and one for the log score."""
        lines = []
        for name, p, problems in zip(self.names, self.ks_p, self.problems, strict=True):
            lines.append(f"{'FAIL' if problems else 'ok':4s} {name}: KS p = {p:.2g}" + "".join(f"; {text}" for text in problems))
        for name, p, outcome in zip(self.joint_tests.names, self.joint_tests.p, self.joint_tests.outcome, strict=True):
            lines.append(f"{MARKS[outcome]:4s} {JOINT}, {name}: p = {p:.2g}")
        lines += [_local_line(found) for found in self.local]
        lines.append(f"{'FAIL' if self.log_score.excluded else 'ok':4s} {self._score_line()}")
        return lines

    def _score_line(self) -> str:
        text = f"log score {self.log_score.mean:.2f} +- {self.log_score.error:.2f} nats"
        if self.log_score.excluded:
            text += f" ({self.log_score.excluded} truths have density zero)"
        if self.gain is not None:
            text += f", {self.gain.mean:+.2f} +- {self.gain.error:.2f} against the baseline"
        return text

    def coverage_table(self) -> list[str]:
        """Return coverage, KS p-values and contraction as lines for a terminal."""
        shrink = _median_contraction(self.accuracy)
        head = "".join(f"{level:7.0%}" for level in self.coverage.levels)
        lines = [f"{'coverage of':12s}{head}{'KS p':>9s}{'sd/prior':>10s}"]
        for i, name in enumerate(self.parameters.names):
            inside = "".join(f"{100 * f:6.1f}%" for f in self.coverage.fraction[:, i])
            lines.append(f"{name:12s}{inside}{self.ks_p[i]:9.2g}{shrink[i]:10.3f}")
        errors = "".join(f"{100 * e:6.1f}%" for e in self.coverage.error)
        lines.append(f"{'chance (1 sd)':12s}{errors[1:]}{'':9s}  ({len(self.pit)} images, {self.n_draws} draws each)")
        lines.append(f"{'joint ranks':12s}{'':{7 * len(self.coverage.levels)}s}{self.ks_p[-1]:9.2g}   {self._score_line()}")
        return lines

    def contraction_table(self) -> list[str]:
        """Return the median posterior sd over the prior's, per bin of estimated S/N, as lines for a terminal."""
        width = max(10, *(len(name) + 2 for name in self.parameters.names))
        lines = [f"{'S/N':10s}{'images':>7s}" + "".join(f"{name:>{width}s}" for name in self.parameters.names)]
        for label, count, row in zip(self.accuracy.labels, self.accuracy.n_images, self.accuracy.contraction, strict=True):
            lines.append(f"{label:10s}{count:7d}" + "".join(f"{v:{width}.4f}" if count else f"{'-':>{width}s}" for v in row))
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain numbers, lists and strings; what is not finite becomes None."""
        report = {
            "passed": self.passed,
            "complete": self.complete,
            "verdict": self.verdict,
            "images": len(self.pit),
            "draws": self.n_draws,
            "names": self.names,
            "units": (*self.parameters.units, ""),
            "ks_p": dict(zip(self.names, self.ks_p, strict=True)),
            "joint_note": "the last name is the truth's Mahalanobis distance among the draws",
            "rank_histogram": self.ranks._asdict() | {"outside": self.ranks.outside},
            "ecdf_difference": self.ecdf._asdict() | {"outside": self.ecdf.outside},
            "coverage": self.coverage._asdict(),
            "accuracy": self.accuracy._asdict() | {"bins": self.accuracy.labels},
            "log_score": self.log_score._asdict(),
            "joint_tests": {
                name: {"p": p, "outcome": outcome}
                for name, p, outcome in zip(self.joint_tests.names, self.joint_tests.p, self.joint_tests.outcome, strict=True)
            },
            "local": [
                {
                    "by": found.bins.name,
                    "edges": found.bins.edges,
                    "images": found.n_images,
                    "levels": found.levels,
                    "coverage": found.coverage,
                    "p": found.p,
                    "outcome": found.outcome,
                }
                for found in self.local
            ],
            "gain_over_baseline": None if self.gain is None else self.gain._asdict(),
        }
        return {key: _plain(value) for key, value in report.items()}


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
        Functions of the data in whose bins calibration is looked at again, see `quantile_bins`.
    snr_edges : tuple of float
        Inner edges of the S/N bins.
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
        log_score=log_score(log_prob),
        gain=None if baseline_log_prob is None else log_score_gain(log_prob, baseline_log_prob),
        joint_tests=joint_tests(
            *(_on_prior_scale(values, parameters) for values in (draws, truth)),
            log_prob_draws=log_prob_draws, log_prob_truth=log_prob, estimate=estimate, scale=np.ones(len(parameters)), seed=seed,
        ),
        local=tuple(calibrate_locally(every, (*parameters.names, JOINT), binnings)),
    )  # fmt: skip


def _local_line(found: LocalCalibration) -> str:
    """Say in which bins of one kind what fails."""
    failed, unknown = (found.outcome == outcome for outcome in (Outcome.FAILED, Outcome.UNKNOWN))
    text = f"in {len(found.n_images)} bins of {found.bins.name}: smallest p = {np.nanmin(found.p):.2g}" if not unknown.all() else (
        f"in bins of {found.bins.name}: not enough images"
    )  # fmt: skip
    for k in np.flatnonzero(failed.any(1)):
        text += f"; {', '.join(np.array(found.names)[failed[k]])} from {found.bins.labels[k]}"
    mark = Outcome.FAILED if failed.any() else Outcome.UNKNOWN if unknown.any() else Outcome.PASSED
    return f"{MARKS[mark]:4s} {text}"


def _on_prior_scale(theta: Array, parameters: Parameters) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        u = parameters.prior.inverse(np.asarray(theta, np.float64))
    return np.where(np.isfinite(u), np.clip(u, -OUTSIDE, OUTSIDE), OUTSIDE)


def _median_contraction(result: Accuracy) -> Array:
    """Return the count-weighted mean over S/N bins of the median posterior sd over the prior's; ``(P,)``."""
    filled = result.n_images > 0
    return np.average(result.contraction[filled], axis=0, weights=result.n_images[filled])


def _plain(value: Any) -> Any:
    """Turn arrays and NumPy scalars into lists and Python numbers, and numbers that are not finite into None."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
