import pyarrow as pa
import pytest

from astroflow.errors import IncompleteError
from astroflow.pipelines.catalog_run import pieces as module
from astroflow.pipelines.catalog_run.pieces import DEATHS, ROWS, in_pieces


class DiesError(BaseException):
    """Stands for the end of a process: nothing may clean up behind it."""


def rows(start, stop, note=""):
    return pa.table({"row": list(range(start, stop)), "note": [note] * (stop - start)})


@pytest.fixture
def deaths(monkeypatch):
    """A function that makes a table of so many rows although some of them kill, and counts the deaths."""
    from pathlib import Path

    unlink, dying = Path.unlink, []
    # a process that is killed removes nothing
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None if dying else unlink(path, missing_ok=missing_ok))

    def run(n, folder, poison):
        def work(start, stop):
            if any(start <= row < stop for row in poison):
                dying.append(start)
                raise DiesError
            return rows(start, stop)

        for count in range(1000):
            dying.clear()
            try:
                return in_pieces(n, folder, work, lambda row, why: rows(row, row + 1, "given up")), count
            except DiesError:
                continue
        raise AssertionError("it never ends")

    return run


@pytest.mark.parametrize("poison", [[], [0], [63, 64], [199], [5, 6, 7, 130]])
def test_only_the_rows_that_kill_are_given_up(tmp_path, deaths, poison):
    table, count = deaths(200, tmp_path, poison)
    assert table.column("row").to_pylist() == list(range(200))
    assert [row for row, note in zip(*(table.column(name).to_pylist() for name in ("row", "note")), strict=True) if note] == poison
    blocks = {row // ROWS for row in poison}
    assert count == len(blocks) + DEATHS * len(poison), "one death shows the piece, three convict the row"


def test_a_fault_that_is_not_the_rows_gives_up_a_few_and_stops(tmp_path, deaths, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    with pytest.raises(IncompleteError, match="more than 3 rows would have to be given up"):
        deaths(200, tmp_path, range(200))
    assert len(list(tmp_path.glob("*.given-up"))) == 3


def test_pieces_that_are_there_are_not_made_again(tmp_path, deaths):
    deaths(200, tmp_path, [150])
    made = []
    in_pieces(200, tmp_path, lambda *piece: made.append(piece) or rows(*piece), lambda row, why: rows(row, row + 1))
    assert made == []


def test_an_error_is_no_death(tmp_path):
    """A full disk or a file that is gone says nothing about the row: it is tried again as often as anybody asks."""

    def fails(start, stop):
        raise OSError(28, "No space left on device")

    for _ in range(5):
        with pytest.raises(OSError, match="No space"):
            in_pieces(10, tmp_path, fails, lambda row, why: rows(row, row + 1, "given up"))
    assert in_pieces(10, tmp_path, rows, lambda row, why: rows(row, row + 1, "given up")).column("note").unique().to_pylist() == [""]


def test_rows_that_raise_what_nobody_expected_are_given_up_and_say_why(tmp_path):
    def work(start, stop):
        if start <= 70 < stop:
            raise ZeroDivisionError("by\nzero")
        return rows(start, stop)

    table = in_pieces(200, tmp_path, work, lambda row, why: rows(row, row + 1, why))
    notes = dict(zip(*(table.column(name).to_pylist() for name in ("row", "note")), strict=True))
    assert list(notes) == list(range(200))
    assert {row: note for row, note in notes.items() if note} == {70: "ZeroDivisionError whenever this row was worked on: by zero"}
    assert not list(tmp_path.glob("*.begun"))


def test_a_bug_that_meets_every_row_is_not_hidden_in_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)

    def work(start, stop):
        raise ZeroDivisionError("everywhere")

    with pytest.raises(IncompleteError, match=r"more than 3 rows would have to be given up: .*\(ZeroDivisionError .* everywhere\)"):
        in_pieces(200, tmp_path, work, lambda row, why: rows(row, row + 1, why))


@pytest.mark.parametrize("error", [MemoryError(), IncompleteError("no")])
def test_errors_that_say_nothing_of_a_row_are_raised(tmp_path, error):
    def work(start, stop):
        raise error

    with pytest.raises(type(error)):
        in_pieces(10, tmp_path, work, lambda row, why: rows(row, row + 1, why))


def test_a_worker_that_was_only_slow_does_no_harm(tmp_path):
    """Its marks stay while others do its work: rows are done one by one, and none is given up."""
    for name in ("000000000-000000064", "000000003-000000004"):
        (tmp_path / f"{name}.{'0' * 32}.begun").touch()
    pieces = []
    table = in_pieces(70, tmp_path, lambda *piece: pieces.append(piece) or rows(*piece), lambda row, why: rows(row, row + 1, "given up"))
    assert table.column("row").to_pylist() == list(range(70))
    assert table.column("note").unique().to_pylist() == [""]
    assert len(pieces) == 64 + 1
