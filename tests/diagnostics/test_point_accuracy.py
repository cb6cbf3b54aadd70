import numpy as np
import pytest

from astroflow.diagnostics import point_accuracy
from astroflow.errors import InputError

KINDS = {"re": "relative", "n": "dex", "q": "plain"}
EDGES = (20.0, 22.0, 24.0)


def catalog(n=4000, seed=1):
    rng = np.random.default_rng(seed)
    truth = {"re": rng.uniform(0.2, 2, n), "n": rng.uniform(0.5, 6, n), "q": rng.uniform(0.2, 1, n)}
    return truth, rng.uniform(20, 24, n), rng.normal(size=n)


def test_planted_errors_come_back_in_their_own_units():
    truth, magnitude, z = catalog()
    faint = magnitude >= 22
    size = np.where(faint, 0.1, 0.05)
    found = {"re": truth["re"] * (1.02 + size * z), "n": truth["n"] * 10 ** (0.03 + 0.04 * z), "q": truth["q"] - 0.01 + 0.02 * z}
    scores = point_accuracy(found, truth, KINDS, magnitude, EDGES)
    np.testing.assert_allclose(scores["re"].bias, 0.02, atol=0.01)
    np.testing.assert_allclose(scores["re"].dispersion, [0.05, 0.1], rtol=0.06)
    np.testing.assert_allclose(scores["n"].bias, 0.03, atol=0.005)
    np.testing.assert_allclose(scores["n"].dispersion, 0.04, rtol=0.06)
    np.testing.assert_allclose(scores["q"].bias, -0.01, atol=0.003)
    np.testing.assert_allclose(scores["q"].dispersion, 0.02, rtol=0.06)
    assert scores["re"].n_images.sum() == 4000
    np.testing.assert_array_equal(scores["q"].completeness, 1.0)


def test_outliers_and_missing_estimates_are_counted_and_do_not_move_the_rest():
    truth, magnitude, z = catalog()
    bad = np.arange(4000) % 20 == 0
    gone = np.arange(4000) % 10 == 5
    found = {"re": np.where(gone, np.nan, np.where(bad, 3 * truth["re"], truth["re"] * (1 + 0.01 * z)))}
    scores = point_accuracy(found, truth, {"re": "relative"}, magnitude, EDGES)["re"]
    np.testing.assert_allclose(scores.outliers, 0.05 / 0.9, atol=0.012)
    np.testing.assert_allclose(scores.completeness, 0.9, atol=0.02)
    np.testing.assert_allclose(scores.bias, 0, atol=0.003)


def test_an_index_without_a_logarithm_is_missing_and_empty_bins_are_nan():
    scores = point_accuracy({"n": np.array([-1.0, 2.0])}, {"n": np.array([1.0, 2.0])}, {"n": "dex"}, np.array([20.5, 20.6]), EDGES)["n"]
    assert scores.completeness[0] == 0.5
    assert np.isnan([scores.bias[1], scores.completeness[1]]).all()
    nothing = point_accuracy({"n": np.array([np.nan])}, {"n": np.array([1.0])}, {"n": "dex"}, np.array([20.5]), EDGES)["n"]
    assert nothing.completeness[0] == 0
    assert np.isnan(nothing.outliers[0])


def test_what_does_not_fit_is_refused():
    truth, magnitude, _ = catalog(10)
    with pytest.raises(InputError, match="re is not among both estimates"):
        point_accuracy({}, truth, KINDS, magnitude, EDGES)
    with pytest.raises(InputError, match="at least two magnitudes that rise"):
        point_accuracy(truth, truth, KINDS, magnitude, (24.0, 20.0))
    with pytest.raises(InputError, match="re: expected 10 estimates and finite truths"):
        point_accuracy({"re": np.ones(3)}, truth, {"re": "relative"}, magnitude, EDGES)
    with pytest.raises(InputError, match="the kind of re must be one of relative, dex, plain; got 'percent'"):
        point_accuracy(truth, truth, {"re": "percent"}, magnitude, EDGES)
