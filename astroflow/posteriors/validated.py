"""What validations found out about a bundle, kept beside it: the coverage to be expected of objects like the one at hand.

`coverage.json` lies in the bundle's folder and is no part of its identity; it names the digest of the bundle that it is about. It holds one
validation, and what every other one came to: a bundle that failed does not pass by being asked again with another seed.
"""

__all__ = ["ATTACHED", "BY_SNR", "Validated", "attach_validation", "read_validation"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.provenance import write_json
from astroflow.types import Array

ATTACHED = "coverage.json"
BY_SNR = "estimated S/N"
"""What the bins are called that are kept."""
NEVER = "this bundle was never validated: how often its error bars hold is not known (`astroflow validate`)"
SHOWN = 0.68
TOGETHER = ("highest density", "joint")
"""Columns that are about all parameters together, the best first."""
VERSION = 1


@dataclass(frozen=True)
class Validated:
    """Coverage of central intervals, measured on simulations that were new to the posterior, in K bins of estimated S/N.

    `edges` ``(K + 1,)``, `n_images` ``(K,)``, `levels` ``(L,)``, `coverage` ``(K, L, P)`` of the parameters `names`, `together` ``(K, L)``
    of joint regions, None where they were not measured; `passed` tells whether the validation, of `simulations` galaxies, found nothing
    wrong, and `complete` whether they were enough for every test. `attempts` are all validations that were made, each a mapping of
    `seed`, `images`, `draws` and `passed`; this one is number `which` of them.
    """

    passed: bool
    complete: bool
    simulations: int
    names: tuple[str, ...]
    edges: Array
    n_images: Array
    levels: Array
    coverage: Array
    together: Array | None
    attempts: tuple[Mapping[str, Any], ...]
    which: int

    def line(self, snr: float) -> str:
        """Say what was measured for objects of an estimated S/N."""
        verdict = self._verdict()
        if not np.isfinite(snr):
            return verdict
        if not self.edges[0] <= snr <= self.edges[-1]:
            return f"{verdict}, of S/N {self.edges[0]:.3g} to {self.edges[-1]:.3g}: this object is outside"
        k = min(int(np.searchsorted(self.edges, snr, side="right")) - 1, len(self.n_images) - 1)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(self.names, self._shown(self.coverage)[k], strict=True))
        joint = "" if self.together is None else f"; regions of all parameters together {self._shown(self.together)[k]:.0%}"
        chance = np.sqrt(SHOWN * (1 - SHOWN) / max(int(self.n_images[k]), 1))
        return (
            f"{verdict}; of {self.n_images[k]} as bright as this one (S/N {self.edges[k]:.3g} to {self.edges[k + 1]:.3g}), "
            f"{SHOWN:.0%} intervals held the truth: {shares}{joint} (chance +-{chance:.1%})"
        )

    def lines(self) -> list[str]:
        """Say what was measured, bin by bin."""
        lines = [f"{self._verdict()}; {SHOWN:.0%} intervals held the truth, parameter by parameter,"]
        for k, (count, shares) in enumerate(zip(self.n_images, self._shown(self.coverage), strict=True)):
            chance = np.sqrt(SHOWN * (1 - SHOWN) / max(int(count), 1))
            joint = "" if self.together is None else f", regions of all together in {self._shown(self.together)[k]:.0%}"
            lines.append(
                f"  of {count} of S/N {self.edges[k]:.3g} to {self.edges[k + 1]:.3g}: in {shares.min():.0%} to {shares.max():.0%} of cases"
                f"{joint} (chance +-{chance:.1%})"
            )
        return lines

    def _verdict(self) -> str:
        verdict = ("calibrated" if self.complete else "calibrated, as far as so few tell,") if self.passed else "NOT calibrated"
        text = f"this bundle's own posteriors, before any refining, were found {verdict} on {self.simulations} simulations"
        if len(self.attempts) > 1:
            text += f" (of {len(self.attempts)} validations {sum(bool(one['passed']) for one in self.attempts)} passed)"
        return text

    def _shown(self, coverage: Array) -> Array:
        return np.asarray(coverage[:, int(np.argmin(np.abs(self.levels - SHOWN)))])


def attach_validation(bundle: Path, digest: str, report: Mapping[str, Any]) -> str | None:
    """Write what a validation's record (`validation.json`) says of a bundle of a given digest into its folder.

    Of validations of as many images a failed one is kept, whichever comes first; more images replace fewer. What is kept or not, every
    seed that was tried is counted. The same validation made again, with the same seed, takes its own place.

    Returns
    -------
    str or None
        What is kept instead, in words: a validation of more images, or a failed one of as many.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    found = read_validation(bundle, digest)
    there = found if isinstance(found, Validated) else None
    attempt = {"seed": report["provenance"]["seed"], "images": report["images"], "draws": report["draws"], "passed": report["passed"]}
    attempts = list(there.attempts) if there else []
    place = next((k for k, one in enumerate(attempts) if _same(one, attempt)), len(attempts))
    attempts[place:] = [attempt, *attempts[place + 1 :]]
    kept = None
    if there and place != there.which:
        if there.simulations > report["images"]:
            kept = "a validation of more simulations"
        elif there.simulations == report["images"] and report["passed"] and not there.passed:
            kept = "a validation that failed, of as many simulations,"
    record = json.loads((bundle / ATTACHED).read_text()) if kept else _record(digest, report) | {"which": place}
    write_json(bundle / ATTACHED, record | {"attempts": attempts})
    return kept


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two attempts are one and the same simulations and draws."""
    return all(one[name] == other[name] for name in ("seed", "images", "draws"))


def _record(digest: str, report: Mapping[str, Any]) -> dict[str, Any]:
    by_snr = next(found for found in report["local"] if found["by"] == BY_SNR)
    names = list(report["names"][:-1])
    columns = by_snr.get("columns", [])  # of before joint regions were measured there are none
    together = next((columns.index(name) for name in TOGETHER if name in columns), None)
    return {
        "version": VERSION, "bundle": digest, "passed": report["passed"], "complete": report["complete"], "verdict": report["verdict"],
        "simulations": report["images"], "names": names, "edges": by_snr["edges"], "images": by_snr["images"], "levels": by_snr["levels"],
        "coverage": [[row[: len(names)] for row in one] for one in by_snr["coverage"]],
        "together": None if together is None else [[row[together] for row in one] for one in by_snr["coverage"]],
    }  # fmt: skip


def read_validation(bundle: Path, digest: str) -> Validated | str:
    """Return what is attached to a bundle of a given digest, or a line that says why there is nothing."""
    path = bundle / ATTACHED
    try:
        record = json.loads(path.read_text())
        if record["bundle"] != digest or record["version"] != VERSION:
            return NEVER
        edges, images, levels, coverage = (np.array(record[name], np.float64) for name in ("edges", "images", "levels", "coverage"))
        if coverage.shape != (len(edges) - 1, len(levels), len(record["names"])) or images.shape != (len(edges) - 1,):
            raise ValueError(f"coverage has shape {coverage.shape}")
        together = None if record.get("together") is None else np.array(record["together"], np.float64)
        if together is not None and together.shape != coverage.shape[:2]:
            raise ValueError(f"coverage of all parameters together has shape {together.shape}")
        return Validated(
            bool(record["passed"]), bool(record["complete"]), int(record["simulations"]), tuple(record["names"]), edges,
            images.astype(np.int64), levels, coverage, together, _attempts(record), int(record.get("which", 0)),
        )  # fmt: skip
    except FileNotFoundError:
        return NEVER
    except (ValueError, KeyError, TypeError, OSError) as error:
        # what lies beside a bundle must not keep anybody from using it
        return f"{path} cannot be read ({error}): how often error bars of this bundle hold is not known"


def _attempts(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return all validations that were made; records from before they were counted know of their own alone, and not its seed."""
    own = [{"seed": None, "images": record["simulations"], "draws": None, "passed": record["passed"]}]
    attempts: Sequence[Mapping[str, Any]] = record.get("attempts", own)
    if not all({"seed", "images", "draws", "passed"} <= set(one) for one in attempts):
        raise ValueError("attempts lack a seed, images, draws or whether they passed")
    return tuple(attempts)
