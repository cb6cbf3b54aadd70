import io
import re
import sys
import time

import pytest

from astroflow.pipelines.progress import reporter


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then_with_rate_and_time_left(clock, capsys):
    with reporter("images") as progress:
        for done in range(0, 2001, 100):
            progress("simulate", done, 2000, {})
            clock[0] += 5.0
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "simulate: 300/2000 images, 20 images/s, 1 min 25 s left"
    assert lines[-1] == "simulate: 2000/2000 images, 20 images/s, 0 s left"
    assert len(lines) == 7


def test_a_resumed_run_is_not_flattered_by_what_was_there(clock, capsys):
    with reporter("rows") as progress:
        progress("infer", 1_000_000, 2_000_000, {"unusable": 3})
        clock[0] += 20.0
        progress("infer", 1_000_100, 2_000_000, {"unusable": 4})
    assert capsys.readouterr().err == "infer: 1000100/2000000 rows, 5.0 rows/s, 55 h 33 min left, unusable 4\n"


def test_what_is_done_at_once_says_so(capsys):
    with reporter("rows") as progress:
        progress("infer", 60, 60, {})
    assert capsys.readouterr().err == "infer: 60/60 rows\n"


def test_a_terminal_shows_a_bar(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with reporter("steps") as progress:
        progress("train", 10, 100, {"loss": 1.25})
        clock[0] += 2.0
        progress("train", 50, 100, {"loss": -0.5})
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "train" in text
    assert "50/100 steps, 20 steps/s, 2 s left, loss -0.5" in text


def test_stages_are_counted_apart(clock, capsys):
    with reporter("steps") as progress:
        progress("train", 0, 100, {})
        clock[0] += 50.0
        progress("train", 100, 100, {})
        progress("polish", 0, 10, {})
        clock[0] += 1.0
        progress("polish", 10, 10, {})
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["train: 100/100 steps, 2.0 steps/s, 0 s left", "polish: 10/10 steps, 10 steps/s, 0 s left"]
