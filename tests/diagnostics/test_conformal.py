import numpy as np
import pytest

from astroflow.diagnostics import conformal_factors, quantile_bins
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
