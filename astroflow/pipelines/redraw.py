"""`astroflow redraw`: draws of rows of a finished catalog, as many as wanted, without any image.

A run with ``--contexts`` keeps what draws are made from (`astroflow.posteriors.kept`). With its bundle and seed, the first draws that are
made of it later are those that the catalog's summaries were made of, bit by bit. Refined rows are another matter: their draws are kept, and
there are no more of them.
"""

__all__ = ["Redrawn", "read_ids", "redraw", "write_draws"]

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.catalogs.parts import part_files, read_part, write_parquet
from astroflow.catalogs.posterior_table import samples_array, samples_of, vectors_of
from astroflow.errors import BundleError, IncompleteError, InputError
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.record import fingerprint, recorded_bundle, recorded_run
from astroflow.posteriors.bundle import load_posterior
from astroflow.posteriors.flags import quality
from astroflow.posteriors.kept import Kept
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

    from astroflow.posteriors.posterior import Posterior

COLUMNS = ["id", "row_index", "flags", "context", "fit", "frame_dx_arcsec", "frame_dy_arcsec"]
SHOWN = 5


@dataclass(frozen=True)
class Redrawn:
    """Draws of N rows: `ids` ``(N,)``, `draws` ``(N, S, P)`` in physical units, of which each row has `counts` ``(N,)``; NaN behind them.

    A row without a posterior has none; a refined one has as many as were kept of it, if more are wanted.
    """

    ids: Array
    draws: Array
    counts: Array
    parameters: Parameters


def redraw(
    out: Path, *, ids: Iterable[Any] | None = None, n_draws: int = 1000, seed: int | None = None, bundle: Path | None = None
) -> Redrawn:
    """Draw again from the posteriors of a finished catalog.

    Parameters
    ----------
    out : Path
        Output folder of `infer`, which kept contexts.
    ids : iterable, optional
        Of which rows, in which order; all, in that of the input catalog, if not given.
    n_draws : int
        Draws of each, S.
    seed : int, optional
        The run's if not given: then the first draws are those of the run.
    bundle : Path, optional
        The run's bundle, if it has been moved.

    Raises
    ------
    InputError
        If the folder holds no such run, has kept no contexts, or lacks an id.
    IncompleteError
        If the run has not come to its end.
    BundleError
        If the bundle is not the run's.
    """
    asked = recorded_run(out)
    if asked is None:
        raise InputError(f"{out} holds no inference run: it has no run.json")
    if not asked.get("keep_contexts"):
        raise InputError(f"{out} has kept nothing to draw from again: run `astroflow infer --contexts` in another --out")
    if Ledger(out, fingerprint(asked)).concluded() is None:
        raise IncompleteError(f"{out} is not complete: run `astroflow infer` again first")
    if n_draws < 1:
        raise InputError(f"`n_draws` must be at least 1; got {n_draws}")
    posterior = load_posterior(recorded_bundle(out) if bundle is None else bundle)
    if posterior.digest != asked["bundle"]:
        raise BundleError(f"{out} was made by bundle {asked['bundle'][:12]}, this one is {posterior.digest[:12]}; name the right one")
    table = _rows(out, None if ids is None else list(ids), refined=asked["refine_budget"] > 0)
    draws = posterior.sample(_kept(table, posterior), n_draws, asked["seed"] if seed is None else seed)
    known, counts = np.asarray(table.column("id").to_pylist()), np.where(np.isfinite(draws[:, 0, 0]), n_draws, 0)
    if "draws_refined" in table.column_names:
        _put_refined(draws, counts, table)
    return Redrawn(known, draws, counts, posterior.parameters)


def write_draws(found: Redrawn, path: Path) -> None:
    """Write draws as Parquet: a row per object, and in the column `samples` a list per parameter, as catalogs have them."""
    import pyarrow as pa

    samples = samples_array(found.draws, found.parameters, found.counts == 0)
    write_parquet(pa.table({"id": found.ids.tolist(), "draws": found.counts.astype(np.int32), "samples": samples}), path)


def read_ids(path: Path) -> list[str]:
    """Read ids from a file, one on each line.

    Raises
    ------
    InputError
        If there are none.
    """
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not ids:
        raise InputError(f"{path} holds no ids; write one on each line")
    return ids


def _rows(out: Path, ids: list[Any] | None, refined: bool) -> "pa.Table":
    """Read rows, in the order of their ids, or of the input."""
    import pyarrow as pa
    from pyarrow import compute

    columns = [*COLUMNS, *(["refined", "draws_refined"] if refined else [])]
    found = []
    for file in part_files(out / "catalog"):
        if ids is None:
            found.append(read_part(file, columns))
            continue
        known = read_part(file, ["id"]).column("id")
        here = compute.is_in(known, pa.array([_as(one, known.type) for one in ids], known.type))
        if compute.any(here).as_py():
            found.append(read_part(file, columns).filter(here))
    if not found:
        raise InputError(f"{out} has none of the ids that are asked for" if ids else f"{out} has no parts")
    table = pa.concat_tables(found)
    if ids is None:
        return table.sort_by("row_index")
    place = {identity: row for row, identity in enumerate(table.column("id").to_pylist())}
    wanted = [_as(one, table.column("id").type) for one in ids]
    missing = [str(one) for one in wanted if one not in place]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise InputError(f"{out} has no row with id {', '.join(missing[:SHOWN])}{more}")
    return table.take([place[one] for one in wanted])


def _as(identity: Any, kind: Any) -> Any:
    """Return an id as the catalog has it: integers may come as text."""
    import pyarrow as pa

    if pa.types.is_string(kind):
        return str(identity)
    try:
        number = int(identity)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (not isinstance(identity, str) and number != identity) or not -(2**63) <= number < 2**63:
        raise InputError(f"id {identity!r} is no integer of 64 bits, but the catalog's ids are")
    return number


def _kept(table: "pa.Table", posterior: "Posterior") -> Kept:
    columns = {name: vectors_of(table.column(name)) for name in ("context", "fit")}
    columns |= {name: table.column(name).to_numpy() for name in ("frame_dx_arcsec", "frame_dy_arcsec")}
    usable = quality(np.asarray(table.column("flags"))) < 2
    ids = np.asarray(table.column("id").to_pylist())
    return Kept.of_columns(ids, usable, columns, len(posterior.parameters))


def _put_refined(draws: Array, counts: Array, table: "pa.Table") -> None:
    """Put the draws that were kept of refined rows in place, as many as there are and are wanted."""
    rows = np.flatnonzero(np.asarray(table.column("refined").fill_null(-1)) > 0)
    if not len(rows):
        return
    kept = np.stack(list(samples_of(table.column("draws_refined").take(rows)).values()), -1)
    enough = min(draws.shape[1], kept.shape[1])
    draws[rows] = np.nan
    draws[rows, :enough] = kept[:, :enough]
    counts[rows] = enough
