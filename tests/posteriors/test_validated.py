import json

import numpy as np
import pytest

from astroflow.posteriors.validated import ATTACHED, attach_validation, read_validation

REPORT = {
    "passed": True, "complete": True, "verdict": ["ok"], "images": 300, "draws": 64, "names": ["mag", "n", "joint"],
    "provenance": {"seed": 1},
    "local": [
        {"by": "median n", "edges": [0, 1], "images": [300], "levels": [0.68], "coverage": [[[0.1, 0.1, 0.1]]]},
        {
            "by": "estimated S/N", "columns": ["mag", "n", "joint"], "edges": [5.0, 20.0, 90.0], "images": [200, 100], "levels": [0.5, 0.68, 0.95],
            "coverage": [[[0.5, 0.5, 0.5], [0.66, 0.70, 0.6], [0.9, 0.9, 0.9]], [[0.5, 0.5, 0.5], [0.61, 0.68, 0.6], [0.9, 0.9, 0.9]]],
        },
    ],
}  # fmt: skip


def test_objects_are_told_what_was_measured_of_their_like(tmp_path):
    attach_validation(tmp_path, "abc", REPORT)
    found = read_validation(tmp_path, "abc")
    assert found.coverage.shape == (2, 3, 2)
    faint, bright = found.line(12.0), found.line(90.0)
    assert "were found calibrated on 300 simulations; of 200 as bright as this one (S/N 5 to 20)" in faint
    assert "68% intervals held the truth: mag 66%, n 70%; regions of all parameters together 60% (chance +-3.3%)" in faint
    assert "of 100 as bright as this one (S/N 20 to 90)" in bright
    assert "this object is outside" in found.line(91.0)
    assert found.line(float("nan")).endswith("on 300 simulations")
    assert found.lines()[2] == "  of 100 of S/N 20 to 90: in 61% to 68% of cases, regions of all together in 60% (chance +-4.7%)"


def test_regions_of_highest_density_are_told_where_they_are_known(tmp_path):
    by_snr = REPORT["local"][1]
    columns = {"columns": [*by_snr["columns"], "highest density"], "coverage": [[[*row, 0.8] for row in one] for one in by_snr["coverage"]]}
    attach_validation(tmp_path, "abc", REPORT | {"local": [by_snr | columns]})
    assert "together 80%" in read_validation(tmp_path, "abc").line(12.0)


def test_a_validation_from_before_joint_regions_is_attached_without(tmp_path):
    """`astroflow run` does so with the file that it finds."""
    by_snr = {name: value for name, value in REPORT["local"][1].items() if name != "columns"}
    attach_validation(tmp_path, "abc", REPORT | {"local": [by_snr]})
    assert read_validation(tmp_path, "abc").together is None
    assert "together" not in read_validation(tmp_path, "abc").line(12.0)


def test_records_from_before_joint_regions_and_attempts_are_read(root, tmp_path):
    """The checkout's own, and what an earlier version would have written of it."""
    folder = root / "benchmarks" / "reference_bundle"
    record = json.loads((folder / ATTACHED).read_text())
    found = read_validation(folder, record["bundle"])
    assert (found.passed, len(found.attempts)) == (record["passed"], 1)
    assert "regions" in found.line(12.0)
    older = {name: value for name, value in record.items() if name not in ("together", "attempts")}
    (tmp_path / ATTACHED).write_text(json.dumps(older))
    found = read_validation(tmp_path, record["bundle"])
    assert found.passed == record["passed"]
    assert "regions" not in found.line(12.0)


@pytest.mark.parametrize(
    ("passed", "complete", "words"),
    [(True, False, "calibrated, as far as so few tell, on 300"), (False, True, "NOT calibrated on"), (False, False, "NOT calibrated on")],
)
def test_verdicts_are_told_in_words(tmp_path, passed, complete, words):
    attach_validation(tmp_path, "abc", REPORT | {"passed": passed, "complete": complete})
    found = read_validation(tmp_path, "abc")
    assert words in found.line(12.0)
    assert words in found.lines()[0]


def test_what_is_attached_to_another_bundle_is_not_read(tmp_path):
    assert "never validated" in read_validation(tmp_path, "abc")
    attach_validation(tmp_path, "abc", REPORT)
    assert "never validated" in read_validation(tmp_path, "def")


def validation(seed, **changes):
    return REPORT | {"provenance": {"seed": seed}} | changes


def test_fewer_simulations_do_not_replace_more(tmp_path):
    assert attach_validation(tmp_path, "abc", REPORT) is None
    assert attach_validation(tmp_path, "abc", validation(2, images=299, passed=False)) == "a validation of more simulations"
    assert read_validation(tmp_path, "abc").passed
    assert attach_validation(tmp_path, "abc", validation(3, passed=False)) is None
    assert not read_validation(tmp_path, "abc").passed
    assert attach_validation(tmp_path, "def", validation(4, images=100)) is None


def test_another_seed_does_not_make_a_failed_bundle_pass(tmp_path):
    attach_validation(tmp_path, "abc", validation(1, passed=False))
    assert "validations" not in read_validation(tmp_path, "abc").line(12.0), "one needs no counting"
    for seed in (2, 3, 3, 2):
        assert attach_validation(tmp_path, "abc", validation(seed)) == "a validation that failed, of as many simulations,"
    found = read_validation(tmp_path, "abc")
    assert not found.passed
    assert [one["seed"] for one in found.attempts] == [1, 2, 3], "one made again is no other one"
    for text in (found.line(12.0), found.lines()[0]):
        assert "NOT calibrated on 300 simulations (of 3 validations 2 passed)" in text
    assert attach_validation(tmp_path, "abc", validation(4, images=301)) is None
    assert "found calibrated on 301 simulations (of 4 validations 3 passed)" in read_validation(tmp_path, "abc").line(12.0)


def test_the_same_validation_made_again_takes_its_own_place(tmp_path):
    """Of a bundle that is the same and code that is not; with other draws it is another one."""
    attach_validation(tmp_path, "abc", validation(1, passed=False))
    assert attach_validation(tmp_path, "abc", validation(1, draws=99)) is not None
    assert attach_validation(tmp_path, "abc", validation(1)) is None
    found = read_validation(tmp_path, "abc")
    assert found.passed
    assert len(found.attempts) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.pop("edges"),
        lambda r: r.update(edges=[1.0]),
        lambda r: r.update(coverage="much"),
        lambda r: r.update(together=[[0.5]]),
        lambda r: r.update(attempts=[{"seed": 1}]),
    ],
)
def test_what_cannot_be_read_is_named_and_stops_nobody(tmp_path, spoil):
    attach_validation(tmp_path, "abc", REPORT)
    record = json.loads((tmp_path / ATTACHED).read_text())
    spoil(record)
    (tmp_path / ATTACHED).write_text(json.dumps(record))
    assert "coverage.json cannot be read" in read_validation(tmp_path, "abc")


def test_coverage_survives_the_way(tmp_path):
    attach_validation(tmp_path, "abc", REPORT)
    expected = np.array(REPORT["local"][1]["coverage"])[..., :2]
    np.testing.assert_array_equal(read_validation(tmp_path, "abc").coverage, expected)
