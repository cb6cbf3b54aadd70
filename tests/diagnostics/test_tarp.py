import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import image_references, ks_uniform, pit, random_references, tarp
from astroflow.errors import InputError


def p_value(problem, draws, references, **options):
    return stats.kstest(tarp(draws, problem.truth, references, **options), "uniform").pvalue


@pytest.fixture(scope="module")
def anywhere(problem):
    return random_references(problem.truth, seed=3)


@pytest.fixture(scope="module")
def estimate(problem):
    """From the image, but not by the posterior: rougher than its mean."""
    return problem.mean + 0.3 * np.random.default_rng(9).normal(size=problem.mean.shape)


@pytest.fixture(scope="module")
def looking(estimate):
    return image_references(estimate, np.full(3, 0.3), seed=3)


@pytest.fixture(scope="module")
def aside(estimate):
    return image_references(estimate, np.ones(3), np.array([1.0, 1.0, 0.0]))


def test_an_exact_posterior_is_uniform_whatever_the_points(problem, anywhere, looking, aside):
    assert p_value(problem, problem.draws(), anywhere) > 0.01
    assert p_value(problem, problem.draws(), aside) > 0.01
    assert p_value(problem, problem.draws(), looking) > 0.01
    assert p_value(problem, problem.draws(), np.full_like(problem.truth, 7.0)) > 0.01


def test_a_reference_point_far_away_ranks_along_a_line(problem):
    far = problem.truth * 0 + np.array([1e6, 0.0, 0.0])
    values = tarp(problem.draws(), problem.truth, far, scale=np.ones(3))
    np.testing.assert_allclose(values, 1 - pit(problem.draws(), problem.truth)[:, 0], atol=0.02)


def test_widths_and_swaps_are_caught_by_any_points(problem, anywhere, looking):
    for points in (anywhere, looking):
        assert p_value(problem, problem.draws(width=0.6), points) < 0.001
        assert p_value(problem, problem.draws(swap=True), points) < 0.001


def test_wrong_correlations_and_small_shifts_are_caught_by_points_on_one_side(problem, looking, aside):
    wrong = problem.draws(mirror=True)
    assert (ks_uniform(pit(wrong, problem.truth)) > 0.001).all()
    assert p_value(problem, wrong, aside) < 1e-9
    assert p_value(problem, problem.draws(shift=0.3), aside) < 1e-6
    assert p_value(problem, problem.draws(shift=0.3), looking) > 0.001, "points on all sides average it out"


def test_a_posterior_that_is_the_prior_passes_random_points_and_fails_points_that_look(problem, anywhere, looking):
    assert p_value(problem, problem.prior_draws(), anywhere) > 0.01
    assert p_value(problem, problem.prior_draws(), looking) < 1e-6


def test_units_change_nothing(problem, looking):
    """Truths, draws and points are scaled together; scaling some of them alone passes biased posteriors."""
    unit = np.array([1.0, 1e3, 1e-4])
    plain = tarp(problem.draws(shift=0.6), problem.truth, looking)
    np.testing.assert_allclose(tarp(problem.draws(shift=0.6) * unit, problem.truth * unit, looking * unit), plain, atol=1e-9)


def test_references_depend_on_their_seed_alone(problem):
    np.testing.assert_array_equal(random_references(problem.truth, seed=4), random_references(problem.truth, seed=4))
    assert not np.array_equal(random_references(problem.truth, seed=4), random_references(problem.truth, seed=5))
    low, high = problem.truth.min(0), problem.truth.max(0)
    points = random_references(problem.truth)
    assert ((points >= low) & (points <= high)).all()


def test_unusable_points_and_parameters_that_never_change_are_refused(problem):
    with pytest.raises(InputError, match="`references` must be a finite point for each image"):
        tarp(problem.draws(), problem.truth, problem.truth[:5])
    truth, draws = problem.truth.copy(), problem.draws()
    truth[:, 2] = 1.0
    with pytest.raises(InputError, match="Leave out parameters that never change"):
        tarp(draws, truth, random_references(truth))


def test_points_that_fit_no_image_are_refused(problem):
    with pytest.raises(InputError, match="`truth` must be finite numbers"):
        random_references(problem.truth[:0])
    with pytest.raises(InputError, match=r"one number a parameter; got \(1000, 3\), \(3,\) and \(2,\)"):
        image_references(problem.estimate, np.ones(3), np.ones(2))
