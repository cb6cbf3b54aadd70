"""The training loop: maximum likelihood of held-in simulations, stopped by the score of held-out ones.

AdamW with a warm-up and a cosine decay, gradients cut at a global norm, a moving average of the weights that is what is
validated and kept. A checkpoint after every epoch, and every few minutes within one, holds the whole state, so a killed training resumes
at the step of the last one and ends as an undisturbed one would.

Weights that have a distribution are validated as they are trained: by the scores of draws of them, the same ones after every epoch, less
the divergence from the prior. At their means alone, the best would be an epoch whose spreads have hardly moved.
"""

__all__ = ["Feed", "TrainingResult", "fit_estimator"]

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from astroflow.errors import AstroflowError, InputError
from astroflow.posteriors.estimator import Estimator
from astroflow.randomness import generator
from astroflow.training.checkpoint import load_checkpoint, save_checkpoint
from astroflow.training.recipe import TrainingRecipe
from astroflow.training.variational import PointWeights, VariationalWeights
from astroflow.types import Array, Progress

TRIALS = 4
"""So many draws of weights that have a distribution are scored on held-out objects, and their opposites."""
CHECKPOINT_SECONDS = 120.0
"""Within an epoch the state is saved this often."""


class Feed(Protocol):
    """What the loop trains on: `steps_per_epoch` batches of inputs, `theta` and `auxiliary`, repeatable by epoch number."""

    @property
    def steps_per_epoch(self) -> int: ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Mapping[str, Array]]:
        """Yield the batches of one epoch, from the batch `first` on."""


@dataclass(frozen=True)
class TrainingResult:
    """How training went: one entry of `history` per epoch, `best_epoch` counted from 0, held-out log score in nats per object.

    Entries hold `epoch`, `step`, `train_loss`, `val_loss` and `learning_rate`; of weights that have a distribution also their `divergence`
    from the prior per simulation, and the `elbo`, the training's score less that. The best epoch is that whose `val_loss` and
    `divergence` together are least.
    """

    history: list[dict[str, float]]
    best_epoch: int
    best_score: float


def fit_estimator(
    estimator: Estimator,
    feed: Feed,
    held_out: Mapping[str, Array],
    recipe: TrainingRecipe,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    weights: VariationalWeights | None = None,
    seed: int = 0,
) -> TrainingResult:
    """Train an estimator in place; it ends with the best moving average of its weights.

    Parameters
    ----------
    estimator : Estimator
        Standardised already (`Estimator.adapt`).
    feed : Feed
        Training batches.
    held_out : mapping of str to ndarray
        Inputs, `theta` and `auxiliary` of the held-out objects.
    recipe : TrainingRecipe
        The optimisation.
    checkpoint : Path, optional
        Where to keep the state after every epoch, and to resume from.
    progress : callable, optional
        Told after every step.
    weights : VariationalWeights, optional
        Distributions of some weights, which training then finds; the estimator ends with their means.
    seed : int
        Seeds the draws of such weights.
    """
    weighed = weights or PointWeights(estimator.trainable_variables)
    return _Loop(estimator, feed, recipe, weighed, seed).run(held_out, checkpoint, progress or (lambda *_: None))


def _check_finite(what: str, value: float, where: str) -> None:
    if not math.isfinite(value):
        raise AstroflowError(
            f"the {what} became {value} in {where}: lower `training.learning_rate`, or check the simulations for extreme values"
        )


def _best(history: list[dict[str, float]]) -> int:
    """Return the first of the best epochs."""
    return int(np.argmin([record["val_loss"] + record.get("divergence", 0.0) for record in history]))


def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


class _Loop:
    def __init__(
        self, estimator: Estimator, feed: Feed, recipe: TrainingRecipe, weights: PointWeights | VariationalWeights, seed: int
    ) -> None:
        self.estimator, self.feed, self.recipe, self.weights, self.seed = estimator, feed, recipe, weights, seed
        self.variables = weights.variables
        self.ahead = _has_gpu()
        steps = recipe.epochs * feed.steps_per_epoch
        if steps < 1:
            raise AstroflowError("the training set is smaller than one batch: simulate more, or lower `training.batch_size`")
        warmup = max(1, round(recipe.warmup * steps))
        schedule = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100,
            decay_steps=max(1, steps - warmup),
            alpha=0.01,
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup,
        )
        self.schedule = schedule
        self.optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm)
        self.optimizer.exclude_from_weight_decay(var_list=[v for v in self.variables if len(v.shape) < 2])
        self.optimizer.build(self.variables)
        self.average = [tf.Variable(v, trainable=False) for v in self.variables]
        self.update = tf.function(self._update, jit_compile=True, autograph=False)
        # compiled as a whole, small networks take half the time; convolutions are faster as they are
        pictures = any(len(shape) > 1 for shape in estimator.shapes.values())
        self.step = tf.function(self._step, jit_compile=not pictures, autograph=False)
        self.encode = tf.function(self._context, reduce_retracing=True, autograph=False)
        self.score = tf.function(estimator.log_prob_graph, reduce_retracing=True, autograph=False)

    def _context(self, batch: Mapping[str, Any]) -> Any:
        return self.estimator.summary(batch, training=True)

    def _losses(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        context = self._context(batch)
        score = self.estimator.log_prob_graph(batch["theta"], context)
        if self.estimator.head is None:
            return score, tf.zeros([])
        return score, tf.reduce_mean((self.estimator.head(context) - batch["auxiliary"]) ** 2)

    def _step(self, batch: Mapping[str, Any], noise: Any) -> Any:
        self.weights.place(noise)
        with tf.GradientTape() as tape:
            score, auxiliary = self._losses(batch)
            loss = -tf.reduce_mean(score)
            total = loss + auxiliary
        self.update(self.weights.gradients(tape.gradient(total, self.weights.network), noise))
        return loss

    def _noise(self, step: int) -> Any:
        """Return the normals that say which draw of the weights a step trains."""
        return tf.constant(generator(self.seed, "weights", step).standard_normal(self.weights.size, np.float32))

    def _update(self, gradients: list[Any]) -> None:
        """Apply gradients and move the average. Compiled, because hundreds of small operations would cost a fifth of a step."""
        self.optimizer.apply(gradients, self.variables)
        t = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(self.recipe.ema, (1.0 + t) / (10.0 + t))
        for average, variable in zip(self.average, self.variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)

    def _trials(self) -> list[Array]:
        """Return the normals of the draws of the weights that are validated."""
        if not self.weights.size:
            return [np.zeros(0, np.float32)]
        draws = generator(self.seed, "trial weights").standard_normal((TRIALS, self.weights.size), np.float32)
        # of each weight the few are given variance one, or the best spread would depend on them
        draws /= np.sqrt(np.mean(draws**2, axis=0))
        return [*draws, *-draws]

    def run(self, held_out: Mapping[str, Array], checkpoint: Path | None, progress: Progress) -> TrainingResult:
        history: list[dict[str, float]] = []
        losses: list[float] = []
        best = [v.numpy() for v in self.average]
        saved = load_checkpoint(checkpoint) if checkpoint else None
        if saved is not None:
            arrays, state = saved
            history, losses = state["history"], state.get("losses", [])
            best = self._restore(arrays)
        steps, epochs = self.feed.steps_per_epoch, self.recipe.epochs
        for epoch in range(len(history), epochs):
            if self._exhausted(history):
                break
            done, saved_at = len(losses), time.monotonic()
            for k, batch in enumerate(self._batches(epoch, done), done):
                loss = float(self.step(batch, self._noise(epoch * steps + k)))
                _check_finite("loss", loss, f"epoch {epoch}, step {k}")
                losses.append(loss)
                progress("train", epoch * steps + k + 1, epochs * steps, {"epoch": epoch, "loss": float(np.mean(losses[-50:]))})
                if checkpoint and time.monotonic() - saved_at > CHECKPOINT_SECONDS and k + 1 < steps:
                    save_checkpoint(checkpoint, self._state(best), {"history": history, "losses": losses})
                    saved_at = time.monotonic()
            score, divergence = self._validate(held_out)
            _check_finite("held-out loss", -score, f"epoch {epoch}")
            done = (epoch + 1) * steps
            loss = float(np.mean(losses))
            record = {"epoch": epoch, "step": done, "train_loss": loss, "val_loss": -score, "learning_rate": float(self.schedule(done))}
            history.append(record | ({"divergence": divergence, "elbo": -loss - divergence} if self.weights.size else {}))
            if _best(history) == epoch:
                best = [v.numpy() for v in self.average]
            losses = []
            if checkpoint:
                save_checkpoint(checkpoint, self._state(best), {"history": history})
        for variable, value in zip(self.variables, best, strict=True):
            variable.assign(value)
        self.weights.place(np.zeros(self.weights.size, np.float32))
        chosen = _best(history)
        return TrainingResult(history, chosen, -history[chosen]["val_loss"])

    def _exhausted(self, history: list[dict[str, float]]) -> bool:
        return len(history) > self.recipe.patience and _best(history) < len(history) - self.recipe.patience

    def _batches(self, epoch: int, done: int) -> Iterator[Any]:
        """Yield the batches of an epoch after the first `done`; where a GPU takes the steps, the next ones are prepared beside it."""
        source = iter(self.feed.epoch(epoch, done))
        if not self.ahead:
            for batch in source:
                yield {name: tf.constant(value, tf.float32) for name, value in batch.items()}
            return
        first = next(source)
        failures: list[Exception] = []

        def batches() -> Iterator[Mapping[str, Array]]:
            yield first
            try:
                yield from source
            except Exception as error:  # TensorFlow would bury it in an error of its own
                failures.append(error)

        signature = {name: tf.TensorSpec((None, *value.shape[1:]), tf.float32) for name, value in first.items()}
        yield from tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)
        if failures:
            raise failures[0]

    def _validate(self, held_out: Mapping[str, Array]) -> tuple[float, float]:
        """Return the mean held-out log score of the moving average, and the divergence of its weights' distribution per simulation."""
        current = [v.numpy() for v in self.variables]
        for variable, average in zip(self.variables, self.average, strict=True):
            variable.assign(average)
        size, batches = self.recipe.batch_size, []
        for start in range(0, len(held_out["theta"]), size):
            batch = {name: tf.constant(values[start : start + size], tf.float32) for name, values in held_out.items()}
            batches.append((batch["theta"], self.encode(batch)))
        scores = []
        for noise in self._trials():
            self.weights.place(noise)
            scores.append(np.concatenate([self.score(theta, context).numpy() for theta, context in batches]))
        divergence = self.weights.divergence()
        for variable, value in zip(self.variables, current, strict=True):
            variable.assign(value)
        return float(np.mean(scores, dtype=np.float64)), divergence

    def _state(self, best: list[Array]) -> dict[str, Array]:
        parts = {"weights": self.variables, "average": self.average, "optimizer": self.optimizer.variables}
        arrays = {f"{part}/{i}": np.asarray(v) for part, variables in parts.items() for i, v in enumerate(variables)}
        return arrays | {f"best/{i}": value for i, value in enumerate(best)}

    def _restore(self, arrays: dict[str, Array]) -> list[Array]:
        parts = {"weights": self.variables, "average": self.average, "optimizer": self.optimizer.variables}
        sizes = {f"{part}/{i}": math.prod(v.shape) for part, variables in parts.items() for i, v in enumerate(variables)}
        sizes |= {f"best/{i}": math.prod(v.shape) for i, v in enumerate(self.variables)}
        if {name: value.size for name, value in arrays.items()} != sizes:
            raise InputError("the checkpoint belongs to another architecture; remove it to start again")
        for part, variables in parts.items():
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{part}/{i}"].reshape(variable.shape))
        return [arrays[f"best/{i}"] for i in range(len(self.variables))]
