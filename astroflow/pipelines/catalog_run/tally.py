"""What is known of the rows of a posterior catalog, counted: how many are good, why others are not, and how many have which verdict.

Counts of parts add up to those of their catalog, so a part is read for them once, when it is made.
"""

__all__ = ["Tally"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import SUSPECT, UNUSABLE, Flag

if TYPE_CHECKING:
    import pyarrow as pa

QUALITIES = ("good", "suspect", "unusable")
QUESTIONS = {"inference": "inference_ok", "model": "model_ok"}
WORDS = {Verdict.OK: "OK", Verdict.FAILED: "failed", Verdict.NOT_APPLICABLE: "not applicable"}


@dataclass(frozen=True)
class Tally:
    """Counts of rows.

    `suspect_flags` and `unusable_flags` count the flags behind rows that are called so, of which a row may have several; flags that no
    such row has are left out. `verdicts` counts, for each of the two questions of a certificate, the rows that have a posterior by their
    answer; empty without certificates.
    """

    good: int = 0
    suspect: int = 0
    unusable: int = 0
    suspect_flags: Mapping[Flag, int] = field(default_factory=dict)
    unusable_flags: Mapping[Flag, int] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[Verdict, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.good + self.suspect + self.unusable

    @classmethod
    def of(cls, table: "pa.Table") -> "Tally":
        """Count the rows of a posterior catalog, or of a part."""
        quality, bits = (np.asarray(table.column(name)) for name in ("quality", "flags"))
        reasons = [
            {flag: count for flag in Flag if flag & kind and (count := int(((bits & flag) != 0)[quality == k].sum()))}
            for k, kind in ((1, SUSPECT), (2, UNUSABLE))
        ]
        verdicts = {}
        for question, name in QUESTIONS.items():
            if name in table.column_names:
                answers = table.column(name).filter(quality < 2).to_numpy()
                verdicts[question] = {verdict: int((answers == verdict).sum()) for verdict in WORDS}
        counts = {name: int((quality == k).sum()) for k, name in enumerate(QUALITIES)}
        return cls(**counts, suspect_flags=reasons[0], unusable_flags=reasons[1], verdicts=verdicts)

    def __add__(self, other: "Tally") -> "Tally":
        verdicts = {
            question: _sum(self.verdicts.get(question, {}), other.verdicts.get(question, {}))
            for question in QUESTIONS
            if question in {**self.verdicts, **other.verdicts}
        }
        return Tally(
            self.good + other.good, self.suspect + other.suspect, self.unusable + other.unusable,
            _sum(self.suspect_flags, other.suspect_flags), _sum(self.unusable_flags, other.unusable_flags), verdicts,
        )  # fmt: skip

    def lines(self) -> list[str]:
        """Say it in words; flags that are behind most rows first."""
        lines = [f"{self.rows} rows: " + ", ".join(f"{getattr(self, name)} {name}" for name in QUALITIES)]
        for name, flags in (("unusable", self.unusable_flags), ("suspect", self.suspect_flags)):
            if flags:
                most = sorted(flags.items(), key=lambda one: -one[1])
                lines.append(f"{name} for: " + ", ".join(f"{flag.name} {count}" for flag, count in most))
        for question, counts in self.verdicts.items():
            lines.append(f"{question}: " + ", ".join(f"{count} {WORDS[verdict]}" for verdict, count in counts.items()))
        return lines

    def numbers(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        found: dict[str, Any] = {"rows": self.rows} | {name: getattr(self, name) for name in QUALITIES}
        for name in ("suspect_flags", "unusable_flags"):
            found[name] = {str(flag.name): count for flag, count in getattr(self, name).items()}
        if self.verdicts:
            found["verdicts"] = {
                question: {verdict.name.lower(): count for verdict, count in counts.items()} for question, counts in self.verdicts.items()
            }
        return found

    @classmethod
    def of_numbers(cls, numbers: Mapping[str, Any]) -> "Tally":
        """Return what `numbers` has been made of."""
        flags = [{Flag[name]: count for name, count in numbers[kind].items()} for kind in ("suspect_flags", "unusable_flags")]
        verdicts = {
            question: {Verdict[name.upper()]: count for name, count in counts.items()}
            for question, counts in numbers.get("verdicts", {}).items()
        }
        counts = {name: int(numbers[name]) for name in QUALITIES}
        return cls(**counts, suspect_flags=flags[0], unusable_flags=flags[1], verdicts=verdicts)


def _sum(one: Mapping[Any, int], other: Mapping[Any, int]) -> dict[Any, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
