"""A problem whose posterior is known (`astroflow.diagnostics.known`), and simulations of galaxies."""

import numpy as np
import pytest

from astroflow.diagnostics.known import KnownPosterior, known_posterior


class Problem(KnownPosterior):
    """A known posterior, with faults planted on the way to its draws."""

    @property
    def local_width(self):
        """Widths, one per image, that are right on average: faint ones too wide, bright ones too narrow."""
        return np.where(self.faint, 1.35, 0.75)

    def draws(self, n_draws=200, **fault):
        return self.claim(**fault).draws(n_draws)

    def prior_draws(self, n_draws=200):
        return self.claim(nothing=True).draws(n_draws)

    def density(self, theta, **fault):
        return self.claim(**fault).log_prob(theta)

    def log_prob(self, *, independent=False, **fault):
        """Log density of the truths."""
        if independent:
            z = (self.truth - self.mean) / self.sd
            return (-0.5 * z**2 - np.log(self.sd) - 0.5 * np.log(2 * np.pi)).sum(1)
        return self.density(self.truth[:, None], **fault)[:, 0]


def make(n=1000, seed=0):
    return Problem(**vars(known_posterior(n, seed)))


@pytest.fixture(scope="session")
def problem():
    return make()


@pytest.fixture(scope="session")
def make_problem():
    return make


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
