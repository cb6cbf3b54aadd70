"""Rows that kill the process which works on them, or that a bug does: found without losing their neighbours.

A partition that has taken workers along, or raised what nobody expected, is worked on in pieces. Before a piece is begun it leaves a mark
on the disk, and what comes of it is kept there, so the next process goes on where the last one died: a piece that was begun but never
finished is cut into single rows, and a row is given up when several processes have died with it alone at work. An error that is neither the
disk's nor memory's nor raised on purpose is found in the same way. A worker that was only slow leaves a mark too: its piece is cut
needlessly, and only if three of them were slow at one row alone is that row given up though nothing died of it.
"""

__all__ = ["DEATHS", "in_pieces"]

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from astroflow.errors import AstroflowError, IncompleteError
from astroflow.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 10
"""A partition of which more rows would be given up has another fault than its rows."""
ROWS = 64
"""Rows of a piece, before anything has died of it."""
DEATHS = 3
"""So many processes have to die with one row alone at work before it is given up: any of them may have been killed for another reason."""


def in_pieces(n: int, folder: Path, work: Callable[[int, int], "pa.Table"], give_up: Callable[[int, str], "pa.Table"]) -> "pa.Table":
    """Make a table of `n` rows piece by piece, surviving the death of this process at any of them when called again.

    Parameters
    ----------
    n : int
        Rows.
    folder : Path
        Where marks and finished pieces are kept between calls.
    work : callable
        Given a first row and the row behind the last, makes their part of the table.
    give_up : callable
        Given a row and why it is given up, makes the one that stands for it.

    Raises
    ------
    IncompleteError
        If more than `MOST` rows would have to be given up.
    """
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for start in range(0, n, ROWS):
        tables += _piece(start, min(start + ROWS, n), folder, work, give_up)
    return pa.concat_tables(tables)


def _piece(
    start: int, stop: int, folder: Path, work: Callable[[int, int], "pa.Table"], give_up: Callable[[int, str], "pa.Table"]
) -> list["pa.Table"]:
    name = f"{start:09d}-{stop:09d}"
    kept = folder / f"{name}.arrow"
    if kept.exists():
        return [_read(kept)]
    deaths, alone = len(list(folder.glob(f"{name}.*.begun"))), stop - start == 1
    why = f"{DEATHS} processes died, each with this row alone at work" if deaths >= DEATHS and alone else ""
    if not why and not (deaths and not alone):
        mark = folder / f"{name}.{uuid.uuid4().hex}.begun"
        mark.touch()
        try:
            table = work(start, stop)
            _write(table, kept)
            return [table]
        except (AstroflowError, OSError, MemoryError):
            raise  # which says nothing of the rows
        except Exception as error:
            why = f"{type(error).__name__} whenever this row was worked on: {' '.join(str(error).split())[:200]}"
        finally:
            # an error is no death: whoever comes next need not be careful
            mark.unlink(missing_ok=True)
    if not alone:
        return [table for row in range(start, stop) for table in _piece(row, row + 1, folder, work, give_up)]
    if len(list(folder.glob("*.given-up"))) >= MOST:
        raise IncompleteError(
            f"more than {MOST} rows would have to be given up: it is not the rows, but perhaps their file, too little memory, or a bug "
            f"({why})"
        )
    table = give_up(start, why)
    _write(table, kept)
    (folder / f"{name}.given-up").touch()
    return [table]


def _write(table: "pa.Table", path: Path) -> None:
    import pyarrow as pa

    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    atomic_write(path, stream.getvalue().to_pybytes())


def _read(path: Path) -> "pa.Table":
    import pyarrow as pa

    with pa.OSFile(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
