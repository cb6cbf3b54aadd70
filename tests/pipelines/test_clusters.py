import pytest

from astroflow.errors import ConfigError
from astroflow.pipelines import clusters as module
from astroflow.pipelines.clusters import batch_options, cluster, load_cluster, open_cluster, parse_cluster

BATCH = {"jobs": 3, "cores": 8, "memory": "24GB", "walltime": "02:30:00", "prologue": ["source venv/bin/activate"]}


@pytest.mark.parametrize(
    ("kind", "more", "lines"),
    [
        (
            "slurm",
            {"queue": "debug", "account": "cosmos", "directives": ["--constraint=cpu"]},
            ["#SBATCH -p debug", "#SBATCH -A cosmos", "#SBATCH --cpus-per-task=8", "#SBATCH -t 02:30:00", "#SBATCH --constraint=cpu"],
        ),
        ("pbs", {"queue": "debug", "account": "cosmos"}, ["#PBS -q debug", "#PBS -A cosmos", "#PBS -l walltime=02:30:00"]),
        ("lsf", {"queue": "debug", "account": "cosmos"}, ["#BSUB -q debug", '#BSUB -P "cosmos"', "#BSUB -n 8", "#BSUB -W 02:30"]),
        ("htcondor", {"account": "cosmos"}, ["RequestCpus = MY.DaskWorkerCores", "accounting_group = cosmos", "+MaxRuntime = 9000"]),
    ],
)
def test_batch_systems_are_asked_for_one_worker_a_core_that_ends_in_time(kind, more, lines, tmp_path, monkeypatch):
    import dask_jobqueue

    monkeypatch.chdir(tmp_path)
    options = batch_options(parse_cluster({"kind": kind, **BATCH, **more}))
    known = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "htcondor": "HTCondorCluster"}
    options["scheduler_options"]["host"] = "127.0.0.1"
    with getattr(dask_jobqueue, known[kind])(**options) as made:
        script = made.job_script()
    for line in lines:
        assert line in script, script
    assert "source venv/bin/activate" in script
    for words in ("--nthreads 1 ", "--nworkers 8 ", "--lifetime 8460s", "--lifetime-stagger 240s", "--death-timeout 600"):
        assert words in script, script


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "`kind` is missing; known kinds: local, scheduler, slurm"),
        ({"kind": "slum"}, "unknown kind 'slum'.*Did you mean 'slurm'"),
        ({"kind": "slurm", **BATCH, "wall": 1}, "unknown key `wall`"),
        ({"kind": "slurm", **BATCH, "walltime": "2h"}, "expected hours:minutes:seconds"),
        ({"kind": "slurm", **BATCH, "walltime": "00:05:00"}, "leaves no time to work"),
        ({"kind": "slurm", "jobs": 1}, "missing key `cores`"),
        ({"kind": "scheduler"}, "give `address` or `file`"),
        ({"kind": "scheduler", "address": "tcp://a:1", "file": "f"}, "give `address` or `file`"),
        ({"kind": "scheduler", "address": "tls://a:1"}, "go together"),
        ({"kind": "kubernetes", "workers": 2}, "missing key `image`"),
    ],
)
def test_recipes_that_cannot_be_meant(data, words):
    with pytest.raises(ConfigError, match=words):
        parse_cluster(data)


def test_htcondor_has_no_queue():
    with pytest.raises(ConfigError, match="HTCondor has no `queue`"):
        batch_options(parse_cluster({"kind": "htcondor", **BATCH, "queue": "normal"}))


def test_who_gives_nothing_means_this_machine():
    assert load_cluster(None, None).kind == "local"
    assert load_cluster(None, 3).workers == load_cluster("local", 3).workers == 3
    assert load_cluster("tcp://host:8786", None).address == "tcp://host:8786"
    with pytest.raises(ConfigError, match="--workers is for this machine; 'slurm' says"):
        load_cluster("slurm", 3)
    with pytest.raises(ConfigError, match="no configs/clusters recipe 'slum'.*Did you mean 'slurm'"):
        load_cluster("slum", None)


def test_an_address_without_a_scheduler(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 1)
    with (
        pytest.raises(ConfigError, match="cannot reach a Dask scheduler at 'tcp://127.0.0.1:1'.*leave --scheduler out"),
        cluster("tcp://127.0.0.1:1", None),
    ):
        pass


@pytest.mark.parametrize(("kind", "more"), [("slurm", BATCH), ("kubernetes", {"image": "i", "workers": 1})])
def test_what_is_not_installed_is_named(kind, more, monkeypatch):
    import sys

    for name in ("dask_jobqueue", "dask_kubernetes.operator", "dask_kubernetes"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"clusters of kind `{kind}` need dask-"), open_cluster(parse_cluster({"kind": kind, **more})):
        pass


@pytest.mark.dask
def test_a_scheduler_with_tls_is_reached_with_its_certificate_alone(tmp_path):
    from distributed import LocalCluster
    from distributed.security import Security

    temporary = Security.temporary()
    files = {"ca": temporary.tls_ca_file, "cert": temporary.tls_client_cert, "key": temporary.tls_client_key}
    for name, content in files.items():
        (tmp_path / f"{name}.pem").write_text(content)
    tls = {name: str(tmp_path / f"{name}.pem") for name in files}
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, security=temporary, host="tls://127.0.0.1", dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as local:  # fmt: skip
        assert local.scheduler_address.startswith("tls://127.0.0.1")
        recipe = parse_cluster({"kind": "scheduler", "address": local.scheduler_address, "tls": tls})
        with open_cluster(recipe) as client:
            assert client.submit(max, 1, 2).result() == 2
