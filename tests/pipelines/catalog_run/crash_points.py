"""A run of toy parts through the real engine, killed at every step that it takes on the disk, and resumed. Prints what came of it as JSON.

It is a program of its own because it forks: that is only safe in a process without threads.
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa

from astroflow.catalogs.parts import parquet_bytes
from astroflow.errors import IncompleteError
from astroflow.pipelines.catalog_run.engine import run_parts
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.lock import locked
from astroflow.pipelines.catalog_run.pieces import in_pieces
from astroflow.pipelines.catalog_run.record import claim, fingerprint, ids_sum
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.pipelines.scheduler import Outcome
from astroflow.pipelines.verify import verify

PARTS, ROWS = 2, 70
BUNDLE = "b" * 64
ASKED = {
    "catalog": {"kind": "toy"}, "rows": PARTS * ROWS, "ids_sum": hex(ids_sum(range(PARTS * ROWS), range(PARTS * ROWS))), "bundle": BUNDLE,
    "table_sha256": "t" * 64, "rows_per_partition": ROWS,
}  # fmt: skip


def rows(start, stop):
    index = list(range(start, stop))
    quality = pa.array([row % 3 for row in index], pa.int8())
    return pa.table({"row_index": index, "id": index, "bundle": [BUNDLE] * len(index), "quality": quality, "flags": [0] * len(index)})


def make(ledger, place, careful):
    part = f"part-{place:05d}.parquet"
    start = place * ROWS
    if careful:
        table = in_pieces(
            ROWS, ledger.pieces(part), lambda a, b: rows(start + a, start + b), lambda row, _: rows(start + row, start + row + 1)
        )
    else:
        table = rows(start, start + ROWS)
    return ledger.finished(part) or ledger.keep(part, parquet_bytes(table), Tally.of(table))


def run(out, careful):
    claim(out, ASKED, [__file__], 1, Path("bundle"))
    with locked(out):
        ledger = Ledger(out, fingerprint(ASKED))
        names = [f"part-{place:05d}.parquet" for place in range(PARTS)]
        receipts = [receipt for name in names if (receipt := ledger.finished(name))]
        waiting = [place for place, name in enumerate(names) if name not in {receipt.part for receipt in receipts}]

        def ask(arguments):
            for number, argument in enumerate(arguments):
                yield Outcome(number, make(*argument))

        run_parts([names[place] for place in waiting], ask, lambda place, _: (ledger, waiting[place], careful), ledger, receipts.append)
        ledger.conclude(receipts, {"rows": PARTS * ROWS})


def forked(function, *arguments):
    """Call a function in a process of its own and return that one's exit status."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            function(*arguments)
            status = 0
        except IncompleteError:
            status = 4
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def crashing(out, careful, step):
    os.environ["ASTROFLOW_CRASH_AT"] = str(step)
    run(out, careful)


def files(out):
    found = {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}
    return {name: content for name, content in found.items() if name not in ("run.json", "inputs.json")}


def main(folder, careful):
    calm = folder / "calm"
    run(calm, careful)
    expected, problems, step = files(calm), [], 0
    while True:
        step += 1
        out = folder / f"{step:04d}"
        died = forked(crashing, out, careful, step)
        if died == 0:
            break
        if died != 137:
            problems.append(f"step {step} ended with {died}")
        # what is there may not pass for a whole catalog, unless it is one
        sound = forked(verify, out)
        if sound == 0 and files(out).keys() < expected.keys():
            problems.append(f"step {step}: verified without {sorted(expected.keys() - files(out).keys())}")
        if forked(run, out, careful) != 0 or forked(verify, out) != 0:
            problems.append(f"step {step}: does not resume")
        if files(out) != expected:
            problems.append(f"step {step}: other files after resuming")
    print(json.dumps({"steps": step - 1, "problems": problems}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "careful")
