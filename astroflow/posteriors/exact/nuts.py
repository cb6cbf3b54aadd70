r"""The exact posterior of a few galaxies, by Hamiltonian Monte Carlo: what amortized posteriors are measured against.

TensorFlow Probability's No-U-Turn sampler (Hoffman & Gelman 2014, https://arxiv.org/abs/1111.4246) draws from the pixel likelihood
times the prior. Parameters are on the prior's scale, where they are standard normals u (`JointPrior.forward`), and whitened by a
point and the lower Cholesky factor L of an inverse covariance, :math:`u = \hat u + L^{-T} z`, so that the target

.. math:: \log p(z) = \log L(\theta(u)) - |u|^2 / 2

is about standard normal. Chains of several galaxies run side by side in one compiled graph, each with a step size of its own from
dual averaging. Halfway through the warm-up the coordinates are whitened again, by the covariance of the draws so far.

A galaxy costs seconds to minutes. Unlike a posterior's draws, these come from TensorFlow's generator: a seed
gives the same draws on one machine and for the same galaxies in the same order, the same distribution otherwise.
"""

__all__ = ["NUTSDraws", "run_chains", "sample_nuts"]

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.errors import InputError
from astroflow.randomness import generator
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.likelihood.target import LogPosterior
from astroflow.sims.priors import JointPrior
from astroflow.types import Array, Stamps

GALAXIES = 4
"""Whose chains run side by side: all wait for the longest trajectory among them."""
LANES = 2
"""Compiled graphs at work at the same time; each keeps one core busy."""
DEEPEST = 7
"""Trajectories are doubled at most so many times."""
ACCEPT = 0.75
"""Acceptance that step sizes are adapted to."""
FIRST_STEP = 0.4


@dataclass(frozen=True)
class NUTSDraws:
    """Draws of N galaxies, C chains of S draws, and how well they agree.

    `u` ``(N, C, S, P)`` on the prior's scale, `theta` the same in physical units; `rhat` ``(N, P)`` rank-normalised split R-hat and `ess`
    ``(N, P)`` bulk effective sample size, of theta (Vehtari et al. 2021, https://arxiv.org/abs/1903.08008); `divergent` ``(N,)`` share of
    trajectories whose energy was lost; `leapfrogs` ``(N,)`` gradients per draw.
    """

    u: Array
    theta: Array
    rhat: Array
    ess: Array
    divergent: Array
    leapfrogs: Array

    def thinned(self, count: int) -> Array:
        """Return `count` evenly spaced draws of all chains, on the prior's scale, ``(N, count, P)``."""
        n, chains, draws, size = self.u.shape
        if count > chains * draws:
            raise InputError(f"`count` must be at most the {chains * draws} draws there are; got {count}")
        return self.u.reshape(n, chains * draws, size)[:, np.arange(count) * chains * draws // count]


def sample_nuts(
    engine: FourierEngine,
    prior: JointPrior,
    stamps: Stamps,
    start: Array,
    point: Array,
    factor: Array,
    *,
    warm_up: int = 300,
    draws: int = 600,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> NUTSDraws:
    """Sample the exact posteriors of galaxies.

    Parameters
    ----------
    engine : FourierEngine
        The model.
    prior : JointPrior
        Of its parameters.
    stamps : Stamps
        N observations, see `LogPosterior`.
    start : ndarray
        ``(N, C, P)`` where C chains begin, on the prior's scale; widely apart, or R-hat says nothing (`dispersed_starts`).
    point, factor : ndarray
        ``(N, P)`` and ``(N, P, P)``: centre, and lower Cholesky factor of the inverse covariance, on the prior's scale.
    warm_up, draws : int
        Draws of each chain that are thrown away, more than four times P in all chains together, and that are kept, at least 4.
    seed : int
        Of all random numbers, with the ids of the galaxies that run side by side.
    progress : callable, optional
        Called with the position of the first galaxy of each few that are done.

    Returns
    -------
    NUTSDraws

    Raises
    ------
    InputError
        If shapes disagree, draws are too few, or the likelihood cannot follow the stamps.
    """
    n, size = len(stamps), len(prior.names)
    start, point, factor = (np.asarray(values, np.float64) for values in (start, point, factor))
    if start.ndim != 3 or start.shape[::2] != (n, size) or point.shape != (n, size) or factor.shape != (n, size, size):
        shapes = f"{start.shape}, {point.shape} and {factor.shape}"
        raise InputError(f"`start`, `point` and `factor` must be ({n}, C, {size}), ({n}, {size}) and ({n}, {size}, {size}); got {shapes}")
    chains, length = start.shape[1], -(-warm_up // 2)
    if chains * warm_up <= 4 * size or draws < 4:
        raise InputError(
            f"`warm_up` must be more than {4 * size / chains:g} for {chains} chains of {size} parameters, whose covariance it measures, "
            f"and `draws` at least 4; got {warm_up} and {draws}"
        )
    target = LogPosterior(engine, prior, stamps)
    sampler = _Sampler(target.graph, length)

    def sampled(first: int) -> list[Array]:
        rows = np.arange(first, min(first + GALAXIES, n))
        padded = np.concatenate([rows, np.repeat(rows[-1:], GALAXIES - len(rows))])
        key = generator(seed, "nuts", *stamps.ids[rows].tolist())
        block = sampler.run(start[padded], point[padded], factor[padded], target.rows(np.repeat(padded, chains)), draws, key)
        if progress:
            progress(first)
        return [values[: len(rows)] for values in block]

    with ThreadPoolExecutor(LANES) as lanes:
        found = list(lanes.map(sampled, range(0, n, GALAXIES)))
    return _judged([np.concatenate(parts) for parts in zip(*found, strict=True)], prior.forward)


def run_chains(log_density: Callable[[Any], Any], start: Array, *, warm_up: int = 300, draws: int = 600, seed: int = 0) -> NUTSDraws:
    """Sample any density, as galaxies are: for checks of the sampler.

    Parameters
    ----------
    log_density : callable
        Maps a float64 tensor ``(K, P)`` to ``(K,)``, row by row.
    start : ndarray
        ``(N, C, P)``: N independent runs of C chains.
    warm_up, draws, seed
        As of `sample_nuts`.

    Returns
    -------
    NUTSDraws
    """
    n, _, size = start.shape
    sampler = _Sampler(log_density, -(-warm_up // 2))
    unit = np.broadcast_to(np.eye(size), (n, size, size))
    return _judged(sampler.run(start, np.zeros((n, size)), unit, (), draws, generator(seed, "nuts")), lambda u: u)


class _Sampler:
    """Blocks of `length` transitions of many chains, compiled once.

    `log_density` maps u ``(K, P)`` and further tensors ``(K, ...)`` of each chain to ``(K,)``.
    """

    def __init__(self, log_density: Callable[..., Any], length: int) -> None:
        import tensorflow as tf

        self.length = length
        self.log_density = log_density
        self._block = tf.function(self._graph, jit_compile=True, autograph=False)

    def _graph(self, z: Any, point: Any, spread: Any, step: Any, adapted: Any, seed: Any, *data: Any) -> Any:
        """Return draws ``(length, K, P)``, final step sizes, whether each trajectory diverged and its gradients, ``(length, K)``."""
        import tensorflow as tf
        from tensorflow_probability import mcmc

        def target(z: Any) -> Any:
            u = point + tf.linalg.matvec(spread, z)
            return self.log_density(u, *data)

        kernel = mcmc.DualAveragingStepSizeAdaptation(
            mcmc.NoUTurnSampler(target, step_size=step, max_tree_depth=DEEPEST),
            num_adaptation_steps=adapted,
            target_accept_prob=tf.constant(ACCEPT, z.dtype),
        )

        def trace(_: Any, results: Any) -> Any:
            inner = results.inner_results
            return inner.has_divergence, inner.leapfrogs_taken, results.new_step_size

        draws, (diverged, leapfrogs, steps) = mcmc.sample_chain(
            self.length, z, kernel=kernel, trace_fn=trace, seed=seed, num_burnin_steps=0
        )
        return draws, steps[-1], diverged, leapfrogs

    def run(
        self, start: Array, point: Array, factor: Array, data: Sequence[Array], draws: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Warm up and sample; u ``(N, C, draws, P)``, and divergences and gradients ``(N,)`` per draw."""
        n, chains, size = start.shape
        constants = [np.asarray(values) for values in data]
        kept: list[Array] = []
        trouble: list[Array] = []
        u, step = start, np.full((n * chains, 1), FIRST_STEP)
        spread = np.linalg.inv(factor).swapaxes(1, 2)
        for block in range(2 + -(-draws // self.length)):
            if block == 1:  # the coordinates of the rest are those of the chains so far, without where they came from
                late = np.moveaxis(kept.pop()[self.length // 2 :], 0, 2).reshape(n, -1, size)
                point, spread = late.mean(1), np.linalg.cholesky([np.cov(rows.T) for rows in late])
                step, trouble = np.full_like(step, FIRST_STEP), []
            elif block == 2:
                kept, trouble = [], []
            z = np.linalg.solve(spread[:, None], (u - point[:, None])[..., None])[..., 0].reshape(n * chains, size)
            places = [np.repeat(values, chains, 0) for values in (point, spread)]
            adapted = np.int32(self.length if block < 2 else 0)
            seed = rng.integers(2**31, size=2, dtype=np.int32)
            found, step, diverged, leapfrogs = (value.numpy() for value in self._block(z, *places, step, adapted, seed, *constants))
            found = point[:, None] + np.einsum("nij,sncj->snci", spread, found.reshape(-1, n, chains, size))
            u = found[-1]
            kept.append(found)
            trouble.append(np.stack([diverged, leapfrogs], -1).reshape(-1, n, chains, 2))
        figures = np.concatenate(trouble)[:draws].mean((0, 2))
        return np.moveaxis(np.concatenate(kept)[:draws], 0, 2), figures[:, 0], figures[:, 1]


def _judged(found: Sequence[Array], forward: Callable[[Array], Array]) -> NUTSDraws:
    from arviz_stats.base.array import array_stats

    u, divergent, leapfrogs = found
    theta = forward(u)
    each = np.moveaxis(theta, -1, 1)  # (N, P, C, S)
    rhat = np.asarray(array_stats.rhat(each))
    ess = np.asarray(array_stats.ess(each))
    return NUTSDraws(u, theta, rhat, ess, divergent, leapfrogs)
