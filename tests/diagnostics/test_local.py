import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import Outcome, calibrate_locally, density_credibility, fixed_bins, ks_uniform, pit, quantile_bins
from astroflow.diagnostics.known import FAULTS
from astroflow.diagnostics.local import ALARM, holm, uniform_p
from astroflow.errors import InputError

NAMES = ("a", "b", "c")


def binned(problem, draws, **options):
    bins = [quantile_bins("S/N", problem.snr), quantile_bins("mean of a", problem.mean[:, 0])]
    return calibrate_locally(pit(draws, problem.truth), NAMES, bins, **options)


def test_an_exact_posterior_passes_in_every_bin(problem):
    for result in binned(problem, problem.draws()):
        assert (result.outcome == Outcome.PASSED).all()
        assert result.n_images.sum() == len(problem.truth)
        assert (np.abs(result.coverage - result.levels[:, None]) < 4 * result.error[:, :, None]).all()


def test_right_on_average_is_caught_in_bins(make_problem):
    problem = make_problem(n=3000, seed=3)
    draws = problem.draws(width=problem.local_width)
    assert (ks_uniform(pit(draws, problem.truth)) > 0.001).all(), "over everything it passes"
    by_snr = binned(problem, draws)[0]
    assert (by_snr.outcome[[0, -1]] == Outcome.FAILED).all()
    assert (by_snr.coverage[0, 1] > 0.68).all()
    assert (by_snr.coverage[-1, 1] < 0.68).all()


def test_the_false_alarm_rate_is_at_most_what_is_stated(make_problem):
    """Of 48 bins and columns at once, 100 times."""
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(100):
        bins = [quantile_bins(str(k), rng.normal(size=800)) for k in range(4)]
        results = calibrate_locally(rng.random((800, 3)), NAMES, bins, alarm=0.1)
        alarms += any((result.outcome == Outcome.FAILED).any() for result in results)
    assert alarms <= stats.binom(100, 0.1).ppf(0.999)


def test_a_joint_posterior_that_is_wrong_somewhere_is_caught_by_credibilities_in_bins(make_problem):
    """The faintest fifth has wrong correlations: marginals are right everywhere, and all images together look right."""
    problem = make_problem(n=1000, seed=9)
    claim = FAULTS["wrong correlations if faintest"](problem)
    draws = claim.draws(200)
    density = density_credibility(claim.log_prob(draws), claim.log_prob(problem.truth[:, None])[:, 0])
    assert uniform_p(density) > ALARM
    (found,) = calibrate_locally(
        np.column_stack([pit(draws, problem.truth), density]), [*NAMES, "joint"], [quantile_bins("S/N", problem.snr)], regions=["joint"]
    )
    assert (found.outcome[:, :3] == Outcome.PASSED).all()
    assert found.outcome[:, 3].tolist() == [Outcome.FAILED, *[Outcome.PASSED] * 3]
    assert (found.coverage[0, :, 3] < found.levels - 3 * found.error[0]).all(), "of the regions, below the level"
    assert (np.abs(found.coverage[1:, :, 3] - found.levels) < 4 * found.error[1:]).all()
    np.testing.assert_allclose(found.coverage[0, :, 3], [(density[found.bins.which == 0] <= level).mean() for level in found.levels])


def test_more_columns_are_more_tests(problem):
    """A p-value between the limits of few and of many tests fails among few alone."""
    values = np.random.default_rng(1).random((800, 1))
    values[:200, 0] **= 1.4
    bins = quantile_bins("order", np.arange(800.0))
    (alone,) = calibrate_locally(values, ["a"], [bins])
    (among,) = calibrate_locally(np.hstack([values, np.random.default_rng(2).random((800, 40))]), [str(k) for k in range(41)], [bins])
    assert ALARM / 160 < alone.p[0, 0] < ALARM / 4
    assert (alone.outcome[0, 0], among.outcome[0, 0]) == (Outcome.FAILED, Outcome.PASSED)


def test_small_bins_are_no_pass(problem):
    bins = quantile_bins("S/N", problem.snr, 12)
    result = calibrate_locally(pit(problem.draws(width=0.3), problem.truth), NAMES, [bins])[0]
    assert (result.outcome == Outcome.UNKNOWN).all()
    assert np.isnan(result.p).all()
    assert np.isfinite(result.coverage).all()


def test_bins_hold_about_as_many_each_and_leave_out_what_is_not_known():
    values = np.append(np.arange(100.0), [np.nan, np.inf])
    bins = quantile_bins("size", values)
    np.testing.assert_array_equal(np.bincount(bins.which[:100]), [25, 25, 25, 25])
    assert (bins.which[100:] == -1).all()
    assert len(bins.labels) == 4
    same = quantile_bins("masked share", np.zeros(30))
    assert (same.which == 0).all()
    half = quantile_bins("masked share", np.repeat([0.0, 0.2], 50))
    assert len(half.edges) - 1 == len(np.unique(half.which))


def test_fixed_edges_do_not_depend_on_the_images_and_leave_none_out():
    bins = fixed_bins("S/N", np.array([-1.0, 9.9, 10.0, 1e9, np.inf, np.nan]), (10.0, 30.0))
    assert bins.which.tolist() == [0, 0, 1, 2, 2, -1]
    assert bins.labels == ("below 10", "10 to 30", "30 and more")
    assert fixed_bins("S/N", np.ones(2), ()).labels == ("all",)
    for edges in ((30.0, 10.0), (10.0, 10.0), (10.0, np.nan), (10.0, np.inf)):
        with pytest.raises(InputError, match="must be finite and rise"):
            fixed_bins("S/N", np.ones(2), edges)


def test_holm_rejects_one_after_another():
    """Against the definition: the smallest of T below alarm / T, the next below alarm / (T - 1), until one is not."""
    assert holm(np.array([0.001, 0.04, 0.03, np.nan, 0.005]), 0.05).tolist() == [True, False, False, False, True]
    assert holm(np.array([0.02, 0.02]), 0.05).tolist() == [True, True]
    assert holm(np.array([0.03, 0.03]), 0.05).tolist() == [False, False]
    assert holm(np.array([np.nan]), 0.05).tolist() == [False]


def test_unusable_values_are_refused(problem):
    bins = quantile_bins("S/N", problem.snr)
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        calibrate_locally(np.full((1000, 3), np.nan), NAMES, [bins])
    with pytest.raises(InputError, match="bins of S/N are not of the same 10 images"):
        calibrate_locally(np.full((10, 3), 0.5), NAMES, [bins])
    with pytest.raises(InputError, match="some of them finite"):
        quantile_bins("S/N", np.full(4, np.nan))
