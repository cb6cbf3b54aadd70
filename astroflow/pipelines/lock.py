"""One driver at a time in an output folder."""

__all__ = ["locked"]

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from astroflow.errors import OutputError


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a folder for as long as the block lasts, or this process lives.

    Raises
    ------
    OutputError
        If another process holds it.
    """
    with open(out / "lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another process is at work in {out}; wait for its end, or stop it") from None
        yield
