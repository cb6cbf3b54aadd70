"""Input files as they were when a run was planned, so that a run is of one version of each, however often it is resumed.

A file is told from another version of itself by its size and the time of its last change, which costs one look at the folder; its content
would have to be read twice. A part that was read while a file changed is not kept.
"""

__all__ = ["FileState", "changed_file", "file_states"]

import os
from collections.abc import Iterable, Mapping

FileState = tuple[int, int] | None
"""Size in bytes and time of the last change in nanoseconds; None for a file that is not there."""


def file_states(paths: Iterable[str]) -> dict[str, FileState]:
    """Look at files."""
    return {path: _state(path) for path in paths}


def changed_file(expected: Mapping[str, FileState]) -> str | None:
    """Return a sentence on the first file that is not what it was, or None."""
    for path, before in expected.items():
        now = _state(path)
        if now != before:
            return f"{path} has changed since this run was planned: it {_told(before)} then, and now it {_told(now)}"
    return None


def _state(path: str) -> FileState:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size, found.st_mtime_ns


def _told(state: FileState) -> str:
    return "was not there" if state is None else f"had {state[0]} bytes, written at {state[1] / 1e9:.3f} s"
