"""The driver of a run: every part finished exactly once, whatever happens to those who make them.

It knows nothing of what parts hold. A task makes one, keeps it in the run's `Ledger` and answers with its receipt. The driver hands out
parts with a bounded number in flight, and goes on when one of them fails:

- a part that took its worker along is asked for again *carefully* (see `pieces`), for as long as there is progress;
- one whose disk or network failed is asked for again after a pause; many in a row stop the run, as computing on would be in vain;
- one that raised what nobody expected is asked for carefully once: it may be one row's fault;
- one that was refused on purpose waits for the user, who is told why at the end.
"""

__all__ = ["run_parts"]

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from astroflow.errors import AstroflowError, BundleError, IncompleteError
from astroflow.pipelines.catalog_run.ledger import Ledger, Receipt
from astroflow.pipelines.scheduler import Outcome, WorkerLostError

PAUSES = (1.0, 5.0, 25.0)
"""Seconds before parts are asked for again whose disk or network has failed."""
IN_A_ROW = 8
"""So many failures of the disk in a row stop the handing out."""
HOPELESS = 3
"""A run of which so many parts have failed, and none has been finished, stops there: it is not the parts."""
SHOWN = 3

Ask = Callable[[Iterable[tuple[Any, ...]]], Iterator[Outcome]]
"""Runs a task with each of many argument tuples, read lazily, and yields how each ended; Dask's is `scheduler.outcomes`."""


def run_parts(
    parts: Sequence[str],
    ask: Ask,
    arguments: Callable[[int, bool], tuple[Any, ...]],
    ledger: Ledger,
    finished: Callable[[Receipt], None],
    begun: bool = False,
) -> None:
    """Finish parts of a run.

    Parameters
    ----------
    parts : sequence of str
        Their names, paths below the catalog's folder.
    ask : callable
        Runs tasks.
    arguments : callable
        Given a part's place in `parts`, and whether it has to be made carefully, returns the arguments of its task.
    ledger : Ledger
        Where tasks keep what they make.
    finished : callable
        Told the receipt of each part, as they come.
    begun : bool
        Other parts of the run are finished already: failures of the first ones say nothing of all.

    Raises
    ------
    IncompleteError
        If some parts could not be finished; what is there stays, and the same run goes on with the others.
    BundleError
        If a worker finds another bundle than the run's, at once.
    Exception
        What a task raised, twice, that is neither its disk's fault nor on purpose, once all other parts are there.
    """
    run = _Run(parts, ask, arguments, ledger, finished)
    run.any_finished = begun
    run.complete()


class _Run:
    def __init__(
        self, parts: Sequence[str], ask: Ask, arguments: Callable[[int, bool], tuple[Any, ...]], ledger: Ledger,
        finished: Callable[[Receipt], None],
    ) -> None:  # fmt: skip
        self.parts, self.ask, self.arguments, self.ledger, self.finished = parts, ask, arguments, ledger, finished
        self.any_finished = False
        self.failed: dict[int, Exception] = {}
        self.careful: set[int] = set()
        self.seen: dict[int, tuple[frozenset[str], int]] = {}

    def complete(self) -> None:
        waiting, pauses = list(range(len(self.parts))), list(PAUSES)
        while waiting:
            progress, waiting, disk = self._hand_out(waiting)
            if progress:
                pauses = list(PAUSES)
            if disk:
                if not pauses:
                    self.failed |= disk
                    break
                time.sleep(pauses.pop(0))
            waiting = sorted([*waiting, *disk])
        if self.failed:
            raise self._failure(len(waiting))

    def _hand_out(self, waiting: list[int]) -> tuple[bool, list[int], dict[int, Exception]]:
        """Ask for parts once; return whether that led anywhere, which to ask for again, and whose disk failed."""
        order: list[int] = []
        again: list[int] = []
        disk: dict[int, Exception] = {}
        in_a_row, raised, progress = 0, 0, False

        def asked() -> Iterator[tuple[Any, ...]]:
            for place in waiting:
                if in_a_row >= IN_A_ROW or (raised >= HOPELESS and not self.any_finished):
                    return
                order.append(place)
                yield self.arguments(place, place in self.careful)

        for outcome in self.ask(asked()):
            place, error = order[outcome.place], outcome.error
            in_a_row = in_a_row + 1 if isinstance(error, OSError) else 0
            if error is None:
                self.any_finished = progress = True
                self.finished(outcome.result)
            elif isinstance(error, WorkerLostError):
                if self._is_hopeful(place):
                    progress = True
                    again.append(place)
                else:
                    self.failed[place] = error
            elif isinstance(error, OSError):
                disk[place] = error
            elif isinstance(error, BundleError):
                raise error
            elif not isinstance(error, AstroflowError) and place not in self.careful:
                self.careful.add(place)
                again.append(place)
                raised += 1
            else:
                self.failed[place] = error
            if not self.any_finished and len(self.failed) >= HOPELESS:
                raise self._failure(len(self.parts) - len(self.failed))
        handed = set(order)
        return progress, [*again, *(place for place in waiting if place not in handed)], disk

    def _is_hopeful(self, place: int) -> bool:
        """Say whether asking carefully, once more, for a part that took its worker along can lead anywhere."""
        self.careful.add(place)
        marks, in_vain = self.ledger.marks(self.parts[place]), 0
        if place in self.seen and self.seen[place][0] == marks:
            in_vain = self.seen[place][1] + 1
        self.seen[place] = marks, in_vain
        return in_vain < HOPELESS

    def _failure(self, waiting: int) -> Exception:
        """Return what to raise: a bug as it is, anything else as a run that is not complete."""
        for error in self.failed.values():
            if not isinstance(error, AstroflowError | OSError):
                return error
        shown = [f"{self.parts[place]}: {error}" for place, error in sorted(self.failed.items())[:SHOWN]]
        more = f"; and {len(self.failed) - SHOWN} more" if len(self.failed) > SHOWN else ""
        left = f", and {waiting} were not tried" if waiting else ""
        return IncompleteError(
            f"{len(self.failed)} parts could not be made{left}: {'; '.join(shown)}{more}. Mend that and run the same command again"
        )
