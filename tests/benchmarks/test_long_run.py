"""The survey of the long run is one, and growing memory is seen."""

import numpy as np
import pytest

from astroflow.catalogs import load_catalog, open_source
from benchmarks import long_run


def test_its_survey_has_every_row_once_and_on_its_tile(small_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(long_run, "TILES", 2)
    monkeypatch.setattr(long_run, "GALAXIES", 30)
    recipe = long_run.make_survey(tmp_path, small_bundle, 95)
    source = open_source(load_catalog(recipe))
    assert sorted(source.row_keys().tolist()) == list(range(10_000_000_000, 10_000_000_095))
    assert len({(ra, dec) for ra, dec in zip(*source.positions()[:2], strict=True)}) == 95, "a question of its own each"
    flags = {cutout.identity: cutout.flags for part in source.partitions(40, by_sky=True) for cutout in source.read(part, 48)}
    assert len(flags) == 95
    assert 0 < np.mean([flag != 0 for flag in flags.values()]) < 0.1, "a few are off their tile, as in the mock survey"
    written = (tmp_path / "table.parquet").stat().st_mtime_ns
    assert long_run.make_survey(tmp_path, small_bundle, 95) == recipe
    assert (tmp_path / "table.parquet").stat().st_mtime_ns == written, "made once"


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.0), (1e6, 0.3)])
def test_memory_that_grows_is_seen(rate, expected):
    seconds = np.arange(0, 600, 5.0)
    used = 1e9 + rate * seconds + np.random.default_rng(0).normal(0, 1e6, len(seconds))
    assert long_run.growth(np.stack([seconds, used], 1), 0, 600) == pytest.approx(expected, abs=0.03)
