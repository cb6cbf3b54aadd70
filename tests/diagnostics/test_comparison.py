import numpy as np
import pytest

from astroflow.diagnostics import compare
from astroflow.errors import InputError


def test_offset_and_scatter_are_robust_and_leave_flagged_rows_out():
    rng = np.random.default_rng(0)
    published = {"mag": rng.uniform(20, 24, 5000), "q": rng.uniform(0.2, 1, 5000), "unmatched": np.zeros(5000)}
    inferred = {"q": published["q"] + rng.normal(-0.01, 0.05, 5000), "mag": published["mag"] + rng.normal(0.2, 0.1, 5000)}
    flagged = np.arange(5000) < 2000
    inferred["mag"][flagged] += 5
    inferred["mag"][2000:2100] = np.nan
    result = compare(published, inferred, error={"mag": np.full(5000, 0.1)}, flagged=flagged)
    assert result.names == ("mag", "q")
    assert result.n_used.tolist() == [2900, 3000]
    np.testing.assert_allclose(result.offset, [0.2, -0.01], atol=0.008)
    np.testing.assert_allclose(result.scatter, [0.1, 0.05], rtol=0.08)
    assert np.isnan(result.error[:, 1]).all()
    lines = result.table()
    assert len(lines) == 3
    assert lines[1].split()[:2] == ["mag", "2900"]


def test_nothing_left_is_nan_not_an_error():
    result = compare({"mag": np.ones(3)}, {"mag": np.ones(3)}, flagged=np.ones(3, bool))
    assert result.n_used.tolist() == [0]
    assert np.isnan(result.offset).all()
    assert np.isnan(result.scatter).all()


def test_catalogs_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="share no column: mag and q"):
        compare({"mag": np.ones(3)}, {"q": np.ones(3)})
    with pytest.raises(InputError, match="same galaxies"):
        compare({"mag": np.ones(3)}, {"mag": np.ones(4)})
