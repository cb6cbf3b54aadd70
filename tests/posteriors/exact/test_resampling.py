"""Systematic resampling without repetition, against the weights it stands for."""

import numpy as np
import pytest

from astroflow.posteriors.exact.resampling import clipped_share, normalized, resample, tempered


def log_weights(spread, n=4000, seed=1):
    return spread * np.random.default_rng(seed).normal(size=n)


def test_draws_are_distinct_and_chosen_in_proportion_to_their_weights():
    logs, rng = log_weights(0.5), np.random.default_rng(2)
    assert clipped_share(logs, 200) < 1e-12
    counts = np.zeros(len(logs))
    for _ in range(400):
        chosen = resample(logs, 200, rng)
        assert len(np.unique(chosen)) == 200
        counts[chosen] += 1
    expected = 400 * 200 * normalized(logs)
    pulls = (counts - expected) / np.sqrt(expected * (1 - expected / 400))
    assert abs(pulls.mean()) < 0.05
    assert 0.9 < pulls.std() < 1.1


def test_means_of_resampled_draws_are_weighed_means():
    x = np.random.default_rng(3).normal(size=20_000)
    chosen = resample(0.7 * x, 2000, np.random.default_rng(4))  # tilts a standard normal to mean 0.7
    assert abs(x[chosen].mean() - 0.7) < 0.08
    assert abs(x[chosen].std() - 1) < 0.08


def test_weight_that_distinct_draws_cannot_carry_is_told():
    logs = np.zeros(100)
    logs[0] = np.log(99.0)  # half of the weight
    assert clipped_share(logs, 10) == pytest.approx(0.4)  # one draw of ten
    assert 0 in resample(logs, 10, np.random.default_rng(0))


@pytest.mark.parametrize("logs", [np.full(50, -np.inf), np.r_[0.0, np.full(49, -np.inf)]], ids=["no weight", "one draw has it all"])
def test_hopeless_weights_still_give_distinct_draws(logs):
    assert len(np.unique(resample(logs, 20, np.random.default_rng(0)))) == 20


def test_tempering_gives_the_effective_draws_asked_for():
    logs = log_weights(30.0)
    assert 1 / (tempered(logs, 100) ** 2).sum() == pytest.approx(100, rel=0.01)
    gentle = log_weights(0.3)
    np.testing.assert_allclose(tempered(gentle, 100), normalized(gentle))
    excluded = np.r_[-np.inf, logs]
    assert tempered(excluded, 100)[0] == 0


def test_weights_that_are_no_numbers_and_too_many_draws_are_refused():
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="must be numbers"):
            normalized(np.array([0.0, bad]))
    with pytest.raises(ValueError, match="cannot choose"):
        resample(np.zeros(3), 4, np.random.default_rng(0))
