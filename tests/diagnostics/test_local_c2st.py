import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import local_c2st
from astroflow.errors import InputError


@pytest.fixture(scope="module")
def many(make_problem):
    return make_problem(n=2000, seed=4)


def test_an_exact_posterior_is_no_better_than_chance(make_problem):
    """p-values of the overall test, of 20 problems: uniform."""
    p = []
    for seed in range(20):
        problem = make_problem(n=800, seed=100 + seed)
        p.append(local_c2st(problem.draws(20), problem.truth, problem.features, swaps=39, seed=seed).overall)
    assert min(p) >= 1 / 40
    assert stats.kstest(np.array(p) - 0.0125, "uniform").pvalue > 0.001


@pytest.mark.parametrize("fault", [{"width": 0.7}, {"width": 1.5}, {"shift": 0.5}, {"mirror": True}, {"swap": True}], ids=str)
def test_faults_of_the_joint_posterior_are_caught(many, fault):
    result = local_c2st(many.draws(50, **fault), many.truth, many.features, swaps=99)
    assert result.overall == 0.01
    assert np.mean(result.p < 0.05) > 0.5


def test_a_posterior_that_is_the_prior_is_caught_by_features_that_know_better(many):
    assert local_c2st(many.prior_draws(50), many.truth, many.features, swaps=99).overall == 0.01


def test_a_local_fault_is_found_where_it_is(many):
    """Too narrow for the bright half alone: the statistic is large there and small elsewhere."""
    draws = many.draws(50, width=np.where(many.faint, 1.0, 0.6))
    asked = np.arange(0, 2000, 2)
    result = local_c2st(draws, many.truth, many.features, asked, swaps=99)
    bright = ~many.faint[asked]
    assert result.overall == 0.01
    assert np.mean(result.p[bright] < 0.05) > 0.8
    assert np.median(result.statistic[bright]) > 3 * np.median(result.statistic[~bright])


def test_p_values_of_all_images_together_are_small_by_chance_as_rarely_as_they_say(make_problem):
    """Of 30 exact posteriors: the smallest plain p-value of 100 images is small, the smallest of those adjusted is uniform."""
    smallest, plain = [], []
    for seed in range(30):
        problem = make_problem(n=400, seed=200 + seed)
        result = local_c2st(problem.draws(20), problem.truth, problem.features[:, :1], np.arange(100), swaps=19, seed=seed)
        assert (result.adjusted >= result.p - 1e-12).mean() > 0.95
        smallest.append(result.adjusted.min())
        plain.append(result.p.min())
    assert np.mean(np.array(plain) <= 0.05) > 0.4
    assert stats.kstest(np.array(smallest) - 0.025, "uniform").pvalue > 0.001


def test_images_with_a_fault_are_named_among_many(many):
    draws = many.draws(50, width=np.where(many.faint, 1.0, 0.6))
    asked = np.arange(0, 2000, 10)
    result = local_c2st(draws, many.truth, many.features, asked, swaps=99)
    found, faint = result.adjusted == 0.01, many.faint[asked]
    assert np.mean(found[~faint]) > max(0.3, 2.5 * np.mean(found[faint]))


def test_it_depends_on_its_seed_alone(many):
    first, again = (local_c2st(many.draws(20), many.truth, many.features, swaps=5, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.p, again.p)
    np.testing.assert_array_equal(first.statistic, again.statistic)


@pytest.mark.parametrize("at", [[-1, 5], [3, 3], [5, 2000], [], [0.5, 1.5], [[1, 2]], np.ones(10, bool), np.zeros(2000, bool)], ids=str)
def test_images_to_ask_about_are_some_different_ones(many, at):
    with pytest.raises(InputError, match="`at` must be different positions from 0 to 1999, one at least, or a mask of 2000 images"):
        local_c2st(many.draws(20), many.truth, many.features, np.array(at), swaps=1)


def test_a_mask_is_as_good_as_positions(many):
    mask = np.arange(2000) % 4 == 0
    by_mask, by_position = (local_c2st(many.draws(12), many.truth, many.features, at, swaps=3) for at in (mask, np.flatnonzero(mask)))
    np.testing.assert_array_equal(by_mask.statistic, by_position.statistic)


def test_without_swaps_there_is_no_chance_to_compare_with(many):
    with pytest.raises(InputError, match="`swaps` must be at least 1"):
        local_c2st(many.draws(20), many.truth, many.features, swaps=0)


def test_too_little_data_and_unusable_features_are_refused(many):
    with pytest.raises(InputError, match="not enough data: 80 pairs for a classifier of 50 products; give 250"):
        local_c2st(many.draws(20)[:100], many.truth[:100], many.features[:100])
    with pytest.raises(InputError, match="`features` must be finite numbers"):
        local_c2st(many.draws(20), many.truth, many.features * np.nan)
    with pytest.raises(InputError, match="no spread"):
        local_c2st(0 * many.draws(20), many.truth, many.features)
