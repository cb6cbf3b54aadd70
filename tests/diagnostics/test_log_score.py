import numpy as np
import pytest

from astroflow.diagnostics import log_score, log_score_gain
from astroflow.errors import InputError


def test_mean_and_standard_error():
    values = np.random.default_rng(0).normal(3.0, 2.0, 10_000)
    score = log_score(values)
    assert score.mean == pytest.approx(3.0, abs=0.08)
    assert score.error == pytest.approx(0.02, rel=0.05)
    assert (score.n_images, score.excluded) == (10_000, 0)


def test_exact_posterior_beats_any_other_width_by_the_known_divergence(make_problem):
    problem = make_problem(n=4000, seed=2)
    for width in (0.7, 1.5):
        gain = log_score_gain(problem.log_prob(), problem.log_prob(width=width))
        divergence = 3 * (np.log(width) + 0.5 / width**2 - 0.5)  # of normals in three dimensions
        assert gain.mean > 4 * gain.error
        assert gain.mean == pytest.approx(divergence, abs=4 * gain.error)


def test_missing_correlations_cost_log_score(problem):
    gain = log_score_gain(problem.log_prob(), problem.log_prob(independent=True))
    assert gain.mean > 5 * gain.error


def test_pairing_removes_the_scatter_that_both_share():
    rng = np.random.default_rng(1)
    common = rng.normal(0, 10, 1000)
    gain = log_score_gain(common + 0.5 + rng.normal(0, 0.1, 1000), common)
    assert gain.mean == pytest.approx(0.5, abs=0.02)
    assert gain.error < 0.1 * log_score(common).error


def test_density_zero_at_a_truth_is_counted_and_ruins_the_mean():
    score = log_score(np.array([1.0, -np.inf, 2.0]))
    assert score.mean == -np.inf
    assert score.excluded == 1


def test_one_image_has_no_standard_error():
    assert log_score(np.array([1.5])) == (1.5, np.inf, 1, 0)


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([np.inf]), np.zeros((2, 2)), np.zeros(0)])
def test_unusable_log_densities_are_refused(bad):
    with pytest.raises(InputError, match="log densities"):
        log_score(bad)


def test_gain_needs_the_same_images_and_a_possible_baseline():
    with pytest.raises(InputError, match="same images"):
        log_score_gain(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="no meaning"):
        log_score_gain(np.zeros(2), np.array([0.0, -np.inf]))
