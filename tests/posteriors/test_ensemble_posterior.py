"""A posterior whose estimator is an ensemble does everything that others do, and says where its members contradict each other."""

import numpy as np
import pytest

from astroflow.posteriors.bundle import load_posterior, save_bundle
from astroflow.types import Stamps


@pytest.fixture(scope="module")
def stamps(small_simulator):
    return small_simulator.draw(range(40), seed=8).stamps


@pytest.fixture(scope="module")
def encoded(small_ensemble, stamps):
    return small_ensemble.encode(stamps)


def test_its_draws_and_densities_are_the_members_mixture(small_ensemble, small_posterior, stamps, encoded):
    draws = small_ensemble.sample(encoded, 30, seed=2)
    assert np.array_equal(draws[:, ::2], small_posterior.sample(stamps, 30, seed=2)[:, ::2]), "every other one is the first member's"
    own = small_posterior.log_prob(draws, stamps).astype(np.float64)
    mixed = small_ensemble.log_prob(draws, encoded)
    assert (mixed >= own - np.log(2) - 1e-4).all(), "at least half of each member's density"
    assert ((mixed - own).std(1) > 1e-3).all()


def test_every_row_says_how_far_its_members_are_apart(small_ensemble, stamps, encoded):
    apart = encoded.disagreement
    assert ((apart > 0) & (apart < np.log(2))).all()
    table = small_ensemble.summarize(encoded, 64)
    assert np.array_equal(table["disagreement"], apart)
    assert table["disagreement"].unit == "nat"
    rows = np.array([7, 3, 31])
    assert np.array_equal(encoded[rows].disagreement, apart[rows])
    assert np.array_equal(small_ensemble.encode(stamps[rows]).disagreement, apart[rows]), "whatever the company"


def test_one_network_says_nothing_of_the_kind(small_posterior, stamps):
    assert small_posterior.encode(stamps[:2]).disagreement is None
    assert "disagreement" not in small_posterior.summarize(stamps[:2], 16).colnames


def test_rows_that_cannot_be_used_say_nothing(small_ensemble, stamps):
    fields = {name: getattr(stamps[:3], name).copy() for name in ("images", "psf", "rms", "mask")}
    fields["mask"][1] = True
    blind = Stamps(**fields, zero_point=stamps.zero_point, pixel_scale_arcsec=stamps.pixel_scale_arcsec, gain=stamps.gain[:3])
    assert np.isfinite(small_ensemble.encode(blind).disagreement).tolist() == [True, False, True]


def test_it_is_a_bundle_like_any_other(small_ensemble, stamps, encoded, tmp_path):
    digest = save_bundle(tmp_path / "bundle", small_ensemble, stamps)
    again = load_posterior(tmp_path / "bundle")
    assert again.digest == digest
    assert np.array_equal(again.sample(stamps, 9, seed=3), small_ensemble.sample(encoded, 9, seed=3))
    assert np.array_equal(again.encode(stamps).disagreement, encoded.disagreement)
    assert np.array_equal(again.encode(stamps).flags, encoded.flags)
