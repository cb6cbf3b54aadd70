"""Files of results: one line of JSON for each thing that was measured. Standard library alone: all environments import it.

A line is written when it is measured. Runs may append to one file at the same time. A last line that a killed run has cut off is no result;
the next line takes its place.
"""

import fcntl
import json
import os
from pathlib import Path


def append(path: Path, line: dict) -> None:
    """Write one line at the end of a file, and see it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed: or another run's half line would be taken for one that was cut off
        file.truncate(_whole(file))
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[dict]:
    """Return the lines of a file; none where there is no file. A last line without an end is left out."""
    found = []
    for number, text in enumerate(path.read_text().splitlines(keepends=True) if path.is_file() else [], 1):
        if not text.endswith("\n"):
            break
        try:
            found.append(json.loads(text))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is no JSON: {error}; remove it") from None
    return found


def _whole(file) -> int:
    """Return the length of the lines that have an end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0
