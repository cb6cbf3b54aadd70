"""Changing the prior after the run: weights for draws that were made under another one.

A posterior under a new prior is the old one times the ratio of the two priors. Only blocks of the prior that differ take part,
so a new prior of sizes does not ask where a stamp was centred.
"""

__all__ = ["Reweighted", "reweight"]

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.errors import ConfigError, InputError
from astroflow.posteriors.exact.resampling import MOST_CLIPPED, clipped_share, resample
from astroflow.randomness import generator
from astroflow.sims.distributions import numpy_ops
from astroflow.sims.parameters import Parameters
from astroflow.sims.priors import JointPrior
from astroflow.types import Array


@dataclass(frozen=True)
class Reweighted:
    """Weights ``(N, S)`` of draws under a new prior, each row of unit sum, and what they leave: `efficiency` ``(N,)``.

    `efficiency` is the effective share of the draws; 0 where the new prior excludes all of them, NaN for rows without draws. In both
    cases weights are NaN. `ids` ``(N,)`` are the objects'.
    """

    draws: Array
    weights: Array
    efficiency: Array
    ids: Array

    def clipped(self, n_draws: int) -> Array:
        """Return the share of each row's weight ``(N,)`` that `n_draws` distinct draws cannot carry; NaN for rows without weights.

        A draw that is heavier than one n-th would have to be taken twice. Fewer draws, or more to choose from, leave less of that.

        Raises
        ------
        InputError
            If there are not so many draws.
        """
        n, count, _ = self.draws.shape
        if not 1 <= n_draws <= count:
            raise InputError(f"`n_draws` must be between 1 and the {count} draws there are; got {n_draws}")
        out = np.full(n, np.nan)
        for row in np.flatnonzero(self.efficiency > 0).tolist():
            out[row] = clipped_share(self._logs[row], n_draws)
        return out

    def resample(self, n_draws: int, seed: int = 0) -> Array:
        """Choose distinct draws of equal weight.

        Parameters
        ----------
        n_draws : int
            How many, far fewer than there are: with efficiency E not much more than the E-th part, or heavy draws would be wanted twice.
        seed : int
            With an object's id it fixes the choice.

        Returns
        -------
        ndarray
            ``(N, n_draws, P)``. NaN for rows without weights, and for those that so many distinct draws cannot represent: where `clipped`
            is above 1 %.

        Raises
        ------
        InputError
            If there are not so many draws.
        """
        enough = self.clipped(n_draws) <= MOST_CLIPPED
        out = np.full((len(self.draws), n_draws, self.draws.shape[-1]), np.nan, self.draws.dtype)
        for row in np.flatnonzero(enough).tolist():
            out[row] = self.draws[row, resample(self._logs[row], n_draws, generator(seed, "reweight", self.ids[row].item()))]
        return out

    @functools.cached_property
    def _logs(self) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.weights))


def reweight(parameters: Parameters, draws: Array, new: JointPrior, ids: Sequence[Any] | Array | None = None) -> Reweighted:
    """Weigh draws for a new prior; see `Posterior.reweight`."""
    if draws.ndim != 3 or draws.shape[-1] != len(parameters):
        raise InputError(f"`draws` must be (objects, draws, {len(parameters)}); got {draws.shape}")
    identities = np.arange(len(draws)) if ids is None else np.asarray(ids)
    if identities.shape != (len(draws),):
        raise InputError(f"`ids` must be ({len(draws)},), one for each object; got {identities.shape}")
    old = {block.names: block for block in parameters.prior.blocks}
    if {block.names for block in new.blocks} != set(old):
        raise ConfigError(f"the new prior is over {[b.names for b in new.blocks]}; it must be over the draws' own parameters, {list(old)}")
    columns = {name: draws[..., k].astype(np.float64) for k, name in enumerate(parameters.names)}
    offsets = {p.name for p in parameters.members if p.spin == 1}
    log_weights = np.zeros(draws.shape[:2])
    for block in new.blocks:
        if block == old[block.names]:
            continue
        if offsets & set(block.names):
            raise ConfigError(f"the prior of {', '.join(block.names)} says where stamps were cut, which cannot be changed afterwards")
        inside = block.contains(columns)
        with np.errstate(divide="ignore", invalid="ignore"):  # outside the new bounds
            ratio = block.log_density(columns, numpy_ops()) - old[block.names].log_density(columns, numpy_ops())
        log_weights += np.where(inside, ratio, -np.inf)
    unusable = np.asarray(~np.isfinite(draws).all((1, 2)))
    some = np.asarray(np.isfinite(log_weights).any(1) & ~unusable)
    relative = np.exp(log_weights - np.where(some, log_weights.max(1), 0)[:, None])
    weights = np.where(some[:, None], relative / np.where(some, relative.sum(1), 1)[:, None], np.nan)
    efficiency = np.where(some, 1 / (draws.shape[1] * (weights**2).sum(1)), np.where(unusable, np.nan, 0.0))
    return Reweighted(draws, weights, efficiency, identities)
