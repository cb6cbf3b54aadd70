import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from astroflow.catalogs.published import PublishedRecipe, read_published
from astroflow.config import parse_recipe
from astroflow.errors import ConfigError, InputError

FIT = [0.1, 10.0, 2.0, 0.7, 0.0, 50.0, 50.0, 0.3]


def write(path, **changes):
    columns = {"IDENT": [7, 5, 9], "sersicfit": np.array([FIT, [*FIT[:2], 0.0, *FIT[3:]], FIT]), "flux": np.full((3, 4), 100.0)} | changes
    Table({name: value for name, value in columns.items() if value is not None}).write(path, overwrite=True)


@pytest.fixture
def recipe(tmp_path):
    write(tmp_path / "fits.fits")
    return parse_recipe(PublishedRecipe, {"path": "fits.fits", "zero_point": 25.0, "pixel_scale_arcsec": 0.03}, "published", tmp_path)


def test_units_and_order_are_ours(recipe):
    values = read_published(recipe, ["9", "7"])
    assert values["mag"] == pytest.approx([20.0, 20.0])
    assert values["log10_re"] == pytest.approx(np.log10([0.3, 0.3]))
    assert values["log10_n"] == pytest.approx(np.log10([2.0, 2.0]))
    assert values["q"] == pytest.approx([0.7, 0.7])


def test_what_is_not_there_or_failed_is_nan(recipe):
    values = read_published(recipe, ["1", "5", "7"])
    np.testing.assert_array_equal(np.isnan(values["q"]), [True, False, False])
    np.testing.assert_array_equal(np.isnan(values["log10_n"]), [True, True, False])
    assert all(len(column) == 0 for column in read_published(recipe, []).values())


def test_paths_start_beside_the_recipe_and_take_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", str(tmp_path))
    write(tmp_path / "fits.fits")
    recipe = parse_recipe(PublishedRecipe, {"path": "${PLACE}/fits.fits", "zero_point": 25.0, "pixel_scale_arcsec": 1}, "published")
    assert recipe.path == str(tmp_path / "fits.fits")
    with pytest.raises(ConfigError, match="environment variable NOWHERE"):
        parse_recipe(PublishedRecipe, {"path": "$NOWHERE/x", "zero_point": 25.0, "pixel_scale_arcsec": 1}, "published")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"IDENT": None}, "has no column 'IDENT'; expected IDENT, sersicfit and flux"),
        ({"sersicfit": None}, "has no column 'sersicfit'"),
        ({"sersicfit": np.zeros((3, 4))}, r"'sersicfit' of .* has shape \(3, 4\); expected \(rows, 8\): .* re, n, q"),
        ({"sersicfit": np.zeros(3)}, r"'sersicfit' of .* has shape \(3,\)"),
        ({"flux": np.zeros(3)}, "cannot read published fits"),
        ({"flux": ["a", "b", "c"]}, "cannot read published fits"),
    ],
)
def test_a_table_of_another_kind_is_named(recipe, tmp_path, changes, words):
    write(tmp_path / "fits.fits", **changes)
    with pytest.raises(InputError, match=words):
        read_published(recipe, ["7"])


def test_files_that_are_no_table(recipe, tmp_path):
    whole = (tmp_path / "fits.fits").read_bytes()
    (tmp_path / "fits.fits").write_bytes(whole[:3000])
    with pytest.raises(InputError, match="cannot read published fits"):
        read_published(recipe, ["7"])
    (tmp_path / "fits.fits").write_text("hello")
    with pytest.raises(InputError, match="cannot read published fits"):
        read_published(recipe, ["7"])
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "fits.fits", overwrite=True)
    with pytest.raises(InputError, match="cannot read published fits"):
        read_published(recipe, ["7"])
    (tmp_path / "fits.fits").unlink()
    with pytest.raises(InputError, match="table of published fits .* does not exist"):
        read_published(recipe, ["7"])
