"""Fitting a flow alone, to contexts that are already there: thousands of steps a minute, because no image is looked at.

Polishing and the linearised stage both end so. The fit is kept only if the score of what was held out is better.

A truth that rounding has put on a bound of the prior has no density, whatever the flow. Such objects, one in millions, do not count.
"""

__all__ = ["fit_flow"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from astroflow.errors import AstroflowError
from astroflow.randomness import generator
from astroflow.types import Array, Progress

BATCH = 512
LEARNING_RATE = 2e-3
LEAST_KNOWN = 0.99
"""Share of the held-out objects that must have a density."""


def fit_flow(
    log_prob: Callable[..., Any],
    variables: Sequence[Any],
    arrays: Mapping[str, Array],
    scores: Callable[[], Array],
    *,
    stage: str,
    rounds: int,
    clip_norm: float,
    seed: int,
    progress: Progress | None = None,
) -> float:
    """Maximise the mean log density over variables, in place.

    Parameters
    ----------
    log_prob : callable
        Graph that takes a batch of each array, by name, and returns ``(N,)``.
    variables : sequence of tf.Variable
        What to change.
    arrays : mapping of str to ndarray
        ``(N, ...)`` each.
    scores : callable
        Log densities at the held-out truths ``(M,)``, nats.
    stage : str
        What `progress` is told, and the name of the random stream that orders the rows.
    rounds : int
        Passes over the arrays.
    clip_norm : float
        Global gradient norm is cut to this.
    seed : int
        Seeds the order.
    progress : callable, optional
        Told after every round.

    Returns
    -------
    float
        Mean held-out log score of what was kept.

    Raises
    ------
    AstroflowError
        If densities at held-out truths are not finite: at the start, for more than one in a hundred; after the fit, for any of the others.
    """
    first, kept = scores(), [v.numpy() for v in variables]
    known = np.isfinite(first)
    if known.mean() < LEAST_KNOWN:
        raise AstroflowError(
            f"{stage}: {np.sum(~known)} of {len(known)} held-out truths have no finite density before the fit: "
            f"check the simulations for parameters outside the prior"
        )

    def mean(values: Array) -> float:
        return float(np.mean(values[known], dtype=np.float64))

    before = mean(first)
    n = len(next(iter(arrays.values())))
    size = min(BATCH, n)
    steps = n // size
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, rounds * steps)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=clip_norm)
    optimizer.build(variables)

    def fit(batch: Mapping[str, Any]) -> None:
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(log_prob(**batch))
        optimizer.apply(tape.gradient(loss, variables), variables)

    step = tf.function(fit, jit_compile=True, autograph=False)
    if progress is not None:
        progress(stage, 0, rounds * steps, {})
    for turn in range(rounds):
        order = generator(seed, stage, turn).permutation(n)
        for start in range(0, steps * size, size):
            rows = order[start : start + size]
            step({name: tf.constant(np.asarray(values[rows], np.float32)) for name, values in arrays.items()})
        if progress is not None:
            progress(stage, (turn + 1) * steps, rounds * steps, {})
    after = mean(scores())
    if not np.isfinite(after):
        raise AstroflowError(f"{stage}: the held-out score became {after}: check the simulations for extreme values")
    if after > before:
        return after
    for variable, value in zip(variables, kept, strict=True):
        variable.assign(value)
    return before
