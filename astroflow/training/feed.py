"""The stored feed: noiseless simulations in, batches that the network never saw before out.

Each epoch reads the stored simulations in a new order, turns them, and draws noise level, mask and noise afresh, in whole blocks
of simulations (never one Python call per image). What a block of epoch 7 holds is a function of the seed, the number 7 and the
block's place, which is what makes a resumed training equal to an undisturbed one. `astroflow.training.fresh` draws galaxies anew instead.
"""

__all__ = ["Batch", "GalaxyFeed", "SimulationFeed", "as_batch", "batches_of"]

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from astroflow.errors import ConfigError
from astroflow.posteriors.inputs import network_inputs
from astroflow.randomness import generator
from astroflow.sims.simulator import Simulator
from astroflow.sims.symmetry import turn_images
from astroflow.training.together import made_together
from astroflow.training.training_set import TrainingSet
from astroflow.types import Array, Noiseless, Simulation

Batch = dict[str, Array]
"""Network inputs, and `theta` ``(N, P)`` and `auxiliary` ``(N, A)`` beside them."""

BLOCK_BATCHES = 4
"""So many batches are drawn at once."""
IN_MEMORY_BYTES = 1024**3
"""Of a group of stored simulations; two groups may be in memory at once."""


class GalaxyFeed(Protocol):
    """What training on galaxies asks of a feed."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the batch `first` on."""

    def blocks(self, epoch: int) -> Iterator[Simulation]:
        """Yield the simulations of an epoch, some batches at a time."""

    def distinct(self, epochs: int) -> int:
        """Return how many different galaxies are seen in so many epochs."""

    def held_out(self) -> Simulation:
        """Return the simulations that training never sees."""

    def observed_anew(self, n: int) -> Simulation:
        """Return `n` simulations with noise that nobody has seen."""

    def unseen(self, n: int) -> Simulation:
        """Return up to `n` simulations of galaxies that training does not see, with noise that nobody has seen."""


def as_batch(simulation: Simulation) -> Batch:
    """Return a simulation as the estimator takes it."""
    snr = np.log(np.maximum(simulation.snr, 0.1))[:, None].astype(np.float32)
    return network_inputs(simulation.stamps) | {"theta": simulation.theta, "auxiliary": snr}


def batches_of(draw: Callable[[], Simulation], size: int, first: int) -> list[Batch]:
    """Draw a block of simulations and cut it into batches, from the batch `first` on."""
    simulation = draw()
    block = as_batch(simulation)
    return [{name: values[start : start + size] for name, values in block.items()} for start in range(first * size, len(simulation), size)]


@dataclass(frozen=True)
class SimulationFeed:
    """Endless fresh batches over a stored training set.

    Parameters
    ----------
    data : TrainingSet
        The stored simulations.
    simulator : Simulator
        Adds noise and masks.
    batch_size : int
        Simulations per batch.
    seed : int
        Seeds order, turns, noise and masks.
    validation : float
        Share of the simulations, at the end, that is held out.
    turns : bool
        Whether to flip and turn the stamps.
    """

    data: TrainingSet
    simulator: Simulator
    batch_size: int
    seed: int
    validation: float
    turns: bool

    def __post_init__(self) -> None:
        n_held_out = max(self.batch_size, round(self.data.n * self.validation))
        if self.data.n - n_held_out < self.batch_size:
            raise ConfigError(
                f"{self.data.n} simulations are too few: {n_held_out} are held out, and the rest must fill a batch of {self.batch_size}. "
                "Simulate more, or lower `training.batch_size`"
            )
        object.__setattr__(self, "n_train", self.data.n - n_held_out)
        object.__setattr__(self, "n_held_out", n_held_out)
        block = self.batch_size * BLOCK_BATCHES
        bytes_each = 4 * (self.simulator.stamp.size**2 + self.simulator.stamp.psf_size**2)
        # a set that fits in memory is one group; a larger one is read in groups of neighbouring blocks
        group = max(block, int(IN_MEMORY_BYTES / bytes_each) // block * block)
        object.__setattr__(self, "_groups", [(s, min(s + group, self.n_train)) for s in range(0, self.n_train, group)])
        object.__setattr__(self, "_cache", {})

    n_train: int = 0
    n_held_out: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the incomplete last one of each group is left out."""
        return sum((stop - start) // self.batch_size for start, stop in self._groups)  # type: ignore[attr-defined]

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the batch `first` on."""
        wanted = ((step, draw) for step, draw in self._blocks(epoch, first) if step + BLOCK_BATCHES > first)
        makers = (functools.partial(batches_of, draw, self.batch_size, max(first - step, 0)) for step, draw in wanted)
        return itertools.chain.from_iterable(made_together(makers))

    def blocks(self, epoch: int) -> Iterator[Simulation]:
        """Yield the simulations of an epoch, some batches at a time."""
        return made_together(draw for _, draw in self._blocks(epoch))

    def distinct(self, epochs: int) -> int:
        """Return how many different galaxies are seen in so many epochs; new noise and turns make no others of them."""
        # what the incomplete batches of one epoch leave out is in another one
        return self.steps_per_epoch * self.batch_size if epochs == 1 else self.n_train

    def _blocks(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Callable[[], Simulation]]]:
        """Yield the number of each block's first batch, and what draws the block; groups that end before the batch `first` are not read."""
        rng = generator(self.seed, "feed", epoch)
        groups: list[tuple[int, int]] = self._groups  # type: ignore[attr-defined]
        step = 0
        for g in rng.permutation(len(groups)).tolist():
            size = groups[g][1] - groups[g][0]
            order = rng.permutation(size)[: size // self.batch_size * self.batch_size]
            if step + len(order) // self.batch_size <= first:
                step += len(order) // self.batch_size
                continue
            clean = self._group(*groups[g])
            for start in range(0, len(order), self.batch_size * BLOCK_BATCHES):
                rows = order[start : start + self.batch_size * BLOCK_BATCHES]
                yield step, functools.partial(self._observed, clean, rows, generator(self.seed, "feed block", epoch, g, start))
                step += len(rows) // self.batch_size

    def _observed(self, clean: Noiseless, rows: Array, rng: np.random.Generator) -> Simulation:
        return self.simulator.observe(self._turned(_picked(clean, rows), rng), rng)

    def held_out(self) -> Simulation:
        """Return the held-out simulations, observed once and for all."""
        clean = self.data.read(self.n_train, self.data.n)
        return self.simulator.observe(clean, generator(self.seed, "held out"))

    def observed_anew(self, n: int) -> Simulation:
        """Return the last `n` stored simulations, held-out ones and then others, with noise that nobody has seen."""
        clean = self.data.read(max(0, self.data.n - n), self.data.n)
        return self.simulator.observe(clean, generator(self.seed, "observed anew"))

    def unseen(self, n: int) -> Simulation:
        """Return up to `n` of the held-out galaxies, with noise that nobody has seen."""
        clean = self.data.read(self.n_train, min(self.n_train + n, self.data.n))
        return self.simulator.observe(clean, generator(self.seed, "unseen"))

    def _group(self, start: int, stop: int) -> Noiseless:
        cache: dict[tuple[int, int], Noiseless] = self._cache  # type: ignore[attr-defined]
        if (start, stop) not in cache:
            cache.clear()
            cache[start, stop] = self.data.read(start, stop)
        return cache[start, stop]

    def _turned(self, clean: Noiseless, rng: np.random.Generator) -> Noiseless:
        if not self.turns:
            return clean
        theta, images, psf = clean.theta.copy(), clean.images.copy(), clean.psf.copy()
        turns = rng.integers(8, size=len(theta))
        for turn in range(1, 8):
            rows = turns == turn
            theta[rows] = self.simulator.parameters.turned(theta[rows], turn)
            images[rows] = turn_images(images[rows], turn)
            psf[rows] = turn_images(psf[rows], turn)
        return Noiseless(theta=theta, images=images, psf=psf, binning=clean.binning, ids=clean.ids)


def _picked(clean: Noiseless, rows: Array) -> Noiseless:
    return Noiseless(
        theta=clean.theta[rows], images=clean.images[rows], psf=clean.psf[rows], binning=clean.binning[rows], ids=clean.ids[rows]
    )
