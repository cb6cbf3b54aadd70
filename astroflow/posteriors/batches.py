"""Batches of one fixed size, and their parts side by side: how arrays of any length go through compiled graphs.

Every call has as many rows as any other, the last one padded, so an answer never depends on what else is asked in the same call, and
nothing is compiled twice. A compiled graph keeps one core busy, so a batch is cut into lanes, which TensorFlow runs on as many cores as
there are.
"""

__all__ = ["BATCH", "DRAWS", "FEW", "LANES", "WIDE", "in_batches", "in_blocks", "in_lanes", "padded"]

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from astroflow.types import Array

BATCH = 64
"""Images per call."""
DRAWS = 64
"""Draws per image and call, padded likewise: samplers and densities are compiled once for all numbers of draws."""
WIDE = 256
"""Samplers are twice as fast at so many draws of an image, so whole blocks of them go by themselves. A draw has the same bits in both."""
FEW = 16
"""Images of a call with wide blocks, where there are not many: a galaxy that is asked for alone should not wait for a full batch."""
LANES = 4
"""Parts of a batch that run side by side."""


def padded(array: Array, rows: int = BATCH) -> Array:
    """Repeat the last row until there are so many, float32."""
    missing = rows - len(array)
    array = np.ascontiguousarray(array, np.float32)
    return array if missing == 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def in_batches(graph: Callable[..., Any], *arrays: Array, rows: int = BATCH) -> list[Array]:
    """Send arrays, so many rows at a time, through a graph that returns a sequence of tensors, and put its answers together."""
    parts = []
    for start in range(0, len(arrays[0]), rows):
        stop = min(start + rows, len(arrays[0]))
        answers = graph(*(tf.constant(padded(array[start:stop], rows)) for array in arrays))
        parts.append([answer.numpy()[: stop - start] for answer in answers])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def in_blocks(graph: Callable[..., Any], draws: Array, *arrays: Array, wide: bool = False) -> Array:
    """Send `draws` ``(N, S, P)``, with their rows of `arrays`, through a graph that returns one tensor.

    Each block of DRAWS is a row of its own, so that many draws of one image fill a batch as a few draws of many do. With `wide`, as for
    samplers, so is each of WIDE, as far as they go.
    """
    n_draws = draws.shape[1]
    # a remainder that fills more than half of a wide block is one
    first = WIDE * ((n_draws + WIDE // 2) // WIDE) if wide else 0
    parts = [
        _of_width(graph, some, arrays, width) for some, width in ((draws[:, :first], WIDE), (draws[:, first:], DRAWS)) if some.shape[1]
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _of_width(graph: Callable[..., Any], draws: Array, arrays: tuple[Array, ...], width: int) -> Array:
    n, blocks = len(draws), -(-draws.shape[1] // width)
    whole = np.pad(draws, [(0, 0), (0, blocks * width - draws.shape[1]), (0, 0)], mode="edge").reshape(n * blocks, width, draws.shape[2])
    repeated = (np.repeat(array, blocks, axis=0) for array in arrays)
    rows = FEW if width == WIDE and n * blocks <= 2 * FEW else BATCH
    (answer,) = in_batches(graph, whole, *repeated, rows=rows)
    return np.ascontiguousarray(answer.reshape(n, blocks * width, *answer.shape[2:])[:, : draws.shape[1]])


def in_lanes(graph: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Compile a graph of tensors, which may return one or several, to run on lanes of a batch side by side."""
    compiled = tf.function(graph, jit_compile=True, autograph=False)

    def batch(*tensors: Any) -> list[Any]:
        parts = []
        for lane in zip(*(tf.split(tensor, LANES) for tensor in tensors), strict=True):
            answer = compiled(*lane)
            parts.append(list(answer) if isinstance(answer, list | tuple) else [answer])
        return [tf.concat(values, 0) for values in zip(*parts, strict=True)]

    # a partial, or TensorFlow would count the graphs of every caller as those of one function, and warn
    return tf.function(functools.partial(batch), autograph=False)  # type: ignore[no-any-return]
