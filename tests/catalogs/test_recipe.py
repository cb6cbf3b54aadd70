import pytest

from astroflow.catalogs import load_catalog
from astroflow.catalogs.recipe import RealGalaxyRecipe, StampsRecipe, TilesRecipe, parse_catalog
from astroflow.config import commented_defaults
from astroflow.errors import ConfigError

STAMPS = {
    "kind": "stamps", "image": {"path": "/d/*.fits"}, "noise": {"kind": "constant", "value": 1.0}, "psf": {"path": "/d/psf.fits"},
    "zero_point": 25, "pixel_scale_arcsec": 0.2,
}  # fmt: skip


def test_paths_are_absolute_after_loading(survey):
    recipe = survey.load()
    assert recipe.table.path == str(survey.folder / "objects.fits")
    assert recipe.image.path == str(survey.folder / "tile_{tile}.fits")
    again = parse_catalog(recipe.model_dump(mode="json"))
    assert again == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "tile"}, "unknown kind 'tile'; known kinds: tiles, stamps, realgalaxy. Did you mean 'tiles'"),
        ({"kind": None}, "`kind` is missing; known kinds"),
        ({"zero_point": None}, "missing key `zero_point`"),
        ({"zeropoint": 25.0}, "unknown key `zeropoint`; known keys: .* Did you mean 'zero_point'"),
        ({"columns__raa": "RA"}, "unknown key `columns.raa`"),
        ({"columns__id": None}, "missing key `columns.id`"),
        ({"columns__ra": None}, "needs either `ra` and `dec`, or `x` and `y`"),
        ({"columns__x": "X", "columns__y": "Y"}, "needs either `ra` and `dec`, or `x` and `y`"),
        ({"columns__tile": None}, "go together; give both or neither"),
        ({"image__path": "tile.fits"}, "go together; give both or neither"),
        ({"image__path": "{tile}_{FIELD}.fits"}, "takes only `{tile}`"),
        ({"mask__path": "{id}.fits"}, "takes only `{tile}`: there is one such image per tile"),
        ({"image__path": "{tile"}, "is not a template"),
        ({"image__path": "${NOT_A_VARIABLE}/{tile}.fits"}, "needs the environment variable NOT_A_VARIABLE"),
        ({"noise__kind": "sigma"}, "noise.kind"),
        ({"noise__path": None}, "kind `rms` needs a `path`"),
        ({"noise__kind": "constant"}, "kind `constant` takes a `value` or the column"),
        ({"noise": {"kind": "constant"}}, "needs either `noise.value` or `columns.noise`"),
        ({"noise__scale": 0}, "noise.scale"),
        ({"columns__noise": "S"}, "`columns.noise` is for noise of kind `constant`, and kind `rms` does not use it"),
        ({"columns__label": "L"}, "`columns.label` names an object's segment; give the `segmentation` map too"),
        ({"mask__bits": [1], "mask__values": [1]}, "give `bits` or `values`, not both"),
        ({"pixel_scale_arcsec": -1}, "pixel_scale_arcsec"),
        ({"pixel_scale_arcsec": float("nan")}, "pixel_scale_arcsec"),
        ({"psf__oversampling": 0}, "psf.oversampling"),
    ],
)
def test_a_recipe_that_cannot_be_used(survey, changes, message):
    survey.changed(**changes)
    with pytest.raises(ConfigError, match=message):
        survey.load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": {"path": "/d/a.fits"}}, r"needs a `\*` where there is no `table`"),
        ({"columns": {"id": "ID"}}, "`table` and `columns` go together"),
        ({"table": {"path": "/d/t.csv"}, "columns": {"id": "ID"}}, "needs a column in braces"),
    ],
)
def test_stamps_have_to_be_listed_somehow(changes, message):
    assert parse_catalog(STAMPS).zero_point == 25.0
    with pytest.raises(ConfigError, match=message):
        parse_catalog(STAMPS | changes)


LISTED = STAMPS | {"image": {"path": "/d/{id}.fits"}, "table": {"path": "/d/t.csv"}}


@pytest.mark.parametrize("columns", [{}, {"x": "X", "y": "Y"}, {"ra": "RA", "dec": "DEC"}])
def test_stamps_take_a_pair_of_positions_or_none(columns):
    assert parse_catalog(LISTED | {"columns": {"id": "ID"} | columns}).columns.x == columns.get("x")


@pytest.mark.parametrize("columns", [{"x": "X"}, {"dec": "DEC"}, {"ra": "RA", "y": "Y"}, {"ra": "RA", "dec": "DEC", "x": "X", "y": "Y"}])
def test_stamps_take_no_half_of_a_pair_and_no_two(columns):
    with pytest.raises(ConfigError, match="takes `ra` and `dec`, or `x` and `y`, or none of them .* never half a pair, or both"):
        parse_catalog(LISTED | {"columns": {"id": "ID"} | columns})


@pytest.mark.parametrize("changes", [{"columns": {"id": "ID", "tile": "T"}}, {"columns": {"id": "ID"}, "psf": {"path": "/d/{tile}.fits"}}])
def test_the_tiles_of_stamps_are_given_and_used(changes):
    with pytest.raises(ConfigError, match="`columns.tile` and `{tile}` in a path go together; give both or neither"):
        parse_catalog(LISTED | changes)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="no catalogs recipe 'cosmos_f815w': .* Did you mean 'cosmos_f814w'"):
        load_catalog("cosmos_f815w")


@pytest.mark.parametrize("model", [TilesRecipe, StampsRecipe, RealGalaxyRecipe])
def test_every_key_says_what_it_means(model):
    lines = commented_defaults(model).splitlines()
    for line, before in zip(lines[1:], lines, strict=False):
        if not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("# ") or before.endswith(":"), f"{line!r} has no comment"
