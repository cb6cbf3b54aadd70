import json

import pytest

from astroflow.errors import ConfigError
from astroflow.pipelines import plan as module
from astroflow.pipelines.plan import Plan, Rates, plan

RATES = Rates(
    read_seconds=2e-4, infer_seconds=7e-4, write_seconds=1e-4, bytes_in=9000, bytes_out=600, file_bytes=25_000, start_seconds=36, task_seconds=2e-3, rows=999
)  # fmt: skip


def test_a_billion_rows_are_arithmetic():
    found = Plan(RATES, rows=10**9, nodes=10, cores=100, rows_per_partition=50_000)
    assert found.core_hours == pytest.approx(1e9 * 1e-3 / 3600)
    assert found.tasks == 40_000
    assert found.scheduler_hours == pytest.approx(80 / 3600)
    # a thousand workers, then the last partition and the start
    assert found.wall_hours == pytest.approx((1000 + 50 + 36) / 3600)
    assert found.advice() == []
    text = "\n".join(found.lines())
    for words in ("1000 rows/s on one core", "1,000,000,000 rows on 10 x 100 cores", "277.8 core-hours, 18.1 minutes", "40,000 tasks",
                  "9 TB in (9 GB/s while it lasts), 601 GB out", "assumed: storage gives"):  # fmt: skip
        assert words in text, text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows_per_partition": 10**6}, "give smaller --rows-per-partition"),
        ({"rows_per_partition": 300}, "give larger --rows-per-partition"),
    ],
)
def test_what_a_run_would_waste_is_said(changes, words):
    given = {"rows": 10**9, "nodes": 10, "cores": 100, "rows_per_partition": 50_000} | changes
    (advice,) = Plan(RATES, **given).advice()
    assert words in advice
    assert f"advice: {advice}" in Plan(RATES, **given).lines()


def test_a_scheduler_that_is_too_slow_is_waited_for():
    found = Plan(RATES, rows=10**9, nodes=100, cores=100, rows_per_partition=300)
    assert found.wall_hours > found.scheduler_hours > found.core_hours / 10_000


@pytest.mark.dask
def test_rates_are_measured_on_the_catalogs_own_rows(survey, small_bundle, monkeypatch):
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(module, "MEASURED_ROWS", 30)
    monkeypatch.setattr(module, "TASKS", 20)
    found = plan(survey.recipe, bundle=small_bundle, rows=10**6, nodes=2, n_draws=64, keep_samples=True)
    rates = found.rates
    assert rates.rows > 0
    assert min(rates.read_seconds, rates.infer_seconds, rates.write_seconds, rates.task_seconds, rates.start_seconds) > 0
    # cutouts of 64 pixels for binnings of 1 and 2, of which two in sixty have none; draws of seven parameters
    assert 64 * 64 * 9 / 2 < rates.bytes_in <= 64 * 64 * 9
    assert 64 * 7 * 4 / 2 < rates.bytes_out < 64 * 7 * 4 + 2500, "draws, summaries, and what a page costs in parts so small"
    assert rates.file_bytes > 1000
    assert json.loads(json.dumps(found.numbers()))["rows"] == 10**6


def test_what_cannot_be_planned(survey, small_bundle):
    with pytest.raises(ConfigError, match="--draws must be at least 32"):
        plan(survey.recipe, bundle=small_bundle, n_draws=3)
