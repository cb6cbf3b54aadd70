"""The documents say what is true: their code runs, the tests and files that they name exist."""

import importlib
import re
import shlex
import sys
import tomllib
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document):
    return BLOCK.findall((DOCS / document).read_text())


def split_files(document):
    """Code of a document: what it saves as files, by name, and what it runs."""
    files, run = {}, []
    for language, code in blocks(document):
        if language == "python":
            named = re.match(r"# (\w+\.py)\n", code)
            if named:
                files[named[1]] = code
            else:
                run.append(code)
    return files, run


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The modules of extending.md, saved where Python finds them."""
    files, _ = split_files("extending.md")
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if f"{name}.py" in files:
            del sys.modules[name]
    importlib.invalidate_caches()


def test_the_code_of_extending_runs(written):
    files, run = split_files("extending.md")
    assert {"my_galaxies.py", "my_psf.py", "my_noise.py"} <= set(files)
    assert len(run) >= 4
    namespace = {}
    for code in run:
        exec(compile(code, "docs/extending.md", "exec"), namespace)
    assert namespace["simulation"].theta.shape == (4, 4)


def test_the_code_of_noise_runs():
    (code,) = (code for language, code in blocks("noise.md") if language == "python")
    exec(compile(code, "docs/noise.md", "exec"), {})


def test_the_code_of_diagnostics_runs_and_shows_what_it_says():
    (code,) = (code for language, code in blocks("diagnostics.md") if language == "python")
    namespace = {}
    exec(compile(code, "docs/diagnostics.md", "exec"), namespace)
    assert (namespace["ks_uniform"](namespace["values"]) > 0.001).all()
    assert (namespace["by_snr"].outcome[[0, -1]] == "failed").any(1).all()
    assert namespace["result"].overall == 0.01


def test_the_code_of_epistemic_runs_and_shows_what_it_says():
    (code,) = (code for language, code in blocks("epistemic.md") if language == "python")
    namespace = {}
    exec(compile(code, "docs/epistemic.md", "exec"), namespace)
    assert namespace["draws"].shape == (2, 300, 1)
    usual, unseen = namespace["apart"]
    assert unseen > 2 * usual > 0


def test_the_recipes_of_epistemic_are_some():
    from astroflow.posteriors.recipe import Architecture

    recipes = [yaml.safe_load(code) for language, code in blocks("epistemic.md") if language == "yaml"]
    assert [Architecture.model_validate(recipe).epistemic.kind for recipe in recipes] == ["ensemble", "variational"]


def test_the_code_of_choosing_runs():
    (code,) = (code for language, code in blocks("choosing.md") if language == "python")
    exec(compile(code, "docs/choosing.md", "exec"), {})


def test_the_code_of_hats_runs(small_simulator, tmp_path, monkeypatch):
    import dask
    import lsdb
    import numpy as np
    import pandas as pd
    from astropy.table import Table
    from posterior_catalog import InventedCatalog

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(6)
    ra, dec = rng.normal(150.1, 0.01, 60), rng.normal(2.2, 0.01, 60)
    invented = InventedCatalog(small_simulator.parameters, ra, dec)
    invented.write(Path("runs/demo/inference/catalog"))
    namespace, codes = {}, [code for language, code in blocks("hats.md") if language == "python"]
    with dask.config.set(scheduler="synchronous"):
        objects = pd.DataFrame({"object_id": invented.ids, "ra": ra, "dec": dec})
        lsdb.from_dataframe(objects, ra_column="ra", dec_column="dec").write_catalog("surveys/objects")
        for code in codes:
            with pytest.warns(RuntimeWarning, match="Right catalog does not have a margin") if "load_extension" in code else nullcontext():
                exec(compile(code, "docs/hats.md", "exec"), namespace)
        assert len(namespace["extended"].compute()) == len(namespace["matched"]) == len(namespace["table"]) == 60
    assert 0 < len(namespace["frame"]) == len(namespace["means"]) < len(namespace["near"]) < 60
    assert len(Table.read("good.vot")) == len(namespace["widths"]) == (~invented.unusable).sum()
    assert namespace["header"].fields[0].name == "_healpix_29"


def test_choosing_names_every_kind():
    from astroflow.networks.flow_kinds import FLOWS

    assert re.findall(r"^\| `(\w+)` \|", (DOCS / "choosing.md").read_text(), re.MULTILINE) == list(FLOWS)


def test_the_noise_recipe_of_noise_is_one():
    from astroflow.sims.recipe import part_model

    (recipe,) = (yaml.safe_load(code)["noise"] for language, code in blocks("noise.md") if language == "yaml" and code.startswith("noise:"))
    model = part_model("noise", recipe["kind"]).model_validate(recipe)
    assert model.correlation.map.shape == (21, 21)


def test_the_entry_points_and_the_recipe_of_extending_work_once_installed(written):
    (toml,) = (code for language, code in blocks("extending.md") if language == "toml")
    (recipe,) = (code for language, code in blocks("extending.md") if language == "yaml")
    groups = tomllib.loads(toml)["project"]["entry-points"]
    info = written / "my_survey-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-survey\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) for group, points in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (written / "small.yaml").write_text(recipe)

    from astroflow.sims import load_simulator
    from astroflow.sims.recipe import GROUPS

    assert set(groups) == {*GROUPS.values(), "astroflow.simulators"}
    simulation = load_simulator(written / "small.yaml").draw(["a", "b"], seed=1)
    assert simulation.theta.shape == (2, 4)
    assert (simulation.snr > 0).all()
    assert load_simulator("my_survey").parameters.names == ("mag", "re_arcsec", "e1", "e2")


def test_the_quickstart_makes_the_training_set_that_the_demo_makes():
    (n, seed) = re.search(r"simulate demo_survey --n (\d+) --seed (\d+)", (DOCS / "quickstart.md").read_text()).groups()
    assert int(n) == yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())["simulations"]["n"]
    assert int(seed) == yaml.safe_load((ROOT / "pipelines" / "demo.yaml").read_text())["train"]["seed"]


def commands():
    """Every `astroflow` command of the documents, as words."""
    for path in [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md"))]:
        for language, code in BLOCK.findall(path.read_text()):
            if language == "sh":
                for line in code.replace("\\\n", " ").splitlines():
                    words = shlex.split(line, comments=True)
                    if words and Path(words[0]).name == "astroflow":
                        yield path.name, words[1:]


def test_commands_have_the_options_that_documents_give_them():
    import typer.main

    from astroflow.cli import app

    known, found = typer.main.get_command(app).commands, list(commands())
    assert len(found) > 10
    for name, (command, *words) in found:
        known[command].make_context(command, words, resilient_parsing=False)
        assert known[command].name == command, name


def test_the_recipe_of_clusters_is_one():
    from astroflow.pipelines.clusters import parse_cluster

    (recipe,) = (yaml.safe_load(code) for language, code in blocks("clusters.md") if language == "yaml")
    assert parse_cluster(recipe).jobs == 20


def named_tests(document):
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / document).read_text())


def test_the_tests_that_conventions_name_exist():
    names = named_tests("conventions.md")
    assert len(names) > 20
    for path, function in names:
        assert re.search(rf"^def {function}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{function}"


def test_every_convention_names_a_test():
    sections = re.split(r"^## ", (DOCS / "conventions.md").read_text(), flags=re.MULTILINE)[1:]
    assert len(sections) > 10
    for section in sections:
        assert re.search(r"^Held by `tests/", section, re.MULTILINE), section.splitlines()[0]


@pytest.mark.parametrize("path", [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))], ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_house_names_every_room():
    text = (DOCS / "house.md").read_text()
    rooms = [p.name for p in (ROOT / "astroflow").iterdir() if (p / "__init__.py").is_file()]
    modules = [p.stem for p in (ROOT / "astroflow").glob("*.py") if p.stem != "__init__"]
    assert rooms
    for name in [*rooms, *modules]:
        assert f"`astroflow.{name}`" in text, name
