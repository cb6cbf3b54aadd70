"""The eight tasks of sbibm: priors and simulators in NumPy, and what a user would tell an estimator about each.

They are those of sbibm 1.1.0, where its code and its words differ, those of its code, because its reference posteriors are: what the
linear tasks call a standard deviation of 0.1 is a variance. `bounds` are those of the parameters, `features` how data are handed to the
network; both say no more than the task's description does.

References
----------
Lueckmann et al. 2021, *Benchmarking simulation-based inference*, https://arxiv.org/abs/2101.04653
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.sbibm.dynamics import populations, share_ill

Bound = tuple[float | None, float | None] | None
Rng = np.random.Generator

LINEAR_VARIANCE = 0.1
PEOPLE_TESTED = 1000
PREY_NOISE = 0.1
SLCP_EPSILON = 1e-6


def _as_they_are(x: np.ndarray) -> np.ndarray:
    return x


@dataclass(frozen=True)
class Task:
    """One inference problem."""

    prior: Callable[[int, Rng], np.ndarray]
    """Draws parameters ``(N, P)``."""
    simulate: Callable[[np.ndarray, Rng], np.ndarray]
    """Draws data ``(N, K)`` for parameters ``(N, P)``."""
    bounds: tuple[Bound, ...] | None = None
    """Bounds of the parameters."""
    features: Callable[[np.ndarray], np.ndarray] = _as_they_are
    """What the network is given in place of the data, ``(N, K)``."""


def two_moons(theta: np.ndarray, rng: Rng) -> np.ndarray:
    """Half a circle of radius 0.1, folded about one diagonal."""
    angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, len(theta)), rng.normal(0.1, 0.01, len(theta))
    along, across = (theta[:, 0] + theta[:, 1]) / np.sqrt(2), (theta[:, 1] - theta[:, 0]) / np.sqrt(2)
    return np.stack([radius * np.cos(angle) + 0.25 - np.abs(along), radius * np.sin(angle) + across], -1)


def slcp(theta: np.ndarray, rng: Rng) -> np.ndarray:
    """Four points of a normal distribution in two dimensions, whose mean and covariance are the parameters."""
    s, t, rho = theta[:, 2] ** 2, theta[:, 3] ** 2, np.tanh(theta[:, 4])
    covariance = np.stack([s * s + SLCP_EPSILON, rho * s * t, rho * s * t, t * t + SLCP_EPSILON], -1).reshape(-1, 1, 2, 2)
    points = theta[:, None, :2] + np.einsum("nkij,nkj->nki", np.linalg.cholesky(covariance), rng.normal(size=(len(theta), 4, 2)))
    return points.reshape(len(theta), 8)


def linear(theta: np.ndarray, rng: Rng) -> np.ndarray:
    """The parameters with noise."""
    return theta + rng.normal(0, np.sqrt(LINEAR_VARIANCE), theta.shape)


def gaussian_mixture(theta: np.ndarray, rng: Rng) -> np.ndarray:
    """The parameters with noise, which is of one width or of a tenth of it."""
    return theta + rng.normal(size=theta.shape) * rng.choice([1.0, 0.1], (len(theta), 1))


def bernoulli_prior(n: int, rng: Rng) -> np.ndarray:
    """An offset of variance 2, and a filter of nine weights whose second differences are small."""
    steps = np.eye(9) - np.eye(9, k=-1)
    root = steps @ steps + np.diag(np.sqrt(np.arange(9) / 9))
    # of precision F'F are F^-1 times normals
    weights = np.linalg.solve(root, rng.normal(size=(9, n))).T
    return np.concatenate([rng.normal(0, np.sqrt(2), (n, 1)), weights], 1)


def bernoulli(theta: np.ndarray, rng: Rng, design: np.ndarray) -> np.ndarray:
    """Sums of the stimulus over the time bins with a spike; `design` is ``(100, 10)``."""
    spikes = rng.uniform(size=(len(theta), len(design))) < 1 / (1 + np.exp(-theta @ design.T))
    return spikes @ design


def sir(theta: np.ndarray, rng: Rng) -> np.ndarray:
    """How many of 1000 people are ill every 17th day of an epidemic."""
    return rng.binomial(PEOPLE_TESTED, np.clip(share_ill(theta), 0, 1)).astype(np.float64)


def lotka_volterra(theta: np.ndarray, rng: Rng) -> np.ndarray:
    """Numbers of prey and predators, each with ten per cent of noise."""
    return rng.lognormal(np.log(np.clip(populations(theta), 1e-10, 1e4)), PREY_NOISE)


def stabilised(counts: np.ndarray) -> np.ndarray:
    """Counts of 1000 on the scale on which their noise is alike everywhere."""
    return np.arcsin(np.sqrt(counts / PEOPLE_TESTED))


def _box(high: float, dimensions: int) -> dict:
    return {"prior": lambda n, rng: rng.uniform(-high, high, (n, dimensions)), "bounds": ((-high, high),) * dimensions}


def _log_normal(mean: list[float], sd: list[float]) -> dict:
    return {"prior": lambda n, rng: rng.lognormal(mean, sd, (n, len(mean))), "bounds": ((0.0, None),) * len(mean)}


def tasks(design: np.ndarray) -> dict[str, Task]:
    """Return all tasks by their names in sbibm; the Bernoulli model needs its stimulus, `Wheel.design`."""
    return {
        "two_moons": Task(simulate=two_moons, **_box(1, 2)),
        "slcp": Task(simulate=slcp, **_box(3, 5)),
        "gaussian_linear": Task(prior=lambda n, rng: rng.normal(0, np.sqrt(LINEAR_VARIANCE), (n, 10)), simulate=linear),
        "gaussian_linear_uniform": Task(simulate=linear, **_box(1, 10)),
        "gaussian_mixture": Task(simulate=gaussian_mixture, **_box(10, 2)),
        "bernoulli_glm": Task(prior=bernoulli_prior, simulate=lambda theta, rng: bernoulli(theta, rng, design)),
        "sir": Task(simulate=sir, features=stabilised, **_log_normal([np.log(0.4), np.log(0.125)], [0.5, 0.2])),
        "lotka_volterra": Task(simulate=lotka_volterra, features=np.log, **_log_normal([-0.125, -3.0] * 2, [0.5] * 4)),
    }
