import json
import re

import pytest

from astroflow import provenance as module
from astroflow.provenance import provenance, write_json


def test_it_says_what_decides_a_result():
    found = provenance({"n": 3}, 7)
    assert found["recipe"] == {"n": 3}
    assert found["seed"] == 7
    assert {"python", "astroflow", "tensorflow", "galsim", "numpy"} <= set(found["versions"])
    assert all(re.match(r"\d+\.\d+", version) for version in found["versions"].values())
    assert isinstance(found["command"], list)
    assert found["git_revision"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", found["git_revision"])


def test_a_package_that_is_missing_is_said_to_be(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("astroflow", "no-such-package"))
    assert module.versions()["no-such-package"] == "not installed"


def test_outside_a_checkout_there_is_no_revision(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "astroflow" / "provenance.py"))
    assert module.git_revision() is None


def test_json_is_strict_and_whole(tmp_path):
    path = tmp_path / "new" / "facts.json"
    write_json(path, {"b": 1, "a": [tmp_path]})
    assert json.loads(path.read_text()) == {"a": [str(tmp_path)], "b": 1}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text())["b"] == 1, "the file from before is still there"
    assert [p.name for p in path.parent.iterdir()] == ["facts.json"]
