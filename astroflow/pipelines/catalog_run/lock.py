"""One driver at a time in an output folder."""

__all__ = ["locked"]

import contextlib
import fcntl
import warnings
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
        except OSError as error:
            warnings.warn(f"{out} cannot be locked ({error.strerror}); see that no other process works there", RuntimeWarning, stacklevel=2)
        yield
