import fcntl
import subprocess
import sys

import pytest

from astroflow.errors import OutputError
from astroflow.pipelines.catalog_run.lock import locked

HOLD = "import sys, pathlib; from astroflow.pipelines.catalog_run.lock import locked\nwith locked(pathlib.Path(sys.argv[1])):\n print(flush=True); input()"


def test_a_folder_has_one_driver_for_as_long_as_it_lives(tmp_path):
    with locked(tmp_path):
        pass
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(OutputError, match="another process is at work"), locked(tmp_path):
            pass
        other.kill()
    with locked(tmp_path):
        pass


def test_where_nothing_can_be_locked_the_user_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(RuntimeWarning, match="cannot be locked.*No locks available"), locked(tmp_path):
        pass
