"""Compare what was found with the truth, per method and bin of S/N. Runs in either environment.

Only galaxies whose true index is at least `--least-n` count, where pysersic's priors begin; with `--of METHOD` only those that METHOD has
fitted, so that others can be compared with one that has fitted few.

bias, scatter   median of estimate minus truth, and 1.48 times the median absolute deviation from it
outliers        share of galaxies further from the truth than `LIMITS`
pull            scatter of (estimate - truth) / claimed error, and its rms; 1 for honest errors, more for too small ones
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.peers.conventions import COMPARED

LIMITS = np.array([0.5, 0.2, 0.3, 0.2])
"""Errors that nobody could use: magnitudes, dex in re, dex in n, axis ratio."""
LEAST_ESS = 30
MAD_TO_SD = 1.4826
HEADER = f"{'method':28s}  galaxies  compiling    running     in CPU             {'bias':>8s}  scatter  outliers  pull sd  pull rms"


def spread(values: np.ndarray) -> np.ndarray:
    """Robust standard deviation along the first axis; NaN of fewer than three values."""
    if len(values) < 3:
        return np.full(values.shape[1:], np.nan)
    return MAD_TO_SD * np.median(np.abs(values - np.median(values, 0)), 0)


def statistics(estimate: np.ndarray, sd: np.ndarray | None, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of the table for ``(N, 4)`` arrays, each ``(4,)``; pulls are NaN without claimed errors."""
    error = estimate - truth
    pull = np.full_like(error, np.nan) if sd is None else error / sd
    return {
        "bias": np.median(error, 0),
        "scatter": spread(error),
        "outliers": np.mean(np.abs(error) > LIMITS, 0),
        "pull scatter": spread(pull),
        "pull rms": np.sqrt(np.mean(pull**2, 0)),
    }


def cost(lines: list[dict]) -> str:
    """Write median seconds per galaxy: compiling, all the rest, and processor time of both."""
    compiling, seconds, cpu = (np.array([line[name] for line in lines]) for name in ("compile_seconds", "seconds", "cpu_seconds"))
    return f"{np.median(compiling):9.3g}  {np.median(seconds - compiling):9.3g}  {np.median(cpu):9.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="files of fit_pysersic and fit_astroflow")
    parser.add_argument("--stamps", type=Path, default=Path("runs/peers/stamps.npz"))
    parser.add_argument("--least-n", type=float, default=0.65)
    parser.add_argument("--of", metavar="METHOD", help="take the galaxies that this method has fitted, such as 'pysersic nuts'")
    given = parser.parse_args()
    data = dict(np.load(given.stamps))
    found: dict[str, dict[int, dict]] = defaultdict(dict)
    for path in given.results:
        for line in map(json.loads, path.read_text().splitlines()):
            if np.isfinite(line["estimate"]).all():
                found[line["method"]][line["galaxy"]] = line
            else:
                print(f"{line['method']}: galaxy {line['galaxy']} has no finite answer and is left out")
    for name, lines in found.items():
        poor = sorted(i for i, line in lines.items() if line.get("ess", np.inf) < LEAST_ESS)
        if poor:
            print(f"{name}: fewer than {LEAST_ESS} effective draws of galaxies {poor}; their errors claim nothing")
    if given.of is not None and given.of not in found:
        raise SystemExit(f"--of: no {given.of!r} in the files, which hold {sorted(found)}")
    index = 10 ** data["truth"][:, COMPARED.index("log10 n")]
    wanted = set(np.flatnonzero(index >= given.least_n).tolist()).intersection(found[given.of] if given.of else range(len(index)))
    print("outliers: off by more than", ", ".join(f"{limit} in {name}" for name, limit in zip(COMPARED, LIMITS, strict=True)))
    for k, (low, high) in enumerate(data["edges"].tolist()):
        print(f"\nS/N {low} to {high}{'seconds:':>43s}\n{HEADER}")
        for name, lines in found.items():
            rows = sorted(i for i in wanted.intersection(lines) if data["bins"][i] == k)
            if not rows:
                continue
            some = [lines[i] for i in rows]
            claimed = None if some[0]["sd"] is None else np.array([line["sd"] for line in some])
            table = np.array(list(statistics(np.array([line["estimate"] for line in some]), claimed, data["truth"][rows]).values()))
            first = f"{name:28s}  {len(rows):8d}  {cost(some)}"
            for quantity, (bias, scatter, outliers, pull, rms) in zip(COMPARED, table.T, strict=True):
                print(f"{first:71s}  {quantity:8s}  {bias:+8.4f}  {scatter:7.4f}  {outliers:8.2f}  {pull:7.2f}  {rms:6.2f}")
                first = ""


if __name__ == "__main__":
    main()
