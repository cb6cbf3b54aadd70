import numpy as np
import pytest

from astroflow.posteriors.summary import QUANTILES, draw_quantiles, leans_on_bound, summarize_draws
from astroflow.sims.bulge_disc import BulgeDiscGalaxy
from astroflow.sims.distributions import LogUniform
from astroflow.sims.priors import DiscBlock
from astroflow.sims.stamp import StampSpec


@pytest.fixture(scope="module")
def parameters(small_simulator):
    return small_simulator.parameters


def typical(parameters, n=3, draws=400, re=0.5):
    """Posteriors well inside every bound."""
    u = np.random.default_rng(0).normal(0, 0.1, (n, draws, len(parameters)))
    theta = parameters.prior.forward(u).astype(np.float32)
    theta[..., parameters.index("re_arcsec")] = re
    return theta


def test_columns_are_moments_and_quantiles_of_the_draws(parameters):
    rng = np.random.default_rng(1)
    root = rng.normal(size=(7, 7))
    draws = (rng.normal(size=(5, 300, 7)) @ root + 20).astype(np.float32)
    columns = summarize_draws(draws, parameters)
    assert len(columns) == 7 * (2 + len(QUANTILES)) + 21
    for k, name in enumerate(parameters.names):
        values = draws[..., k].astype(np.float64)
        assert np.allclose(columns[f"{name}_mean"], values.mean(1))
        assert np.allclose(columns[f"{name}_sd"], values.std(1, ddof=1))
        for label, q in QUANTILES.items():
            assert np.allclose(columns[f"{name}_{label}"], np.quantile(values, q, axis=1), rtol=1e-5)
    for row in range(5):
        covariance = np.cov(draws[row].astype(np.float64).T)
        assert np.isclose(columns["cov_mag_re_arcsec"][row], covariance[0, 1])
        assert np.isclose(columns["cov_e2_dy_arcsec"][row], covariance[4, 6])
    assert "cov_re_arcsec_mag" not in columns


@pytest.mark.parametrize("shape", [(4, 257, 3), (4, 256), (2, 1), (3, 2, 2)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_quantiles_are_numpys(shape, kind):
    draws, levels = np.random.default_rng(3).normal(5, 2, shape).astype(kind), [0.0, 0.025, 0.16, 0.5, 0.84, 1.0]
    for found, level in zip(draw_quantiles(draws, levels), levels, strict=True):
        np.testing.assert_allclose(found, np.quantile(draws.astype(np.float64), level, axis=1), rtol=1e-12)
    draws[1, 0] = np.nan
    for found in draw_quantiles(draws, levels):
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[0]).all()


def test_large_magnitudes_lose_no_digits(parameters):
    draws = np.full((1, 1000, 7), 23.0, np.float32)
    draws[0, :, 0] += np.random.default_rng(0).normal(0, 1e-3, 1000).astype(np.float32)
    columns = summarize_draws(draws, parameters)
    assert np.isclose(columns["mag_sd"][0], 1e-3, rtol=0.1)
    assert columns["n_sd"][0] == 0


def test_unusable_rows_are_nan_and_others_are_not(parameters):
    draws = typical(parameters)
    draws[1] = np.nan
    for name, values in summarize_draws(draws, parameters).items():
        assert np.isnan(values).tolist() == [False, True, False], name


def test_one_draw_has_no_spread(parameters):
    columns = summarize_draws(typical(parameters, draws=1), parameters)
    assert (columns["mag_sd"] == 0).all()


def test_posteriors_inside_the_bounds_do_not_lean(parameters, small_simulator):
    draws = typical(parameters)
    assert not leans_on_bound(draws, np.ones(3, int), parameters, small_simulator.stamp).any()


@pytest.mark.parametrize("name", ["mag", "re_arcsec", "n", "dx_arcsec", "dy_arcsec"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("share", "leans"), [(0.25, True), (0.1, False)])
def test_a_share_of_the_draws_at_a_bound_leans(parameters, small_simulator, name, side, share, leans):
    bound = parameters.prior.bounds[name][side]
    if name == "re_arcsec" and side == 1:
        bound = small_simulator.stamp.re_limits_arcsec(1)[1]
    draws = typical(parameters)
    draws[1, : round(400 * share), parameters.index(name)] = bound * (1.001 if side == 0 and bound > 0 else 0.999)
    assert leans_on_bound(draws, np.ones(3, int), parameters, small_simulator.stamp).tolist() == [False, leans, False]


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0, 4.0])
def test_the_bound_of_ellipticities_is_a_circle(parameters, small_simulator, angle):
    draws = typical(parameters)
    for row, modulus in ((1, 0.845), (2, 0.8)):
        draws[row, :100, 3], draws[row, :100, 4] = modulus * np.cos(angle), modulus * np.sin(angle)
    assert leans_on_bound(draws, np.ones(3, int), parameters, small_simulator.stamp).tolist() == [False, True, False]


def test_the_bound_of_the_size_is_that_of_the_binning(parameters, small_simulator):
    """Binning 1 serves up to 1.0 arcsec here, binning 2 from 0.6 to 2.0."""
    stamp = small_simulator.stamp
    assert stamp.re_limits_arcsec(1)[1] == 1.0
    assert np.allclose(stamp.re_limits_arcsec(2), (0.6, 2.0))
    for re, expected in ((0.995, [True, False]), (0.603, [False, True]), (0.8, [False, False])):
        draws = typical(parameters, n=2, re=re)
        assert leans_on_bound(draws, np.array([1, 2]), parameters, stamp).tolist() == expected


def test_each_ellipticity_has_its_own_bound_and_the_largest_size_the_binnings():
    """A bulge rounder than its bound and a disc beyond the bulge's; a bulge that no binning would serve, in a disc that one does."""
    galaxy = BulgeDiscGalaxy(
        disc_ellipticity=DiscBlock(names=("disc_e1", "disc_e2"), sigma=0.3, high=0.7),
        bulge_ellipticity=DiscBlock(names=("bulge_e1", "bulge_e2"), sigma=0.15, high=0.5),
        disc_re_arcsec=LogUniform(low=0.15, high=4.0), bulge_re_arcsec=LogUniform(low=0.1, high=1.5),
    )  # fmt: skip
    stamp = StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=15, binning=(1, 2), re_pixels=(2.0, 8.0))
    assert stamp.re_limits_arcsec(1)[1] == 1.6
    assert stamp.re_limits_arcsec(2) == (0.8, 3.2)
    inside = {
        "mag": 21.0, "bulge_to_total": 0.4, "disc_re_arcsec": 1.2, "bulge_re_arcsec": 0.3, "disc_e1": 0.6, "disc_e2": 0.0, "bulge_e1": 0.0,
        "bulge_e2": 0.45, "dx_arcsec": 0.0, "dy_arcsec": 0.0,
    }  # fmt: skip
    cases = [{}, {"disc_e1": 0.699}, {"bulge_e2": 0.499}, {"disc_re_arcsec": 1.59}, {"disc_re_arcsec": 0.81, "bulge_re_arcsec": 0.2}]
    binning = np.array([1, 1, 1, 1, 2])
    names = galaxy.parameters.names
    theta = np.array([[(inside | case)[name] for name in names] for case in cases])
    draws = theta[:, None] + 1e-4 * np.random.default_rng(1).normal(size=(len(cases), 200, len(names)))
    assert leans_on_bound(draws, binning, galaxy.parameters, stamp).tolist() == [False, True, True, True, True]
