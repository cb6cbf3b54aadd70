"""What takes the tests long to make, made once for all their processes: trained networks and simulations.

It is kept below ``.pytest_cache`` in a folder named by the sources and the processor, so that nothing outlives a change of either.
"""

__all__ = ["cache_folder", "made_once"]

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("astroflow/**/*.py", "tests/conftest.py", "requirements.lock")


def cache_folder() -> Path:
    """Return the folder for these sources on this processor; those of others are removed."""
    digest = hashlib.sha256()
    for file in sorted(file for pattern in SOURCES for file in ROOT.glob(pattern)):
        digest.update(file.read_bytes())
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        digest.update("".join(line for line in cpu.read_text().splitlines() if line.startswith(("model name", "flags"))).encode())
    home = ROOT / ".pytest_cache" / "made_once"
    folder = home / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for other in home.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def made_once(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Return the path of something in `folder`, which `make` is told to write first, unless another process did."""
    path, unfinished = folder / name, folder / f"{name}.unfinished"
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            os.replace(unfinished, path)
    return path
