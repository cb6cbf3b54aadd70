import pytest

from astroflow.catalogs.paths import check_file, fill_template, looks_like, template_fields
from astroflow.errors import ConfigError, InputError


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
