import os
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest
import yaml

from astroflow.config import (
    Recipe,
    RecipePath,
    commented_defaults,
    expand_path,
    find_recipe,
    load_recipe,
    parse_recipe,
    read_yaml,
    resolve_path,
)
from astroflow.errors import ConfigError
from astroflow.sims.recipe import PARTS, SimulatorRecipe


class Round(Recipe):
    """A round thing."""

    kind: Literal["round"] = "round"
    radius: pydantic.PositiveFloat
    """Its radius."""


class Square(Recipe):
    """A square thing."""

    kind: Literal["square"] = "square"
    side: float = 2.0
    """Its side."""
    corners: tuple[int, ...] = (1, 2)
    """Which corners."""


Shape = Annotated[Round | Square, pydantic.Field(discriminator="kind")]


class Colour(Recipe):
    """A colour."""

    red: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    """How red."""

    @pydantic.model_validator(mode="after")
    def _not_dull(self):
        if self.red == 0.25:
            raise ValueError("`red` must not be 0.25")
        return self


class Thing(Recipe):
    """A thing."""

    name: str
    """What it is called."""
    shape: Shape = Square(side=3.0)
    """Its outline."""
    colour: Colour = Colour()
    """Its colour."""
    more: tuple[Shape, ...] = ()
    """Other outlines."""
    picture: RecipePath | None = None
    """A file."""


def refused(data):
    with pytest.raises(ConfigError) as caught:
        parse_recipe(Thing, data, "thing.yaml")
    return str(caught.value)


def test_a_recipe_is_filled_with_defaults_and_cannot_change():
    thing = parse_recipe(Thing, {"name": "a", "shape": {"kind": "round", "radius": 1}}, "thing.yaml")
    assert thing.shape == Round(radius=1.0)
    assert thing.colour.red == 0.5
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        thing.name = "b"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nane": "a"}, "thing.yaml: missing key `name`; unknown key `nane`; known keys: colour, more, name, picture, shape. Did you mean 'name'?"),
        ({"name": "a", "colour": {"rde": 1}}, "unknown key `colour.rde`; known keys: red. Did you mean 'red'?"),
        ({"name": "a", "shape": {"kind": "round", "raduis": 1, "radius": 1}}, "unknown key `shape.raduis`; known keys: kind, radius. Did you mean 'radius'?"),
        ({"name": "a", "more": [{"kind": "square", "sied": 1}]}, "unknown key `more.0.sied`; known keys: corners, kind, side. Did you mean 'side'?"),
        ({"name": "a", "shape": {"kind": "round"}}, "missing key `shape.radius`"),
        ({"name": "a", "shape": {"kind": "rond", "radius": 1}}, "unknown kind 'rond' of `shape`; known kinds: round, square. Did you mean 'round'?"),
        ({"name": "a", "shape": {"radius": 1}}, "`shape` needs a `kind`; known kinds: round, square"),
        ({"name": "a", "shape": 3}, "`shape` should hold keys and values; it holds 3"),
        ({"name": "a", "colour": {"red": "very"}}, "`colour.red` (= 'very'): Input should be a valid number"),
        ({"name": "a", "colour": {"red": 2}}, "`colour.red` (= 2): Input should be less than or equal to 1"),
        ({"name": "a", "colour": {"red": float("nan")}}, "`colour.red` (= nan): Input should be a finite number"),
        ({"name": "a", "colour": {"red": 0.25}}, "`colour`: `red` must not be 0.25"),
        ([], "recipe should hold keys and values; it holds []"),
    ],
)  # fmt: skip
def test_each_mistake_gets_one_line_that_says_where_and_what(data, message):
    text = refused(data)
    assert message in text
    assert "\n" not in text


def test_relative_paths_are_looked_for_beside_the_recipe_and_then_where_one_works(tmp_path, monkeypatch):
    home, work = tmp_path / "recipes", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    monkeypatch.chdir(work)
    (home / "thing.yaml").write_text("name: a\npicture: a.fits\n")

    def picture():
        return load_recipe(Thing, home / "thing.yaml", "sims").picture

    assert picture() == str(work / "a.fits")
    (work / "a.fits").touch()
    assert picture() == str(work / "a.fits")
    (home / "a.fits").touch()
    assert picture() == str(home / "a.fits")
    assert parse_recipe(Thing, {"name": "a", "picture": "a.fits"}, "x").picture == str(work / "a.fits")


def test_paths_may_name_environment_variables_with_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PICTURES", str(tmp_path / "there"))
    monkeypatch.delenv("NO_PICTURES", raising=False)
    for text, expected in [
        ("$PICTURES/a.fits", "there/a.fits"),
        ("${PICTURES}/a.fits", "there/a.fits"),
        ("${PICTURES:-else}/a.fits", "there/a.fits"),
        ("${NO_PICTURES:-../else}/a.fits", "../else/a.fits"),
    ]:
        got = parse_recipe(Thing, {"name": "a", "picture": text}, "x").picture
        assert got == os.path.normpath(tmp_path / expected)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expand_path("~/a") == str(tmp_path / "home" / "a")
    with pytest.raises(ConfigError, match="x: `picture`: path '.*' needs the environment variable NO_PICTURES: set it, or write"):
        parse_recipe(Thing, {"name": "a", "picture": "$NO_PICTURES/a.fits"}, "x")


def test_recipes_are_found_by_path_by_name_and_from_anywhere(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    shipped = root / "sims" / "demo_survey.yaml"
    assert find_recipe("demo_survey", "sims") == shipped
    assert find_recipe("sims/demo_survey.yaml", "sims") == shipped
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    assert find_recipe("mine.yaml", "sims") == Path("mine.yaml")
    (tmp_path / "sims").mkdir()
    (tmp_path / "sims" / "demo_survey.yaml").write_text("a: 1\n")
    assert find_recipe("demo_survey", "sims") == tmp_path / "sims" / "demo_survey.yaml"


def test_a_recipe_that_is_not_there_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no sims recipe 'demo_surve'.*demo_survey.*Did you mean 'demo_survey'\?"):
        find_recipe("demo_surve", "sims")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' is given twice, on line 3"),
        ("x:\n  a: 1\n  a: 1\n", "key 'a' is given twice, on line 3"),
        ("- 1\n- 2\n", "should hold a mapping of keys to values; it holds list"),
        ("", "should hold a mapping of keys to values; it holds nothing"),
        ("a: [1, 2\n", "is not YAML"),
        ("a: !!python/object:os.system {}\n", "is not YAML"),
        ("? [1, 2]\n: 3\n", "is not YAML"),
    ],
)
def test_yaml_that_is_not_one_plain_mapping_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_bytes_and_folders_are_not_recipes(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"a: \xff\xfe\x00")
    for path in (tmp_path / "bad.yaml", tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(ConfigError, match="cannot read recipe"):
            read_yaml(path)


def test_yaml_anchors_and_merges_work(tmp_path):
    (tmp_path / "a.yaml").write_text("one: &one {a: 1, b: 2}\ntwo:\n  <<: *one\n  b: 3\n")
    assert read_yaml(tmp_path / "a.yaml") == {"one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 3}}


def test_commented_defaults_shows_what_the_model_holds():
    text = commented_defaults(Thing)
    data = yaml.safe_load(text)
    assert data["name"] is None
    assert "name:  # required" in text
    assert data["shape"] == {"kind": "square", "side": 3.0, "corners": [1, 2]}  # the field's own default, not the model's
    assert parse_recipe(Thing, data | {"name": "a"}, "defaults") == Thing(name="a")
    assert "# Its outline. Kinds: round, square." in text


def lines_without_a_comment(text):
    lines = text.splitlines()
    return [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if "#" not in line.split(":")[0] and not above.strip().startswith("# ")
    ]


def test_the_simulator_recipe_is_printed_whole_with_a_comment_on_every_key():
    text = commented_defaults(SimulatorRecipe)
    assert lines_without_a_comment(text) == []
    assert all(len(line.split("#")[1].strip()) > 4 for line in text.splitlines() if line.strip().startswith("#"))
    data = yaml.safe_load(text)
    assert set(data) == set(SimulatorRecipe.model_fields)
    for part, kinds in PARTS.items():
        first = next(iter(kinds.values()))
        assert set(data[part]) == set(first.model_fields)
        assert data[part]["kind"] == next(iter(kinds))


def test_the_printed_simulator_recipe_works_once_its_required_keys_are_filled():
    from astroflow.sims.recipe import build_simulator

    data = yaml.safe_load(commented_defaults(SimulatorRecipe))
    data["stamp"] |= {"pixel_scale_arcsec": 0.1, "zero_point": 25.0}
    data["psf"] |= {"fwhm_arcsec": 0.3}
    data["noise"] |= {"rms": 0.1}
    simulator, resolved = build_simulator(data)
    assert simulator.parameters.names == ("mag", "re_arcsec", "n", "e1", "e2", "dx_arcsec", "dy_arcsec")
    assert build_simulator(resolved)[1] == resolved


def test_the_recipes_folder_comes_before_the_working_folder(tmp_path, monkeypatch):
    recipe, work = tmp_path / "recipe", tmp_path / "work"
    for folder in (recipe, work):
        folder.mkdir()
        (folder / "both.fits").touch()
    (work / "here.fits").touch()
    (work / "tiles").mkdir()
    monkeypatch.chdir(work)
    assert resolve_path("both.fits", recipe) == str(recipe / "both.fits")
    assert resolve_path("here.fits", recipe) == str(work / "here.fits")
    assert resolve_path("tiles/{tile}.fits", recipe) == str(work / "tiles" / "{tile}.fits")
    assert resolve_path("{tile}.fits", recipe) == str(recipe / "{tile}.fits")
    assert resolve_path("absent.fits", recipe) == str(work / "absent.fits")
    assert resolve_path("/abs/a.fits", recipe) == "/abs/a.fits"
    assert resolve_path("https://a.org/b.fits", recipe) == "https://a.org/b.fits"
