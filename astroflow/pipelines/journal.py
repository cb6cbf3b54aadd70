"""A log that programs can read: one JSON object per line, with the time."""

__all__ = ["Journal"]

import contextlib
import json
import time
from pathlib import Path
from typing import Any, Self


class Journal:
    """Appends lines to a file, each at once; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        torn = path.is_file() and not path.read_bytes().endswith(b"\n")
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        if torn:
            self._file.write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def write(self, **facts: Any) -> None:
        """Append one line of facts; a disk that is full loses it, and nothing else."""
        with contextlib.suppress(OSError):
            self._file.write(json.dumps({"time": round(time.time(), 3), **facts}) + "\n")
            self._file.flush()
