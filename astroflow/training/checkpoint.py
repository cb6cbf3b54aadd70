"""Checkpoints: everything that training needs to go on as if it had never stopped, in one file.

Weights, their moving average, the best so far, the optimizer's state and the history go into one safetensors file that is staged,
flushed and renamed: there is always a complete checkpoint, or none. What comes after training, polishing and fits, keeps its results in
files of their own (`kept`).
"""

__all__ = ["kept", "load_checkpoint", "save_checkpoint"]

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from astroflow.errors import InputError
from astroflow.files import atomic_write
from astroflow.types import Array


def save_checkpoint(path: Path, arrays: Mapping[str, Array], state: dict[str, Any]) -> None:
    """Write arrays and plain state."""
    packed = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    packed["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8).copy()
    atomic_write(path, save(packed))


def load_checkpoint(path: Path) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """Read a checkpoint, or return None where there is none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        arrays = load(path.read_bytes())
        state = json.loads(arrays.pop("state").tobytes())
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"checkpoint {path} is damaged ({error}); remove it to start again") from error
    return arrays, state


def kept(path: Path | None, make: Callable[[], Mapping[str, Array]]) -> Mapping[str, Array]:
    """Return the arrays of a file; where there is none, make them, and write it. Without a path they are only made."""
    saved = load_checkpoint(path) if path else None
    if saved is not None:
        return saved[0]
    arrays = make()
    if path:
        save_checkpoint(path, arrays, {})
    return arrays
