"""Every place at which the kernel can kill a run, in turn: resuming ends with the bytes of a run that nothing happened to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("crash_points.py")


@pytest.mark.parametrize(("how", "least"), [("plain", 35), ("careful", 55)])
def test_a_run_that_is_killed_anywhere_resumes_with_the_same_bytes(tmp_path, how, least):
    ended = subprocess.run([sys.executable, PROGRAM, tmp_path, how], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["problems"] == []
    assert found["steps"] >= least, "two parts, two receipts, two records and a manifest, six steps each"
