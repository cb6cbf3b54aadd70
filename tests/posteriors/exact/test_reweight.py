"""Changing the prior of draws: against conjugate algebra, and what must be refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from astroflow.errors import ConfigError, InputError
from astroflow.posteriors.exact.reweight import reweight
from astroflow.sims.distributions import LogUniform, Normal, Uniform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.priors import DiscBlock

WIDE = SersicGalaxy(mag=Uniform(low=15.0, high=30.0), re_arcsec=LogUniform(low=0.1, high=2.0)).parameters


def draws(n=3, count=4000):
    rng = np.random.default_rng(1)
    theta = WIDE.prior.forward(0.3 * rng.normal(size=(n, count, 7)))
    theta[..., 0] = 22 + 0.5 * rng.normal(size=(n, count))  # a likelihood of 22 +- 0.5 under the flat prior
    return theta


def changed(**parts):
    given = {"mag": Uniform(low=15.0, high=30.0), "re_arcsec": LogUniform(low=0.1, high=2.0)} | parts
    return SersicGalaxy(**given).parameters.prior


def test_a_normal_prior_moves_a_normal_posterior_as_algebra_says():
    new = reweight(WIDE, draws(), changed(mag=Normal(mean=21.5, sd=0.5, low=15.0, high=30.0)))
    mean = (new.weights * draws()[..., 0]).sum(1)
    np.testing.assert_allclose(mean, 21.75, atol=0.05)
    width = np.sqrt((new.weights * (draws()[..., 0] - mean[:, None]) ** 2).sum(1))
    np.testing.assert_allclose(width, 0.5 / np.sqrt(2), atol=0.03)
    resampled = new.resample(1000, seed=3)
    assert resampled.shape == (3, 1000, 7)
    np.testing.assert_allclose(resampled[..., 0].mean(1), 21.75, atol=0.06)
    assert len(np.unique(resampled[0, :, 0])) == 1000


def test_the_same_prior_changes_nothing():
    new = reweight(WIDE, draws(), WIDE.prior)
    np.testing.assert_allclose(new.weights, 1 / 4000)
    np.testing.assert_allclose(new.efficiency, 1.0)


def test_efficiency_is_the_share_that_a_narrower_prior_keeps():
    theta = draws()
    kept = (theta[..., 1] < 0.5).mean(1)
    new = reweight(WIDE, theta, changed(re_arcsec=LogUniform(low=0.1, high=0.5)))
    np.testing.assert_allclose(new.efficiency, kept, rtol=1e-6)


def test_rows_without_draws_or_outside_the_new_prior_say_so():
    theta = draws()
    theta[1] = np.nan
    theta[2, :, 0] = 29.0
    new = reweight(WIDE, theta, changed(mag=Uniform(low=15.0, high=25.0)))
    np.testing.assert_array_equal(new.efficiency[1:], [np.nan, 0.0])
    assert np.isnan(new.resample(10)[1:]).all()
    assert np.isfinite(new.resample(10)[0]).all()


def test_rows_that_so_many_distinct_draws_cannot_represent_are_no_draws():
    """A prior a standard deviation and a half away: a few draws would have to stand for most of the posterior."""
    theta = draws(2, 256)
    new = reweight(WIDE, theta, changed(mag=Normal(mean=20.5, sd=0.5, low=15.0, high=30.0)))
    assert (new.efficiency < 0.3).all()
    assert (new.clipped(200) > 0.1).all()
    assert np.isnan(new.resample(200)).all()
    assert (new.clipped(5) <= 0.01).all()
    few = np.array([new.resample(5, seed)[..., 0] for seed in range(300)])
    np.testing.assert_allclose(few.mean((0, 2)), (new.weights * theta[..., 0]).sum(1), atol=0.05)
    cut = reweight(WIDE, theta, changed(mag=Uniform(low=15.0, high=21.5)))
    kept = (theta[..., 0] < 21.5).sum(1)
    assert np.isnan(cut.resample(int(kept.max()) + 10)).all()
    assert (cut.resample(int(kept.min()))[..., 0] < 21.5).all()
    assert (reweight(WIDE, theta, WIDE.prior).clipped(256) < 1e-9).all()


def test_an_object_is_resampled_alike_wherever_it_stands():
    theta, prior = draws(), changed(re_arcsec=LogUniform(low=0.1, high=1.0))
    alone = reweight(WIDE, theta[1:2], prior, ids=["b"]).resample(50, seed=2)
    np.testing.assert_array_equal(alone[0], reweight(WIDE, theta, prior, ids=["a", "b", "c"]).resample(50, seed=2)[1])
    with pytest.raises(InputError, match="one for each object"):
        reweight(WIDE, theta, prior, ids=["a"])


def test_what_cannot_be_changed_is_refused():
    with pytest.raises(ConfigError, match="where stamps were cut"):
        reweight(WIDE, draws(), changed(dx_arcsec=Normal(mean=0.0, sd=0.2, low=-0.5, high=0.5)))
    with pytest.raises(ConfigError, match="own parameters"):
        reweight(WIDE, draws(), SimpleNamespace(blocks=(DiscBlock(),)))
    with pytest.raises(InputError, match="must be"):
        reweight(WIDE, draws()[0], WIDE.prior)
    with pytest.raises(InputError, match="between 1 and"):
        reweight(WIDE, draws(), WIDE.prior).resample(5000)
