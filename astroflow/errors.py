"""What can go wrong, as one small tree.

Every message says what was expected, what came, where, and what to do::

    AstroflowError
    ├── ConfigError (ValueError)      a recipe or an option
    ├── InputError (ValueError)       images, PSFs, tables, tiles: anything a user hands in
    ├── BundleError (ValueError)      a trained posterior on disk that cannot be trusted
    ├── OutputError (ValueError)      an output folder that holds something else
    └── IncompleteError (RuntimeError)  a run that stopped early and can be resumed

The command line turns each into one line on stderr and the exit code in ``exit_code``.
"""

__all__ = [
    "AstroflowError",
    "BundleError",
    "ConfigError",
    "IncompleteError",
    "InputError",
    "OutputError",
    "nearest",
]

import difflib
from collections.abc import Iterable


class AstroflowError(Exception):
    """Anything astroflow refuses on purpose."""

    exit_code = 2


class ConfigError(AstroflowError, ValueError):
    """A recipe or option that cannot be used."""


class InputError(AstroflowError, ValueError):
    """An image, PSF, table or tile that cannot be used."""


class BundleError(AstroflowError, ValueError):
    """A bundle that is damaged, of another version, or not a bundle."""


class OutputError(AstroflowError, ValueError):
    """An output place that holds another run."""


class IncompleteError(AstroflowError, RuntimeError):
    """A run that ended before all its work was done; running it again resumes."""

    exit_code = 4


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
