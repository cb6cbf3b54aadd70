"""Files that only ever show complete content under their names."""

__all__ = ["atomic_write", "clear_stages", "is_stage"]

import os
import re
import uuid
from pathlib import Path


def atomic_write(path: Path, content: bytes, stage_in: Path | None = None) -> None:
    """Write a file: stage it in the same folder, or in another one of that file system, flush it to disk, rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stage = (stage_in or path.parent) / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with open(stage, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(stage, path)
    finally:
        stage.unlink(missing_ok=True)


def is_stage(path: Path) -> bool:
    """Say whether a file is one that a writer has not renamed into place yet, or never will."""
    return re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name) is not None and path.is_file()


def clear_stages(folder: Path) -> None:
    """Remove what killed writers have left in a folder. Only call while nobody writes there."""
    for path in folder.glob(".*"):
        if is_stage(path):
            path.unlink(missing_ok=True)
