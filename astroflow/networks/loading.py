"""Importing TensorFlow without its start-up notices, which no setting silences."""

__all__ = ["import_tensorflow"]

import contextlib
import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow with stderr turned away; errors are raised as usual."""
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    with contextlib.ExitStack() as stack:
        saved = os.dup(2)
        stack.callback(os.close, saved)
        stack.callback(os.dup2, saved, 2)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import tensorflow  # noqa: F401
