from dataclasses import replace

import numpy as np
import pytest

from astroflow.errors import InputError
from astroflow.posteriors.kept import Kept, rounded


@pytest.fixture(scope="module")
def stamps(small_simulator):
    return small_simulator.draw(np.arange(12), seed=31).stamps


def again(posterior, encoded):
    columns = Kept.columns(encoded)
    return Kept.of_columns(encoded.ids, encoded.usable, columns, len(posterior.parameters))


def test_half_precision_is_what_is_kept_and_a_fixed_point():
    context = np.random.default_rng(1).normal(0, 10, (50, 16)).astype(np.float32)
    once = rounded(context)
    np.testing.assert_array_equal(rounded(once), once)
    np.testing.assert_array_equal(once.astype(np.float16).astype(np.float32), once)
    np.testing.assert_allclose(once, context, rtol=5e-4)
    assert np.isfinite(rounded(np.array([1e9, -1e9], np.float32))).all()


def test_draws_made_again_are_the_same_bits(small_posterior, stamps):
    encoded = small_posterior.encode(stamps, halved=True)
    draws = small_posterior.sample(encoded, 64, seed=5)
    kept = again(small_posterior, encoded)
    np.testing.assert_array_equal(small_posterior.sample(kept, 64, seed=5), draws)
    more = small_posterior.sample(kept, 300, seed=5)
    np.testing.assert_array_equal(more[:, :64], draws)
    assert not np.array_equal(small_posterior.sample(kept, 64, seed=6), draws)
    few = np.array([7, 2])
    alone = Kept(kept.ids[few], kept.context[few], kept.shift_arcsec[few], kept.usable[few], kept.fitted[few])
    np.testing.assert_array_equal(small_posterior.sample(alone, 64, seed=5), draws[few])


def test_rounding_moves_draws_by_next_to_nothing(small_posterior, stamps):
    """A thousandth of the context is far below what distinguishes two noise realisations."""
    exact, halved = (small_posterior.sample(small_posterior.encode(stamps, halved=half), 256, seed=5) for half in (False, True))
    moved = np.abs(halved - exact) / exact.std(1, keepdims=True)
    assert 0 < np.median(moved) < 0.01


def test_unusable_rows_stay_so_and_lost_contexts_are_seen(small_posterior, stamps):
    mask = stamps.mask.copy()
    mask[3] = True
    encoded = small_posterior.encode(replace(stamps, mask=mask), halved=True)
    columns = Kept.columns(encoded)
    columns["context"][3] = np.nan
    kept = Kept.of_columns(encoded.ids, encoded.usable, columns, len(small_posterior.parameters))
    draws = small_posterior.sample(kept, 16, seed=1)
    assert np.isnan(draws[3]).all()
    assert np.isfinite(np.delete(draws, 3, 0)).all()
    columns["context"][4] = np.nan
    with pytest.raises(InputError, match="have no context"):
        Kept.of_columns(encoded.ids, encoded.usable, columns, len(small_posterior.parameters))
