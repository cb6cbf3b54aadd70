r"""What certified rows say together: faults that all of them share, far too small to be seen in one.

A PSF that is too wide makes every galaxy look smaller and more concentrated, and most of it can hide there. What cannot is a small number
with a large error in each row; over a run it adds up. Rows i with amplitudes :math:`a_i \pm \sigma_i` have the weighted mean

.. math:: \bar a = \frac{\sum a_i / \sigma_i^2}{\sum 1 / \sigma_i^2}, \quad
   \sigma^2 = \frac{S^2}{\sum 1 / \sigma_i^2} + \frac{b^2 N}{\sum 1 / \sigma_i^2}, \quad
   S^2 = \max\left(1, \frac{1}{N - 1} \sum \frac{(a_i - \bar a)^2}{\sigma_i^2}\right)

S widens the error where rows disagree, as the Particle Data Group does. The second part allows each row a bias of b of its own error, which
does not average out: amplitudes are linearised, and good to so much from S/N 20 on. Rows that fail on their own are counted besides.
"""

__all__ = ["BIAS", "PopulationVerdict", "judge_bins", "judge_population"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from astroflow.errors import InputError
from astroflow.posteriors.exact.certificate import LEAST_P, Verdict
from astroflow.posteriors.exact.residuals import DIRECTIONS, normal_p
from astroflow.types import Array

BIAS = 0.05
"""b above."""
COUNTED = ("chi2_p", "residual_p")
WORDS = {
    "psf_width_error": ("width of the PSF in use: {0:.1f} +- {1:.1f} % too {2}", 100.0, ("wide", "narrow")),
    "psf_e1_error": ("e1 of the PSF in use: {0:.4f} +- {1:.4f} too {2}", 1.0, ("large", "small")),
    "psf_e2_error": ("e2 of the PSF in use: {0:.4f} +- {1:.4f} too {2}", 1.0, ("large", "small")),
    "sky_left": ("sky: {0:.4f} +- {1:.4f} noise rms too {2}", 1.0, ("high", "low")),
}
FOUND = {Verdict.OK: "no more than chance makes, passed", Verdict.FAILED: "more than chance makes, FAILED"}


@dataclass(frozen=True)
class PopulationVerdict:
    """What N rows say together.

    `rows` is N; `amplitude`, `error` and `p` ``(K,)`` belong to the `DIRECTIONS`, NaN where no row says anything; `scatter` ``(K,)`` is S;
    `failures` ``(2,)`` counts rows whose `chi2_p` and `residual_p` are below 0.001, and `failures_p` is how probable so many are.
    `tests` p-values share the rate of false alarms.
    """

    rows: int
    amplitude: Array
    error: Array
    scatter: Array
    p: Array
    failures: Array
    failures_p: Array
    tests: int

    @property
    def directions(self) -> dict[str, Verdict]:
        """The verdict on each direction."""
        return {name: self._judged(p) if np.isfinite(p) else Verdict.NOT_APPLICABLE for name, p in zip(DIRECTIONS, self.p, strict=True)}

    @property
    def verdict(self) -> Verdict:
        """Failed if any p-value, times how many there are, is below 0.001."""
        return self._judged(np.nanmin(np.concatenate([self.p, self.failures_p]))) if self.rows else Verdict.NOT_APPLICABLE

    def _judged(self, p: float) -> Verdict:
        return Verdict.OK if p * self.tests > LEAST_P else Verdict.FAILED

    def lines(self) -> list[str]:
        """Say it in words, the verdict first: of each test what was found, how probable that is by chance, and whether it passed."""
        words = {Verdict.NOT_APPLICABLE: "not applicable", Verdict.FAILED: "FAILED", Verdict.OK: "passed"}
        found = [f"{self.rows} certified rows together: model {words[self.verdict]}"]
        if self.rows:
            found[0] += f" (a test fails at p below {LEAST_P / self.tests:.1g}, as there are {self.tests})"
        for (name, verdict), value, error, p in zip(self.directions.items(), self.amplitude, self.error, self.p, strict=True):
            if verdict != Verdict.NOT_APPLICABLE:
                text, unit, (more, less) = WORDS[name]
                measured = text.format(abs(unit * value), unit * error, more if value > 0 else less)
                found.append(f"  {measured}; p = {p:.2g}, {FOUND[verdict]}")
        for name, count, p in zip(COUNTED, self.failures, self.failures_p, strict=True):
            if self.rows:
                expected = f"{count} rows of {name} < {LEAST_P}, {LEAST_P * self.rows:.1f} expected"
                found.append(f"  {expected}; p = {p:.2g}, {FOUND[self._judged(p)]}")
        return found

    def numbers(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        figures = zip(DIRECTIONS, self.amplitude.tolist(), self.error.tolist(), self.p.tolist(), strict=True)
        counted = zip(COUNTED, self.failures.tolist(), self.failures_p.tolist(), strict=True)
        return {
            "rows": self.rows,
            "verdict": int(self.verdict),
            "amplitudes": {name: {"value": a, "error": e, "p": p} for name, a, e, p in figures if np.isfinite(p)},
            "failures": {name: {"rows": count, "p": p} for name, count, p in counted},
        }


def judge_population(columns: Mapping[str, Any], among: int = 1) -> PopulationVerdict:
    """Judge rows together.

    Parameters
    ----------
    columns : mapping of str to array_like
        ``(N,)`` columns of a certified catalog, a table of Astropy or pandas too: `DIRECTIONS`, each with its ``_sd``, `chi2_p` and
        `residual_p`. Masked and NaN values do not count.
    among : int
        How many populations are judged at a time.

    Raises
    ------
    InputError
        If a column is missing.
    """
    table = {name: _plain(columns, name) for direction in DIRECTIONS for name in (direction, f"{direction}_sd")}
    counted = [_plain(columns, name) for name in COUNTED]
    found = np.array([_mean(table[name], table[f"{name}_sd"]) for name in DIRECTIONS])
    judged = [values[np.isfinite(values)] for values in counted]
    failures = np.array([(values < LEAST_P).sum() for values in judged])
    chances = np.array([stats.binom.sf(count - 1, len(values), LEAST_P) for count, values in zip(failures, judged, strict=True)])
    return PopulationVerdict(
        rows=len(judged[0]), amplitude=found[:, 0], error=found[:, 1], scatter=found[:, 2],
        p=np.where(np.isnan(found[:, 0]), np.nan, normal_p(found[:, 0] / found[:, 1])),
        failures=failures, failures_p=chances, tests=among * (len(DIRECTIONS) + len(COUNTED)),
    )  # fmt: skip


def judge_bins(columns: Mapping[str, Any], bins: Any) -> dict[Any, PopulationVerdict]:
    """Judge the rows of each value of `bins` ``(N,)`` together, such as tiles or steps of magnitude; all share the rate of false alarms.

    Raises
    ------
    InputError
        If a column is missing, or `bins` is of another length or undefined in places.
    """
    given = np.ma.asarray(bins)
    values = np.asarray(given.astype(str) if given.dtype == object else given)
    if np.ma.getmaskarray(given).any() or (values.dtype.kind == "f" and np.isnan(values).any()):
        raise InputError("`bins` has masked or undefined values; leave those rows out, or give them a bin of their own")
    length = len(np.asarray(columns[COUNTED[0]])) if COUNTED[0] in _names(columns) else len(values)
    if values.shape != (length,):
        raise InputError(f"`bins` must have one value for each of the {length} rows; got {values.shape}")
    table = {name: _plain(columns, name) for d in DIRECTIONS for name in (d, f"{d}_sd")} | {name: _plain(columns, name) for name in COUNTED}
    kinds = np.unique(values)
    return {kind.item(): judge_population({k: v[values == kind] for k, v in table.items()}, len(kinds)) for kind in kinds}


def _mean(amplitude: Array, sd: Array) -> tuple[float, float, float]:
    """Return the weighted mean, its error and the scatter S."""
    kept = np.isfinite(amplitude) & np.isfinite(sd) & (sd > 0)
    count = int(kept.sum())
    if not count:
        return np.nan, np.nan, np.nan
    value, weight = amplitude[kept], sd[kept] ** -2.0
    mean = float((value * weight).sum() / weight.sum())
    scatter = float(np.sqrt(max(1.0, (weight * (value - mean) ** 2).sum() / max(count - 1, 1))))
    return mean, float(np.sqrt((scatter**2 + BIAS**2 * count) / weight.sum())), scatter


def _plain(columns: Mapping[str, Any], name: str) -> Array:
    if name not in _names(columns):
        raise InputError(f"column {name!r} is missing; a population is judged by the columns of `astroflow infer --certify`")
    return np.asarray(np.ma.filled(np.ma.asarray(columns[name], np.float64), np.nan))


def _names(columns: Mapping[str, Any]) -> list[str]:
    return list(columns.keys())
