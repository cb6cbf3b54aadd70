"""Files that only ever show complete content under their names."""

__all__ = ["atomic_write"]

import os
import uuid
from pathlib import Path


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file: stage it in the same folder, flush it to disk, rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stage = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(stage, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(stage, path)
    finally:
        stage.unlink(missing_ok=True)
