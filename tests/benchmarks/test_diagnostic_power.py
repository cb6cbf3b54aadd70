"""Which diagnostic catches which fault: a small matrix keeps to what is expected, and the document's table is that of the results."""

import json

import numpy as np
import pytest

from astroflow.diagnostics.known import FAULTS
from benchmarks import diagnostic_power as power

REPETITIONS, SLOW = 2, {"L-C2ST"}


@pytest.fixture(scope="module")
def small():
    """Two repetitions of all diagnostics but the classifier, whose trainings take seconds each (`test_local_c2st`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(power, "DIAGNOSTICS", {name: one for name, one in power.DIAGNOSTICS.items() if name not in SLOW})
        return sum(power.repetition(seed, 1000).astype(int) for seed in range(REPETITIONS)), list(power.DIAGNOSTICS)


def results_of(counts, names, repetitions):
    rows = {name: dict(zip(FAULTS, row, strict=True)) for name, row in zip(names, counts, strict=True)}
    return {"repetitions": repetitions, "images": 1000, "draws": 100, "report_rate": 0.03, "alarms": rows}


def test_every_pair_has_an_expectation():
    assert set(power.EXPECTED) == set(power.DIAGNOSTICS)
    for letters in power.EXPECTED.values():
        assert len(letters.split()) == len(FAULTS) - 1
    for fault in list(FAULTS)[1:]:
        assert any(power.expectation(name, fault) == power.CATCHES for name in power.DIAGNOSTICS), "nothing must catch it"


def test_a_small_matrix_is_as_expected(small):
    counts, names = small
    for row, name in zip(counts.tolist(), names, strict=True):
        for alarms, fault in zip(row, FAULTS, strict=True):
            expected = power.expectation(name, fault)
            # seeds are fixed: in these two nothing is missed that is caught 19 times in 20, and chance raises no alarm
            assert expected != power.CATCHES or alarms == REPETITIONS, (name, fault)
            assert expected != power.BLIND or alarms == 0, (name, fault)


def test_bins_of_the_very_draws_that_are_ranked_would_raise_false_alarms():
    """That is why bins are made of others."""
    problem = power.known_posterior(1000, 0)
    claim = FAULTS["the prior"](problem)
    draws = claim.draws(8)
    leaky = [power.quantile_bins(name, column) for name, column in zip("abc", np.median(draws, 1).T, strict=True)]
    values = power.pit(draws, problem.truth)
    assert power.fails_in(leaky, values)
    assert not power.fails_in(power.data_bins(problem, claim), values)


def test_what_is_not_as_expected_is_starred_and_named():
    names = list(power.DIAGNOSTICS)
    counts = np.array([[200 * (power.expectation(name, fault) == power.CATCHES) for fault in FAULTS] for name in names])
    assert power.unexpected(results_of(counts, names, 200)) == []
    assert "*" not in power.table(results_of(counts, names, 200)).replace("**", "")
    planted = counts.copy()
    planted[0, 1], planted[0, 0], planted[0, 8] = 189, 9, 8
    results = results_of(planted, names, 200)
    assert power.unexpected(results) == [(names[0], "exact"), (names[0], "width x 0.8")]
    assert f"| {names[0]} | 4.5% * | **94.5%** * | **100%** |" in power.table(results)
    planted[:, 8] = 0
    assert ("every diagnostic", "the prior") in power.unexpected(results_of(planted, names, 200))


@pytest.fixture(scope="module")
def results():
    return json.loads(power.RESULTS.read_text())


def test_the_results_are_as_expected(results):
    assert power.unexpected(results) == []


def test_the_documents_table_is_that_of_the_results(root, results):
    assert power.table(results) in (root / "docs" / "calibration.md").read_text()
