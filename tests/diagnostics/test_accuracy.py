import numpy as np
import pytest

from astroflow.diagnostics import accuracy
from astroflow.errors import InputError

ONES = np.ones(3)


def test_exact_posterior_is_unbiased_with_unit_z_in_every_bin(make_problem):
    problem = make_problem(n=3000, seed=1)
    result = accuracy(problem.draws(), problem.truth, problem.snr, ONES, snr_edges=(10, 30, 100))
    assert result.labels == ("< 10", "10-30", "30-100", "> 100")
    assert result.n_images.sum() == 3000
    error = result.scatter * 1.2533 / np.sqrt(result.n_images)[:, None]  # of a median
    assert (np.abs(result.bias) < 4 * error).all()
    np.testing.assert_allclose(result.rms_z, 1, atol=0.12)
    np.testing.assert_allclose(result.coverage_68, 0.68, atol=4 * np.sqrt(0.22 / result.n_images.min()))
    np.testing.assert_allclose(result.coverage_95, 0.95, atol=4 * np.sqrt(0.05 / result.n_images.min()))


def test_contraction_and_scatter_follow_the_signal(problem):
    result = accuracy(problem.draws(), problem.truth, problem.snr, ONES)
    filled = result.n_images > 0
    assert (np.diff(result.contraction[filled], axis=0) < 0).all()
    assert (np.diff(result.scatter[filled], axis=0) < 0).all()
    assert (result.contraction[filled] < 1).all()
    expected = [np.median(problem.sd[(problem.snr >= a) & (problem.snr < b)], 0) for a, b in [(0, 10), (10, 30), (30, 100)]]
    np.testing.assert_allclose(result.contraction[:3], expected, rtol=0.03)


def test_error_that_cancels_over_all_images_is_caught_in_the_bins(make_problem):
    # Too narrow where S/N is high and too wide where it is low: coverage over all images looks right.
    problem = make_problem(n=3000, seed=1)
    bright = problem.snr > np.median(problem.snr)
    draws = problem.draws(width=np.where(bright, 0.7, 1.43))
    whole = accuracy(draws, problem.truth, problem.snr, ONES, snr_edges=())
    assert whole.labels == ("all",)
    np.testing.assert_allclose(whole.coverage_68, 0.68, atol=0.03)
    split = accuracy(draws, problem.truth, problem.snr, ONES, snr_edges=(np.median(problem.snr),))
    assert (split.coverage_68[0] > 0.78).all()
    assert (split.coverage_68[1] < 0.60).all()
    assert (split.rms_z[0] < 0.8).all()
    assert (split.rms_z[1] > 1.2).all()


def test_shift_of_half_a_sigma_shows_as_bias_of_the_shifted_parameter(problem):
    result = accuracy(problem.draws(shift=0.5), problem.truth, problem.snr, ONES, snr_edges=())
    assert result.bias[0, 0] == pytest.approx(0.5 * np.median(problem.sd[:, 0]), rel=0.3)
    assert np.abs(result.bias[0, 1:]).max() < 0.25 * result.bias[0, 0]


def test_scatter_is_in_standard_deviations_and_ignores_outliers():
    rng = np.random.default_rng(0)
    truth = np.zeros((4000, 1))
    centre = rng.normal(scale=2.0, size=(4000, 1, 1))
    centre[:100] = 1e6
    draws = centre + rng.normal(size=(4000, 50, 1))
    result = accuracy(draws, truth, np.ones(4000), np.ones(1), snr_edges=())
    assert result.scatter[0, 0] == pytest.approx(2.0, rel=0.08)


def test_empty_bins_are_nan_and_identical_draws_stay_finite():
    result = accuracy(np.zeros((4, 10, 1)), np.ones((4, 1)), np.full(4, 50.0), np.ones(1))
    assert result.n_images.tolist() == [0, 0, 4, 0, 0]
    assert np.isnan(result.bias[0]).all()
    assert np.isfinite([values[2] for values in result[2:]]).all()
    assert result.rms_z[2, 0] > 1e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"snr_estimated": np.full(4, np.nan)}, "one number per image"),
        ({"snr_estimated": np.ones(3)}, "one number per image"),
        ({"prior_sd": np.zeros(1)}, "positive"),
        ({"snr_edges": (30, 10)}, "must rise"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    arguments = {"draws": np.zeros((4, 10, 1)), "truth": np.ones((4, 1)), "snr_estimated": np.ones(4), "prior_sd": np.ones(1)}
    with pytest.raises(InputError, match=message):
        accuracy(**(arguments | changes))
