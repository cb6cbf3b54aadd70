import subprocess
import sys

PROGRAM = """
import os, sys
from astroflow.networks.loading import import_tensorflow
assert "tensorflow" not in sys.modules
import_tensorflow()
assert "tensorflow" in sys.modules
import_tensorflow()
print("still heard", file=sys.stderr)
os.write(2, b"and so is this\\n")
"""


def test_tensorflow_is_imported_in_silence_and_stderr_works_afterwards():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "still heard\nand so is this\n"
    assert done.stdout == ""


def test_an_import_that_fails_is_an_error_and_stderr_works_afterwards():
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tensorflow':\n"
        "            raise ImportError('not for this processor')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from astroflow.networks.loading import import_tensorflow\n"
        "try:\n"
        "    import_tensorflow()\n"
        "except ImportError as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "not for this processor\n"
