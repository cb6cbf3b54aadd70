"""sbibm's own files: observations, true parameters and reference posteriors, read out of its wheel.

The package itself is not installed: it needs torch and pyro, and what is wanted from it are tables. `fetched` gets the wheel once and
checks that it is the one whose numbers are compared with; `Wheel` reads it.
"""

import bz2
import functools
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

REQUIREMENT = "sbibm==1.1.0"
FILE = "sbibm-1.1.0-py2.py3-none-any.whl"
SHA256 = "12ecc6b4d327b92f9225f08faa6405e4274fb8e75943d86a53157d1b1bcfaf74"
DESIGN = (100, 10)
"""Time bins and parameters of the Bernoulli model."""


class WheelError(RuntimeError):
    """The wheel cannot be had, or is not the one that it should be."""


def fetched(path: Path) -> Path:
    """Return `path` once it is there and whole; it is downloaded if it is not there.

    Raises
    ------
    WheelError
        If it cannot be downloaded, or is another file.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"fetching {REQUIREMENT} into {path.parent} (19 MB)", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(path.parent), REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            raise WheelError(
                f"{REQUIREMENT} could not be downloaded. Without a network, fetch it on a machine that has one,\n"
                f"    python -m pip download --no-deps {REQUIREMENT}\n"
                f"and copy {FILE} to {path}, or give its place with --wheel.\n" + done.stderr.strip()
            )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise WheelError(f"{path} is not the wheel of {REQUIREMENT}, or is damaged: expected sha256 {SHA256}, got {found}; remove it")
    return path


class Wheel:
    """The tables of one wheel.

    Parameters
    ----------
    path : Path
        As `fetched` returns it.
    """

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)

    def observation(self, task: str, number: int) -> np.ndarray:
        """Return the data of an observation, counted from 1, ``(K,)``."""
        return self._table(task, number, "observation.csv")[0]

    def true_parameters(self, task: str, number: int) -> np.ndarray:
        """Return the parameters that an observation was simulated with, ``(P,)``."""
        return self._table(task, number, "true_parameters.csv")[0]

    def reference(self, task: str, number: int) -> np.ndarray:
        """Return draws of the exact posterior, ``(10000, P)``."""
        return self._table(task, number, "reference_posterior_samples.csv.bz2")

    @functools.cached_property
    def design(self) -> np.ndarray:
        """Stimulus of the Bernoulli model, ``(100, 10)``: the raw float32 numbers at the end of a torch file."""
        values = np.frombuffer(self._archive.read("sbibm/tasks/bernoulli_glm/files/design_matrix.pt")[-4 * DESIGN[0] * DESIGN[1] :], "<f4")
        return values.reshape(DESIGN).astype(np.float64)

    def _table(self, task: str, number: int, name: str) -> np.ndarray:
        data = self._archive.read(f"sbibm/tasks/{task}/files/num_observation_{number}/{name}")
        return np.loadtxt(io.BytesIO(bz2.decompress(data) if name.endswith("bz2") else data), delimiter=",", skiprows=1, ndmin=2)
