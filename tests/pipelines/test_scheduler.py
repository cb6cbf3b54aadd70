import itertools
import logging
import os
import signal
import time

import pytest

from astroflow.errors import ConfigError, IncompleteError, InputError
from astroflow.pipelines import scheduler as module
from astroflow.pipelines.clusters import cluster
from astroflow.pipelines.scheduler import bounded, check_reportable, outcomes, prepare_workers, reported

pytestmark = pytest.mark.dask


@pytest.fixture
def client(scheduler):
    with cluster(scheduler, None) as client:
        yield client


def double(value):
    return 2 * value


def tried(path, error):
    """Fail, and leave a mark for each attempt."""
    with open(path, "a") as file:
        file.write("x")
    raise error


def killed_once(path, value):
    """Kill the worker that runs this for the first time, as the kernel does when memory runs out."""
    if value == 5 and not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def always_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def prepared(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


def slow(value):
    time.sleep(0.2)
    return value


def test_dask_reports_what_workers_did(client, tmp_path):
    with reported(client, tmp_path / "new" / "report.html"):
        assert sorted(bounded(client, slow, ((k,) for k in range(4)))) == [0, 1, 2, 3]
    page = (tmp_path / "new" / "report.html").read_text()
    assert "slow" in page
    assert "Task Stream" in page
    with pytest.raises(InputError), reported(client, tmp_path / "failed.html"):
        raise InputError("no")
    with reported(client, None):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["new"]


def test_a_report_that_cannot_be_drawn_is_refused_before_the_run(tmp_path, monkeypatch):
    check_reportable(tmp_path / "new" / "report.html")
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "report.html"):
        with pytest.raises(ConfigError, match="it has to name a file"):
            check_reportable(path)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"bokeh, which is not installed: pip install 'astroflow\[cluster\]'"):
        check_reportable(tmp_path / "report.html")


def test_every_result_comes_once(client):
    assert sorted(bounded(client, double, ((k,) for k in range(100)))) == list(range(0, 200, 2))
    assert list(bounded(client, double, [])) == []


@pytest.mark.parametrize("window", [1, 4])
def test_never_more_than_a_window_is_in_flight(client, window):
    taken, received, most = 0, 0, 0

    def arguments():
        nonlocal taken, most
        for k in itertools.count():
            taken += 1
            most = max(most, taken - received)
            yield (k,)

    results = bounded(client, double, arguments(), window=window)
    for _ in range(40):
        next(results)
        received += 1
    results.close()
    # one that is done and on its way out to us, besides those in flight
    assert most == window + 1


def test_what_a_task_raises_on_purpose_is_raised_at_once(client, tmp_path):
    with pytest.raises(InputError, match="no such tile"):
        list(bounded(client, tried, [(str(tmp_path / "marks"), InputError("no such tile"))]))
    assert (tmp_path / "marks").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(28, "No space left on device")])
def test_other_failures_are_retried_and_raised_as_they_are(client, tmp_path, error):
    with pytest.raises(type(error), match="a bug|No space left") as raised:
        list(bounded(client, tried, [(str(tmp_path / "marks"), error)]))
    assert not isinstance(raised.value, IncompleteError)
    assert (tmp_path / "marks").read_text() == "x" * (1 + module.RETRIES)


def test_a_local_cluster_leaves_nothing_behind_and_outlives_its_workers(tmp_path, monkeypatch):
    """Work of a worker that is killed is done by another; workers that join later are prepared as well."""
    monkeypatch.chdir(tmp_path)
    before = logging.getLogger("distributed").level
    with cluster(None, 2) as client:
        assert set(client.nthreads().values()) == {1}
        assert all("127.0.0.1" in address for address in client.nthreads())
        pids = set(client.run(os.getpid).values())
        prepare_workers(client, prepared, str(tmp_path / "prepared"))
        results = list(bounded(client, killed_once, ((str(tmp_path / "killed"), k) for k in range(20))))
        assert sorted(results) == list(range(20))
        client.wait_for_workers(2, timeout=30)
        pids |= set(client.run(os.getpid).values())
    assert len(pids) == 3
    assert {int(line) for line in (tmp_path / "prepared").read_text().split()} == pids
    assert {file.name for file in tmp_path.iterdir()} == {"killed", "prepared"}
    assert logging.getLogger("distributed").level == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_task_that_takes_every_worker_down_ends_the_run():
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        cluster(None, 1) as client,
        pytest.raises(IncompleteError, match="took its worker down 2 times, perhaps out of memory"),
    ):
        list(bounded(client, always_killed, [()]))


def test_a_cluster_that_goes_away_is_said_so():
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
            processes=False,
            protocol="tcp",
        ) as local,
        cluster(local.scheduler_address, None) as client,
    ):
        results = bounded(client, slow, ((k,) for k in range(1000)))
        next(results)
        local.close()
        with pytest.raises(IncompleteError, match="the Dask cluster went away"):
            list(results)


def made_or_dies(ledger, careful):
    """A part of sixty rows of which the fortieth kills whoever touches it."""
    import pyarrow as pa

    from astroflow.catalogs.parts import parquet_bytes
    from astroflow.pipelines.catalog_run.pieces import in_pieces
    from astroflow.pipelines.catalog_run.tally import Tally

    def rows(start, stop, flag=0):
        if start <= 40 < stop and not flag:
            os.kill(os.getpid(), signal.SIGKILL)
        n = stop - start
        return pa.table({"row": list(range(start, stop)), "flags": [flag] * n, "quality": pa.array([2 if flag else 0] * n, pa.int8())})

    table = in_pieces(60, ledger.pieces("part"), rows, lambda row, why: rows(row, row + 1, 128)) if careful else rows(0, 60)
    return ledger.keep("part", parquet_bytes(table), Tally.of(table))


def test_a_row_that_kills_workers_costs_one_row(tmp_path):
    import dask
    from pyarrow import parquet

    from astroflow.pipelines.catalog_run.engine import run_parts
    from astroflow.pipelines.catalog_run.ledger import Ledger

    ledger, receipts = Ledger(tmp_path, "f" * 64), []
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), cluster(None, 1) as client:
        run_parts(
            ["part"], lambda jobs: outcomes(client, made_or_dies, jobs), lambda _, careful: (ledger, careful), ledger, receipts.append
        )
    assert [receipt.tally.unusable for receipt in receipts] == [1]
    table = parquet.read_table(ledger.catalog / "part")
    assert table["row"].to_pylist() == list(range(60))
    assert [row for row, flag in enumerate(table["flags"].to_pylist()) if flag] == [40]


def test_workers_that_join_later_get_work_too(client):
    """A batch system's workers come one by one, long after the first tasks."""
    there, most, taken = [0, 0, 4, 4, 4, 4, 4], 0, 0

    class Joining:
        def __getattr__(self, name):
            return getattr(client, name)

        def nthreads(self):
            return {"worker": there.pop(0) if len(there) > 1 else there[0]}

    def arguments():
        nonlocal taken
        for k in range(40):
            taken += 1
            yield (k,)

    for received, _ in enumerate(outcomes(Joining(), double, arguments())):
        most = max(most, taken - received)
    # one that is done and on its way out to us, besides three for each of four threads
    assert most == 12 + 1
