import gzip

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from pyarrow import parquet

from astroflow.catalogs.tables import floats, identifiers, integers, read_columns, strings
from astroflow.errors import InputError

BIG = 2**53 + 1
WANTED = {"id": "columns.id", "ra": "columns.ra", "name": "columns.tile", "count": "columns.label"}


def as_table():
    return Table(
        {
            "id": np.array([BIG, BIG + 1, 3]),
            "ra": MaskedColumn([150.0, 1.5, 2.5], mask=[False, True, False]),
            "name": MaskedColumn(["a", "b", "zz"], mask=[False, True, False]),
            "count": MaskedColumn([7, 8, 9], mask=[False, False, True]),
        }
    )


def write(path, suffix):
    table = as_table()
    if suffix == "parquet":
        columns = {name: pa.array(column.tolist()) for name, column in table.columns.items()}
        parquet.write_table(pa.table(columns), path)
    elif suffix == "csv":
        rows = ["id,ra,name,count", f"{BIG},150.0,a,7", f"{BIG + 1},,,8", "3,2.5,zz,"]
        path.write_text("\n".join(rows) + "\n")
    elif suffix == "fits.gz":
        table["count"].fill_value = -999
        table.write(path.with_suffix(""), format="fits", overwrite=True)
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    else:
        table["count"].fill_value = -999
        table.write(path, overwrite=True)


@pytest.mark.parametrize("suffix", ["fits", "fits.gz", "parquet", "ecsv", "csv"])
def test_every_format_gives_the_same_columns(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    write(path, suffix)
    table = read_columns(path, WANTED, text=["id"])
    ids = identifiers(table["id"])
    assert ids.tolist() == [BIG, BIG + 1, 3]
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(floats(table["ra"]), [150.0, np.nan, 2.5])
    assert strings(table["name"]).tolist() == ["a", "", "zz"]
    assert integers(table["count"]).tolist() == [7, 8, -1]
    assert floats(table["ra"]).dtype.isnative


@pytest.mark.parametrize("suffix", ["fits", "parquet", "ecsv", "csv"])
def test_zero_rows_are_a_valid_table(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    if suffix == "csv":
        path.write_text("id,ra,name,count\n")
    elif suffix == "parquet":
        parquet.write_table(pa.table({name: pa.array([], pa.float64()) for name in WANTED}), path)
    else:
        as_table()[:0].write(path)
    table = read_columns(path, WANTED, text=["id"])
    assert identifiers(table["id"]).shape == (0,)
    assert floats(table["ra"]).shape == (0,)


@pytest.mark.parametrize("suffix", ["fits", "parquet", "ecsv", "csv"])
def test_a_missing_column_names_the_nearest_and_the_key_to_change(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    write(path, suffix)
    message = r"has no column 'RA', which `columns.ra` asks for; change `columns.ra`. It has: id, ra, name, count. Did you mean 'ra'"
    with pytest.raises(InputError, match=message):
        read_columns(path, {"RA": "columns.ra"})
    with pytest.raises(InputError, match="Did you mean 'count'"):
        read_columns(path, {"cuont": "columns.label"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.fits", b"", r"is empty \(0 bytes\)"),
        ("a.csv", b"", r"is empty \(0 bytes\)"),
        ("a.fits", b"<html>", "is not FITS: it looks like an HTML page"),
        ("a.fits", b"PAR1", "is not FITS: it looks like a Parquet file"),
        ("a.parquet", b"<html>not found</html>", "cannot be read as parquet .it looks like an HTML page"),
        ("a.ecsv", b"a,b\n1,2\n", "cannot be read as ecsv"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read as csv"),
        ("a.txt", b"a b", "has extension '.txt'; expected one of .csv, .ecsv, .fit, .fits, .parquet, .pq"),
    ],
)
def test_what_is_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_columns(tmp_path / name, {"a": "columns.id"})


def test_a_missing_table_and_an_address(tmp_path):
    with pytest.raises(InputError, match=r"catalog table .*absent.csv does not exist"):
        read_columns(tmp_path / "absent.csv", {})
    with pytest.raises(InputError, match="is an address"):
        read_columns("https://example.org/a.csv", {})


def test_a_fits_file_without_a_table_and_a_choice_of_tables(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(path)
    with pytest.raises(InputError, match="holds no table; its HDUs are 0 PRIMARY"):
        read_columns(path, {"a": "columns.id"})
    units = [fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[k])], name=f"T{k}") for k in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path, overwrite=True)
    for hdu, value in ((None, 1), (2, 2), ("t2", 2)):
        assert read_columns(path, {"a": "columns.id"}, hdu=hdu)["a"].values.tolist() == [value]
    for hdu in ("T3", 0, 9):
        with pytest.raises(InputError, match=r"is not a table; its HDUs are 0 PRIMARY, 1 T1, 2 T2"):
            read_columns(path, {"a": "columns.id"}, hdu=hdu)


def test_a_truncated_fits_table(tmp_path):
    path = tmp_path / "a.fits"
    Table({"a": np.arange(10_000)}).write(path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match="catalog table .* cannot be read as fits"):
        read_columns(path, {"a": "columns.id"})


def ids_of(tmp_path, values):
    parquet.write_table(pa.table({"id": values}), tmp_path / "ids.parquet")
    return identifiers(read_columns(tmp_path / "ids.parquet", {"id": "columns.id"})["id"])


def test_ids_are_exact(tmp_path):
    assert ids_of(tmp_path, [2**62 + 1, -5]).tolist() == [2**62 + 1, -5]
    assert ids_of(tmp_path, ["007", "8"]).tolist() == ["007", "8"]
    assert ids_of(tmp_path, ["É-1", "b"]).tolist() == ["É-1", "b"]
    assert ids_of(tmp_path, pa.array([2**63 - 1], pa.uint64())).tolist() == [2**63 - 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None, 3], "has no id in 1 rows, the first being row 1"),
        (["a", "", "c"], "has no id in 1 rows"),
        ([1.0, 2.0], "holds floats; ids must be integers or strings"),
        ([True, False], "holds booleans; ids must be"),
        ([5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10], "has 6 ids that come more than once: 5, 6, 7, 8, 9; ids must be unique"),
        (pa.array([2**64 - 1], pa.uint64()), "holds integers above 2.63 - 1; store them as strings"),
        ([[1], [2]], "holds list<.*>; expected one number or string per row"),
    ],
)
def test_ids_that_cannot_be_used(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        ids_of(tmp_path, values)


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["7", "0", str(2**63 - 1)], [7, 0, 2**63 - 1]),
        (["007", "08"], ["007", "08"]),
        (["7", "A13"], ["7", "A13"]),
        (["-5", "7"], ["-5", "7"]),
        (["+5", "7"], ["+5", "7"]),
        (["7", str(2**63)], ["7", str(2**63)]),
        (["7.0", "8"], ["7.0", "8"]),
    ],
)
def test_csv_ids_are_integers_only_where_all_are_plain_ones(tmp_path, texts, ids):
    (tmp_path / "a.csv").write_text("\n".join(["id", *texts]) + "\n")
    assert identifiers(read_columns(tmp_path / "a.csv", {"id": "columns.id"}, text=["id"])["id"]).tolist() == ids


@pytest.mark.parametrize("suffix", ["fits", "parquet", "ecsv"])
@pytest.mark.parametrize("texts", [["12", "13"], ["12", "13", "A13"]])
def test_typed_formats_keep_the_type_of_ids(tmp_path, suffix, texts):
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.table({"id": texts}), path)
    else:
        Table({"id": texts}).write(path)
    assert identifiers(read_columns(path, {"id": "columns.id"}, text=["id"])["id"]).tolist() == texts


def test_units_are_converted_or_refused(tmp_path):
    table = Table({"ra": [10.0], "size": [1.0]}, units={"ra": "hourangle", "size": "kg"})
    table.write(tmp_path / "a.ecsv")
    columns = read_columns(tmp_path / "a.ecsv", {"ra": "columns.ra", "size": "columns.size"})
    np.testing.assert_allclose(floats(columns["ra"], "deg"), [150.0])
    with pytest.raises(InputError, match="has unit 'kg'; expected 'arcsec' or a unit that converts to it"):
        floats(columns["size"], "arcsec")


def test_kinds_are_checked(tmp_path):
    Table({"text": ["a"], "number": [1.5], "pair": [[1, 2]]}).write(tmp_path / "a.fits")
    columns = read_columns(tmp_path / "a.fits", {"text": "x", "number": "y"})
    with pytest.raises(InputError, match="'text' of .* holds strings; expected numbers"):
        floats(columns["text"])
    with pytest.raises(InputError, match="holds floats; expected whole numbers"):
        integers(columns["number"])
    with pytest.raises(InputError, match="holds floats; expected strings or integers"):
        strings(columns["number"])
    with pytest.raises(InputError, match=r"holds an array of shape \(2,\) per row"):
        read_columns(tmp_path / "a.fits", {"pair": "x"})


def test_column_names_that_come_twice(tmp_path):
    (tmp_path / "a.csv").write_text("id,id\n1,2\n")
    with pytest.raises(InputError, match="has more than one column called 'id'"):
        read_columns(tmp_path / "a.csv", {"id": "columns.id"})
