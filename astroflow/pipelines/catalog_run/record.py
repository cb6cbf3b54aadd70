"""What a catalog run was asked for: the first file in its folder, by which it is known again.

``run.json`` holds the options, the recipe, a sum over the hashes of rows and their ids, and the bundle's and the code's versions. Their
hash is the run's fingerprint, which every receipt carries. ``inputs.json`` holds the state of the files when the run was planned.
"""

__all__ = ["IDS_MODULUS", "check_claim", "claim", "fingerprint", "ids_sum", "recorded_bundle", "recorded_inputs", "recorded_run"]

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from astroflow.errors import InputError, OutputError
from astroflow.pipelines.catalog_run.inputs import FileState, file_states
from astroflow.provenance import provenance, write_json

IDS_MODULUS = 2**256
NEEDED = {"catalog", "rows", "ids_sum", "table_sha256", "bundle", "rows_per_partition"}


def fingerprint(asked: dict[str, Any]) -> str:
    """Return the hash that stands for a run."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def ids_sum(index: Iterable[int], ids: Iterable[Any]) -> int:
    """Return a number that stands for which id is in which row: hashes of both, added, so that those of parts add up in any order.

    Parameters
    ----------
    index : iterable of int
        The rows' places in the catalog.
    ids : iterable
        Their ids.

    Returns
    -------
    int
        Below 2**256; a sum of several is to be taken modulo `IDS_MODULUS`.
    """
    hashes = (hashlib.sha256(f"{row}:{identity}".encode()).digest() for row, identity in zip(index, ids, strict=True))
    return sum(int.from_bytes(found, "big") for found in hashes) % IDS_MODULUS


def recorded_run(out: Path) -> dict[str, Any] | None:
    """Return what the run in a folder was asked for, or None where there is no run.

    Raises
    ------
    InputError
        If the record cannot be read.
    """
    record = out / "run.json"
    if not record.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["asked"]
        if not set(found) >= NEEDED:
            raise KeyError("asked")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record} is not the record of an inference run ({error!r})") from None
    return found


def recorded_bundle(out: Path) -> Path:
    """Return where the bundle of the run in a folder lay when it began."""
    return Path(json.loads((out / "run.json").read_text(encoding="utf-8"))["bundle_path"])


def recorded_inputs(out: Path) -> dict[str, FileState]:
    """Return the state that input files had when the run in a folder was planned.

    Raises
    ------
    InputError
        If that cannot be read.
    """
    try:
        found = json.loads((out / "inputs.json").read_text(encoding="utf-8"))
        return {path: None if state is None else (int(state[0]), int(state[1])) for path, state in found.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(f"{out / 'inputs.json'} is not a record of input files ({error!r}); give another --out") from None


def check_claim(out: Path, asked: dict[str, Any]) -> bool:
    """Say whether a folder is a run's already; if not, it is free.

    Raises
    ------
    OutputError
        If it holds another run, or anything else.
    """
    found = recorded_run(out)
    if found is not None:
        changed = [key for key in sorted({*asked, *found}) if found.get(key) != json.loads(json.dumps(asked.get(key)))]
        if changed:
            raise OutputError(f"{out} holds another run ({', '.join(changed)} differ); give another --out, or remove it")
        return True
    if out.is_file():
        raise OutputError(f"{out} is a file; --out names a folder")
    begun = ("inputs.json", "lock")
    if out.exists() and any(file.name not in begun and not file.name.startswith((".run.json.", ".inputs.json.")) for file in out.iterdir()):
        raise OutputError(f"{out} is not empty and holds no inference run; give another --out")
    return False


def claim(out: Path, asked: dict[str, Any], files: Iterable[str], seed: int, bundle: Path) -> None:
    """Make an output folder a run's, or find that it is already.

    Parameters
    ----------
    out : Path
        The folder.
    asked : dict
        What the run is known by.
    files : iterable of str
        Input files whose state is noted.
    seed : int
        Of all random draws.
    bundle : Path
        Where the bundle lies, which is noted, but is no part of what the run is.

    Raises
    ------
    OutputError
        If it holds another run, or anything else.
    """
    if check_claim(out, asked):
        return
    # first, so that a run that has a record has this one too
    write_json(out / "inputs.json", file_states(files))
    write_json(out / "run.json", {"asked": asked, "bundle_path": str(bundle.resolve()), **provenance(asked["catalog"], seed)})
