"""Compare what was found with the truth, per method and bin, in the form of the Euclid Morphology Challenge. astroflow's environment.

Only galaxies whose true index is at least `--least-n` count, where pysersic's priors begin; with `--of METHOD` only those that METHOD was
given, so that others can be compared with one that was given few. Bins are of true magnitude, or of the simulation's S/N.

bias, scatter   as `astroflow.diagnostics.point_accuracy` has them, like outliers and completeness; errors of mag and q are plain, of re
                relative, of n in dex
pull sd, rms    half the width of the central 68 % of (estimate - truth) / claimed error, of mag, log re, log n and q, and its rms: 1 for
                honest errors, more for too small ones
inside          share of estimates within one claimed error of the truth: 0.68 for honest ones that are normal
claimed         share of estimates that come with an error
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from benchmarks.peers.conventions import COMPARED
from benchmarks.peers.results import read

KINDS = {"mag": "plain", "re": "relative", "n": "dex", "q": "plain"}
MAGNITUDES = (18.5, 20.5, 21.5, 22.5, 23.5, 24.5)
LEAST_ESS = 30
HEADER = (
    f"{'method':28s}  galaxies  compiling    running     in CPU             {'bias':>8s}  scatter  outliers  complete"
    "  pull sd  pull rms  inside  claimed"
)


def quantities(compared: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of ``(N, 4)`` compared quantities, without their logarithms."""
    mag, log_re, log_n, q = compared.T
    return {"mag": mag, "re": 10**log_re, "n": 10**log_n, "q": q}


def claims(error: np.ndarray, sd: np.ndarray) -> tuple[float, float, float, float]:
    """Return pull sd, pull rms, inside and claimed of ``(N,)`` errors and claimed ones; NaN where no error is claimed at all."""
    known = np.isfinite(error)
    pull = (error / sd)[known & np.isfinite(sd)]
    if not len(pull):
        return np.nan, np.nan, np.nan, 0.0 if known.any() else np.nan
    low, high = np.quantile(pull, [0.16, 0.84])
    return (high - low) / 2, np.sqrt(np.mean(pull**2)), np.mean(np.abs(pull) < 1), len(pull) / known.sum()


def cost(lines: list[dict]) -> str:
    """Write median seconds per galaxy: compiling, all the rest, and processor time of both."""
    compiling, seconds, cpu = (np.array([line[name] for line in lines]) for name in ("compile_seconds", "seconds", "cpu_seconds"))
    return f"{np.median(compiling):9.3g}  {np.median(seconds - compiling):9.3g}  {np.median(cpu):9.3g}"


def table(name: str, lines: dict[int, dict], data: dict[str, np.ndarray], binned: np.ndarray, edges: tuple[float, ...]) -> list[list[str]]:
    """Return the rows of one method in each bin; none where it was given no galaxy. Lines are by galaxy, whose truths `data` holds."""
    from astroflow.diagnostics import point_accuracy

    rows = np.array(sorted(lines))
    estimate = np.array([lines[i]["estimate"] for i in rows])
    sd = np.array([lines[i]["sd"] or [np.nan] * len(COMPARED) for i in rows])
    truth, binned = data["truth"][rows], binned[rows]
    scores = point_accuracy(quantities(estimate), quantities(truth), KINDS, binned, edges)
    out = []
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = (binned >= low) & (binned < high)
        first = f"{name:28s}  {inside.sum():8d}  {cost([lines[i] for i in rows[inside]])}" if inside.any() else ""
        texts = []
        for column, (quantity, score) in enumerate(scores.items() if first else ()):
            pull, rms, within, claimed = claims((estimate - truth)[inside, column], sd[inside, column])
            texts.append(
                f"{first:71s}  {quantity:8s}  {score.bias[k]:+8.4f}  {score.dispersion[k]:7.4f}  {score.outliers[k]:8.2f}  "
                f"{score.completeness[k]:8.2f}  {pull:7.2f}  {rms:8.2f}  {within:6.2f}  {claimed:7.2f}"
            )
            first = ""
        out.append(texts)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="files of fits")
    parser.add_argument("--stamps", type=Path, default=Path("runs/peers/stamps.npz"))
    parser.add_argument("--by", choices=("mag", "snr", "nothing"), default="mag")
    parser.add_argument("--least-n", type=float, default=0.65)
    parser.add_argument("--of", metavar="METHOD", help="take the galaxies that this method was given, such as 'pysersic nuts'")
    given = parser.parse_args()
    data, found = dict(np.load(given.stamps)), read(given.results)
    for name, lines in found.items():
        poor = sorted(i for i, line in lines.items() if line.get("ess", np.inf) < LEAST_ESS)
        if poor:
            print(f"{name}: fewer than {LEAST_ESS} effective draws of galaxies {poor}; their errors claim nothing")
    if given.of is not None and given.of not in found:
        raise SystemExit(f"--of: no {given.of!r} in the files, which hold {sorted(found)}")
    wanted = set(np.flatnonzero(quantities(data["truth"])["n"] >= given.least_n).tolist())
    if given.of is not None:
        wanted &= set(found[given.of])
    edges = {"mag": MAGNITUDES, "snr": (*data["edges"][:, 0], data["edges"][-1, 1]), "nothing": (-np.inf, np.inf)}[given.by]
    binned = data["truth"][:, COMPARED.index("mag")] if given.by == "mag" else data["snr"]
    tables = [table(name, {i: lines[i] for i in wanted.intersection(lines)}, data, binned, edges) for name, lines in found.items()]
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        print(f"\n{given.by} {low} to {high}\n{'seconds:':>48s}\n{HEADER}")
        for method in tables:
            print(*method[k], sep="\n", end="\n" if method[k] else "")


if __name__ == "__main__":
    main()
