"""What a run has finished: one receipt for each part, and at the very end a manifest.

A receipt says what a part holds, which run made it and what its bytes are, so that a later start of the same run can believe a part, and
leave it alone, without asking anybody. A part without a receipt, or one that differs from it, does not count: it is made again, and as
parts depend on nothing but the run, with the same bytes. The manifest is written when all parts are there. A run without one is
incomplete.
"""

__all__ = ["Ledger", "Receipt"]

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astroflow.errors import InputError
from astroflow.files import atomic_write, clear_stages, sha256_of
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.provenance import write_json


@dataclass(frozen=True)
class Receipt:
    """What one part holds: its path below the catalog's folder, the run that made it, and its rows by what is known of them."""

    part: str
    run: str
    """Fingerprint of the run."""
    bytes: int
    sha256: str
    tally: Tally


@dataclass(frozen=True)
class Ledger:
    """The receipts of a run.

    Parameters
    ----------
    out : Path
        The run's folder: parts are in ``catalog``, receipts in ``ledger``, and what is not finished in ``stage``.
    run : str
        The run's fingerprint.
    """

    out: Path
    run: str

    @property
    def catalog(self) -> Path:
        """The folder of the parts."""
        return self.out / "catalog"

    @property
    def stage(self) -> Path:
        """The folder of what is being written; outside the catalog, where readers take every file for a part."""
        return self.out / "stage"

    def pieces(self, part: str) -> Path:
        """Return the folder where a part is made piece by piece, when it has taken workers along."""
        return self.stage / self._file(part).stem

    def marks(self, part: str) -> frozenset[str]:
        """Return what is in that folder: it differs from time to time for as long as there is progress."""
        folder = self.pieces(part)
        return frozenset(file.name for file in folder.iterdir()) if folder.is_dir() else frozenset()

    def keep(self, part: str, content: bytes, tally: Tally) -> Receipt:
        """Write a part and then its receipt, each so that it is either complete or not there."""
        atomic_write(self.catalog / part, content, stage_in=self.stage)
        receipt = Receipt(part, self.run, len(content), hashlib.sha256(content).hexdigest(), tally)
        text = json.dumps(vars(receipt) | {"tally": tally.numbers()}, indent=1, sort_keys=True)
        atomic_write(self._file(part), text.encode(), stage_in=self.stage)
        return receipt

    def receipt(self, part: str) -> Receipt | None:
        """Return the receipt of a part, or None where there is none of this run that can be read."""
        try:
            found = json.loads(self._file(part).read_text(encoding="utf-8"))
            receipt = Receipt(**(found | {"tally": Tally.of_numbers(found["tally"])}))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return receipt if (receipt.part, receipt.run) == (part, self.run) else None

    def finished(self, part: str) -> Receipt | None:
        """Return the receipt of a part that is there and is what its receipt says, byte by byte; None for any other."""
        receipt, path = self.receipt(part), self.catalog / part
        try:
            good = receipt is not None and path.stat().st_size == receipt.bytes and sha256_of(path) == receipt.sha256
        except OSError:
            return None
        return receipt if good else None

    def stands(self, receipt: Receipt) -> bool:
        """Say whether a part is still the one that a receipt is of, as far as its receipt on the disk and its size tell."""
        path = self.catalog / receipt.part
        return self.receipt(receipt.part) == receipt and path.is_file() and path.stat().st_size == receipt.bytes

    def reopen(self) -> None:
        """Take back what says that the run is complete: parts of it are to be made again."""
        for file in (self.manifest, self.catalog / "hats.properties", self.catalog / "properties", self.catalog / "partition_info.csv"):
            file.unlink(missing_ok=True)

    def conclude(self, receipts: Iterable[Receipt], facts: dict[str, Any]) -> None:
        """Write the manifest of a run that is complete, and remove what it needs no longer."""
        lines = sorted(f"{one.part} {one.sha256}" for one in receipts)
        write_json(self.manifest, {"run": self.run, "parts": len(lines), "digest": _digest(lines), **facts})
        shutil.rmtree(self.stage, ignore_errors=True)
        clear_stages(self.out)

    @property
    def manifest(self) -> Path:
        """The file that a complete run has."""
        return self.out / "manifest.json"

    def concluded(self) -> dict[str, Any] | None:
        """Return the manifest, or None where there is none.

        Raises
        ------
        InputError
            If it cannot be read, or is another run's.
        """
        if not self.manifest.is_file():
            return None
        try:
            found = json.loads(self.manifest.read_text(encoding="utf-8"))
            known = {"run", "parts", "digest"} <= set(found)
        except (OSError, ValueError, TypeError):
            known = False
        if not known or found["run"] != self.run:
            raise InputError(f"{self.manifest} is not the manifest of this run; remove it and run `astroflow infer` again")
        return dict(found)

    def agrees(self, manifest: Mapping[str, Any], receipts: Iterable[Receipt]) -> bool:
        """Say whether a manifest is of these parts."""
        lines = sorted(f"{one.part} {one.sha256}" for one in receipts)
        return (manifest["parts"], manifest["digest"]) == (len(lines), _digest(lines))

    def _file(self, part: str) -> Path:
        return self.out / "ledger" / f"{part.replace('/', '.').removesuffix('.parquet')}.json"


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
