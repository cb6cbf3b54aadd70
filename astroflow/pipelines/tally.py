"""What a finished catalog run says of its rows, counted: why rows are called suspect, and how many have which verdict."""

__all__ = ["Tally", "tally"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.pipelines.tasks import read_part
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import SUSPECT, Flag

QUESTIONS = {"inference": "inference_ok", "model": "model_ok"}
WORDS = {Verdict.OK: "OK", Verdict.FAILED: "failed", Verdict.NOT_APPLICABLE: "not applicable"}


@dataclass(frozen=True)
class Tally:
    """Counts of rows.

    `suspect` counts the flags behind rows that are called suspect, of which a row may have several; flags that no such row has are left
    out. `verdicts` counts, for each of the two questions of a certificate, the rows that have a posterior by their answer; empty without
    certificates.
    """

    suspect: Mapping[Flag, int]
    verdicts: Mapping[str, Mapping[Verdict, int]]

    def lines(self) -> list[str]:
        """Say it in words; flags that are behind most rows first."""
        lines = []
        if self.suspect:
            most = sorted(self.suspect.items(), key=lambda one: -one[1])
            lines.append("suspect for: " + ", ".join(f"{flag.name} {count}" for flag, count in most))
        for question, counts in self.verdicts.items():
            lines.append(f"{question}: " + ", ".join(f"{count} {WORDS[verdict]}" for verdict, count in counts.items()))
        return lines

    def numbers(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        found: dict[str, Any] = {"suspect_flags": {str(flag.name): count for flag, count in self.suspect.items()}}
        if self.verdicts:
            found["verdicts"] = {
                question: {verdict.name.lower(): count for verdict, count in counts.items()} for question, counts in self.verdicts.items()
            }
        return found


def tally(parts: Path, *, certified: bool) -> Tally:
    """Count the rows of a posterior catalog.

    Parameters
    ----------
    parts : Path
        The folder of its parts.
    certified : bool
        Whether it has certificates.

    Raises
    ------
    InputError
        If a part is damaged.
    """
    columns = QUESTIONS if certified else {}
    flags = dict.fromkeys((flag for flag in Flag if flag & SUSPECT), 0)
    verdicts = {question: dict.fromkeys(WORDS, 0) for question in columns}
    for file in sorted(parts.glob("part-*.parquet")):
        part = read_part(file, ["flags", "quality", *columns.values()])
        quality, bits = np.asarray(part.column("quality")), np.asarray(part.column("flags"))
        for flag in flags:
            flags[flag] += int(((bits & flag) != 0)[quality == 1].sum())
        for question, name in columns.items():
            answers = part.column(name).filter(quality < 2).to_numpy()
            for verdict in WORDS:
                verdicts[question][verdict] += int((answers == verdict).sum())
    return Tally({flag: count for flag, count in flags.items() if count}, verdicts)
