import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import ecdf_difference, joint_pit, ks_uniform, pit, rank_histogram
from astroflow.errors import InputError


def test_pit_of_exact_draws_is_uniform(problem):
    values = pit(problem.draws(), problem.truth)
    assert values.shape == problem.truth.shape
    assert (values > 0).all()
    assert (values < 1).all()
    assert (ks_uniform(values) > 0.01).all()
    assert not rank_histogram(values, level=0.999).outside.any()
    assert not ecdf_difference(values, level=0.999).outside.any()


def test_pit_is_exactly_uniform_even_with_three_draws():
    rng = np.random.default_rng(3)
    draws, truth = rng.normal(size=(20_000, 3, 1)), rng.normal(size=(20_000, 1))
    assert stats.kstest(pit(draws, truth)[:, 0], "uniform").pvalue > 0.01
    # Without jitter only four values are possible, and the test for continuous numbers sees it.
    middles = pit(draws, truth, jitter=False)[:, 0]
    assert set(np.round(middles, 6)) == {0.125, 0.375, 0.625, 0.875}
    assert stats.kstest(middles, "uniform").pvalue < 1e-10


def test_pit_shares_ties_out_evenly():
    rng = np.random.default_rng(4)
    draws, truth = rng.integers(0, 3, size=(20_000, 10, 1)), rng.integers(0, 3, size=(20_000, 1))
    assert stats.kstest(pit(draws, truth)[:, 0], "uniform").pvalue > 0.01
    assert pit(np.ones((1, 4, 1)), np.ones((1, 1)), jitter=False) == pytest.approx(0.5)


def test_pit_depends_on_its_seed_alone(problem):
    draws = problem.draws()
    np.testing.assert_array_equal(pit(draws, problem.truth, seed=5), pit(draws, problem.truth, seed=5))
    difference = np.abs(pit(draws, problem.truth, seed=5) - pit(draws, problem.truth, seed=6))
    assert 0 < difference.max() <= 1 / 201


def test_narrow_posterior_gives_u_shaped_ranks_and_wide_one_a_hump(problem):
    ends, middle = [0, 1, -2, -1], slice(8, 12)
    narrow = rank_histogram(pit(problem.draws(width=0.7), problem.truth))
    wide = rank_histogram(pit(problem.draws(width=1.5), problem.truth))
    assert narrow.outside.all()
    assert wide.outside.all()
    assert (narrow.counts[ends].mean(0) > narrow.high).all()
    assert (narrow.counts[middle].mean(0) < narrow.expected).all()
    assert (wide.counts[ends].mean(0) < wide.low).all()
    assert (wide.counts[middle].mean(0) > wide.expected).all()


def test_ecdf_difference_has_the_sign_of_a_shift_and_blames_the_right_parameter(problem):
    high = ecdf_difference(pit(problem.draws(shift=0.5), problem.truth), level=0.999)
    low = ecdf_difference(pit(problem.draws(shift=-0.5), problem.truth), level=0.999)
    assert high.outside.tolist() == [True, False, False]
    assert high.difference[49, 0] > high.high[49]  # the posterior lies too high, so the ranks are small
    assert low.difference[49, 0] < low.low[49]


def test_joint_pit_is_uniform_for_exact_draws_and_sees_wrong_correlations(problem):
    assert stats.kstest(joint_pit(problem.draws(), problem.truth), "uniform").pvalue > 0.01
    wrong = problem.draws(mirror=True)
    assert (ks_uniform(pit(wrong, problem.truth)) > 0.001).all()  # every marginal is right
    joint = joint_pit(wrong, problem.truth)
    assert stats.kstest(joint, "uniform").pvalue < 1e-10
    assert joint.mean() > 0.6


def test_joint_pit_is_uniform_even_with_few_draws(make_problem):
    problem = make_problem(n=4000, seed=2)
    assert stats.kstest(joint_pit(problem.draws(n_draws=8), problem.truth), "uniform").pvalue > 0.01


def test_joint_pit_says_far_out_for_narrow_and_close_in_for_wide(problem):
    assert joint_pit(problem.draws(width=0.7), problem.truth).mean() > 0.6
    assert joint_pit(problem.draws(width=1.5), problem.truth).mean() < 0.4


def test_joint_pit_survives_draws_without_spread():
    values = joint_pit(np.zeros((5, 20, 2)), np.ones((5, 2)))
    assert np.isfinite(values).all()
    assert (values > 0.9).all()


def test_swapped_parameters_are_caught_and_the_third_is_not_blamed(problem):
    p = ks_uniform(pit(problem.draws(swap=True), problem.truth))
    assert (p[:2] < 1e-6).all()
    assert p[2] > 0.01


def test_rank_histogram_counts_every_image(problem):
    result = rank_histogram(pit(problem.draws(), problem.truth), bins=7)
    np.testing.assert_array_equal(result.counts.sum(0), len(problem.truth))
    assert result.low < result.expected < result.high


@pytest.mark.parametrize(
    ("draws", "truth", "message"),
    [
        (np.zeros((4, 3)), np.zeros((4, 3)), "must be \\(images, draws, parameters\\)"),
        (np.zeros((4, 9, 3)), np.zeros((4, 2)), "got \\(4, 9, 3\\), \\(4, 2\\)"),
        (np.zeros((0, 9, 3)), np.zeros((0, 3)), "must be"),
        (np.full((4, 9, 3), np.nan), np.zeros((4, 3)), "4 of 4 images have draws or truths that are not finite"),
    ],
)
def test_unusable_draws_are_refused(draws, truth, message):
    with pytest.raises(InputError, match=message):
        pit(draws, truth)
