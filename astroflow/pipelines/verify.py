"""`astroflow verify`: proof, from its files alone, that a posterior catalog has one row for each input row, made by one bundle."""

__all__ = ["verify"]

from pathlib import Path
from typing import Any

import numpy as np

from astroflow.catalogs.hats import hats_partitions, part_path
from astroflow.catalogs.parts import part_files, read_part
from astroflow.catalogs.recipe import load_catalog
from astroflow.catalogs.sources import open_source
from astroflow.errors import IncompleteError, InputError
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.record import IDS_MODULUS, fingerprint, ids_sum, recorded_run
from astroflow.pipelines.catalog_run.tally import Tally

MOST_TIMES = 255


def verify(out: Path, against: str | Path | None = None) -> dict[str, Any]:
    """Prove that a posterior catalog has one row for each input row, made by one bundle.

    Every part is read again, hashed and compared with its receipt, every row counted, and ids compared in the order of the input.

    Parameters
    ----------
    out : Path
        The run's folder.
    against : str or Path, optional
        The recipe of the input catalog: its ids are read again, rather than believing what the run has noted of them.

    Returns
    -------
    dict
        Counts of rows by what is known of them, the bundle's digest and the number of parts.

    Raises
    ------
    InputError
        If the folder holds no run, parts are damaged, or rows are repeated, of other ids or of another bundle.
    IncompleteError
        If rows are missing, or the run has not come to its end.
    """
    asked = recorded_run(out)
    if asked is None:
        raise InputError(f"{out} holds no inference run: it has no run.json")
    ledger = Ledger(out, fingerprint(asked))
    rows = asked["rows"]
    if against is not None:
        source = open_source(load_catalog(against))
        if (source.n_rows, hex(ids_sum(range(source.n_rows), source.row_keys()))) != (rows, asked["ids_sum"]):
            raise InputError(f"{out} is of {rows} rows with other ids than the {source.n_rows} of {against}, or in another order")
        if source.rows.digest() != asked["table_sha256"]:
            raise InputError(f"{out} is of the ids of {against}, but positions or other columns that it read are not the same")
    files = part_files(ledger.catalog)
    if not files:
        raise IncompleteError(f"{out} has no parts yet; run `astroflow infer` again")
    names = [str(file.relative_to(ledger.catalog)) for file in files]
    times, found = np.zeros(rows, np.uint8), 0  # a byte a row: of billions, that is all which is held
    total = Tally()
    for file in files:
        table = read_part(file, ["row_index", "id", "bundle", "quality", "flags"])
        others = sorted({str(digest)[:12] for digest in table.column("bundle").unique().to_pylist() if digest != asked["bundle"]})
        if others:
            raise InputError(f"{out}: {', '.join(others)} made some of the rows; the run's bundle is {asked['bundle'][:12]}")
        index = np.asarray(table.column("row_index"))
        outside = index[(index < 0) | (index >= rows)]
        if len(outside):
            raise InputError(f"{out} has row {outside[0]}, which the catalog of {rows} rows has not; its parts are not of one run")
        here, count = np.unique(index, return_counts=True)
        times[here] = np.minimum(times[here].astype(np.int64) + count, MOST_TIMES)
        found += ids_sum(index.tolist(), table.column("id").to_pylist())
        total += Tally.of(table)
    if (times > 1).any():
        row = int(np.flatnonzero(times > 1)[0])
        raise InputError(f"{out} has row {row} {times[row]} times, and {int((times > 1).sum())} rows more than once; a part is there twice")
    if total.rows < rows:
        raise IncompleteError(f"{out} has {total.rows} of {rows} rows; run `astroflow infer` again to complete it")
    if hex(found % IDS_MODULUS) != asked["ids_sum"]:
        raise InputError(f"{out}: the ids are not those of the input catalog")
    receipts = {name: ledger.finished(name) for name in names}
    changed = [name for name, receipt in receipts.items() if receipt is None]
    if changed:
        raise InputError(f"{out}: {changed[0]} is not what its receipt says; run `astroflow infer` again, which makes it anew")
    placed = sorted(name for name in names if name.startswith("dataset/"))
    if placed and sorted(str(part_path(*pixel)) for pixel in hats_partitions(ledger.catalog)) != placed:
        raise InputError(f"{out}: partition_info.csv lists other parts than there are; remove it and run `astroflow infer` again")
    manifest = ledger.concluded()
    if manifest is None:
        raise IncompleteError(f"{out} has all rows but no manifest: run `astroflow infer` again, which writes what is missing")
    if not ledger.agrees(manifest, [receipt for receipt in receipts.values() if receipt is not None]):
        raise InputError(f"{out}: its manifest is of other parts; run `astroflow infer` again")
    return {"bundle": asked["bundle"], "parts": len(files), **total.numbers()}
