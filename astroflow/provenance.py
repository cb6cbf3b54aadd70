"""Provenance: what each run writes beside its outputs, so that it can be told later how they were made."""

__all__ = ["provenance", "write_json"]

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from astroflow.files import atomic_write

DECIDING = ("astroflow", "tensorflow", "tensorflow-probability", "keras", "numpy", "astropy")
PACKAGES = ("astroflow", "tensorflow", "tensorflow-probability", "keras", "galsim", "astropy", "numpy", "dask", "zarr", "pyarrow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def deciding_versions() -> dict[str, str]:
    """Return the versions of the packages that a posterior's bits depend on."""
    found = versions()
    return {name: found[name] for name in DECIDING}


def git_revision() -> str | None:
    """Return the revision of the checkout that this code runs from, with ``+changes`` where it is not clean; None outside one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head, status = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # noqa: S603, S607
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if status else "")


def provenance(recipe: Any, seed: int | None) -> dict[str, Any]:
    """Return the resolved recipe, seed, versions, git revision and command line of this run."""
    return {"recipe": recipe, "seed": seed, "versions": versions(), "git_revision": git_revision(), "command": sys.argv[1:]}


def write_json(path: Path, data: Any) -> None:
    """Write strict JSON (no NaN), indented, atomically."""
    atomic_write(path, (json.dumps(data, indent=1, sort_keys=True, allow_nan=False, default=str) + "\n").encode())
