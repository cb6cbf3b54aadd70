"""Files that only ever show complete content under their names, whenever their writer dies.

A writer stages a file under a name that nobody reads, flushes it to the disk, renames it into place and flushes the folder. Between any
two of these steps it may be killed: the environment variable ``ASTROFLOW_CRASH_AT=N`` kills the process at the N-th step that it takes,
so that every place to die at can be tried in turn.
"""

__all__ = ["atomic_write", "clear_stages", "is_stage", "sha256_of"]

import hashlib
import itertools
import os
import re
import uuid
from pathlib import Path

CRASHED = 137
"""The exit status of a process that the kernel has killed, as shells tell it."""
_steps = itertools.count(1)


def atomic_write(path: Path, content: bytes, stage_in: Path | None = None) -> None:
    """Write a file: stage it, flush it to disk, rename it into place.

    Parameters
    ----------
    path : Path
        Its name.
    content : bytes
        What it shall hold.
    stage_in : Path, optional
        A folder on the same disk where it is staged, for folders in which readers take every file for theirs; its own folder otherwise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent if stage_in is None else stage_in
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".{path.name}.{uuid.uuid4().hex}"
    try:
        _step()
        with open(staged, "wb") as handle:
            handle.write(content[: len(content) // 2])
            _step()
            handle.write(content[len(content) // 2 :])
            handle.flush()
            _step()
            os.fsync(handle.fileno())
        _step()
        os.replace(staged, path)
        _step()
        _flush_folder(path.parent)
        _step()
    finally:
        staged.unlink(missing_ok=True)


def is_stage(path: Path) -> bool:
    """Say whether a file is one that a writer has not renamed into place yet, or never will."""
    return re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name) is not None and path.is_file()


def clear_stages(folder: Path) -> None:
    """Remove what killed writers have left in a folder. Only call while nobody writes there."""
    for path in folder.glob(".*"):
        if is_stage(path):
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    """Make a rename outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _step() -> None:
    fatal = os.environ.get("ASTROFLOW_CRASH_AT")
    if fatal is not None and next(_steps) == int(fatal):
        os._exit(CRASHED)
