import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import ecdf_difference, rank_histogram
from astroflow.diagnostics.bands import simultaneous_band
from astroflow.errors import InputError

REPEATS = 1500


@pytest.mark.parametrize(("diagnose", "n"), [(ecdf_difference, 400), (rank_histogram, 2000)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_exact_data_leave_a_band_about_as_often_as_its_level_says(diagnose, n, level):
    # Each column is one repeat of a whole validation run, of fresh exactly uniform PIT values.
    values = np.random.default_rng(11).random((n, REPEATS))
    alarms = diagnose(values, level=level).outside.mean()
    error = np.sqrt(level * (1 - level) / REPEATS)
    # Counts are discrete, so the alarms may be somewhat rarer than nominal, hardly more frequent.
    assert 0.75 * (1 - level) - 3 * error < alarms < (1 - level) + 4 * error


def test_a_simultaneous_band_is_wider_than_a_pointwise_one():
    band = simultaneous_band(1000, 20, cumulative=False, level=0.95)
    low, high = stats.binom.interval(0.95, 1000, 1 / 20)
    assert (band.low < low).all()
    assert (band.high > high).all()
    assert band.gamma < 0.05


def test_pointwise_bands_would_raise_far_too_many_alarms():
    counts = np.random.default_rng(12).multinomial(1000, np.full(20, 0.05), size=REPEATS)
    low, high = stats.binom.interval(0.95, 1000, 1 / 20)
    assert ((counts < low) | (counts > high)).any(1).mean() > 0.3


def test_band_limits_are_symmetric_about_the_middle():
    band = simultaneous_band(500, 50, cumulative=True)
    np.testing.assert_array_equal(band.low[::-1], 500 - band.high)


def test_band_is_the_same_every_time():
    first = simultaneous_band.__wrapped__(300, 10, cumulative=True, seed=4)
    second = simultaneous_band.__wrapped__(300, 10, cumulative=True, seed=4)
    np.testing.assert_array_equal(first.low, second.low)
    assert first.gamma == second.gamma


@pytest.mark.parametrize(("n", "pieces", "level"), [(0, 10, 0.9), (10, 1, 0.9), (10, 10, 1.0)])
def test_impossible_bands_are_refused(n, pieces, level):
    with pytest.raises(InputError, match="a band needs"):
        simultaneous_band(n, pieces, cumulative=True, level=level)
