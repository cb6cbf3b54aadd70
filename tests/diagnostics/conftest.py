"""A problem whose posterior is known: a linear-Gaussian one, drawn exactly, and the ways in which a network gets it wrong."""

from dataclasses import dataclass

import numpy as np
import pytest

from astroflow.sims.parameters import Parameters


def normal_parameters():
    """Three parameters with standard normal priors, cut so far out (6 sd) that the cut does not matter."""
    distribution = {"kind": "normal", "mean": 0.0, "sd": 1.0, "low": -6.0, "high": 6.0}
    names = ("a", "b", "c")
    return Parameters.model_validate(
        {
            "members": [{"name": name, "unit": "arcsec" if name == "c" else ""} for name in names],
            "prior": {"blocks": [{"kind": "scalar", "name": name, "distribution": distribution} for name in names]},
        }
    )


@dataclass
class Conjugate:
    """theta ~ N(0, I); x = M theta + noise of an S/N that varies. The posterior is N(mean, covariance), drawn with the faults asked for."""

    truth: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    factor: np.ndarray
    snr: np.ndarray
    parameters: Parameters
    seed: int

    def draws(self, n_draws=200, *, width=1.0, shift=0.0, mirror=False, swap=False):
        """Posterior draws. `width` scales them (a number, or one per image); `shift` moves parameter a, in sd.
        `mirror` turns the correlations of b round and leaves every marginal exact."""
        n, p = self.truth.shape
        rng = np.random.default_rng([self.seed, 1])
        normals = rng.normal(size=(n, n_draws, p))
        cloud = np.einsum("npq,nsq->nsp", self.factor, normals)
        if mirror:
            cloud[..., 1] *= -1
        out = self.mean[:, None] + np.reshape(width, (-1, 1, 1)) * cloud
        out[..., 0] += shift * self.sd[:, None, 0]
        return out[..., [1, 0, 2]] if swap else out

    def log_prob(self, *, width=1.0, independent=False):
        """Log density of the truths."""
        if independent:
            z = (self.truth - self.mean) / self.sd
            return (-0.5 * z**2 - np.log(self.sd) - 0.5 * np.log(2 * np.pi)).sum(1)
        factor = self.factor * np.reshape(width, (-1, 1, 1))
        white = np.linalg.solve(factor, (self.truth - self.mean)[..., None])[..., 0]
        log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
        return -0.5 * (white**2).sum(1) - log_det - 0.5 * self.truth.shape[1] * np.log(2 * np.pi)


def conjugate(n=1000, seed=0):
    rng = np.random.default_rng([seed, 0])
    mixing = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.2, 0.0, 1.0]])
    truth = rng.normal(size=(n, 3))
    snr = 10 ** rng.uniform(0.5, 2.45, n)
    noise = 1.5 / snr**0.5
    x = truth @ mixing.T + noise[:, None] * rng.normal(size=(n, 3))
    precision = np.eye(3) + (mixing.T @ mixing) / noise[:, None, None] ** 2
    covariance = np.linalg.inv(precision)
    mean = np.einsum("npq,nq->np", covariance, (x / noise[:, None] ** 2) @ mixing)
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return Conjugate(truth, mean, sd, np.linalg.cholesky(covariance), snr, normal_parameters(), seed)


@pytest.fixture(scope="session")
def problem():
    return conjugate()


@pytest.fixture(scope="session")
def make_problem():
    return conjugate


@pytest.fixture(scope="session")
def simulator():
    from astroflow.sims import load_simulator

    return load_simulator("demo_survey")


@pytest.fixture(scope="session")
def simulation(simulator):
    return simulator.draw(range(300), seed=1)


@pytest.fixture(scope="session")
def held_out(simulator):
    return simulator.draw(range(150), seed=2)
