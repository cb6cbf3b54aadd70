"""Input files as they were when a run was planned, so that a run is of one version of each, however often it is resumed.

A file is told from another version of itself by its size and the time of its last change, which costs one look at the folder; its content
would have to be read twice. A part that was read while a file changed is not kept.
"""

__all__ = ["FileState", "changed_file", "check_unchanged", "file_states", "unchanged"]

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping

from astroflow.errors import InputError

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


def check_unchanged(expected: Mapping[str, FileState]) -> None:
    """Check that files are what they were when a run was planned.

    Raises
    ------
    InputError
        If one has changed.
    FileNotFoundError
        If one has gone away: perhaps its disk has, and comes back.
    """
    changed = changed_file(expected)
    if changed is None:
        return
    for path, before in expected.items():
        if before is not None and _state(path) is None:
            raise FileNotFoundError(errno.ENOENT, "was there when this run was planned, and is not", path)
    raise InputError(f"{changed}; put back what it was, or begin a run of the new files in another --out")


@contextlib.contextmanager
def unchanged(expected: Mapping[str, FileState]) -> Iterator[None]:
    """Check that files are what they were before and after a block, and that nobody touched them meanwhile, even to put them right again.

    Raises
    ------
    InputError, FileNotFoundError
        As `check_unchanged`.
    OSError
        If one was touched, and is what it was.
    """
    check_unchanged(expected)
    before = {path: _identity(path) for path in expected}
    yield
    check_unchanged(expected)
    for path, identity in before.items():
        if _identity(path) != identity:
            raise OSError(errno.ESTALE, "was touched while it was read", path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_ctime_ns


def _state(path: str) -> FileState:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size, found.st_mtime_ns


def _told(state: FileState) -> str:
    return "was not there" if state is None else f"had {state[0]} bytes, written at {state[1] / 1e9:.3f} s"
