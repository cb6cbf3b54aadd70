"""`CalibrationReport`: what held-out simulations say about a posterior, as a verdict, as lines for a terminal and as plain numbers.

`calibrate` makes one. Nothing is drawn here (see `astroflow.plots`).
"""

__all__ = ["COVERAGE_TOLERANCE", "JOINT", "KS_THRESHOLD", "REGION_WORDS", "CalibrationReport"]

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from astroflow.diagnostics.accuracy import Accuracy
from astroflow.diagnostics.conformal import Conformal
from astroflow.diagnostics.coverage import Coverage
from astroflow.diagnostics.joint import HIGHEST_DENSITY, JointTests
from astroflow.diagnostics.local import ALARM, LocalCalibration, Outcome
from astroflow.diagnostics.local_verdict import LOCAL_ALARM, LocalVerdict
from astroflow.diagnostics.log_score import LogScore
from astroflow.diagnostics.ranks import ECDFDifference, RankHistogram
from astroflow.diagnostics.sharpness import Sharpness
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

KS_THRESHOLD = 0.001
"""A parameter fails below this Kolmogorov-Smirnov p-value."""
COVERAGE_TOLERANCE = 0.03
"""A parameter fails where coverage at 68 or 95 % is off by more than this, or 3.3 binomial errors if that is more (few images)."""
JOINT = "joint"
REGION_WORDS = {HIGHEST_DENSITY: "regions of highest density", JOINT: "ellipsoids"}
MARKS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAIL", Outcome.UNKNOWN: "?"}


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
    sharpness: Sharpness
    """Contraction and z-score of each image and parameter."""
    log_score: LogScore
    """Nats per image, physical units."""
    gain: LogScore | None
    """Log score minus the baseline's; None without one."""
    joint_tests: JointTests
    """On the prior's scale."""
    joint_coverage: Coverage
    """Of the joint regions `regions`, at 50, 68, 90 and 95 %."""
    local: tuple[LocalCalibration, ...] = ()
    """In bins of functions of the data; columns are the parameters, then `regions`."""
    local_c2st: LocalVerdict | str | None = None
    """Image by image; why there is no answer where there is none, and None where it was not asked for."""
    conformal: tuple[Conformal, ...] = ()
    """For 68 and 95 % intervals, in fixed bins of estimated S/N."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, then ``joint``."""
        return (*self.parameters.names, JOINT)

    @property
    def regions(self) -> tuple[str, ...]:
        """Kinds of joint regions: ``joint``, the ellipsoids of Mahalanobis distances, then those of `joint_tests`."""
        return (JOINT, *self.joint_tests.names)

    @property
    def main_region(self) -> str:
        """The kind of joint region that tables show: of highest density, or ellipsoids where densities are not known."""
        return HIGHEST_DENSITY if HIGHEST_DENSITY in self.regions else JOINT

    @property
    def problems(self) -> tuple[tuple[str, ...], ...]:
        """What is wrong with each of `names`, in words; empty where nothing is."""
        return tuple(self._problems(i) for i in range(len(self.names)))

    @property
    def miscovered(self) -> Array:
        """``(L, P)`` bool: the coverages that are judged, at 68 and 95 %, and off."""
        off = np.abs(self.coverage.fraction - self.coverage.levels[:, None])
        return np.asarray((off > self._tolerance[:, None]) & self._judged[:, None])

    @property
    def _judged(self) -> Array:
        return np.asarray(np.isclose(self.coverage.levels, 0.68) | np.isclose(self.coverage.levels, 0.95))

    @property
    def _tolerance(self) -> Array:
        return np.maximum(COVERAGE_TOLERANCE, 3.3 * self.coverage.error)

    @property
    def false_alarm(self) -> float:
        """Probability, at most, that an exact posterior does not pass: the sum of what each test allows itself."""
        images, levels, limit = len(self.pit), self.coverage.levels, self._tolerance
        low, high = np.ceil(images * (levels - limit)) - 1, np.floor(images * (levels + limit))
        off = stats.binom.cdf(low, images, levels) + stats.binom.sf(high, images, levels)
        rate = KS_THRESHOLD * len(self.names) + off[self._judged].sum() * len(self.parameters) + ALARM
        return float(rate + (ALARM if self.local else 0.0) + (0.0 if self.local_c2st is None else LOCAL_ALARM))

    @property
    def complete(self) -> bool:
        """False where there were too few images for some test."""
        local = any((found.outcome == Outcome.UNKNOWN).any() for found in self.local)
        return not local and not isinstance(self.local_c2st, str) and not (self.joint_tests.outcome == Outcome.UNKNOWN).any()

    @property
    def passed(self) -> bool:
        """True where nothing has a problem: no parameter, nor their joint distribution, nowhere; and no truth has density zero.

        Tests that had too few images are no problem: see `complete`. An exact posterior may fail by chance: see `false_alarm`.
        """
        failed = (self.joint_tests.outcome == Outcome.FAILED).any() or any((found.outcome == Outcome.FAILED).any() for found in self.local)
        failed |= isinstance(self.local_c2st, LocalVerdict) and self.local_c2st.outcome == Outcome.FAILED
        return not any(self.problems) and not self.log_score.excluded and not failed

    def _problems(self, i: int) -> tuple[str, ...]:
        found = []
        lean = (self.pit[:, i].mean() - 0.5) * np.sqrt(12 * len(self.pit))
        joint = i == len(self.parameters)
        if self.ks_p[i] < KS_THRESHOLD:
            # with many images a test finds what no user would mind; how much it is says which it is
            off = stats.kstest(self.pit[:, i], "uniform").statistic
            found.append(f"ranks are not uniform (no share of the truths is off by more than {off:.1%})")
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
        """One line for each parameter, each test of the joint distribution, each kind of bins, L-C2ST and the log score."""
        lines = []
        for name, p, problems in zip(self.names, self.ks_p, self.problems, strict=True):
            lines.append(f"{'FAIL' if problems else 'ok':4s} {name}: KS p = {p:.2g}" + "".join(f"; {text}" for text in problems))
        for name, p, outcome in zip(self.joint_tests.names, self.joint_tests.p, self.joint_tests.outcome, strict=True):
            lines.append(f"{MARKS[outcome]:4s} {JOINT}, {name}: p = {p:.2g}")
        lines += [_local_line(found) for found in self.local]
        lines += [] if self.local_c2st is None else [_local_c2st_line(self.local_c2st)]
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
        inside = "".join(f"{100 * f:6.1f}%" for f in self.joint_coverage.fraction[:, self.regions.index(self.main_region)])
        lines.append(f"{'all together':12s}{inside}   ({REGION_WORDS[self.main_region]})")
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
            "joint_coverage": {"regions": self.regions} | self.joint_coverage._asdict(),
            "accuracy": self.accuracy._asdict() | {"bins": self.accuracy.labels},
            "sharpness": {
                "mean_z": self.sharpness.z.mean(0),
                "sd_z": self.sharpness.z.std(0),
                "median_contraction": np.median(self.sharpness.contraction, 0),
            },
            "log_score": self.log_score._asdict(),
            "joint_tests": {
                name: {"p": p, "outcome": outcome}
                for name, p, outcome in zip(self.joint_tests.names, self.joint_tests.p, self.joint_tests.outcome, strict=True)
            },
            "local": [
                {
                    "by": found.bins.name,
                    "columns": found.names,
                    "edges": found.bins.edges,
                    "images": found.n_images,
                    "levels": found.levels,
                    "coverage": found.coverage,
                    "p": found.p,
                    "outcome": found.outcome,
                }
                for found in self.local
            ],
            "local_c2st": _local_c2st_json(self.local_c2st),
            "conformal": [
                {
                    "of": f"central intervals of {self.n_draws} draws by this posterior as it is: not sharpened, refined or reweighted",
                    "by": made.bins.name,
                    "edges": made.bins.edges,
                    "images": made.n_images,
                    "level": made.level,
                    "most": made.most,
                    "factor": made.factor,
                }
                for made in self.conformal
            ],
            "gain_over_baseline": None if self.gain is None else self.gain._asdict(),
        }
        return {key: _plain(value) for key, value in report.items()}


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


def _local_c2st_line(found: LocalVerdict | str) -> str:
    """Say whether truths can be told from draws, and at how many images."""
    if isinstance(found, str):
        return f"{MARKS[Outcome.UNKNOWN]:4s} L-C2ST: {found}"
    text = f"L-C2ST: p = {found.result.overall:.2g} over {len(found.rows)} images, {found.result.adjusted.min():.2g} for the worst of them"
    if found.suspicious.any():
        text += f"; at {found.suspicious.sum()} of them truths can be told from draws"
    return f"{MARKS[found.outcome]:4s} {text}"


def _median_contraction(result: Accuracy) -> Array:
    """Return the count-weighted mean over S/N bins of the median posterior sd over the prior's; ``(P,)``."""
    filled = result.n_images > 0
    return np.average(result.contraction[filled], axis=0, weights=result.n_images[filled])


def _local_c2st_json(found: LocalVerdict | str | None) -> dict[str, Any] | None:
    if found is None:
        return None
    if isinstance(found, str):
        return {"outcome": Outcome.UNKNOWN, "reason": found}
    return {
        "outcome": found.outcome, "features": found.features, "pairs": found.pairs, "rows": found.rows,
        **found.result._asdict(), "suspicious": found.suspicious,
    }  # fmt: skip


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
