import numpy as np
import pytest

from astroflow.diagnostics import joint_tests
from astroflow.diagnostics.known import FAULTS, known_posterior
from astroflow.diagnostics.local import Outcome

HIGHEST, RANDOM, AROUND, ASIDE = range(4)


def outcomes_of(fault, n=1000, seed=1):
    problem = known_posterior(n, seed)
    claim = FAULTS[fault](problem)
    draws = claim.draws(100)
    return joint_tests(
        draws, problem.truth, log_prob_draws=claim.log_prob(draws), log_prob_truth=claim.log_prob(problem.truth[:, None])[:, 0],
        estimate=problem.estimate, seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "sees"),
    [
        ("exact", []),
        ("width x 0.8", [HIGHEST]),
        ("width x 1.2", [HIGHEST]),
        ("wrong correlations", [HIGHEST]),
        ("the prior", [AROUND, ASIDE]),
    ],
)
def test_each_sees_what_it_should(fault, sees):
    outcome = outcomes_of(fault).outcome
    assert (outcome[sees] == Outcome.FAILED).all()
    if fault in ("exact", "the prior"):
        blind = sorted({HIGHEST, RANDOM, AROUND, ASIDE} - set(sees))
        assert (outcome[blind] == Outcome.PASSED).all()


def test_points_that_look_at_nothing_see_gross_faults():
    problem = known_posterior(1000, 1)
    found = joint_tests(problem.claim(width=3.0).draws(100), problem.truth)
    assert list(found.outcome) == [Outcome.FAILED]


def test_exact_posteriors_rarely_fail_any():
    alarms = [(outcomes_of("exact", 200, seed).outcome == Outcome.FAILED).any() for seed in range(100)]
    assert np.sum(alarms) <= 5, "1 % of them"


def test_few_images_are_no_pass_and_tests_without_input_are_left_out():
    problem = known_posterior(50, 1)
    found = joint_tests(problem.claim().draws(50), problem.truth)
    assert found.names == ("TARP, random points",)
    assert list(found.outcome) == [Outcome.UNKNOWN]
    assert np.isnan(found.p).all()
