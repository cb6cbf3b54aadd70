"""Dask: a bounded window of tasks on a cluster.

Tasks are pure functions that write one file each and return something tiny. At most `window` of them are submitted at any time, so
neither the scheduler nor this process grows with the size of the job. A task that a dead worker takes along is run again;
because files are renamed into place, running it twice does no harm.
"""

__all__ = ["Outcome", "WorkerLostError", "bounded", "check_reportable", "outcomes", "prepare_workers", "reported"]

import contextlib
import importlib.util
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from astroflow.errors import AstroflowError, ConfigError, IncompleteError

RETRIES = 2
PER_THREAD = 3
"""Tasks in flight for each thread of the workers that there are."""
REGISTRATIONS = 3


def prepare_workers(client: Any, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function once in every worker before its first task, in those that join later too."""
    from distributed import WorkerPlugin

    class Preparation(WorkerPlugin):
        """Calls the function when a worker starts."""

        name = f"astroflow-{function.__name__}"

        def setup(self, worker: Any) -> None:
            function(*arguments)

    with _going_away():
        for again in range(REGISTRATIONS):
            try:
                client.register_plugin(Preparation())
                return
            except OSError:
                # a worker that dies meanwhile breaks the connection; the others are still there
                if again == REGISTRATIONS - 1:
                    raise
                time.sleep(2)


def bounded(client: Any, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], window: int | None = None) -> Iterator[Any]:
    """Run a function over many argument tuples with a bounded number in flight, yielding results as they come.

    Parameters
    ----------
    client : distributed.Client
        An open client.
    function : callable
        A module-level function; its results should be small.
    arguments : iterable of tuple
        One tuple per task; read lazily.
    window : int, optional
        Tasks in flight; three per worker thread by default.

    Raises
    ------
    AstroflowError
        What a task raised on purpose, at once; other failures are retried first, then raised as they are.
    IncompleteError
        If the cluster goes away, or a task takes its worker along again and again.
    """
    for outcome in outcomes(client, function, arguments, window=window, retries=RETRIES):
        if outcome.error is not None:
            raise outcome.error
        yield outcome.result


def check_reportable(path: Path) -> None:
    """Check that Dask can write its report to a file, before a run that it would be of.

    Raises
    ------
    ConfigError
        If what it draws with is not installed, or the path can be no file.
    """
    if path.is_dir() or path.parent.is_file():
        raise ConfigError(f"--dask-report {path} is a folder, or lies in a file; it has to name a file")
    if importlib.util.find_spec("bokeh") is None:
        raise ConfigError("Dask draws its report with bokeh, which is not installed: pip install 'astroflow[cluster]'")


@contextlib.contextmanager
def reported(client: Any, path: Path | None) -> Iterator[None]:
    """Write Dask's report of a block to an HTML file, if a path is given: what every worker did when, tasks, transfers, memory.

    A block that fails has none, nor has one whose scheduler is gone.
    """
    if path is None:
        yield
        return
    from distributed import performance_report

    path.parent.mkdir(parents=True, exist_ok=True)
    with client.as_current():
        report = performance_report(filename=str(path))
        report.__enter__()
        yield
        with _going_away():
            report.__exit__(None, None, None)


class Outcome(NamedTuple):
    """How one task of many ended: its place among them, and a result or an error."""

    place: int
    result: Any = None
    error: Exception | None = None


class WorkerLostError(IncompleteError):
    """A task that took its worker along, more than once."""


def outcomes(
    client: Any, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], *, window: int | None = None, retries: int = 0
) -> Iterator[Outcome]:
    """Run a function over many argument tuples as `bounded` does, yielding failures like results, so that one stops no other.

    Parameters
    ----------
    client, function, arguments, window
        As in `bounded`.
    retries : int
        How often a task is tried again after an error that it did not raise on purpose.

    Yields
    ------
    Outcome
        One per tuple, as they come. A task that took its worker along has a `WorkerLostError`.

    Raises
    ------
    IncompleteError
        If the cluster goes away.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    def wide() -> int:
        """Count the tasks that may be in flight; workers join and leave."""
        with _going_away():
            return window or PER_THREAD * max(1, sum(client.nthreads().values()))

    queue = enumerate(arguments)
    places: dict[str, int] = {}

    def submit() -> Any:
        following = next(queue, None)
        if following is None:
            return None
        with _going_away():
            # by its name it is known on Dask's pages and in its report
            key = f"{function.__name__}-{uuid.uuid4().hex}"
            future = client.submit(_attempt, function, *following[1], key=key, retries=retries)
        places[future.key] = following[0]
        return future

    completed = as_completed([future for future in (submit() for _ in range(wide())) if future is not None])
    for future in completed:
        place, result = places.pop(future.key), None
        failure: Exception | None = None
        try:
            result = future.result()
        except KilledWorker as error:
            failure = WorkerLostError(
                f"a task took its worker down {error.allowed_failures + 1} times, perhaps out of memory; "
                "give fewer --workers or a smaller task, and run the same command again to resume"
            )
        except Exception as error:
            # an error of the task's own, a full disk say, is told from the cluster's by the future that holds it
            if future.status != "error":
                with _going_away():
                    raise
            failure = error
        if isinstance(result, AstroflowError):
            result, failure = None, result
        future.release()
        for _ in range(wide() - len(places)):
            following = submit()
            if following is None:
                break
            completed.add(following)
        yield Outcome(place, result, failure)


@contextlib.contextmanager
def _going_away() -> Iterator[None]:
    """Say of a cluster that goes away that the run can be resumed."""
    from distributed import CancelledError
    from distributed.client import ClosedClientError
    from distributed.comm import CommClosedError

    try:
        yield
    except (CancelledError, ClosedClientError, CommClosedError, OSError, TimeoutError) as error:
        raise IncompleteError(f"the Dask cluster went away ({error}); run the same command again to resume") from error


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a task. What it raises on purpose comes back as a value: trying again would not help."""
    try:
        return function(*arguments)
    except AstroflowError as error:
        return error
