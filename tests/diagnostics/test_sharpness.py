import numpy as np
import pytest

from astroflow.diagnostics import sharpness
from astroflow.errors import InputError


def test_contraction_and_z_are_those_of_the_known_posterior(problem):
    result = sharpness(problem.draws(2000), problem.truth, np.ones(3))
    np.testing.assert_allclose(result.contraction, 1 - problem.sd**2, atol=0.15)
    np.testing.assert_allclose(result.z, (problem.mean - problem.truth) / problem.sd, atol=0.5)
    assert np.abs(result.z.mean()) < 0.06
    assert np.abs(result.z.std() - 1) < 0.05


def test_four_faults_are_told_apart(problem):
    prior = sharpness(problem.prior_draws(), problem.truth, np.ones(3))
    narrow = sharpness(problem.draws(width=0.5), problem.truth, np.ones(3))
    shifted = sharpness(problem.draws(shift=1.0), problem.truth, np.ones(3))
    wider = sharpness(3 * problem.prior_draws(), problem.truth, np.ones(3))
    assert np.abs(np.median(prior.contraction)) < 0.1
    assert np.abs(prior.z.std() - 1) < 0.05
    assert narrow.z.std() > 1.8
    assert np.abs(shifted.z[:, 0].mean() - 1) < 0.15
    assert np.median(wider.contraction) < -4


def test_draws_that_are_all_the_same_have_a_finite_z():
    result = sharpness(np.zeros((5, 20, 2)), np.ones((5, 2)), np.ones(2))
    assert np.isfinite(result.z).all()
    assert (result.z < -1e6).all()


def test_a_prior_without_width_and_single_draws_are_refused(problem):
    with pytest.raises(InputError, match="`prior_sd` must be 3 positive numbers"):
        sharpness(problem.draws(), problem.truth, np.array([1.0, 0.0, 1.0]))
    with pytest.raises(InputError, match="at least two draws"):
        sharpness(problem.draws()[:, :1], problem.truth, np.ones(3))
