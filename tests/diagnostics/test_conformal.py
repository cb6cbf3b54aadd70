import numpy as np
import pytest

from astroflow.diagnostics import conformal_factors, fixed_bins, quantile_bins
from astroflow.diagnostics.conformal import central_interval
from astroflow.errors import InputError


def test_stretched_intervals_cover_whatever_the_posterior(make_problem):
    """A wrong posterior, calibrated on one half: the other half is covered, bin by bin, as the guarantee says."""
    problem = make_problem(n=6000, seed=5)
    draws = problem.draws(width=problem.local_width, shift=0.5)
    bins = quantile_bins("S/N", problem.snr)
    half = np.arange(6000) < 3000
    for level in (0.68, 0.95):
        made = conformal_factors(draws[half], problem.truth[half], bins._replace(which=bins.which[half]), level=level)
        stretched = made.stretch(central_interval(draws[~half], level), bins.which[~half])
        truth = problem.truth[~half]
        inside = (stretched[:, 0] <= truth) & (truth <= stretched[:, 1])
        for k in range(4):
            rows = bins.which[~half] == k
            error = np.sqrt(level * (1 - level) * (1 / rows.sum() + 1 / made.n_images[k]))
            assert (np.abs(inside[rows].mean(0) - level) < 4 * error).all()


def test_factors_say_by_how_much_error_bars_are_off(make_problem):
    problem = make_problem(n=4000, seed=6)
    everything = quantile_bins("everything", np.zeros(4000))
    for width in (0.5, 1.0, 2.0):
        factor = conformal_factors(problem.draws(width=width), problem.truth, everything).factor[0]
        np.testing.assert_allclose(factor, 1 / width, rtol=0.08)


def test_the_factor_is_the_order_statistic_that_the_guarantee_needs():
    """Nine truths at known multiples of the half-width: of 68 %, ceil(10 * 0.68) = 7, so the seventh."""
    draws = np.repeat(np.linspace(-1, 1, 2001)[None, :, None], 9, 0)
    half = 0.68
    truth = (half * np.arange(1, 10) / 10 * np.where(np.arange(9) % 2, 1, -1))[:, None]
    made = conformal_factors(draws, truth, quantile_bins("everything", np.zeros(9)))
    assert made.factor[0, 0] == pytest.approx(0.7, abs=1e-3)
    assert made.most[0] == pytest.approx(0.78)
    assert made.fewest == 3


@pytest.mark.parametrize("level", [0.5, 0.68, 0.7, 0.9, 0.95, 0.99])
def test_a_factor_exists_from_the_fewest_images_on(level):
    """0.9 / (1 - 0.9) is a little more than nine in binary numbers; nine images have a factor nevertheless."""
    draws = np.repeat(np.linspace(-1, 1, 101)[None, :, None], 200, 0)
    truth = np.linspace(0.1, 0.9, 200)[:, None]

    def made(n):
        return conformal_factors(draws[:n], truth[:n], fixed_bins("everything", np.zeros(n), ()), level=level)

    fewest = made(5).fewest
    exact = {0.5: 1, 0.68: 3, 0.7: 3, 0.9: 9, 0.95: 19, 0.99: 99}[level]
    assert fewest == exact
    assert np.isfinite(made(fewest).factor).all()
    assert fewest == 1 or np.isnan(made(fewest - 1).factor).all()


def test_the_guarantee_is_kept_by_small_bins_of_fixed_edges():
    """Nine images and one new one, many times, of a posterior that is wrong: the stretched interval holds the truth as often as it says."""
    rng, runs = np.random.default_rng(7), 2000
    draws = rng.normal(size=(runs, 10, 60, 1)) * 0.5
    truth = rng.normal(0.3, 1, size=(runs, 10, 1))
    inside = 0
    for one, true in zip(draws, truth, strict=True):
        made = conformal_factors(one[:9], true[:9], fixed_bins("everything", np.zeros(9), ()), level=0.7)
        low, high = made.stretch(central_interval(one[9:], 0.7), np.zeros(1, int))[0]
        inside += bool(low[0] <= true[9, 0] <= high[0])
    # of ten that are exchangeable, the seventh smallest of nine factors suffices for the tenth with probability 7 / 10
    assert abs(inside / runs - 0.7) < 4 * np.sqrt(0.21 / runs)


def test_too_few_images_give_no_factor(problem):
    few = quantile_bins("S/N", problem.snr[:8], 4)
    made = conformal_factors(problem.draws()[:8], problem.truth[:8], few, level=0.95)
    assert np.isnan(made.factor).all()
    assert np.isnan(made.stretch(central_interval(problem.draws()[:8], 0.95), few.which)).all()
    assert made.fewest == 19


def test_unusable_input_is_refused(problem):
    bins = quantile_bins("S/N", problem.snr)
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        conformal_factors(problem.draws(), problem.truth, bins, level=1.0)
    with pytest.raises(InputError, match="bins of S/N are not of the same 5 images"):
        conformal_factors(problem.draws()[:5], problem.truth[:5], bins)
