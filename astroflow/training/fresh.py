"""The fresh feed: galaxies, PSFs, masks and noise drawn anew for every step, so that no simulation is ever seen twice.

The Fourier engine draws a stamp in a fraction of the time that a training step takes, so nothing has to be stored. A block of batches is
a function of the seed, the epoch and the block's place alone: a training resumes at any step. PSF populations that draw one GalSim
object at a time are drawn from a pool, which is new in each epoch. `MixedFeed` alternates with stored simulations.
"""

__all__ = ["FreshFeed", "MixedFeed"]

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

from astroflow.errors import ConfigError
from astroflow.randomness import generator
from astroflow.sims.psfs import NumericPopulation, PSFDraw
from astroflow.sims.simulator import Simulator
from astroflow.training.feed import BLOCK_BATCHES, Batch, SimulationFeed, batches_of
from astroflow.training.together import made_together
from astroflow.types import Simulation

POOL = 512
"""So many PSFs an epoch, of populations that do not draw numbers."""
DRAWN_AT_ONCE = 1024
"""Galaxies in memory at once where many are asked for."""


@dataclass(frozen=True)
class FreshFeed:
    """Endless new simulations.

    Parameters
    ----------
    simulator : Simulator
        With the Fourier engine.
    batch_size : int
        Simulations per batch.
    seed : int
        Seeds everything.
    n : int
        Simulations in what is called an epoch.
    validation : float
        How many are held out, as a share of `n`.
    """

    simulator: Simulator
    batch_size: int
    seed: int
    n: int
    validation: float
    _pools: dict[tuple[str, int], tuple[PSFDraw, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.simulator.engine != "fourier":
            raise ConfigError(
                f"fresh simulations need `engine: fourier` in the forward model; {self.simulator.name} has {self.simulator.engine}. "
                "Set it there, or `simulations.mode: stored` in the training recipe"
            )
        if self.n < self.batch_size:
            raise ConfigError(f"an epoch of {self.n} simulations is smaller than a batch of {self.batch_size}: raise `simulations.n`")

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self.n // self.batch_size

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the batch `first` on."""
        starts = range(first // BLOCK_BATCHES * BLOCK_BATCHES, self.steps_per_epoch, BLOCK_BATCHES)
        makers = (
            partial(batches_of, draw, self.batch_size, max(first - k, 0))
            for k, draw in zip(starts, self._draws(epoch, starts), strict=True)
        )
        return chain.from_iterable(made_together(makers))

    def blocks(self, epoch: int) -> Iterator[Simulation]:
        """Yield the simulations of an epoch, some batches at a time."""
        return made_together(self._draws(epoch, range(0, self.steps_per_epoch, BLOCK_BATCHES)))

    def distinct(self, epochs: int) -> int:
        """Return how many different galaxies are seen in so many epochs."""
        return epochs * self.steps_per_epoch * self.batch_size

    def _draws(self, epoch: int, starts: Iterable[int]) -> Iterator[Callable[[], Simulation]]:
        """Yield what draws the block of each of the first batches `starts`."""
        self._pool("fresh", epoch)
        for start in starts:
            yield partial(self._drawn, "fresh", epoch, start, min(BLOCK_BATCHES, self.steps_per_epoch - start) * self.batch_size)

    def held_out(self) -> Simulation:
        """Return simulations that training never sees."""
        return self._many("held out", max(self.batch_size, round(self.n * self.validation)))

    def observed_anew(self, n: int) -> Simulation:
        """Return `n` simulations that nothing else sees."""
        return self._many("observed anew", n)

    def unseen(self, n: int) -> Simulation:
        """Return `n` other simulations that nothing else sees."""
        return self._many("unseen", n)

    def _many(self, purpose: str, n: int) -> Simulation:
        starts = range(0, n, DRAWN_AT_ONCE)
        return Simulation.joined([self._drawn(purpose, 0, start, min(DRAWN_AT_ONCE, n - start)) for start in starts])

    def _drawn(self, purpose: str, epoch: int, start: int, n: int) -> Simulation:
        rng = generator(self.seed, purpose, epoch, start)
        clean = self.simulator.draw_block(rng, n, self._pool(purpose, epoch))
        return self.simulator.observe(replace(clean, ids=start + clean.ids), rng)

    def _pool(self, purpose: str, epoch: int) -> tuple[PSFDraw, ...]:
        """Return the PSFs of an epoch, unless the population draws numbers."""
        if isinstance(self.simulator.psf, NumericPopulation):
            return ()
        if (purpose, epoch) not in self._pools:
            self._pools.clear()
            rng = generator(self.seed, f"{purpose} psf", epoch)
            self._pools[purpose, epoch] = tuple(self.simulator.psf.draw(rng, self.simulator.stamp.pixel_scale_arcsec) for _ in range(POOL))
        return self._pools[purpose, epoch]


@dataclass(frozen=True)
class MixedFeed:
    """Batches of stored and of fresh simulations in turn; the stored ones' held-out galaxies decide."""

    stored: SimulationFeed
    fresh: FreshFeed

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return 2 * min(self.stored.steps_per_epoch, self.fresh.steps_per_epoch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the batch `first` on."""
        sources = [self.stored.epoch(epoch, (first + 1) // 2), self.fresh.epoch(epoch, first // 2)]
        for step in range(first, self.steps_per_epoch):
            yield next(sources[step % 2])

    def blocks(self, epoch: int) -> Iterator[Simulation]:
        """Yield the simulations of an epoch, some batches at a time."""
        for pair in zip(self.stored.blocks(epoch), self.fresh.blocks(epoch), strict=False):
            yield from pair

    def distinct(self, epochs: int) -> int:
        """Return how many different galaxies are seen in so many epochs: the stored ones, and fresh ones as many in each."""
        each = epochs * self.steps_per_epoch // 2 * self.stored.batch_size
        return min(self.stored.distinct(epochs), each) + each

    def held_out(self) -> Simulation:
        """Return the stored galaxies that training never sees."""
        return self.stored.held_out()

    def observed_anew(self, n: int) -> Simulation:
        """Return `n` simulations that nothing else sees."""
        return self.fresh.observed_anew(n)

    def unseen(self, n: int) -> Simulation:
        """Return `n` other new simulations."""
        return self.fresh.unseen(n)
