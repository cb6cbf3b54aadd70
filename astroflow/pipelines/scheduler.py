"""Dask: a cluster, and a bounded window of tasks on it.

Tasks are pure functions that write one file each and return something tiny. At most `window` of them are submitted at any time, so
neither the scheduler nor this process grows with the size of the job. A task that a dead worker takes along is run again;
because files are renamed into place, running it twice does no harm.
"""

__all__ = ["Outcome", "WorkerLostError", "bounded", "cluster", "outcomes", "prepare_workers"]

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from astroflow.errors import AstroflowError, ConfigError, IncompleteError

RETRIES = 2
CONNECT_SECONDS = 10


@contextlib.contextmanager
def cluster(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """Open a Dask client: of an existing cluster, or of a local one on the loopback interface with one thread per worker.

    Parameters
    ----------
    scheduler : str or None
        Address of an existing scheduler, as ``tcp://host:8786``.
    workers : int or None
        Local worker processes; the number of usable cores by default.

    Raises
    ------
    ConfigError
        If there is no scheduler at that address.
    """
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            client = Client(scheduler, timeout=f"{CONNECT_SECONDS}s")
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                f"cannot reach a Dask scheduler at {scheduler!r}: {error}. Start one with `dask scheduler`, or leave --scheduler out"
            ) from error
        with client:
            yield client
        return
    quiet = {
        "distributed.worker.memory.terminate": False,
        "distributed.admin.log-format": "%(message)s",
        "distributed.comm.timeouts.connect": "60s",
    }
    # Closing a local cluster logs harmless cancellations. Without an address, its status page would listen to the whole network.
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            dask.config.set(quiet),
            LocalCluster(
                n_workers=workers or CPU_COUNT,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.ERROR,
            ) as local,
            Client(local) as client,
        ):
            yield client
    finally:
        logger.setLevel(before)


def prepare_workers(client: Any, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function once in every worker before its first task, in those that join later too."""
    from distributed import WorkerPlugin

    class Preparation(WorkerPlugin):
        """Calls the function when a worker starts."""

        name = f"astroflow-{function.__name__}"

        def setup(self, worker: Any) -> None:
            function(*arguments)

    client.register_plugin(Preparation())


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
    from distributed import CancelledError, as_completed
    from distributed.scheduler import KilledWorker

    if window is None:
        window = 3 * max(1, sum(client.nthreads().values()))
    queue = enumerate(arguments)
    places: dict[str, int] = {}

    def submit() -> Any:
        following = next(queue, None)
        if following is None:
            return None
        future = client.submit(_attempt, function, *following[1], pure=False, retries=retries)
        places[future.key] = following[0]
        return future

    first = [future for future in (submit() for _ in range(window)) if future is not None]
    completed = as_completed(first)
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
                if not isinstance(error, CancelledError | OSError):
                    raise
                raise IncompleteError(f"the Dask cluster went away ({error}); run the same command again to resume") from error
            failure = error
        if isinstance(result, AstroflowError):
            result, failure = None, result
        future.release()
        following = submit()
        if following is not None:
            completed.add(following)
        yield Outcome(place, result, failure)


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a task. What it raises on purpose comes back as a value: trying again would not help."""
    try:
        return function(*arguments)
    except AstroflowError as error:
        return error
