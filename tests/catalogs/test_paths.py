import os

import pytest

from astroflow.catalogs.paths import check_file, expand_path, fill_template, looks_like, resolve_path, template_fields
from astroflow.errors import ConfigError, InputError


def test_variables_have_values_defaults_or_an_error(monkeypatch):
    monkeypatch.setenv("SURVEY", "/data/survey")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert expand_path("$SURVEY/a.fits") == "/data/survey/a.fits"
    assert expand_path("${SURVEY:-/elsewhere}/a.fits") == "/data/survey/a.fits"
    assert expand_path("${NOT_SET:-../shared}/a_{id}.fits") == "../shared/a_{id}.fits"
    assert expand_path("~/a") == os.path.expanduser("~/a")
    with pytest.raises(
        ConfigError, match=r"needs the environment variable NOT_SET, which is not set; set it, or write \$\{NOT_SET:-default\}"
    ):
        expand_path("$NOT_SET/a.fits")


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


def test_templates_take_columns_formats_and_whole_paths():
    assert template_fields("a/{tile}/b_{id:06d}.fits") == ["tile", "id"]
    assert fill_template("/d/{tile}/b_{id:06d}.fits", {"tile": "t", "id": 42}) == "/d/t/b_000042.fits"
    assert fill_template("/d/{FILE}", {"FILE": "x.fits"}) == "/d/x.fits"
    assert fill_template("/d/{FILE}", {"FILE": "/abs/x.fits"}) == "/abs/x.fits"
    assert fill_template("/d/x.fits", {}) == "/d/x.fits"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{fiel}.fits", r"asks for \{fiel\}, which is not a column; known: FILE, file. Did you mean 'file'"),
        ("{file:d}.fits", "cannot be filled"),
    ],
)
def test_a_template_that_cannot_be_filled_is_an_error(template, message):
    with pytest.raises(ConfigError, match=message):
        fill_template(template, {"file": "x", "FILE": "y"})


@pytest.mark.parametrize("template", ["{", "{}", "a{b}{}"])
def test_a_broken_template_is_an_error(template):
    with pytest.raises(ConfigError, match=r"is not a template|has empty braces"):
        template_fields(template)


def test_only_ordinary_files_with_content_pass(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "good").write_text("abc")
    assert check_file(tmp_path / "good", "thing") == 3
    cases = {
        tmp_path / "absent": "thing .*absent does not exist",
        tmp_path / "empty": r"is empty \(0 bytes\)",
        tmp_path: "should be a file; it is a folder",
        "/dev/zero": "should be a file; it is a device or pipe",
        "https://example.org/a.fits": "is an address; only files on disk are read",
        "a\0b": "cannot be read",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=message):
            check_file(path, "thing")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\x89PNG\r\n", "a PNG picture"),
        (b"\n <!DOCTYPE html><html>", "an HTML page; did the download fail?"),
        (b"<?xml version", "an XML document"),
        (b"hello, world", "text"),
        (b"\x00\x01\x02", "unknown binary data"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer; fetch the real file"),
    ],
)
def test_it_says_what_a_file_looks_like(head, said):
    assert looks_like(head) == said
