"""Paths and files, before anybody parses them.

A path of a catalog recipe may hold column names in braces, one file per object or tile. What is then opened must be an ordinary
file with something in it: an address is never fetched and a device is never read.
"""

__all__ = ["check_descriptors", "check_file", "fill_template", "looks_like", "plain_fields", "template_fields"]

import errno
import os
import stat
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astroflow.errors import AstroflowError, ConfigError, InputError, nearest

_SIGNATURES = (
    (b"SIMPLE  =", "a FITS file"),
    (b"XTENSION", "a FITS extension without a primary header"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"PAR1", "a Parquet file"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the real file"),
)


TRANSIENT = (
    errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOLINK,
)  # fmt: skip
"""Failures of disks, networks and memory, not of what files hold."""


def template_fields(template: str) -> list[str]:
    """Return the names in braces of a path template, in order."""
    try:
        names = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ConfigError(f"path {template!r} is not a template: {error}; braces stand around column names") from error
    if not all(names):
        raise ConfigError(f"path {template!r} has empty braces; write a column's name between them")
    return names


def plain_fields(template: str) -> list[str]:
    """Return the names in braces that carry no format code, so that the text of their columns is what fills them."""
    return [field for _, field, code, conversion in string.Formatter().parse(template) if field and not code and not conversion]


def fill_template(template: str, values: Mapping[str, Any]) -> str:
    """Fill ``{name}`` in a path template; format codes such as ``{id:06d}`` are allowed."""
    if "{" not in template:
        return template
    fixed = os.path.dirname(template.partition("{")[0])
    varying = template[len(fixed) :].lstrip("/") if fixed else template
    try:
        # A column may hold a whole path: joining keeps an absolute one as it is.
        return os.path.join(fixed, varying.format_map(dict(values)))
    except KeyError as error:
        name = str(error.args[0])
        raise ConfigError(
            f"path {template!r} asks for {{{name}}}, which is not a column; known: {', '.join(sorted(values))}.{nearest(name, values)}"
        ) from None
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise ConfigError(f"path {template!r} cannot be filled: {error}") from error


def looks_like(head: bytes) -> str:
    """Say in words what the first bytes of a file look like."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page; did the download fail?"
    if text.startswith(b"<?xml"):
        return "an XML document"
    return "text" if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:256]) else "unknown binary data"


def check_descriptors(error: BaseException, path: str | Path) -> None:
    """Let an error pass, unless it is no fault of the file `path`: too many open files, or a disk or network that fails.

    Raises
    ------
    AstroflowError
        Not an `InputError`, so that it ends the run and never becomes the flag of a row.
    OSError
        The error itself, if it may be gone when the file is read again.
    """
    if isinstance(error, OSError) and error.errno in TRANSIENT:
        raise error
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise AstroflowError(
            f"{path} cannot be opened: {os.strerror(error.errno)}. Raise the limit, for instance with `ulimit -n 4096`, and run again"
        ) from error


def check_file(path: str | Path, what: str) -> int:
    """Check that a path is an ordinary file that holds something, and return its size in bytes.

    Parameters
    ----------
    path : str or Path
        Never an address or a device: those are refused, not fetched.
    what : str
        How the message calls the file, for instance ``"catalog table"``.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if "://" in str(path):
        raise InputError(f"{what} {str(path)!r} is an address; only files on disk are read. Download it first")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{what} {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{what} {str(path)!r} cannot be read: {error}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise InputError(f"{what} {path} should be a file; it is {kind}")
    if status.st_size == 0:
        raise InputError(f"{what} {path} is empty (0 bytes)")
    return status.st_size
