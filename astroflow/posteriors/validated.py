"""What a validation found out about a bundle, kept beside it: the coverage to be expected of objects like the one at hand.

`coverage.json` lies in the bundle's folder and is no part of its identity; it names the digest of the bundle that it is about.
"""

__all__ = ["ATTACHED", "BY_SNR", "Validated", "attach_validation", "read_validation"]

import json
from collections.abc import Mapping
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
VERSION = 1


@dataclass(frozen=True)
class Validated:
    """Coverage of central intervals, measured on simulations that were new to the posterior, in K bins of estimated S/N.

    `edges` ``(K + 1,)``, `n_images` ``(K,)``, `levels` ``(L,)``, `coverage` ``(K, L, P)`` of the parameters `names`; `passed` tells whether
    the validation, of `simulations` galaxies, found nothing wrong, and `complete` whether they were enough for every test.
    """

    passed: bool
    complete: bool
    simulations: int
    names: tuple[str, ...]
    edges: Array
    n_images: Array
    levels: Array
    coverage: Array

    def line(self, snr: float) -> str:
        """Say what was measured for objects of an estimated S/N."""
        verdict = self._verdict()
        if not np.isfinite(snr):
            return verdict
        if not self.edges[0] <= snr <= self.edges[-1]:
            return f"{verdict}, of S/N {self.edges[0]:.3g} to {self.edges[-1]:.3g}: this object is outside"
        k = min(int(np.searchsorted(self.edges, snr, side="right")) - 1, len(self.n_images) - 1)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(self.names, self._shown()[k], strict=True))
        chance = np.sqrt(SHOWN * (1 - SHOWN) / max(int(self.n_images[k]), 1))
        return (
            f"{verdict}; of {self.n_images[k]} as bright as this one (S/N {self.edges[k]:.3g} to {self.edges[k + 1]:.3g}), "
            f"{SHOWN:.0%} intervals held the truth: {shares} (chance +-{chance:.1%})"
        )

    def lines(self) -> list[str]:
        """Say what was measured, bin by bin."""
        lines = [f"{self._verdict()}; {SHOWN:.0%} intervals held the truth, parameter by parameter,"]
        for k, (count, shares) in enumerate(zip(self.n_images, self._shown(), strict=True)):
            chance = np.sqrt(SHOWN * (1 - SHOWN) / max(int(count), 1))
            lines.append(
                f"  of {count} of S/N {self.edges[k]:.3g} to {self.edges[k + 1]:.3g}: in {shares.min():.0%} to {shares.max():.0%} of cases "
                f"(chance +-{chance:.1%})"
            )
        return lines

    def _verdict(self) -> str:
        verdict = ("calibrated" if self.complete else "calibrated, as far as so few tell,") if self.passed else "NOT calibrated"
        return f"this bundle's own posteriors, before any refining, were found {verdict} on {self.simulations} simulations"

    def _shown(self) -> Array:
        return np.asarray(self.coverage[:, int(np.argmin(np.abs(self.levels - SHOWN)))])


def attach_validation(bundle: Path, digest: str, report: Mapping[str, Any]) -> bool:
    """Write what a report (`CalibrationReport.to_json`) says of a bundle of a given digest into its folder.

    Returns
    -------
    bool
        False where a report of more simulations is there already, which is kept.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    there = read_validation(bundle, digest)
    if isinstance(there, Validated) and there.simulations > report["images"]:
        return False
    by_snr = next(found for found in report["local"] if found["by"] == BY_SNR)
    names = list(report["names"][:-1])
    record = {
        "version": VERSION, "bundle": digest, "passed": report["passed"], "complete": report["complete"], "verdict": report["verdict"],
        "simulations": report["images"], "names": names, "edges": by_snr["edges"], "images": by_snr["images"], "levels": by_snr["levels"],
        "coverage": [[row[: len(names)] for row in one] for one in by_snr["coverage"]],
    }  # fmt: skip
    write_json(bundle / ATTACHED, record)
    return True


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
        verdicts = bool(record["passed"]), bool(record["complete"])
        return Validated(*verdicts, int(record["simulations"]), tuple(record["names"]), edges, images.astype(np.int64), levels, coverage)
    except FileNotFoundError:
        return NEVER
    except (ValueError, KeyError, TypeError, OSError) as error:
        # what lies beside a bundle must not keep anybody from using it
        return f"{path} cannot be read ({error}): how often error bars of this bundle hold is not known"
