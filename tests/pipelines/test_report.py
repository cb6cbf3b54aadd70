import json

import numpy as np
import pytest
from astropy.table import Table
from pyarrow import parquet

import astroflow.pipelines.report as report_module
from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.config import parse_recipe
from astroflow.errors import InputError
from astroflow.pipelines.report import ReportRecipe, compare_published, report
from astroflow.posteriors.flags import Flag


@pytest.fixture
def published(survey, tmp_path):
    """The truth, as if it had been published: with one galaxy missing, and one fit that failed."""
    truth = parquet.read_table(survey.truth)
    columns = {name: np.asarray(truth[name], np.float64) for name in ("id", "mag", "re_arcsec", "n", "e1", "e2")}
    fit = np.zeros((60, 8))
    fit[:, 1], fit[:, 2] = columns["re_arcsec"] / 0.2, columns["n"]
    modulus = np.hypot(columns["e1"], columns["e2"])
    fit[:, 3] = (1 - modulus) / (1 + modulus)
    flux = np.repeat(10 ** (0.4 * (27.0 - columns["mag"]))[:, None], 4, axis=1)
    flux[1, 0] = 0.0
    Table({"IDENT": columns["id"].astype(np.int64)[1:], "sersicfit": fit[1:], "flux": flux[1:]}).write(tmp_path / "published.fits")
    return {"path": str(tmp_path / "published.fits"), "zero_point": 27.0, "pixel_scale_arcsec": 0.2}


def test_a_contact_sheet_and_a_comparison(inferred, small_bundle, published, tmp_path):
    recipe = parse_recipe(ReportRecipe, {"contact_sheet": 30, "published": published}, "report")
    lines = report(inferred, bundle=small_bundle, out=tmp_path / "report", recipe=recipe)
    assert sorted(file.name for file in (tmp_path / "report").iterdir()) == ["comparison.png", "contact_sheet.png", "report.json"]
    assert (tmp_path / "report" / "contact_sheet.png").stat().st_size > 100_000
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())
    table = read_posterior_catalog(inferred / "catalog")
    assert lines[0] == f"60 rows, {(np.asarray(table['quality']) == 0).sum()} without a suspicious flag"
    unusable = np.asarray(table["quality"])[:30] == 2
    assert [value is None for value in numbers["reduced_chi2"]] == unusable.tolist()
    chi2 = np.array([value for value in numbers["reduced_chi2"] if value is not None])
    # the posterior was trained for seconds, so its means explain most images, not all
    assert 0.9 < np.median(chi2) < 2
    compared = numbers["comparison"]
    assert set(compared) == {"mag", "log10_re", "log10_n", "q"}
    assert abs(compared["mag"]["offset"]) < 0.3
    assert abs(compared["log10_re"]["offset"]) < 0.2
    assert any(line.startswith("mag ") for line in lines)


def test_flagged_missing_and_failed_fits_do_not_count(inferred, published):
    table = read_posterior_catalog(inferred / "catalog")
    table["flags"] = 0
    table["flags"][2], table["flags"][3] = int(Flag.OOD_PSF), int(Flag.MODEL_POOR | Flag.INFERENCE_POOR)
    recipe = parse_recipe(ReportRecipe, {"published": published}, "report").published
    usable = ~np.ma.getmaskarray(table["mag_q50"])
    usable[[0, 2]] = False  # failed certificates leave no row out
    for among in (None, np.arange(60) < 40):
        chosen = usable if among is None else usable & among
        comparison = compare_published(table, recipe, among)
        assert comparison.n_used.tolist() == [chosen.sum() - chosen[1], chosen.sum(), chosen.sum(), chosen.sum()]


def test_no_sheet_and_no_comparison_leave_numbers(inferred, small_bundle, tmp_path):
    lines = report(inferred, bundle=small_bundle, out=tmp_path, recipe=ReportRecipe(contact_sheet=0))
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    flags = json.loads((tmp_path / "report.json").read_text())["flags"]
    assert sum(flags.values()) > 0
    assert len(lines) == 1 + sum(1 for count in flags.values() if count)


def test_a_report_needs_a_run_by_this_bundle(inferred, small_bundle, other_bundle, tmp_path):
    with pytest.raises(InputError, match="holds no inference run"):
        report(tmp_path, bundle=small_bundle, out=tmp_path / "report", recipe=ReportRecipe())
    with pytest.raises(InputError, match=r"was made by bundle \w{12}, .* is \w{12}"):
        report(inferred, bundle=other_bundle, out=tmp_path / "report", recipe=ReportRecipe())


def test_a_certified_run_is_compared_by_the_models_verdict(inferred, small_bundle, published, tmp_path, monkeypatch):
    """No certificate applies to this forward model: both parts are empty, and that is no reason to fail."""
    table = read_posterior_catalog(inferred / "catalog")
    table["model_ok"] = np.full(60, -1, np.int8)
    record = report_module.recorded_run(inferred) | {"certify": True}
    monkeypatch.setattr(report_module, "recorded_run", lambda folder: record)
    monkeypatch.setattr(report_module, "read_posterior_catalog", lambda folder: table)
    population = type("Population", (), {"lines": lambda self: [], "numbers": lambda self: {}})()
    monkeypatch.setattr(report_module, "population_of", lambda folder: population)
    recipe = parse_recipe(ReportRecipe, {"contact_sheet": 0, "published": published}, "report")
    lines = report(inferred, bundle=small_bundle, out=tmp_path / "report", recipe=recipe)
    assert [line for line in lines if line.startswith("of these")] == ["of these, model possible:", "of these, model ruled out:"]
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())
    assert numbers["comparison, model possible"]["mag"] == {"rows": 0, "offset": None, "scatter": None}
    table["model_ok"][:30] = 1
    report(inferred, bundle=small_bundle, out=tmp_path / "again", recipe=recipe)
    numbers = json.loads((tmp_path / "again" / "report.json").read_text())
    assert 10 < numbers["comparison, model possible"]["mag"]["rows"] <= 30
    assert numbers["comparison, model ruled out"]["mag"]["rows"] == 0
