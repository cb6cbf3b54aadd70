"""The house is in order: trees agree, every module says what it is, `__all__` and versions agree."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "astroflow"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = ("sims", "configs", "catalogs", "pipelines")


def tree(path):
    return ast.parse(path.read_text())


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_test_of_a_room_belongs_to_a_module():
    rooms = [p.name for p in PACKAGE.iterdir() if p.is_dir() and (ROOT / "tests" / p.name).is_dir()]
    assert "sims" in rooms
    for room in rooms:
        for test in (ROOT / "tests" / room).rglob("test_*.py"):
            module = PACKAGE / test.relative_to(ROOT / "tests").with_name(f"{test.stem.removeprefix('test_')}.py")
            assert module.is_file(), f"{test.relative_to(ROOT)} has no {module.relative_to(ROOT)}"


def test_every_module_of_the_forward_model_has_its_test():
    for module in (PACKAGE / "sims").glob("[!_]*.py"):
        assert (ROOT / "tests" / "sims" / f"test_{module.name}").is_file(), module.name


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_says_what_it_is(path):
    text = ast.get_docstring(tree(path))
    assert text, dotted(path)
    assert text.splitlines()[0].endswith((".", ":", "?")), "its first line is a sentence"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=dotted)
def test_public_names_are_listed_and_exist(path):
    body = tree(path).body
    (listed,) = [ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign) and names(node) == {"__all__"}] or [None]
    if path.name.startswith("_") or path.stem == "__main__":
        return
    assert listed is not None, "it has no __all__"
    assert len(set(listed)) == len(listed)
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {name for node in body if isinstance(node, ast.Assign | ast.AnnAssign) for name in names(node)}
    assert set(listed) <= defined, set(listed) - defined


def names(node):
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py" and p.parent != PACKAGE], ids=dotted)
def test_a_room_hands_on_only_names_that_exist(path):
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert alias.asname == alias.name, "re-exports are written `X as X`"
                assert hasattr(module, alias.name)
        else:
            assert isinstance(node, ast.Expr | ast.Assign | ast.If | ast.Import | ast.FunctionDef | ast.AnnAssign)


def test_the_public_names_of_the_package_load():
    import astroflow

    for name in astroflow.__all__:
        assert getattr(astroflow, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = astroflow.nothing_of_the_kind


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    import astroflow

    assert astroflow.__version__ == project["version"]
    assert re.search(rf"^version: {re.escape(project['version'])}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text() or "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_recipe_folders_hold_recipes_and_no_python():
    for folder in FOLDERS:
        readme = (ROOT / folder / "README.md").read_text()
        assert re.match(r"Recipes read by `astroflow\.\w+`", readme), folder
        assert not list((ROOT / folder).rglob("*.py")), f"{folder} is not a package"


def test_the_wheel_carries_every_recipe_folder():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    from astroflow.config import RECIPE_FOLDERS

    assert RECIPE_FOLDERS == FOLDERS
    for folder in FOLDERS:
        assert f"/{folder}/*.yaml" in wheel["include"]
        assert wheel["sources"][folder] == f"astroflow/_recipes/{folder}"


def test_every_locked_package_has_its_hashes():
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z])", text[text.index("absl-py") :])
    assert len(entries) > 80
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in text, "the lock names no index"


def test_every_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [re.match(r"[\w-]+", d)[0] for d in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert not {w.lower().replace("_", "-") for w in wanted} - {name.lower().replace("_", "-") for name in locked}
