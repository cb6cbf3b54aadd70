"""How rows become calls of compiled graphs: padded batches of one size, and in them lanes that run side by side.

A compiled graph keeps one core busy, and a lane's modes fit a core's cache.
"""

__all__ = ["BATCH", "LANES", "batches", "in_lanes", "rows_of"]

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from astroflow.types import Array

BATCH = 64
"""Stamps of one call of a compiled graph."""
LANES = 4
"""Parts of a batch that are drawn side by side."""


def batches(rows: Array) -> Iterator[tuple[Array, Array]]:
    """Yield positions in `rows`, at most `BATCH` at a time, and the same padded to `BATCH`."""
    for start in range(0, len(rows), BATCH):
        some = np.arange(start, min(start + BATCH, len(rows)))
        yield some, np.concatenate([some, np.repeat(some[-1:], BATCH - len(some))])


def rows_of(arrays: Mapping[str, Array], rows: Array) -> dict[str, Array]:
    """Return some rows of every array, float32."""
    return {name: np.asarray(values[rows], np.float32) for name, values in arrays.items()}


def in_lanes(lane: Callable[..., Any], *, shared: bool = False) -> Any:
    """Compile a graph that returns some tensors, to run on lanes of a batch; a dict of arrays comes last, which lanes may share."""
    import tensorflow as tf

    compiled = tf.function(lane, jit_compile=True, autograph=False)

    def batch(*inputs: Any) -> Any:
        *rows, arrays = inputs
        per_lane = [arrays] * LANES if shared else _split(arrays)
        parts = [compiled(*part) for part in zip(*(tf.split(value, LANES) for value in rows), per_lane, strict=True)]
        return [tf.concat(values, 0) for values in zip(*parts, strict=True)]

    # functions of one source line are one function to TensorFlow, which warns of its many graphs; partials of them are not
    return tf.function(functools.partial(batch), autograph=False)


def _split(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    import tensorflow as tf

    parts = {name: tf.split(tensor, LANES) for name, tensor in arrays.items()}
    return [{name: parts[name][lane] for name in parts} for lane in range(LANES)]
