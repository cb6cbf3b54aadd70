import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from astroflow.errors import BundleError, IncompleteError, InputError
from astroflow.pipelines.catalog_run import engine
from astroflow.pipelines.catalog_run.engine import run_parts
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.pipelines.scheduler import Outcome, WorkerLostError

FULL = OSError(28, "No space left on device")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path, "f" * 64)


@pytest.fixture
def driven(ledger, monkeypatch):
    """A function that runs so many parts of which some fail: `trouble` maps a part to the errors of its first calls."""
    slept = []
    monkeypatch.setattr(engine.time, "sleep", slept.append)

    def run(n, trouble, begun=False):
        calls, careful_calls, made = Counter(), Counter(), []
        trouble = {place: list(errors) for place, errors in trouble.items()}

        def ask(arguments):
            for number, (place, careful) in enumerate(arguments):
                calls[place] += 1
                careful_calls[place] += careful
                if trouble.get(place):
                    error = trouble[place].pop(0)
                    if careful and isinstance(error, WorkerLostError):
                        folder = ledger.pieces(str(place))
                        folder.mkdir(parents=True, exist_ok=True)
                        if "stuck" not in str(error):
                            (folder / str(calls[place])).touch()
                    yield Outcome(number, error=error)
                else:
                    yield Outcome(number, ledger.keep(str(place), b"part", Tally(good=1)))

        parts = [str(place) for place in range(n)]
        try:
            run_parts(parts, ask, lambda place, careful: (place, careful), ledger, made.append, begun)
        finally:
            run.calls, run.careful, run.made, run.slept = calls, careful_calls, sorted(int(r.part) for r in made), slept
        return run

    return run


def test_every_part_is_made_once(driven):
    assert driven(5, {}).calls == dict.fromkeys(range(5), 1)
    assert driven.made == list(range(5))
    assert driven(0, {}).made == []


def test_a_part_that_takes_workers_along_is_made_carefully(driven):
    lost = WorkerLostError("killed")
    driven(5, {2: [lost] * 12})
    assert driven.made == list(range(5))
    assert (driven.calls[2], driven.careful[2]) == (13, 12)
    assert sum(driven.careful.values()) == 12, "others are made as always"


def test_a_part_that_kills_without_any_progress_is_given_up(driven):
    with pytest.raises(IncompleteError, match="1 parts could not be made: 2: stuck"):
        driven(5, {2: [WorkerLostError("stuck")] * 99})
    assert driven.made == [0, 1, 3, 4]
    assert driven.calls[2] < 10


def test_a_disk_that_recovers_is_waited_for(driven):
    driven(3, {0: [FULL, FULL], 1: [FULL, FULL], 2: [FULL, FULL]})
    assert driven.made == [0, 1, 2]
    assert driven.slept == [1.0, 5.0]


def test_a_full_disk_stops_the_run_before_everything_is_computed_in_vain(driven):
    with pytest.raises(IncompleteError, match=r"8 parts could not be made, and 92 were not tried: 0: .*No space left.*; and 5 more"):
        driven(100, {place: [FULL] * 99 for place in range(100)})
    assert len(driven.calls) == engine.IN_A_ROW
    assert driven.slept == list(engine.PAUSES)


def test_pauses_are_counted_anew_after_progress(driven):
    driven(2, {0: [FULL] * 4, 1: [FULL] * 2})
    # the other one is made in the third pass, before which two pauses were used up
    assert driven.slept == [1.0, 5.0, 1.0, 5.0]
    assert driven.made == [0, 1]


def test_what_is_refused_on_purpose_stops_nothing_else(driven):
    refused = InputError("tile 7 has changed")
    with pytest.raises(IncompleteError, match="2 parts could not be made: 1: tile 7 has changed; 3: tile 7 has changed. Mend that"):
        driven(6, {1: [refused], 3: [refused]})
    assert driven.made == [0, 2, 4, 5]
    assert driven.calls[1] == 1, "trying again would not help"


def test_a_bug_is_raised_as_it_is_once_the_rest_is_there(driven):
    with pytest.raises(ZeroDivisionError):
        driven(6, {1: [ZeroDivisionError()] * 2, 3: [InputError("no")]})
    assert driven.made == [0, 2, 4, 5]
    assert (driven.calls[1], driven.careful[1]) == (2, 1)


def test_a_part_that_raises_what_nobody_expected_is_made_carefully(driven):
    driven(6, {1: [ZeroDivisionError()]})
    assert driven.made == list(range(6))
    assert driven.careful == {1: 1} | dict.fromkeys([0, 2, 3, 4, 5], 0)


def test_a_bug_that_every_part_meets_stops_the_run_at_once(driven):
    with pytest.raises(ZeroDivisionError):
        driven(100, {place: [ZeroDivisionError()] * 9 for place in range(100)})
    assert driven.calls == dict.fromkeys(range(engine.HOPELESS), 2)


def test_a_run_that_gets_nowhere_stops_at_once(driven):
    with pytest.raises(IncompleteError, match="3 parts could not be made, and 97 were not tried"):
        driven(100, {place: [InputError("no")] for place in range(100)})
    assert len(driven.calls) == engine.HOPELESS


def test_a_run_of_which_parts_are_there_goes_on_past_any_number_of_refusals(driven):
    with pytest.raises(IncompleteError, match="4 parts could not be made: "):
        driven(6, {place: [InputError("no")] for place in range(4)}, begun=True)
    assert driven.made == [4, 5]


def test_another_bundle_stops_the_run(driven):
    with pytest.raises(BundleError, match="has changed"):
        driven(9, {4: [BundleError("it has changed")]})
    assert driven.made == [0, 1, 2, 3]


@pytest.mark.parametrize(("how", "least"), [("plain", 35), ("careful", 55)])
def test_a_run_that_is_killed_at_any_step_on_the_disk_resumes_with_the_same_bytes(tmp_path, how, least):
    program = Path(__file__).with_name("crash_points.py")
    ended = subprocess.run([sys.executable, program, tmp_path, how], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["problems"] == []
    assert found["steps"] >= least, "two parts, two receipts, two records and a manifest, six steps each"
