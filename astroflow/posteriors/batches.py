"""Batches of one fixed size, and their parts side by side: how arrays of any length go through compiled graphs.

Every call has BATCH rows, the last one padded, so an answer never depends on what else is asked in the same call, and nothing is compiled
twice. A compiled graph keeps one core busy, so a batch is cut into lanes, which TensorFlow runs on as many cores as there are.
"""

__all__ = ["BATCH", "DRAWS", "LANES", "in_batches", "in_blocks", "in_lanes", "padded"]

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
LANES = 4
"""Parts of a batch that run side by side."""


def padded(array: Array) -> Array:
    """Repeat the last row until there are BATCH rows, float32."""
    missing = BATCH - len(array)
    array = np.ascontiguousarray(array, np.float32)
    return array if missing == 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def in_batches(graph: Callable[..., Any], *arrays: Array) -> list[Array]:
    """Send rows of arrays through a graph that returns a sequence of tensors, and put its answers together."""
    parts = []
    for start in range(0, len(arrays[0]), BATCH):
        stop = min(start + BATCH, len(arrays[0]))
        answers = graph(*(tf.constant(padded(array[start:stop])) for array in arrays))
        parts.append([answer.numpy()[: stop - start] for answer in answers])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def in_blocks(graph: Callable[..., Any], draws: Array, *arrays: Array) -> Array:
    """Send `draws` ``(N, S, P)``, with their rows of `arrays`, through a graph that returns one tensor.

    Each block of DRAWS is a row of its own, so that many draws of one image fill a batch as a few draws of many do.
    """
    n, blocks = len(draws), -(-draws.shape[1] // DRAWS)
    whole = np.pad(draws, [(0, 0), (0, blocks * DRAWS - draws.shape[1]), (0, 0)], mode="edge").reshape(n * blocks, DRAWS, draws.shape[2])
    (answer,) = in_batches(graph, whole, *(np.repeat(array, blocks, axis=0) for array in arrays))
    return np.ascontiguousarray(answer.reshape(n, blocks * DRAWS, *answer.shape[2:])[:, : draws.shape[1]])


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
