"""The optimum near a start."""

import numpy as np
import pytest

from astroflow.posteriors.exact.optimum import most_probable
from astroflow.sims.likelihood import PixelLikelihood


@pytest.fixture(scope="module")
def case(bright_simulator, bright_galaxies):
    theta, stamps = bright_galaxies
    prior, stamps = bright_simulator.parameters.prior, stamps[:6]
    start = prior.inverse(theta[:6]) + 0.05 * np.random.default_rng(5).normal(size=(6, theta.shape[1]))
    return bright_simulator.fourier, prior, PixelLikelihood(stamps), start, stamps


def test_it_is_where_the_slope_of_the_posterior_vanishes(case):
    engine, prior, likelihood, start, stamps = case
    found = most_probable(engine, prior, likelihood, start, stamps, steps=8)
    fisher = likelihood.fisher(found.slopes, found.model)
    force = fisher.score.numpy() - found.u
    width = 1 / np.sqrt(np.diagonal(fisher.information.numpy() + np.eye(start.shape[1]), axis1=1, axis2=2))
    assert (np.abs(force * width) < 0.2).all()


def test_no_row_ends_worse_than_it_began(case):
    engine, prior, likelihood, start, stamps = case
    far = start + 1.5 * np.random.default_rng(6).normal(size=start.shape)

    def cost(at):
        return (at.u**2).sum(1) - 2 * likelihood.log_prob(at.model[:, None]).numpy()[:, 0]

    costs = [cost(most_probable(engine, prior, likelihood, far, stamps, steps)) for steps in (0, 1, 3)]
    assert (costs[1] <= costs[0]).all()
    assert (costs[2] <= costs[1]).all()
