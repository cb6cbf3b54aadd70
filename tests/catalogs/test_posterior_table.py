import io

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io.votable import parse
from pyarrow import parquet

from astroflow.catalogs.derived import summarize_derived
from astroflow.catalogs.parts import write_parquet
from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table, read_posterior_catalog
from astroflow.catalogs.sky import SkyFrame
from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.summary import summarize_draws

N, S = 5, 40


@pytest.fixture
def made(small_simulator, wcs_of):
    """Draws of five rows, the second of which is unusable, and their table."""
    parameters = small_simulator.parameters
    rng = np.random.default_rng(0)
    draws = np.stack([parameters.prior.forward(rng.normal(size=(S, len(parameters)))) for _ in range(N)]).astype("f4")
    draws[1] = np.nan
    frame = SkyFrame.of(wcs_of(50, 40), np.full(N, 20.0), np.full(N, 10.0), 0.2)
    rows = RowInfo(
        row_index=np.arange(10, 10 + N), ids=2**53 + 1 + np.arange(N), ra=frame.ra, dec=np.full(N, np.nan), x=frame.x, y=frame.y,
        snr=np.array([30.0, np.nan, 4.0, 10.0, 20.0]), binning=np.array([1, 1, 2, 1, 1]),
        flags=np.array([0, int(Flag.NO_DATA), int(Flag.LOW_SNR), 0, 0]), notes=np.array(["", "off the tile", "", "", ""]),
    )  # fmt: skip
    summary = summarize_draws(draws, parameters) | summarize_derived(draws, parameters, 27.0, frame)
    return parameters, draws, rows, summary


def test_every_summary_has_its_column_and_every_column_its_values(made):
    parameters, _, rows, summary = made
    table = build_posterior_table(parameters, rows, summary, bundle="abc")
    names = set(table.schema.names)
    assert set(summary) <= names
    assert names - set(summary) == {
        "row_index", "id", "ra", "dec", "x", "y", "snr", "linearized", "binning", "flags", "quality", "note", "bundle"
    }  # fmt: skip
    assert table.num_rows == N
    assert table.column("id").to_pylist() == rows.ids.tolist()
    assert table.column("quality").to_pylist() == [0, 2, 1, 0, 0]
    np.testing.assert_allclose(table.column("mag_mean").to_numpy()[[0, 2, 3, 4]], summary["mag_mean"][[0, 2, 3, 4]], rtol=1e-6)


def test_unusable_rows_are_null_not_nan(made):
    parameters, _, rows, summary = made
    table = build_posterior_table(parameters, rows, summary, bundle="abc")
    always = {"row_index", "id", "ra", "x", "y", "flags", "quality", "note", "bundle"}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        assert column[1].is_valid == (name in always), name
        if pa.types.is_floating(column.type):
            assert np.isfinite(column.drop_null().to_numpy()).all(), name
    assert table.column("dec").null_count == N


def test_metadata_say_unit_ucd_and_meaning(made):
    parameters, _, rows, summary = made
    table = build_posterior_table(parameters, rows, summary, bundle="abc", information={"seed": "7"})
    field = table.schema.field("re_arcsec_mean").metadata
    assert field[b"unit"] == b"arcsec"
    assert field[b"ucd"] == b"phys.angSize.smajAxis;stat.mean"
    assert b"Half-light radius along the semi-major axis" in field[b"description"]
    assert table.schema.metadata[b"astroflow.bundle"] == b"abc"
    assert table.schema.metadata[b"seed"] == b"7"
    votable = parse(io.BytesIO(table.schema.metadata[b"IVOA.VOTable-Parquet.content"]))
    fields = {f.name: f for f in votable.get_first_table().fields}
    assert list(fields) == table.schema.names
    assert fields["cov_mag_re_arcsec"].unit == u.mag * u.arcsec


def test_written_catalogs_come_back_with_units_and_masks(made, tmp_path):
    parameters, draws, rows, summary = made
    table = build_posterior_table(parameters, rows, summary, bundle="abc", samples=draws)
    write_parquet(table.slice(2), tmp_path / "part-0.parquet")
    write_parquet(table.slice(0, 2), tmp_path / "part-1.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["part-0.parquet", "part-1.parquet"]
    back = read_posterior_catalog(tmp_path)
    assert back["row_index"].tolist() == list(range(10, 15))
    assert back["id"].tolist() == rows.ids.tolist()
    assert back["re_arcsec_mean"].unit == u.arcsec
    assert back["mag_mean"].mask.tolist() == [False, True, False, False, False]
    assert back["note"][1] == "off the tile"
    assert back.meta["bundle"] == "abc"
    np.testing.assert_array_equal(back["samples_mag"][[0, 2]], draws[[0, 2], :, 0])
    assert np.isnan(back["samples_mag"][1]).all()
    assert read_posterior_catalog(tmp_path / "part-1.parquet")["id"].tolist() == rows.ids[:2].tolist()


def test_string_ids_and_rows_without_a_sky(made, tmp_path):
    parameters, draws, rows, _ = made
    rows = RowInfo(**{**vars(rows), "ids": np.array(["a", "b", "c", "d", "e"])})
    table = build_posterior_table(parameters, rows, summarize_draws(draws, parameters), bundle="abc")
    assert table.column("pa_deg").null_count == N
    write_parquet(table, tmp_path / "t.parquet")
    assert read_posterior_catalog(tmp_path / "t.parquet")["id"].tolist() == ["a", "b", "c", "d", "e"]


def test_zero_rows_keep_the_schema(made, tmp_path):
    parameters, draws, rows, summary = made
    empty = RowInfo(**{name: value[:0] for name, value in vars(rows).items()})
    whole = build_posterior_table(parameters, rows, summary, bundle="abc", samples=draws)
    table = build_posterior_table(parameters, empty, {name: value[:0] for name, value in summary.items()}, bundle="abc", samples=draws[:0])
    assert table.schema == whole.schema
    write_parquet(table, tmp_path / "t.parquet")
    assert len(read_posterior_catalog(tmp_path)) == 0


def test_a_summary_that_does_not_fit(made):
    parameters, _, rows, summary = made
    with pytest.raises(ValueError, match="`summary` lacks 1 columns: n_sd"):
        build_posterior_table(parameters, rows, {k: v for k, v in summary.items() if k != "n_sd"}, bundle="abc")
    with pytest.raises(ValueError, match=r"column 'n_sd' has shape \(2,\); expected \(5,\)"):
        build_posterior_table(parameters, rows, summary | {"n_sd": np.zeros(2)}, bundle="abc")


def test_what_is_no_posterior_catalog(tmp_path):
    with pytest.raises(InputError, match="holds no .parquet file"):
        read_posterior_catalog(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_posterior_catalog(tmp_path / "absent.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match="cannot be read as a posterior catalog"):
        read_posterior_catalog(tmp_path)
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "bad.parquet")
    with pytest.raises(InputError, match="has no column 'row_index'"):
        read_posterior_catalog(tmp_path)
