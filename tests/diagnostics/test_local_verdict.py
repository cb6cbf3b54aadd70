"""L-C2ST as a validation runs it: sized by the simulations, one verdict, and no pass where there is no answer."""

import numpy as np
import pytest
from scipy import stats

from astroflow.diagnostics import local_verdict
from astroflow.diagnostics.known import FAULTS
from astroflow.diagnostics.local import Outcome
from astroflow.diagnostics.local_c2st import FEWEST_PER_COLUMN, fewest_pairs
from astroflow.diagnostics.local_verdict import LOCAL_ALARM, judge_images
from astroflow.errors import InputError


def features_of(problem):
    return {"S/N": problem.snr} | {f"estimate {k}": column for k, column in enumerate(problem.estimate.T)}


def judged(problem, fault="exact", **options):
    return judge_images(FAULTS[fault](problem).draws(50), problem.truth, features_of(problem), **options)


@pytest.fixture(scope="module")
def some(make_problem):
    return make_problem(n=1000, seed=8)


def test_an_exact_posterior_passes(some):
    found = judged(some)
    assert found.outcome == Outcome.PASSED
    assert not found.suspicious.any()
    assert (len(found.rows), found.pairs) == (200, 800)
    assert found.features == tuple(features_of(some))
    np.testing.assert_array_equal(found.values[:, 0], some.snr[found.rows])


@pytest.mark.parametrize("fault", ["width x 0.8", "shift by 0.3 sd", "right on average only", "wrong correlations", "the prior"])
def test_planted_faults_fail(some, fault):
    found = judged(some, fault)
    assert found.outcome == Outcome.FAILED
    assert found.result.overall == LOCAL_ALARM / 2


def test_exact_posteriors_raise_alarms_as_often_as_is_stated(make_problem, monkeypatch):
    """At an alarm of 80 % instead of 0.5 %, so that the rate can be seen, from both sides: of each question it is just half of that."""
    monkeypatch.setattr(local_verdict, "LOCAL_ALARM", 0.8)
    found = [judged(make_problem(n=200, seed=300 + seed), swaps=9, seed=seed) for seed in range(50)]
    overall = sum(one.result.overall <= 0.4 for one in found)
    anywhere = sum(bool(one.suspicious.any()) for one in found)
    failed = sum(one.outcome == Outcome.FAILED for one in found)
    low, high = stats.binom(50, 0.4).ppf([0.001, 0.999])
    assert low <= overall <= high
    assert low <= anywhere <= high
    assert max(overall, anywhere) <= failed <= stats.binom(50, 0.8).ppf(0.999)


def test_features_are_taken_as_far_as_the_simulations_reach(make_problem):
    """A classifier of three parameters weighs ten products, and ten more with each feature."""
    assert fewest_pairs(3, 2) == 30 * FEWEST_PER_COLUMN
    problem = make_problem(n=180, seed=1)
    assert judged(problem, swaps=3).features == ("S/N",)
    few = make_problem(n=100, seed=1)
    reason = judge_images(few.draws(20), few.truth, features_of(few))
    assert reason == "not enough data: 80 simulations to train on, 100 are needed, so about 125 in all"


def test_many_simulations_do_not_make_it_longer(make_problem, monkeypatch):
    monkeypatch.setattr(local_verdict, "MOST_PAIRS", 300)
    monkeypatch.setattr(local_verdict, "MOST_ASKED", 20)
    found = judged(make_problem(n=900, seed=2), "the prior", swaps=9)
    assert (len(found.rows), found.pairs, found.result.overall) == (20, 300, 0.1)
    assert found.rows.max() > 320, "chosen among all of them"


def test_a_posterior_without_spread_is_no_pass(some):
    draws = some.draws(20)
    draws[7, :, 1] = draws[7, 0, 1]
    reason = judge_images(draws, some.truth, features_of(some))
    assert reason == "1 posteriors have no spread: all draws of some parameter are the same"


def test_features_that_say_nothing_are_left_out(some):
    features = {"masked share": np.zeros(1000)} | features_of(some)
    assert judge_images(some.draws(20), some.truth, features, swaps=3).features == tuple(features_of(some))
    assert "nothing is known" in judge_images(some.draws(20), some.truth, {"masked share": np.zeros(1000)})


def test_draws_and_features_that_are_not_finite_are_refused(some):
    draws = some.draws(20)
    draws[3, 4, 1] = np.nan
    with pytest.raises(InputError, match="1 of 1000 images have draws or truths that are not finite"):
        judge_images(draws, some.truth, features_of(some))
    with pytest.raises(InputError, match="S/N must be one finite number per image"):
        judge_images(some.draws(20), some.truth, {"S/N": np.where(np.arange(1000) == 5, np.nan, some.snr)})
