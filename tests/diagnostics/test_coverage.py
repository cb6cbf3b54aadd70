import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import central_coverage, density_credibility, joint_pit, pit, region_coverage
from astroflow.errors import InputError


def test_coverage_is_diagonal_for_exact_posterior(problem):
    result = central_coverage(pit(problem.draws(), problem.truth))
    np.testing.assert_allclose(result.levels, [0.5, 0.68, 0.9, 0.95])
    assert np.abs(result.z).max() < 3.3


def test_coverage_is_exact_with_few_draws():
    rng = np.random.default_rng(5)
    values = pit(rng.normal(size=(40_000, 9, 1)), rng.normal(size=(40_000, 1)))
    assert np.abs(central_coverage(values).z).max() < 3.3


@pytest.mark.parametrize(("width", "sign"), [(0.7, -1), (1.5, 1)])
def test_coverage_falls_below_nominal_when_overconfident_and_above_when_not(problem, width, sign):
    result = central_coverage(pit(problem.draws(width=width), problem.truth))
    assert (sign * result.z > 3.3).all()


def test_coverage_of_a_scaled_gaussian_is_what_theory_says(make_problem):
    # An interval of 0.7 times the width at 68 % reaches 0.7 * 0.99446 sigma: 51.4 % of a normal.
    problem = make_problem(n=8000, seed=3)
    result = central_coverage(pit(problem.draws(width=0.7), problem.truth), [0.68])
    np.testing.assert_allclose(result.fraction, 0.5137, atol=4 * 0.0056)


@pytest.mark.parametrize("width", [0.7, 1.0, 1.3])
def test_coverage_of_joint_regions_is_what_theory_says(make_problem, width):
    """Of three normal parameters, squared distances are chi-squared: regions of a scaled posterior reach that much further, or less."""
    problem = make_problem(n=4000, seed=3)
    draws = problem.draws(width=width)
    density = density_credibility(problem.density(draws, width=width), problem.log_prob(width=width))
    result = region_coverage(np.stack([density, joint_pit(draws, problem.truth)], 1))
    expected = stats.chi2(3).cdf(width**2 * stats.chi2(3).ppf(result.levels))
    np.testing.assert_allclose(result.fraction[:, 0], expected, atol=4 * 0.0079)
    if width == 1:
        np.testing.assert_allclose(result.fraction[:, 1], expected, atol=4 * 0.0079)


def test_error_is_binomial():
    result = central_coverage(np.full((400, 1), 0.5), [0.5])
    assert result.error[0] == pytest.approx(0.025)
    assert result.fraction[0, 0] == 1.0
    assert result.z[0, 0] == pytest.approx(20.0)


def test_levels_outside_the_unit_interval_are_refused():
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        central_coverage(np.full((4, 1), 0.5), [0.5, 1.0])
