import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import density_credibility
from astroflow.errors import InputError


def credibility(problem, width=1.0):
    return density_credibility(problem.density(problem.draws(width=width), width=width), problem.log_prob(width=width))


def test_credibility_of_an_exact_posterior_is_uniform(problem):
    values = credibility(problem)
    assert ((values > 0) & (values < 1)).all()
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_it_is_the_probability_of_the_ellipsoid_through_the_truth(problem):
    white = np.linalg.solve(problem.factor, (problem.truth - problem.mean)[..., None])[..., 0]
    expected = stats.chi2(3).cdf((white**2).sum(1))
    np.testing.assert_allclose(density_credibility(problem.density(problem.draws(4000)), problem.log_prob()), expected, atol=0.04)


def test_truths_of_a_narrow_posterior_lie_far_out_and_of_a_wide_one_close_in(problem):
    assert credibility(problem, 0.8).mean() > 0.57
    assert credibility(problem, 1.25).mean() < 0.43


def test_ties_are_shared_out_and_what_is_ruled_out_is_outside_everything():
    flat = density_credibility(np.zeros((4000, 20)), np.zeros(4000))
    assert stats.kstest(flat, "uniform").pvalue > 0.01
    assert (density_credibility(np.zeros((5, 20)), np.full(5, -np.inf)) > 0.95).all()


def test_a_posterior_that_is_the_prior_passes():
    """By construction: what it cannot see is part of what it is."""
    rng = np.random.default_rng(5)
    truth, draws = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 50, 2))
    values = density_credibility(-0.5 * (draws**2).sum(-1), -0.5 * (truth**2).sum(-1))
    assert stats.kstest(values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("draws", "truth", "message"),
    [
        (np.zeros((4, 3)), np.zeros(3), r"must be \(images, draws\) and \(images,\)"),
        (np.full((4, 3), np.nan), np.zeros(4), "4 of 4 images have log densities that are NaN"),
    ],
)
def test_unusable_densities_are_refused(draws, truth, message):
    with pytest.raises(InputError, match=message):
        density_credibility(draws, truth)
