"""Lines of results survive killed runs, and runs beside each other."""

import multiprocessing

import pytest

from benchmarks.jsonl import append, read

WRITERS, LINES = 4, 50


def write(path, writer):
    for k in range(LINES):
        append(path, {"writer": writer, "line": k, "padding": "x" * 500})


def test_runs_beside_each_other_lose_no_line(tmp_path):
    path = tmp_path / "some" / "results.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(path, writer)) for writer in range(WRITERS)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
        assert one.exitcode == 0
    found = read(path)
    assert {(line["writer"], line["line"]) for line in found} == {(writer, k) for writer in range(WRITERS) for k in range(LINES)}
    assert len(found) == WRITERS * LINES


@pytest.mark.parametrize("cut", ['{"a": 3', '{"a": 3, "long": "' + "x" * 9000, "{"])
def test_a_line_that_was_cut_off_is_no_result_and_is_replaced(tmp_path, cut):
    path = tmp_path / "results.jsonl"
    append(path, {"a": 1})
    append(path, {"a": 2})
    whole = path.read_text()
    path.write_text(whole + cut)
    assert [line["a"] for line in read(path)] == [1, 2]
    append(path, {"a": 4})
    assert path.read_text() == whole + '{"a": 4}\n'
    path.write_text(cut)
    assert read(path) == []
    append(path, {"a": 5})
    assert path.read_text() == '{"a": 5}\n'


def test_a_line_that_is_spoilt_elsewhere_is_named(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        read(path)


def test_there_is_nothing_where_there_is_no_file(tmp_path):
    assert read(tmp_path / "results.jsonl") == []
