import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import c2st, sliced_wasserstein
from astroflow.errors import InputError

RNG = np.random.default_rng(2)
REFERENCE = RNG.normal(size=(1000, 2)) * [1.0, 100.0] + 5


def moved(by, seed=3):
    return np.random.default_rng(seed).normal(size=(1000, 2)) * [1.0, 100.0] + 5 + np.array([by, 0.0])


def test_c2st_is_a_half_for_the_same_distribution_and_one_for_what_never_overlaps():
    assert c2st(moved(0.0), REFERENCE) == pytest.approx(0.5, abs=0.04)
    assert c2st(moved(20.0), REFERENCE) > 0.99


def test_c2st_reaches_the_best_possible_accuracy():
    """Two normals one standard deviation apart are told apart at best with probability Phi(1/2)."""
    assert c2st(moved(1.0), REFERENCE) == pytest.approx(stats.norm.cdf(0.5), abs=0.04)


def test_sliced_wasserstein_is_the_shift_between_projections():
    """Of a shift by d along one of two scaled axes, the rms over directions is d / sqrt 2."""
    assert sliced_wasserstein(moved(3.0), REFERENCE, directions=2000) == pytest.approx(3 / np.sqrt(2), rel=0.06)
    assert sliced_wasserstein(moved(0.0), REFERENCE) < 0.12
    assert sliced_wasserstein(REFERENCE, REFERENCE) == 0


def test_wrong_correlations_are_seen_by_both():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 1000))
    ridge, mirrored = np.stack([a, a + 0.3 * b], 1), np.stack([a, 0.3 * b - a], 1)
    assert c2st(mirrored, ridge) > 0.8
    assert sliced_wasserstein(mirrored, ridge) > 0.5


@pytest.mark.parametrize("distance", [c2st, sliced_wasserstein])
@pytest.mark.parametrize(
    ("draws", "reference", "message"),
    [
        (np.zeros((50, 3)), np.zeros((50, 2)), r"of the same parameters; got \(50, 3\) and \(50, 2\)"),
        (np.zeros((50, 0)), np.zeros((60, 0)), "no parameters to compare"),
        (np.full((50, 2), np.nan), REFERENCE, "`draws` holds numbers that are not finite"),
        (REFERENCE[:4], REFERENCE, "4 and 1000 draws are too few"),
        (REFERENCE, np.stack([REFERENCE[:, 0], np.ones(1000)], 1), "parameter 1 of the reference is the same in all draws"),
    ],
)
def test_what_cannot_be_compared_is_refused(distance, draws, reference, message):
    with pytest.raises(InputError, match=message):
        distance(draws, reference)
