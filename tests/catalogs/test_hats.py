"""The oracles are hats, which says what is valid, and LSDB, which does what users do."""

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.votable import parse
from posterior_catalog import CREATED, InventedCatalog
from pyarrow import parquet

from astroflow.catalogs.hats import check_part, hats_partitions, part_path, write_extension, write_hats
from astroflow.catalogs.posterior_columns import posterior_columns, sample_columns
from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def one_process():
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def lsdb():
    import lsdb

    return lsdb


@pytest.fixture(scope="module")
def crowd(small_simulator):
    """Integer ids, draws kept: around the seam of right ascension, at a pole, and in a crowded field."""
    rng = np.random.default_rng(4)
    n = 150
    ra = np.concatenate([rng.normal(0, 0.4, n) % 360, rng.uniform(0, 360, n), rng.normal(150, 0.05, n)])
    dec = np.concatenate([rng.normal(0, 0.4, n), 90 - np.abs(rng.normal(0, 0.4, n)), rng.normal(2, 0.05, n)])
    shuffled = rng.permutation(3 * n)
    return InventedCatalog(small_simulator.parameters, ra[shuffled], dec[shuffled])


@pytest.fixture(scope="module")
def field(small_simulator):
    """String ids, no draws."""
    rng = np.random.default_rng(5)
    return InventedCatalog(
        small_simulator.parameters, rng.uniform(40, 41, 90), rng.uniform(-30, -29, 90), ids=[f"G{k:03d}" for k in range(90)], samples=False
    )


@pytest.fixture(scope="module")
def crowd_root(crowd, tmp_path_factory):
    root = tmp_path_factory.mktemp("crowd") / "catalog"
    crowd.write(root, astroflow_bundle="abc", obs_title=r"Größe \ and = all: that")
    return root


@pytest.fixture(scope="module")
def field_root(field, tmp_path_factory):
    root = tmp_path_factory.mktemp("field") / "catalog"
    field.write(root, rows_per_tile=30)
    return root


@pytest.fixture(scope="module", params=["crowd", "field"])
def either(request):
    return request.getfixturevalue(request.param), request.getfixturevalue(f"{request.param}_root")


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_hats_calls_it_valid(either):
    from hats import read_hats
    from hats.io.validation import is_valid_catalog

    made, root = either
    assert is_valid_catalog(root, strict=True)
    catalog = read_hats(root)
    info = catalog.catalog_info
    assert (info.total_rows, info.ra_column, info.dec_column) == (len(made.ids), "ra", "dec")
    assert (info.healpix_column, info.healpix_order) == ("_healpix_29", 29)
    assert info.hats_order == str(catalog.partition_info.get_highest_order())
    assert info.moc_sky_fraction == pytest.approx(catalog.partition_info.calculate_fractional_coverage(), rel=1e-4)
    assert [(p.order, p.pixel) for p in catalog.get_healpix_pixels()] == hats_partitions(root)
    assert len({p.order for p in catalog.get_healpix_pixels()}) > 1


def test_files_lie_where_hats_looks():
    from hats.io.paths import pixel_catalog_file
    from hats.pixel_math import HealpixPixel

    for order, pixel in [(0, 11), (5, 9999), (7, 10_000), (10, 12_582_911)]:
        assert str(Path("root") / part_path(order, pixel)) == str(pixel_catalog_file("root", HealpixPixel(order, pixel))).lstrip("/")


def test_the_tools_of_hats_can_go_on_with_it(crowd, crowd_root, tmp_path):
    from hats.io import write_parquet_metadata
    from hats.io.validation import is_valid_catalog

    root = tmp_path / "catalog"
    shutil.copytree(crowd_root, root)
    assert write_parquet_metadata(root) == len(crowd.ids)
    assert (root / "dataset" / "_metadata").is_file()
    assert is_valid_catalog(root, strict=True)


def test_properties_hold_what_they_were_given(crowd_root):
    from hats.catalog import TableProperties

    assert (crowd_root / "properties").read_bytes() == (crowd_root / "hats.properties").read_bytes()
    properties = TableProperties.read_from_dir(crowd_root)
    assert properties.catalog_name == "invented posteriors"
    assert properties.obs_title == r"Größe \ and = all: that"
    assert properties.astroflow_bundle == "abc"
    assert properties.hats_creation_date == "2026-03-01T12:30Z"


def test_every_column_says_its_unit_ucd_and_meaning(either):
    made, root = either
    expected = posterior_columns(made.parameters, healpix=True, string_ids=not made.samples, samples=made.samples)
    part = root / part_path(*hats_partitions(root)[0])
    for file in (part, root / "dataset" / "_common_metadata"):
        schema = parquet.read_schema(file)
        assert schema.names == [column.name for column in expected]
        votable = parse(io.BytesIO(schema.metadata[b"IVOA.VOTable-Parquet.content"]), verify="exception")
        fields = {field.name: field for field in votable.get_first_table().fields}
        for column in expected:
            about = {key.decode(): value.decode() for key, value in schema.field(column.name).metadata.items()}
            assert about == column.about()
            assert about["description"]
            if column.type == "samples":
                draws = {f.name: {k.decode(): v.decode() for k, v in f.metadata.items()} for f in schema.field(column.name).type}
                assert draws == {c.name: c.about() for c in sample_columns(made.parameters)}
                continue
            field = fields.pop(column.name)
            assert field.description == column.description
            assert (field.ucd or "") == column.ucd
            assert (field.unit or u.dimensionless_unscaled) == u.Unit(column.unit)
        assert not fields


def test_all_parts_have_the_schema_of_the_catalog(crowd_root):
    common = parquet.read_schema(crowd_root / "dataset" / "_common_metadata")
    for part in hats_partitions(crowd_root):
        assert parquet.read_schema(crowd_root / part_path(*part)).equals(common, check_metadata=True)


def test_lsdb_loads_every_row_once_and_draws_on_demand(crowd, crowd_root, lsdb):
    summaries = lsdb.open_catalog(crowd_root)
    names = [column.name for column in posterior_columns(crowd.parameters)]
    assert list(summaries.columns) == names
    assert list(lsdb.open_catalog(crowd_root, columns="all").columns) == [*names, "samples"]
    frame = summaries.compute().sort_values("row_index")
    assert frame["id"].tolist() == crowd.ids.tolist()
    assert frame.index.tolist() == crowd.index.tolist()
    assert frame["mag_q50"].isna().tolist() == crowd.unusable.tolist()
    np.testing.assert_allclose(frame["mag_q50"][~crowd.unusable].to_numpy(float), crowd.summary["mag_q50"][~crowd.unusable], rtol=1e-6)


def test_lsdb_sees_draws_as_nested(crowd, crowd_root, lsdb):
    one = lsdb.open_catalog(crowd_root, columns=["row_index", "samples.mag"])
    assert one.nested_columns == ["samples"]
    frame = one.cone_search(150, 2, 300).compute()
    assert len(frame) > 20
    for row, draws in zip(frame["row_index"], frame["samples"], strict=True):
        expected = [] if crowd.unusable[row] else crowd.draws[row, :, 0].tolist()
        assert draws["mag"].tolist() == expected


def test_strings_can_be_ids(field, field_root, lsdb):
    frame = lsdb.open_catalog(field_root).compute().sort_values("row_index")
    assert frame["id"].tolist() == field.ids.tolist()
    assert frame["note"][frame["quality"] == 2].unique().tolist() == ["off the tile"]


CONES = [(0.0, 0.0, 1200), (359.9, 0.3, 900), (77.0, 90.0, 1500), (150.0, 2.0, 120), (10, -50, 60)]


@pytest.mark.parametrize(("ra", "dec", "radius_arcsec"), CONES)
def test_cones_hold_the_rows_that_lie_in_them(crowd, crowd_root, lsdb, ra, dec, radius_arcsec):
    inside = SkyCoord(crowd.ra, crowd.dec, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).arcsec <= radius_arcsec
    assert inside.sum() > 10 or dec == -50
    found = lsdb.open_catalog(crowd_root).cone_search(ra, dec, radius_arcsec).compute()
    assert sorted(found["id"]) == crowd.ids[inside].tolist()


def test_crossmatch_finds_the_neighbours(crowd, crowd_root, lsdb):
    picked = np.flatnonzero(crowd.dec < 89)[::5]
    other = pd.DataFrame({"name": picked, "ra": crowd.ra[picked], "dec": crowd.dec[picked] + 0.3 / 3600})
    small = lsdb.from_dataframe(other, ra_column="ra", dec_column="dec", margin_threshold=5)
    matched = lsdb.open_catalog(crowd_root).crossmatch(small, radius_arcsec=1, suffixes=("", "_other"), suffix_method="overlapping_columns")
    frame = matched.compute()
    ours, theirs = SkyCoord(crowd.ra, crowd.dec, unit="deg"), SkyCoord(other["ra"], other["dec"], unit="deg")
    place, separation, _ = ours.match_to_catalog_sky(theirs)
    near = separation.arcsec <= 1
    expected = {i: picked[k] for i, k in zip(crowd.ids[near], place[near], strict=True)}
    assert len(expected) >= len(picked)
    assert dict(zip(frame["id"], frame["name"], strict=True)) == expected


def test_functions_run_over_partitions(crowd, crowd_root, lsdb):
    def widths(frame):
        return pd.DataFrame({"id": frame["id"], "width": frame["mag_q84"] - frame["mag_q16"]})

    frame = lsdb.open_catalog(crowd_root, columns=["id", "mag_q16", "mag_q84"]).map_partitions(widths).compute().sort_values("id")
    assert frame["id"].tolist() == crowd.ids.tolist()
    expected = crowd.summary["mag_q84"] - crowd.summary["mag_q16"]
    np.testing.assert_allclose(frame["width"].to_numpy(float, na_value=np.nan), expected, rtol=1e-4)


def test_posteriors_join_the_catalog_of_the_objects(crowd, crowd_root, lsdb, tmp_path):
    from hats import read_hats

    chosen = np.arange(len(crowd.ids))[::2]
    objects = pd.DataFrame({"object": np.append(crowd.ids[chosen], 7), "ra": np.append(crowd.ra[chosen], 12.0)})
    objects["dec"] = np.append(crowd.dec[chosen], -40.0)
    primary = lsdb.from_dataframe(objects, ra_column="ra", dec_column="dec", margin_threshold=None)
    path = write_extension(
        tmp_path, name="posteriors", primary="/objects", primary_column="object", posteriors=str(crowd_root),
        columns=["mag_q50", "samples"], created=CREATED,
    )  # fmt: skip
    assert read_hats(path).extension_info.extension_columns == ["mag_q50", "samples"]
    with pytest.warns(RuntimeWarning, match="Right catalog does not have a margin"):
        joined = primary.load_extension(path, columns=["mag_q50", "samples.mag"])
    assert list(joined.columns) == ["object", "ra", "dec", "mag_q50", "samples"]
    frame = joined.compute().set_index("object")
    assert sorted(frame.index) == sorted(objects["object"])
    expected = np.where(crowd.unusable, np.nan, crowd.summary["mag_q50"])[chosen]
    np.testing.assert_allclose(frame.loc[crowd.ids[chosen], "mag_q50"].to_numpy(float, na_value=np.nan), expected, rtol=1e-6)
    assert pd.isna(frame.loc[7, "mag_q50"]), "an object without a posterior keeps its row"


def test_astropy_gets_the_rows_in_the_order_of_the_input(either):
    made, root = either
    table = read_posterior_catalog(root)
    assert table["id"].tolist() == made.ids.tolist()
    assert table["_healpix_29"].tolist() == made.index.tolist()
    if made.samples:
        np.testing.assert_array_equal(table["samples_mag"], made.draws[:, :, 0])


def test_the_same_run_writes_the_same_bytes(field, field_root, tmp_path):
    field.write(tmp_path / "again", rows_per_tile=30, reverse=True)
    assert contents(tmp_path / "again") == contents(field_root)
    field.write(tmp_path / "later", rows_per_tile=30, created=datetime(2027, 1, 1, tzinfo=UTC))
    later, first = contents(tmp_path / "later"), contents(field_root)
    assert {name for name in first if later[name] != first[name]} == {"properties", "hats.properties"}


def test_a_writer_that_dies_leaves_nothing_among_the_data(field, tmp_path, monkeypatch):
    seen = []

    def killed(stage, _):
        seen.append(Path(stage))
        raise OSError("killed")

    monkeypatch.setattr("os.replace", killed)
    order, pixel, rows = 0, int(field.index[0] >> 58), np.argsort(field.index)
    with pytest.raises(OSError, match="killed"):
        field.write_part(rows[:1], tmp_path, order, pixel)
    with pytest.raises(OSError, match="killed"):
        write_hats(tmp_path, name="x", schema=field.table(rows).schema, parts=[(order, pixel, 1)], created=CREATED)
    assert {path.parent for path in seen} == {tmp_path}
    assert contents(tmp_path) == {}


def test_a_catalog_without_rows_is_one_part_without_rows(field, lsdb, tmp_path):
    from hats.io.validation import is_valid_catalog

    empty = field.table(np.zeros(0, int))
    write_hats(tmp_path, name="none", schema=empty.schema, parts=[field.write_part(np.zeros(0, int), tmp_path, 0, 0)], created=CREATED)
    assert is_valid_catalog(tmp_path, strict=True)
    assert len(lsdb.open_catalog(tmp_path).compute()) == 0


def test_rows_without_a_place_are_null_and_in_no_part(small_simulator, tmp_path):
    made = InventedCatalog(small_simulator.parameters, [10.0, np.nan, 10.0], [5.0, 5.0, 95.0])
    table = made.table(np.arange(3))
    assert [value is None for value in table.column("_healpix_29").to_pylist()] == [False, True, True]
    with pytest.raises(ValueError, match="not of pixel 3 of order 0 alone"):
        check_part(table, 0, 3)
    assert [part.rows for part in made.write(tmp_path)] == [1]


def test_rows_of_another_pixel_or_order_are_refused(field):
    order, pixel, rows = 0, int(field.index[0] >> 58), np.argsort(field.index)
    with pytest.raises(ValueError, match=f"rows are not of pixel {pixel + 1} of order 0 alone"):
        check_part(field.table(rows), order, pixel + 1)
    with pytest.raises(ValueError, match="not sorted by _healpix_29"):
        check_part(field.table(rows[::-1]), order, pixel)


def test_what_makes_no_catalog_is_refused(field, tmp_path):
    schema = field.table(np.zeros(0, int)).schema
    given = {"name": "x", "schema": schema, "parts": [(0, 0, 5)], "created": CREATED}
    with pytest.raises(ValueError, match="at least one part"):
        write_hats(tmp_path, **given | {"parts": []})
    with pytest.raises(ValueError, match="default columns are not in the schema: zmag"):
        write_hats(tmp_path, **given, default_columns=["id", "zmag"])
    with pytest.raises(ValueError, match="facts would replace properties of the catalog: hats_nrows"):
        write_hats(tmp_path, **given, facts={"hats_nrows": "3"})
    assert contents(tmp_path) == {}


def test_partitions_of_what_is_no_catalog(tmp_path):
    with pytest.raises(InputError, match="does not list the partitions of a HATS catalog"):
        hats_partitions(tmp_path)
    for text in ("Order,Pixel\n1,2\n", "Norder,Npix\n1,two\n", "Norder,Npix\n1\n"):
        (tmp_path / "partition_info.csv").write_text(text)
        with pytest.raises(InputError, match="does not list the partitions"):
            hats_partitions(tmp_path)
