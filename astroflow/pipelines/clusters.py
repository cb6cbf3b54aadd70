"""Where a run computes: recipes of the folder ``configs/clusters``, and the Dask clusters that they describe.

One kind for this machine, one for a scheduler that runs already, one for each batch system, and one for Kubernetes. Workers have one thread
each, everywhere: the same bits come out of every cluster. Jobs of batch systems end by themselves a little before their time is up, after
handing back what they have not begun, so that no work is lost to the batch system's kill.
"""

__all__ = ["ClusterRecipe", "cluster", "load_cluster", "open_cluster", "parse_cluster"]

import contextlib
import logging
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from astroflow.config import Recipe, RecipePath, expand_path, find_recipe, parse_kind, read_yaml
from astroflow.errors import ConfigError

FOLDER = "configs/clusters"
CONNECT_SECONDS = 10
START_SECONDS = 600
"""Workers of batch jobs that are not ready after so long are given up."""
MARGIN_SECONDS, STAGGER_SECONDS = 300, 240
"""Workers of batch jobs stop at least so long before their job's time is up, spread over twice the second, lest all stop at once."""


Text = Annotated[str, pydantic.AfterValidator(expand_path)]
"""Text of a recipe in which ``$NAME`` and ``${NAME:-default}`` stand for environment variables, as in paths."""


class LocalRecipe(Recipe):
    """Processes of this machine, which listen to the loopback interface alone."""

    kind: Literal["local"] = "local"
    workers: pydantic.PositiveInt | None = None
    """Processes; as many as there are usable cores if not given."""
    memory: str | None = None
    """Most memory of one, as `4GB`; this machine's divided by their number if not given."""


class TLSFiles(Recipe):
    """What a scheduler that encrypts asks its clients for."""

    ca: RecipePath
    """The certificate authority."""
    cert: RecipePath
    """This client's certificate."""
    key: RecipePath
    """Its key."""


class SchedulerRecipe(Recipe):
    """A scheduler that runs already, with workers of its own."""

    kind: Literal["scheduler"] = "scheduler"
    address: Text | None = None
    """As `tcp://host:8786`, or `tls://host:8786`."""
    file: RecipePath | None = None
    """What `dask scheduler --scheduler-file` has written, instead of an address."""
    tls: TLSFiles | None = None
    """For addresses of kind `tls`."""

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> "SchedulerRecipe":
        if (self.address is None) == (self.file is None):
            raise ValueError("give `address` or `file`, one of the two")
        if self.address is not None and self.address.startswith("tls://") != (self.tls is not None):
            raise ValueError("an address of kind `tls://` and the files in `tls` go together")
        return self


class BatchRecipe(Recipe):
    """Jobs of a batch system. The scheduler runs in this process, which has to be where jobs can reach it."""

    kind: Literal["slurm", "pbs", "lsf", "htcondor"]
    """The batch system."""
    jobs: pydantic.PositiveInt
    """How many jobs to submit."""
    cores: pydantic.PositiveInt
    """Cores of a job, with a worker on each."""
    memory: str
    """Memory of a job, as `64GB`: 3 GB a worker is enough for stamps of 64 pixels."""
    walltime: str = "08:00:00"
    """How long a job may run, hours:minutes:seconds."""
    queue: Text | None = None
    """Queue or partition."""
    account: Text | None = None
    """Account or project that pays."""
    interface: str | None = None
    """Network interface by which jobs and this process find each other, as `ib0`."""
    scratch: Text | None = None
    """Folder on a job's own disk for what workers spill."""
    prologue: tuple[str, ...] = ()
    """Lines of shell before a worker starts, such as `source ~/astroflow/.venv/bin/activate`."""
    directives: tuple[str, ...] = ()
    """More directives for the batch system, as it wants them, such as `--constraint=cpu`."""
    logs: str = "cluster-logs"
    """Folder for the jobs' output."""

    @pydantic.field_validator("walltime")
    @classmethod
    def _is_time(cls, text: str) -> str:
        if not re.fullmatch(r"\d{1,4}:[0-5]\d:[0-5]\d", text):
            raise ValueError(f"{text!r} is no time; expected hours:minutes:seconds, in quotes")
        return text

    @pydantic.model_validator(mode="after")
    def _long_enough(self) -> "BatchRecipe":
        if self.lifetime <= 2 * STAGGER_SECONDS:
            raise ValueError(f"`walltime` {self.walltime} leaves no time to work: workers stop {MARGIN_SECONDS} s before its end")
        return self

    @property
    def lifetime(self) -> int:
        """Seconds after which a worker stops by itself."""
        hours, minutes, seconds = (int(part) for part in self.walltime.split(":"))
        return 3600 * hours + 60 * minutes + seconds - MARGIN_SECONDS - STAGGER_SECONDS


class KubernetesRecipe(Recipe):
    """Pods, started by Dask's operator, which has to be installed in the cluster."""

    kind: Literal["kubernetes"] = "kubernetes"
    image: Text
    """A container image with astroflow in it, at the version that runs here."""
    workers: pydantic.PositiveInt
    """Pods, with one worker each."""
    memory: str = "4Gi"
    """Memory of one."""
    namespace: str | None = None
    """Namespace; the current one if not given."""
    name: str = "astroflow"
    """What the cluster is called, with some letters behind it that are each one's own."""


ClusterRecipe = LocalRecipe | SchedulerRecipe | BatchRecipe | KubernetesRecipe
KINDS: dict[str, type[Recipe]] = {
    "local": LocalRecipe, "scheduler": SchedulerRecipe, **dict.fromkeys(("slurm", "pbs", "lsf", "htcondor"), BatchRecipe),
    "kubernetes": KubernetesRecipe,
}  # fmt: skip


def parse_cluster(data: dict[str, Any], where: str = "cluster", folder: Path | None = None) -> ClusterRecipe:
    """Fill a cluster recipe from plain data.

    Raises
    ------
    ConfigError
        With one line for each key that is unknown, missing or out of range.
    """
    return parse_kind(KINDS, data, where, folder)  # type: ignore[no-any-return]


def load_cluster(scheduler: str | None, workers: int | None) -> ClusterRecipe:
    """Return the cluster that a user means.

    Parameters
    ----------
    scheduler : str or None
        The address of a running scheduler, or a cluster recipe, by path or name; this machine if None.
    workers : int or None
        Processes on this machine.

    Raises
    ------
    ConfigError
        If there is no such recipe, it cannot be read, or a number of workers is given for another cluster than this machine.
    """
    if scheduler is None:
        return LocalRecipe(workers=workers)
    if "://" in scheduler:
        recipe: ClusterRecipe = SchedulerRecipe(address=scheduler)
    else:
        path = find_recipe(scheduler, FOLDER)
        recipe = parse_cluster(read_yaml(path), str(path), path.parent)
    if workers is None:
        return recipe
    if not isinstance(recipe, LocalRecipe):
        raise ConfigError(f"--workers is for this machine; {scheduler!r} says how many there are")
    return recipe.model_copy(update={"workers": workers})


def cluster(scheduler: str | None, workers: int | None) -> contextlib.AbstractContextManager[Any]:
    """Open a Dask client of the cluster that a user means; see `load_cluster` and `open_cluster`."""
    return open_cluster(load_cluster(scheduler, workers))


@contextlib.contextmanager
def open_cluster(recipe: ClusterRecipe) -> Iterator[Any]:
    """Open a Dask client of a cluster; what was started for it stops with it.

    Raises
    ------
    ConfigError
        If the cluster cannot be reached or started.
    """
    if isinstance(recipe, SchedulerRecipe):
        with _running(recipe) as client:
            yield client
    elif isinstance(recipe, LocalRecipe):
        with _local(recipe) as client:
            yield client
    else:
        from distributed import Client

        with _batch(recipe) if isinstance(recipe, BatchRecipe) else _kubernetes(recipe) as started, Client(started) as client:
            yield client


def _running(recipe: SchedulerRecipe) -> Any:
    from distributed import Client
    from distributed.security import Security

    security = None
    if recipe.tls is not None:
        security = Security(
            tls_ca_file=recipe.tls.ca, tls_client_cert=recipe.tls.cert, tls_client_key=recipe.tls.key, require_encryption=True
        )
    where = {"address": recipe.address} if recipe.file is None else {"scheduler_file": recipe.file}
    try:
        return Client(**where, security=security, timeout=f"{CONNECT_SECONDS}s")
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"cannot reach a Dask scheduler at {recipe.address or recipe.file!r}: {error}. Start one with `dask scheduler`, or leave "
            "--scheduler out"
        ) from error


@contextlib.contextmanager
def _local(recipe: LocalRecipe) -> Iterator[Any]:
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    quiet = {
        "distributed.worker.memory.terminate": False,
        # TensorFlow's memory is not Dask's to free: a worker that is paused for it would never go on
        "distributed.worker.memory.pause": False,
        "distributed.admin.log-format": "%(message)s",
        "distributed.comm.timeouts.connect": "60s",
    }
    # Closing a local cluster logs harmless cancellations. Without an address, its status page would listen to the whole network.
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    memory = {} if recipe.memory is None else {"memory_limit": recipe.memory}
    try:
        with (
            dask.config.set(quiet),
            LocalCluster(
                n_workers=recipe.workers or CPU_COUNT,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.ERROR,
                **memory,
            ) as local,
            Client(local) as client,
        ):
            yield client
    finally:
        logger.setLevel(before)


def batch_options(recipe: BatchRecipe) -> dict[str, Any]:
    """Return what dask-jobqueue is asked for."""
    options: dict[str, Any] = {
        "cores": recipe.cores,
        "processes": recipe.cores,
        "memory": recipe.memory,
        "interface": recipe.interface,
        "local_directory": recipe.scratch,
        "log_directory": recipe.logs,
        # a worker is not ready before it has loaded its bundle, which takes long when all of a node read the same files at once
        "death_timeout": START_SECONDS,
        # jobs have to reach the scheduler, but nobody its status page
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
        "job_script_prologue": list(recipe.prologue),
        "job_extra_directives": list(recipe.directives),
        "worker_extra_args": ["--lifetime", f"{recipe.lifetime}s", "--lifetime-stagger", f"{STAGGER_SECONDS}s"],
    }
    if recipe.kind == "htcondor":
        # HTCondor knows neither queues nor a job's end: it removes what has run for too long
        options |= {"disk": "4GB", "job_extra_directives": {"+MaxRuntime": str(recipe.lifetime + MARGIN_SECONDS + STAGGER_SECONDS)}}
        if recipe.queue or recipe.directives:
            raise ConfigError("HTCondor has no `queue`, and its directives are keys and values: leave `queue` and `directives` out")
        if recipe.account:
            options["job_extra_directives"]["accounting_group"] = recipe.account
        return options
    if recipe.kind == "lsf":
        # LSF counts hours and minutes
        options |= {"queue": recipe.queue, "project": recipe.account, "walltime": recipe.walltime.rpartition(":")[0], "ncpus": recipe.cores}
        return options
    return options | {"queue": recipe.queue, "account": recipe.account, "walltime": recipe.walltime}


@contextlib.contextmanager
def _batch(recipe: BatchRecipe) -> Iterator[Any]:
    try:
        import dask_jobqueue
    except ImportError:
        raise ConfigError(f"clusters of kind `{recipe.kind}` need dask-jobqueue: pip install 'astroflow[cluster]'") from None

    names = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "htcondor": "HTCondorCluster"}
    options = batch_options(recipe)
    try:
        with getattr(dask_jobqueue, names[recipe.kind])(**options) as started:
            # not `scale`, which submits no job again when its time is up
            started.adapt(minimum_jobs=recipe.jobs, maximum_jobs=recipe.jobs)
            yield started
    except (FileNotFoundError, RuntimeError) as error:
        raise ConfigError(f"jobs cannot be submitted to {recipe.kind} from here: {error}") from error


@contextlib.contextmanager
def _kubernetes(recipe: KubernetesRecipe) -> Iterator[Any]:
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError:
        raise ConfigError("clusters of kind `kubernetes` need dask-kubernetes: pip install dask-kubernetes") from None
    amount = {"memory": recipe.memory, "cpu": "1"}
    with KubeCluster(
        name=f"{recipe.name}-{uuid.uuid4().hex[:8]}", namespace=recipe.namespace, image=recipe.image, n_workers=recipe.workers,
        resources={"requests": amount, "limits": amount}, worker_command=["dask", "worker", "--nthreads", "1"],
    ) as started:  # fmt: skip
        yield started
