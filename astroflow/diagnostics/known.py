"""A problem whose posterior is known, and faults to plant in it: what a diagnostic is worth is what it makes of these.

Three parameters with standard normal priors are seen through a matrix that mixes them, in noise that varies from image to image. The
posterior is normal, so its draws and its density are exact, and faults of a known size can be planted: `KnownPosterior.claim` returns what
a posterior with a fault claims. `FAULTS` are those that every diagnostic is measured on (`benchmarks/diagnostic_power.py`).
"""

__all__ = ["FAULTS", "Claim", "KnownPosterior", "known_posterior"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from astroflow.randomness import generator
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

NAMES = ("a", "b", "c")
MIXING = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.2, 0.0, 1.0]])
FAINTEST = 0.2
"""Share of the images whose correlations alone are wrong, in one of the faults."""
FURTHEST = 6.0
"""The normal priors are cut so many standard deviations out, which does not matter."""


@dataclass(frozen=True)
class Claim:
    """What a posterior says of N images: normals of `mean` ``(N, P)`` and `factor` ``(N, P, P)``, draws being ``mean + factor z``."""

    mean: Array
    factor: Array
    seed: int

    def draws(self, n_draws: int = 200) -> Array:
        """Return draws ``(N, n_draws, P)``."""
        n, p = self.mean.shape
        normals = generator(self.seed, "claim").normal(size=(n, n_draws, p))
        return np.asarray(self.mean[:, None] + np.einsum("npq,nsq->nsp", self.factor, normals))

    def log_prob(self, theta: Array) -> Array:
        """Return the log density ``(N, S)`` of points ``(N, S, P)``."""
        white = np.linalg.solve(self.factor, np.swapaxes(theta - self.mean[:, None], 1, 2))
        log_det = np.linalg.slogdet(self.factor)[1]
        return np.asarray(-0.5 * (white**2).sum(1) - log_det[:, None] - 0.5 * theta.shape[-1] * np.log(2 * np.pi))


@dataclass(frozen=True)
class KnownPosterior:
    """N images of parameters `truth` ``(N, P)``, of which data with noise are all that is known.

    `mean` ``(N, P)`` and `factor` ``(N, P, P)``, lower triangular, are the exact posterior's; `data` ``(N, P)``; `snr` ``(N,)`` varies by a
    factor of a hundred.
    """

    truth: Array
    data: Array
    mean: Array
    factor: Array
    snr: Array
    seed: int

    @property
    def parameters(self) -> Parameters:
        """Names, units and prior."""
        distribution = {"kind": "normal", "mean": 0.0, "sd": 1.0, "low": -FURTHEST, "high": FURTHEST}
        return Parameters.model_validate(
            {
                "members": [{"name": name, "unit": "arcsec" if name == "c" else ""} for name in NAMES],
                "prior": {"blocks": [{"kind": "scalar", "name": name, "distribution": distribution} for name in NAMES]},
            }
        )

    @property
    def sd(self) -> Array:
        """``(N, P)`` standard deviations of the exact posterior."""
        return np.asarray(np.linalg.norm(self.factor, axis=2))

    @property
    def faint(self) -> Array:
        """``(N,)`` which half of the images has the lower S/N."""
        return np.asarray(self.snr < np.median(self.snr))

    @property
    def features(self) -> Array:
        """``(N, F)`` what the data say: the logarithm of the S/N, and a rough estimate of each parameter."""
        return np.concatenate([np.log(self.snr)[:, None], self.estimate], 1)

    @property
    def estimate(self) -> Array:
        """``(N, P)`` made from the data by no posterior: the mixing undone, noise and all."""
        return np.asarray(np.clip(np.linalg.solve(MIXING, self.data.T).T, -FURTHEST, FURTHEST))

    def claim(self, *, width: Any = 1.0, shift: float = 0.0, mirror: Any = False, swap: bool = False, nothing: bool = False) -> Claim:
        """Return what a posterior with a fault claims.

        Parameters
        ----------
        width : float or ndarray
            Standard deviations are this many times the right ones; ``(N,)`` for one per image.
        shift : float
            Parameter a lies too high by so many standard deviations.
        mirror : bool or ndarray
            Correlations with b have the wrong sign; every marginal is exact. ``(N,)`` for one per image.
        swap : bool
            Parameters a and b are taken for each other.
        nothing : bool
            It has learned nothing: it is the prior.
        """
        mean, factor = self.mean.copy(), self.factor * np.reshape(width, (-1, 1, 1))
        if nothing:
            mean, factor = np.zeros_like(mean), np.broadcast_to(np.eye(mean.shape[1]), factor.shape)
        mean[:, 0] += shift * self.sd[:, 0]
        factor = factor * np.where(np.reshape(mirror, (-1, 1, 1)), np.array([1.0, -1.0, 1.0])[:, None], 1.0)
        if swap:
            mean, factor = mean[:, [1, 0, 2]], factor[:, [1, 0, 2]]
        return Claim(mean, factor, self.seed)


def known_posterior(n: int = 1000, seed: int = 0) -> KnownPosterior:
    """Draw a problem of `n` images."""
    rng = generator(seed, "known posterior")
    truth = rng.normal(size=(n, len(NAMES)))
    snr = 10 ** rng.uniform(0.5, 2.45, n)
    noise = 1.5 / snr[:, None] ** 0.5
    data = truth @ MIXING.T + noise * rng.normal(size=truth.shape)
    precision = np.eye(len(NAMES)) + (MIXING.T @ MIXING) / noise[:, :, None] ** 2
    covariance = np.linalg.inv(precision)
    mean = np.einsum("npq,nq->np", covariance, (data / noise**2) @ MIXING)
    return KnownPosterior(truth, data, mean, np.linalg.cholesky(covariance), snr, seed)


FAULTS: Mapping[str, Callable[[KnownPosterior], Claim]] = {
    "exact": lambda problem: problem.claim(),
    "width x 0.8": lambda problem: problem.claim(width=0.8),
    "width x 1.2": lambda problem: problem.claim(width=1.2),
    "shift by 0.3 sd": lambda problem: problem.claim(shift=0.3),
    "two parameters swapped": lambda problem: problem.claim(swap=True),
    "right on average only": lambda problem: problem.claim(width=np.where(problem.faint, 1.35, 0.75)),
    "wrong correlations": lambda problem: problem.claim(mirror=True),
    "wrong correlations if faintest": lambda problem: problem.claim(mirror=problem.snr < np.quantile(problem.snr, FAINTEST)),
    "the prior": lambda problem: problem.claim(nothing=True),
}
"""What can be wrong with a posterior, from "exact" to one that has learned nothing."""
