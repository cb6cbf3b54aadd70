import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from astroflow.cli import app, main
from astroflow.errors import ConfigError, IncompleteError, InputError
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import Flag

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)
HEAVY = ("tensorflow", "keras", "galsim", "dask", "distributed", "astropy", "matplotlib", "pyarrow", "zarr", "scipy", "numpy")


WHERE = {"scheduler": None, "workers": None}


@pytest.fixture
def cli(capsys):
    """A function that runs a command and returns its exit code and what it printed."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture
def instead(monkeypatch):
    """A function that puts a stand-in for what a command calls, and returns the list of calls."""

    def put(place, result=None):
        module, name = place.rsplit(".", 1)
        calls = []

        def call(*arguments, **options):
            calls.append((*arguments, options))
            if isinstance(result, BaseException):
                raise result
            return result

        __import__(module)
        monkeypatch.setattr(sys.modules[module], name, call)
        return calls

    return put


def test_the_commands():
    assert COMMANDS == [
        "config",
        "demo",
        "doctor",
        "infer",
        "noise-correlation",
        "plan",
        "query",
        "redraw",
        "run",
        "simulate",
        "train",
        "validate",
        "verify",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli, command):
    code, out, err = cli(command, "--help")
    assert (code, err) == (0, "")
    assert f"astroflow {command}" in out
    (callback,) = (c.callback for c in app.registered_commands if (c.name or c.callback.__name__) == command)
    assert " ".join(callback.__doc__.split())[:40] in " ".join(out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_documents(command):
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(re.search(rf"astroflow {command}\b", path.read_text()) for path in documents)


def test_help_comes_at_once_and_loads_nothing_heavy():
    code = f"""
import resource, sys
try:
    from astroflow.cli import main
    main(["--help"])
except SystemExit as ended:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(ended.code, usage.ru_utime + usage.ru_stime, [m for m in {HEAVY} if m in sys.modules], sep=";")
"""
    # the fastest of three: other processes disturb even CPU time
    answers = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(3)]
    assert "infer" in answers[0]
    endings = [answer.splitlines()[-1].split(";") for answer in answers]
    assert {(ended, heavy) for ended, _, heavy in endings} == {("0", "[]")}
    assert min(float(seconds) for _, seconds, _ in endings) < 0.5


def test_no_command_at_all_is_help(cli):
    code, out, _ = cli()
    assert code == 0
    assert "infer" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "No such command 'bogus' (see `astroflow --help`)"),
        (["infer"], "Missing argument 'catalog' (see `astroflow infer --help`)"),
        (["infer", "x", "--bundle", "b"], "Missing option '--out' (see `astroflow infer --help`)"),
        (["train", "x", "--out", "o", "--sed", "1"], "No such option: --sed"),
        (["infer", "x", "--bundle", "b", "--out", "o", "--draws", "many"], "Invalid value for '--draws'"),
        (["infer", "x", "--bundle", "b", "--out", "o", "--allow-flagged", "2"], "Invalid value for '--allow-flagged'"),
        (["simulate", "demo_survey", "--out", "o", "--n", "0"], "--n must be at least 1; got 0"),
        (["simulate", "demo_survy", "--out", "o"], "no sims recipe 'demo_survy'"),
        (["train", "nothing", "--out", "o"], "no configs recipe 'nothing'"),
        (["run", "nothing", "--out", "o"], "no pipelines recipe 'nothing'"),
        (["infer", "nothing", "--bundle", "b", "--out", "o"], "no catalogs recipe 'nothing'"),
        (["query", "none.fits", "--psf", "p", "--bundle", "b", "--out", "o"], "image none.fits does not exist"),
        (["noise-correlation", "none.fits", "--out", "map.fits"], "image none.fits does not exist"),
        (["noise-correlation", "none.fits"], "Missing option '--out'"),
        (["verify", "nowhere"], "nowhere holds no inference run"),
        (["validate", "nowhere", "--out", "o"], "nowhere is no bundle"),
        (
            ["config", "estimater"],
            "no recipe kind 'estimater'; known: simulator, estimator, catalog, pipeline, cluster. Did you mean 'estimator'?",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("error", "code"), [(InputError("a\n  b"), 2), (ConfigError("a b"), 2), (IncompleteError("a b"), 4)])
def test_expected_errors_have_their_exit_code(cli, instead, error, code):
    instead("astroflow.pipelines.verify.verify", error)
    assert cli("verify", "out") == (code, "", "error: a b\n")


def test_an_interruption_can_be_resumed(cli, instead):
    instead("astroflow.pipelines.verify.verify", KeyboardInterrupt())
    code, out, err = cli("verify", "out")
    assert (code, out) == (4, "")
    assert "interrupted; run the same command again to resume" in err


def test_a_bug_is_a_traceback_and_exit_code_1(instead):
    instead("astroflow.pipelines.verify.verify", RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["verify", "out"])
    code = "import astroflow.pipelines.verify as i, astroflow.cli as c; i.verify = None; c.main(['verify', 'out'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")


@pytest.mark.parametrize(("kind", "documents"), [("simulator", 1), ("estimator", 1), ("catalog", 3), ("pipeline", 1)])
def test_config_prints_commented_yaml(cli, kind, documents):
    code, out, err = cli("config", kind)
    assert (code, err) == (0, "")
    parsed = list(yaml.safe_load_all(out))
    assert len(parsed) == documents
    assert all(len(document) > 3 for document in parsed)
    lines = [line for line in out.splitlines() if line.strip() and line != "---"]
    for before, line in zip(["", *lines], lines, strict=False):
        if not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("# "), f"{line!r} has no comment"
    if kind == "catalog":
        assert [document["kind"] for document in parsed] == ["tiles", "stamps", "realgalaxy"]


def test_doctor_lists_versions_and_devices(cli, monkeypatch):
    code, out, err = cli("doctor")
    assert (code, err) == (0, "")
    found = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert {"python", "tensorflow", "galsim", "dask", "astroflow", "devices", "cores"} <= set(found)
    assert "CPU" in found["devices"]
    from astroflow import provenance

    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    code, _, err = cli("doctor")
    assert code == 2
    assert err == "error: not installed: no-such-package; `make install` installs everything\n"


class Result:
    """What a stand-in returns: every figure that a command may ask for."""

    def __init__(self, **values):
        self.__dict__.update(values)


def test_simulate_hands_on_its_options(cli, instead):
    calls = instead("astroflow.pipelines.simulate.simulate")
    code, out, err = cli("simulate", "template", "--n", 10, "--out", "sims.zarr", "--seed", 3, "--workers", 2)
    assert (code, out, err) == (0, "sims.zarr\n", "")
    assert calls == [("template", {"n": 10, "out": Path("sims.zarr"), "seed": 3, "scheduler": None, "workers": 2})]


def test_train_prints_the_bundle_and_talks_on_stderr(cli, instead):
    posterior = Result(digest="a" * 64, training={"held_out_log_score": 4.5})
    calls = instead("astroflow.pipelines.train.train", posterior)
    code, out, err = cli("train", "demo", "--out", "bundle", "--data", "d.zarr", "--json")
    assert code == 0
    assert json.loads(out) == {"paths": ["bundle"], "digest": "a" * 64, "held_out_log_score": 4.5}
    assert "held-out log score 4.500" in err
    assert calls == [("demo", {"out": Path("bundle"), "data": Path("d.zarr"), "seed": 0, "scheduler": None, "workers": None})]


def test_validate_prints_its_files(cli, instead):
    report = Result(coverage_table=lambda: ["coverage"], contraction_table=lambda: ["widths"], verdict=["ok"], passed=True)
    calls = instead("astroflow.pipelines.validate.validate", report)
    code, out, err = cli("validate", "bundle", "--out", "report", "--n", 500)
    assert (code, err) == (0, "coverage\nwidths\nok\n")
    assert out.splitlines() == ["report/report.html", "report/validation.json", "report/calibration.png", "report/accuracy.png"]
    assert calls == [
        (Path("bundle"), {"out": Path("report"), "n": 500, "n_draws": 256, "seed": 20_000, "simulator": None, "reference": None} | WHERE)
    ]


@pytest.mark.parametrize(("allowed", "code"), [(None, 0), ("0.2", 0), ("0.05", 3)])
def test_infer_says_when_too_much_is_unusable(cli, instead, allowed, code):
    result = Result(catalog=Path("out/catalog"), tally=Tally(15, 3, 2, {Flag.LOW_SNR: 3}), population=None, validated=("coverage",))
    calls = instead("astroflow.pipelines.infer.infer", result)
    options = [] if allowed is None else ["--allow-flagged", allowed]
    ended, out, err = cli("infer", "survey.yaml", "--bundle", "b", "--out", "out", "--samples", "--scheduler", "tcp://host:8786", *options)
    assert (ended, out, err) == (code, "out/catalog\n", "20 rows: 15 good, 3 suspect, 2 unusable\nsuspect for: LOW_SNR 3\ncoverage\n")
    expected = {
        "bundle": Path("b"), "out": Path("out"), "n_draws": 256, "seed": 0, "keep_samples": True, "keep_contexts": False, "certify": False,
        "refine_budget": 0, "rows_per_partition": None, "scheduler": "tcp://host:8786", "workers": None, "dask_report": None,
    }  # fmt: skip
    assert calls == [("survey.yaml", expected)]


def test_infer_says_what_certified_rows_say_together(cli, instead):
    counted = Tally(9, verdicts={"inference": {Verdict.OK: 9}, "model": {Verdict.OK: 8, Verdict.FAILED: 1}})
    together = Result(lines=lambda: ["9 certified rows together: model passed"], numbers=lambda: {"rows": 9})
    calls = instead(
        "astroflow.pipelines.infer.infer",
        Result(catalog=Path("c"), tally=counted, population=together, validated=("coverage",)),
    )
    code, out, err = cli("infer", "survey.yaml", "--bundle", "b", "--out", "out", "--certify", "--refine", "--json")
    assert calls[0][1]["refine_budget"] == 20_000
    assert (code, json.loads(out)["population"], json.loads(out)["validated"]) == (0, {"rows": 9}, ["coverage"])
    assert json.loads(out)["verdicts"] == {"inference": {"ok": 9}, "model": {"ok": 8, "failed": 1}}
    assert err.splitlines()[-4:] == ["inference: 9 OK", "model: 8 OK, 1 failed", "9 certified rows together: model passed", "coverage"]


def test_query_hands_on_its_options(cli, instead):
    result = Result(remarks=["the PSF was moved"], lines=["S/N 30"], flags=1 << 9, files=[Path("out/corner.png")])
    calls = instead("astroflow.pipelines.query.query", result)
    code, out, err = cli(
        "query",
        "g.fits",
        "--psf",
        "p.fits",
        "--bundle",
        "b",
        "--out",
        "out",
        "--rms",
        "0.3",
        "--hdu",
        "SCI",
        "--pixel-scale",
        "0.2",
        "--noise-correlation",
        "map.fits",
        "--x",
        "3.5",
        "--json",
    )
    assert code == 0
    assert json.loads(out) == {"paths": ["out/corner.png"], "flags": ["PSF_RECENTRED"], "remarks": ["the PSF was moved"]}
    assert err.splitlines() == ["the PSF was moved", "S/N 30", "flags: PSF_RECENTRED"]
    ((image, options),) = calls
    assert image == Path("g.fits")
    given = {"psf": Path("p.fits"), "rms": "0.3", "hdu": "SCI", "pixel_scale_arcsec": 0.2, "x": 3.5, "y": None, "gain": None}
    given |= {"noise_correlation": Path("map.fits")}
    assert given.items() <= options.items()


def test_run_and_demo_print_their_summary(cli, instead):
    runs, demos = instead("astroflow.pipelines.run.run", ["one", "two"]), instead("astroflow.pipelines.demo.demo", ["three"])
    assert cli("run", "cosmos_acs", "--out", "out") == (0, "out\n", "one\ntwo\n")
    assert cli("demo", "--workers", 1) == (0, "runs/demo\n", "three\n")
    assert runs == [("cosmos_acs", {"out": Path("out"), "scheduler": None, "workers": None})]
    assert demos == [(Path("runs/demo"), {"workers": 1})]


def test_verify_prints_its_proof(cli, instead):
    instead("astroflow.pipelines.verify.verify", {"rows": 7, "bundle": "b" * 64, "good": 7, "suspect": 0, "unusable": 0})
    code, out, err = cli("verify", "out", "--json")
    assert code == 0
    assert json.loads(out)["rows"] == 7
    assert err == "7 rows, each input row once, all by bundle bbbbbbbbbbbb\n"


@pytest.mark.parametrize("arguments", [("simulate", "template"), ("train", "template"), ("validate", "bundle")])
def test_a_negative_seed_is_bad_input(cli, arguments):
    code, _, err = cli(*arguments, "--out", "out", "--seed", -1)
    assert code == 2
    assert "--seed" in err


def test_the_current_folder_has_a_name(cli, monkeypatch, tmp_path):
    """What is written beside the output folder is called after it."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("astroflow.pipelines.simulate.simulate", lambda *_, **options: calls.append(options["out"]))
    assert cli("simulate", "template", "--out", ".")[0] == 0
    assert calls == [tmp_path.resolve()]


def test_a_place_that_cannot_be_written_to_is_one_line(cli, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = cli("simulate", "template", "--n", 8, "--out", tmp_path / "file" / "set")
    assert code == 2
    assert err.startswith("error: ")
    assert str(tmp_path / "file") in err
    assert err.count("\n") == 1
