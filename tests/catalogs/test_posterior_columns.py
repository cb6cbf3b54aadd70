import pytest
from astropy import units as u
from astropy.io.votable.ucd import parse_ucd

from astroflow.catalogs.posterior_columns import posterior_columns, sample_columns
from astroflow.sims import load_simulator


@pytest.fixture(scope="module", params=["small", "reference_bulge_disc"])
def parameters(request):
    if request.param == "small":
        return request.getfixturevalue("small_simulator").parameters
    return load_simulator(request.param).parameters


def test_every_column_has_a_name_of_its_own_a_meaning_and_a_unit(parameters):
    columns = posterior_columns(parameters, healpix=True, samples=True, ensemble=True, certified=True, refined=True)
    assert len({column.name for column in columns}) == len(columns)
    for column in [*columns, *sample_columns(parameters)]:
        assert column.description
        u.Unit(column.unit)


def test_ucds_are_of_the_controlled_vocabulary(parameters):
    columns = posterior_columns(parameters, healpix=True, ensemble=True, certified=True, refined=True)
    for column in [*columns, *sample_columns(parameters)]:
        if column.ucd:
            parse_ucd(column.ucd, check_controlled_vocabulary=True)


def test_each_kind_of_run_adds_its_columns(parameters):
    few = posterior_columns(parameters)
    for option in ("healpix", "samples", "ensemble", "certified", "refined"):
        more = posterior_columns(parameters, **{option: True})
        assert [column for column in more if column in few] == few
        assert len(more) > len(few)
    assert posterior_columns(parameters, healpix=True)[0].name == "_healpix_29"
    assert sample_columns(parameters)[0].name == parameters.names[0]


def test_offsets_count_from_the_objects_position(small_simulator):
    columns = {column.name: column.description for column in posterior_columns(small_simulator.parameters)}
    columns |= {f"{column.name}_mean": column.description for column in sample_columns(small_simulator.parameters)}
    for axis in "xy":
        assert f"offset along +{axis} from the object's position" in columns[f"d{axis}_arcsec_mean"]
    assert not any("stamp's centre" in description for description in columns.values())
