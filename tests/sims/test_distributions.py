import math

import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad

from astroflow.config import Recipe, parse_recipe
from astroflow.errors import ConfigError
from astroflow.sims.distributions import Counts, Fixed, LogNormal, LogUniform, Normal, Scalar, Uniform, numpy_ops, quantile

OPS = numpy_ops()
LN10 = math.log(10)


def truncnorm(mean, sd, low, high):
    return scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, loc=mean, scale=sd)


# Each distribution beside its cumulative distribution by SciPy.
CASES = [
    (Uniform(low=-2, high=5), scipy.stats.uniform(-2, 7).cdf),
    (LogUniform(low=0.3, high=6.0), scipy.stats.loguniform(0.3, 6.0).cdf),
    (Normal(mean=0.1, sd=0.5, low=-0.4, high=1.4), truncnorm(0.1, 0.5, -0.4, 1.4).cdf),
    (Normal(mean=-1.0, sd=0.6, low=0.0, high=4.0), truncnorm(-1.0, 0.6, 0.0, 4.0).cdf),
    (LogNormal(median=0.5, sd_dex=0.3, low=0.1, high=3.0), lambda x: truncnorm(math.log10(0.5), 0.3, -1, math.log10(3)).cdf(np.log10(x))),
    (Counts(low=18.0, high=25.0, slope=0.33), lambda x: scipy.stats.truncexpon(7.0 * 0.33 * LN10, scale=1 / (0.33 * LN10)).sf(25.0 - x)),
]
IDS = ["uniform", "log_uniform", "normal", "tail", "log_normal", "counts"]


@pytest.mark.parametrize(("ours", "cdf"), CASES, ids=IDS)
def test_draws_follow_scipys_distribution(ours, cdf):
    draws = quantile(ours, np.random.default_rng(1), 20_000)
    assert scipy.stats.kstest(draws, cdf).pvalue > 1e-3
    assert draws.min() >= ours.low
    assert draws.max() <= ours.high


@pytest.mark.parametrize(("ours", "cdf"), CASES, ids=IDS)
def test_quantile_and_cdf_are_scipys(ours, cdf):
    p = np.linspace(0.001, 0.999, 101)
    x = ours.quantile(p, OPS)
    assert np.allclose(cdf(x), p, atol=1e-9)
    assert np.allclose(ours.cdf(x, OPS), p, atol=1e-9)


@pytest.mark.parametrize(("ours", "cdf"), CASES, ids=IDS)
def test_density_is_the_slope_of_scipys_cdf(ours, cdf):
    x = ours.quantile(np.linspace(0.01, 0.99, 99), OPS)
    h = 1e-5 * (ours.high - ours.low)
    slope = (cdf(x + h) - cdf(x - h)) / (2 * h)
    inside = (x - h > ours.low) & (x + h < ours.high)
    assert np.allclose(np.exp(ours.log_density(x, OPS))[inside], slope[inside], rtol=1e-4)


@pytest.mark.parametrize(("ours", "cdf"), CASES, ids=IDS)
def test_density_integrates_to_one(ours, cdf):
    total, _ = quad(lambda x: float(np.exp(ours.log_density(np.float64(x), OPS))), ours.low, ours.high, epsabs=1e-10)
    assert abs(total - 1) < 1e-8


def test_fixed_is_fixed():
    assert (quantile(Fixed(value=3.5), np.random.default_rng(0), 4) == 3.5).all()
    assert (Fixed(value=2).low, Fixed(value=2).high) == (2, 2)


class Holder(Recipe):
    """Holds a scalar."""

    value: Scalar


def test_a_bare_number_in_a_recipe_is_fixed():
    assert parse_recipe(Holder, {"value": 3}, "x").value == Fixed(value=3.0)
    with pytest.raises(ConfigError, match="should hold keys and values; it holds True"):
        parse_recipe(Holder, {"value": True}, "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "uniform", "low": 2, "high": 1}, r"`low` \(=2.0\) must be smaller than `high` \(=1.0\)"),
        ({"kind": "log_uniform", "low": 0, "high": 1}, "greater than 0"),
        ({"kind": "normal", "low": 0, "high": 1, "mean": 0, "sd": 0}, "greater than 0"),
        ({"kind": "normal", "low": 4, "high": 9, "mean": 0, "sd": 1}, "only 3.2e-05 of the untruncated distribution lies between"),
        ({"kind": "log_normal", "low": 10, "high": 20, "median": 1, "sd_dex": 0.1}, "of the untruncated distribution lies between"),
    ],
)
def test_distributions_that_make_no_sense_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        parse_recipe(Holder, {"value": data}, "x")
