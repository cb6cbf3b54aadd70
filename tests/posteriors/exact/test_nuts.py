"""NUTS on densities whose moments and quantiles are known, all in one run; and a density whose modes no chain leaves."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from astroflow.errors import InputError
from astroflow.posteriors.exact.nuts import run_chains, sample_nuts

NARROW, GAP = 0.02, 30.0
N, CHAINS = 3, 4


def log_density(u):
    """A correlated Gaussian pair, one of them narrow; a Gumbel; and two modes that are far apart. All known in closed form."""
    first, second, skew, split = tf.unstack(u, axis=-1)
    gaussian = -0.5 * first**2 - 0.5 * ((second - 0.9 * first) / NARROW) ** 2
    modes = tf.reduce_logsumexp(tf.stack([-0.5 * (split - GAP) ** 2, -0.5 * (split + GAP) ** 2]), 0)
    return gaussian - (skew + tf.exp(-skew)) + modes


@pytest.fixture(scope="module")
def draws():
    start = np.random.default_rng(1).normal(size=(N, CHAINS, 4))
    start[..., 3] = GAP
    start[-1, ::2, 3] = -GAP  # the last run has chains in both modes
    return run_chains(log_density, start, warm_up=300, draws=500, seed=2)


def test_draws_are_of_the_density(draws):
    assert draws.u.shape == (N, CHAINS, 500, 4)
    assert (draws.divergent[:2] < 0.01).all()
    assert (draws.leapfrogs[:2] < 15).all()
    for run in draws.u[:2].reshape(2, -1, 4):
        truth = (stats.norm(), stats.norm(0, np.hypot(0.9, NARROW)), stats.gumbel_r(), stats.norm(GAP))
        for values, one in zip(run.T, truth, strict=True):
            ranks = one.cdf(values)
            assert stats.wasserstein_distance(ranks, (np.arange(2000) + 0.5) / 2000) < 0.025
        residual = run[:, 1] - 0.9 * run[:, 0]
        assert residual.std() == pytest.approx(NARROW, rel=0.08)


def test_chains_that_agree_are_told_from_chains_that_do_not(draws):
    assert (draws.rhat[:2] < 1.02).all()
    assert (draws.ess[:2] > 500).all()
    assert (draws.rhat[2, :3] < 1.05).all()
    assert draws.rhat[2, 3] > 1.5, "chains in two modes are no sample of their sum"
    assert draws.ess[2, 3] < 50


def test_thinned_draws_are_of_all_chains(draws):
    kept = draws.thinned(400)
    assert kept.shape == (N, 400, 4)
    assert (kept[2, :, 3] > 0).mean() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(InputError, match="at most the 2000 draws"):
        draws.thinned(2001)


def test_shapes_that_disagree_are_one_clear_error(galaxies, small_simulator):
    prior = small_simulator.parameters.prior
    with pytest.raises(InputError, match=r"`start`, `point` and `factor` must be \(2, C, 7\)"):
        sample_nuts(small_simulator.fourier, prior, galaxies.stamps[:2], np.zeros((2, 7)), np.zeros((2, 7)), np.zeros((2, 7, 7)))


@pytest.mark.parametrize(("warm_up", "draws"), [(0, 100), (7, 100), (300, 3)])
def test_too_few_draws_are_one_clear_error(galaxies, small_simulator, warm_up, draws):
    prior, start = small_simulator.parameters.prior, np.zeros((2, 4, 7))
    with pytest.raises(
        InputError, match=rf"`warm_up` must be more than 7 for 4 chains .*, and `draws` at least 4; got {warm_up} and {draws}"
    ):
        sample_nuts(
            small_simulator.fourier, prior, galaxies.stamps[:2], start, start[:, 0], np.zeros((2, 7, 7)), warm_up=warm_up, draws=draws
        )
