import json

import numpy as np
import pytest

from astroflow.diagnostics import calibrate, quantile_bins
from astroflow.diagnostics.known import FAULTS
from astroflow.diagnostics.local import Outcome
from astroflow.errors import InputError


def report_of(problem, *, log_prob=None, **faults):
    width = faults.get("width", 1.0)
    log_prob = problem.log_prob(width=width) if log_prob is None else log_prob
    baseline = -0.5 * (problem.truth**2 + np.log(2 * np.pi)).sum(1)  # the prior
    return calibrate(
        problem.draws(**faults), log_prob, problem.truth, problem.snr, problem.parameters, np.ones(3), baseline_log_prob=baseline
    )


def test_exact_posterior_passes_everything(problem):
    report = report_of(problem)
    assert report.passed
    assert report.problems == ((), (), (), ())
    assert all(line.startswith("ok") for line in report.verdict)
    assert report.gain.mean > 5 * report.gain.error


def test_exact_posteriors_rarely_raise_an_alarm(make_problem):
    # four KS tests at 0.001, six coverages at 3.3 sigma, the joint tests at 0.01
    reports = [report_of(make_problem(n=300, seed=seed)) for seed in range(60)]
    assert {round(report.false_alarm, 6) for report in reports} == {round(reports[0].false_alarm, 6)}
    assert 0.014 + 6 * 0.0009 < reports[0].false_alarm < 0.014 + 6 * 0.0018
    assert sum(not report.passed for report in reports) <= 4


def test_the_rate_of_false_alarms_counts_every_test_that_is_made(problem):
    plain = report_of(problem).false_alarm
    binned = calibrate(
        problem.draws(), problem.log_prob(), problem.truth, problem.snr, problem.parameters, np.ones(3),
        binnings=[quantile_bins("S/N", problem.snr)], features={"S/N": problem.snr},
    )  # fmt: skip
    assert binned.false_alarm == pytest.approx(plain + 0.01 + 0.005)


@pytest.mark.parametrize(
    ("fault", "guilty", "words"),
    [
        ({"width": 0.7}, [0, 1, 2], "overconfident"),
        ({"width": 1.5}, [0, 1, 2], "underconfident"),
        ({"shift": 0.5}, [0], "lies too high"),
        ({"shift": -0.5}, [0], "lies too low"),
        ({"swap": True}, [0, 1], "not uniform"),
    ],
)
def test_each_fault_is_found_and_named(problem, fault, guilty, words):
    report = report_of(problem, **fault)
    assert not report.passed
    for i in range(3):
        text = "; ".join(report.problems[i])
        assert (words in text) == (i in guilty), report.verdict


def test_joint_fault_with_exact_marginals_is_found(problem):
    report = report_of(problem, mirror=True)
    assert report.problems[:3] == ((), (), ())
    assert "far out" in report.problems[3][1]
    assert report.verdict[3].startswith("FAIL joint")


def test_what_is_right_on_average_only_is_found_in_bins(problem):
    faint = problem.snr < np.median(problem.snr)
    draws = FAULTS["right on average only"](problem).draws(200)
    arguments = (draws, problem.log_prob(), problem.truth, problem.snr, problem.parameters, np.ones(3))
    report = calibrate(*arguments, binnings=[quantile_bins("S/N", problem.snr, 2)])
    (found,) = report.local
    np.testing.assert_array_equal(found.bins.which == 0, faint)
    assert (found.outcome[:, :3] == Outcome.FAILED).all()
    (line,) = [line for line in report.verdict if "bins of S/N" in line]
    assert line.startswith("FAIL in 2 bins of S/N")
    assert "a, b, c" in line
    assert calibrate(*arguments).problems[:3] == ((), (), ()), "unseen without them"


def test_too_few_images_for_a_bin_say_so(problem):
    report = calibrate(
        problem.draws()[:150], problem.log_prob()[:150], problem.truth[:150], problem.snr[:150], problem.parameters, np.ones(3),
        binnings=[quantile_bins("S/N", problem.snr[:150])],
    )  # fmt: skip
    assert (report.local[0].outcome == Outcome.UNKNOWN).all()
    assert "?    in bins of S/N: not enough images" in report.verdict
    assert report.to_json()["local"][0]["outcome"][0][0] == "not enough data"


def test_image_by_image_is_asked_where_there_are_features(problem):
    """Wrong correlations in the faint half alone; without features nobody asks."""
    claim, wrong = problem.claim(), problem.claim(mirror=True)
    draws = np.where(problem.faint[:, None, None], wrong.draws(60), claim.draws(60))
    features = {"S/N": problem.snr, "estimate": problem.estimate[:, 0]}
    arguments = (problem.log_prob(), problem.truth, problem.snr, problem.parameters, np.ones(3))
    found, fine = (calibrate(one, *arguments, features=features) for one in (draws, claim.draws(60)))
    assert found.local_c2st.outcome == Outcome.FAILED
    assert not found.passed
    (line,) = [line for line in found.verdict if "L-C2ST" in line]
    assert line.startswith("FAIL L-C2ST: p = 0.0025 over 200 images")
    assert "of them truths can be told from draws" in line
    assert fine.passed
    assert fine.complete
    assert fine.to_json()["local_c2st"]["outcome"] == "passed"
    assert calibrate(draws, *arguments).local_c2st is None


def test_no_answer_about_images_is_no_pass(problem):
    rows = slice(0, 105)
    report = calibrate(
        problem.draws()[rows], problem.log_prob()[rows], problem.truth[rows], problem.snr[rows], problem.parameters, np.ones(3),
        features={"S/N": problem.snr[rows]},
    )  # fmt: skip
    assert not report.complete
    (line,) = [line for line in report.verdict if "L-C2ST" in line]
    assert line.startswith("?    L-C2ST: not enough data: 84 simulations")
    assert report.to_json()["local_c2st"]["outcome"] == "not enough data"


def test_factors_are_in_bins_whose_edges_no_image_has_chosen(problem):
    report = calibrate(problem.draws(width=0.5), problem.log_prob(), problem.truth, problem.snr, problem.parameters, snr_edges=(30.0,))
    assert [(made.bins.name, made.level) for made in report.conformal] == [("estimated S/N", 0.68), ("estimated S/N", 0.95)]
    assert [made.bins.edges.tolist() for made in report.conformal] == [[-np.inf, 30.0, np.inf]] * 2
    np.testing.assert_allclose(np.concatenate([made.factor for made in report.conformal]), 2, rtol=0.25)
    (first, _) = report.to_json()["conformal"]
    assert first["factor"] == report.conformal[0].factor.tolist()
    assert first["edges"] == [None, 30.0, None]
    assert first["of"].startswith("central intervals of 200 draws by this posterior as it is")


def test_a_joint_posterior_that_is_wrong_somewhere_fails_in_bins_alone(make_problem):
    """Correlations of the faintest fifth; nothing that looks at all images sees it, and no marginal does."""
    problem = make_problem(n=1000, seed=9)
    report = {}
    for fault in ("exact", "wrong correlations if faintest"):
        claim = FAULTS[fault](problem)
        draws = claim.draws(200)
        report[fault] = calibrate(
            draws, claim.log_prob(problem.truth[:, None])[:, 0], problem.truth, problem.snr, problem.parameters, np.ones(3),
            log_prob_draws=claim.log_prob(draws[:, :64]), estimate=problem.estimate, binnings=[quantile_bins("S/N", problem.snr)],
        )  # fmt: skip
    assert report["exact"].passed
    wrong = report["wrong correlations if faintest"]
    assert not wrong.passed
    assert not any(wrong.problems)
    assert (wrong.joint_tests.outcome == Outcome.PASSED).all()
    (line,) = [line for line in wrong.verdict if line.startswith("FAIL")]
    assert line.startswith("FAIL in 4 bins of S/N")
    assert "highest density" in line
    found = wrong.local[0]
    assert found.names == ("a", "b", "c", "joint", *wrong.joint_tests.names)
    k = found.names.index("highest density")
    assert (found.coverage[0, :, k] < found.levels - 2.5 * found.error[0]).all()
    record = wrong.to_json()
    assert record["local"][0]["columns"] == list(found.names)
    assert record["joint_coverage"]["regions"] == list(found.names[3:])
    overall = np.average(found.coverage[..., k], axis=0, weights=found.n_images)
    np.testing.assert_allclose(np.array(record["joint_coverage"]["fraction"])[:, 1], overall)
    assert wrong.main_region == "highest density"
    assert f"{100 * overall[1]:.1f}%" in wrong.coverage_table()[4]


def test_a_posterior_without_spread_fails_and_draws_that_are_not_finite_are_refused(problem):
    draws = problem.draws()
    draws[:, :, 1] = draws[:, :1, 1]
    arguments = (problem.log_prob(), problem.truth, problem.snr, problem.parameters, np.ones(3))
    options = {"features": {"S/N": problem.snr}, "binnings": [quantile_bins("S/N", problem.snr)], "snr_edges": (30.0,)}
    report = calibrate(draws, *arguments, **options)
    assert not report.passed
    assert not report.complete
    assert "no spread" in report.local_c2st
    assert np.isinf(report.conformal[0].factor[:, 1]).all()
    assert report.to_json()["conformal"][0]["factor"][0][1] is None
    draws[5, 3, 0] = np.nan
    with pytest.raises(InputError, match="1 of 1000 images have draws or truths that are not finite"):
        calibrate(draws, *arguments, **options)


def test_truths_of_density_zero_fail(problem):
    log_prob = problem.log_prob()
    log_prob[:2] = -np.inf
    report = report_of(problem, log_prob=log_prob)
    assert not report.passed
    assert "2 truths have density zero" in report.verdict[-1]
    assert report.to_json()["log_score"] == {"mean": None, "error": None, "n_images": 1000, "excluded": 2}


def test_report_is_strict_json_of_plain_numbers(problem):
    report = report_of(problem)
    text = json.dumps(report.to_json(), allow_nan=False)
    back = json.loads(text)
    assert back == report.to_json()
    assert back["names"] == ["a", "b", "c", "joint"]
    assert back["images"] == 1000
    assert back["coverage"]["levels"] == [0.5, 0.68, 0.9, 0.95]
    assert back["coverage"]["fraction"][1][0] == pytest.approx(report.coverage.fraction[1, 0])
    assert back["accuracy"]["bins"] == list(report.accuracy.labels)
    assert back["accuracy"]["bias"][-1] == [None] * 3  # no image has S/N above 300
    assert back["passed"] is True


def test_tables_fit_a_terminal(problem):
    report = report_of(problem)
    table = report.coverage_table()
    assert len(table) == 7
    assert table[4].startswith("all together")
    assert table[4].endswith("(ellipsoids)"), "densities at draws were not given"
    assert all(len(line) <= 120 for line in table)
    assert table[1].startswith("a ")
    assert f"{100 * report.coverage.fraction[1, 0]:.1f}%" in table[1]
    rows = report.contraction_table()
    assert len(rows) == 1 + len(report.accuracy.labels)
    assert f"{report.accuracy.contraction[1, 2]:.4f}" in rows[2]


def test_report_depends_on_its_seed_alone(problem):
    assert report_of(problem).to_json() == report_of(problem).to_json()


def test_prior_width_is_that_of_the_truths_by_default(problem):
    arguments = problem.draws(), problem.log_prob(), problem.truth, problem.snr, problem.parameters
    given, default = calibrate(*arguments, problem.truth.std(0)), calibrate(*arguments)
    np.testing.assert_allclose(default.accuracy.contraction, given.accuracy.contraction)
    assert default.gain is None
    assert default.to_json()["gain_over_baseline"] is None


def test_arguments_that_do_not_match_are_refused(problem):
    with pytest.raises(InputError, match="`log_prob` must be one number per image"):
        report_of(problem, log_prob=np.zeros(4))
    with pytest.raises(InputError, match="2 parameters; expected 3: a, b, c"):
        calibrate(problem.draws()[..., :2], problem.log_prob(), problem.truth[:, :2], problem.snr, problem.parameters)
