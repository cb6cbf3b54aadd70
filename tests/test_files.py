import os

import pytest

from astroflow.files import atomic_write, clear_stages


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "a.json"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_a_file_can_be_staged_elsewhere(tmp_path, monkeypatch):
    places = []
    replace = os.replace
    monkeypatch.setattr("os.replace", lambda stage, path: (places.append(stage.parent), replace(stage, path)))
    path = tmp_path / "data" / "a.json"
    atomic_write(path, b"one", stage_in=tmp_path)
    assert path.read_bytes() == b"one"
    assert places == [tmp_path]
    assert [file.name for file in tmp_path.rglob("*")] == ["data", "a.json"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    atomic_write(path, b"one")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, b"two")
    assert path.read_bytes() == b"one"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_only_what_killed_writers_left_is_cleared(tmp_path):
    kept = [".gitignore", ".part-00000.parquet", f"part.{'0' * 32}", f".folder.{'a' * 32}", ".a.json.0123"]
    for name in kept:
        (tmp_path / name).mkdir() if "folder" in name else (tmp_path / name).write_text("mine")
    (tmp_path / f".part-00000.parquet.{'0123456789abcdef' * 2}").write_text("half")
    clear_stages(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)
    clear_stages(tmp_path / "nowhere")
