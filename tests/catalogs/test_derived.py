import numpy as np
import pytest

from astroflow.catalogs.derived import derive, summarize_derived
from astroflow.catalogs.sky import SkyFrame
from astroflow.sims.distributions import Normal
from astroflow.sims.parameters import Parameter, Parameters
from astroflow.sims.priors import JointPrior, ScalarBlock


@pytest.fixture
def draws(small_simulator):
    rng = np.random.default_rng(0)
    one = np.array([20.0, 0.5, 1.5, 0.3, 0.0, 0.1, -0.2])
    return (one + rng.normal(0, [0.01, 0.01, 0.1, 0.02, 0.02, 0.01, 0.01], (3, 400, 7))).astype("f4")


def test_derived_draws(draws, small_simulator):
    out = derive(draws, small_simulator.parameters, 27.0)
    assert set(out) == {"flux", "q", "re_circ_arcsec"}
    np.testing.assert_allclose(out["flux"], 10 ** (0.4 * (27.0 - draws[..., 0].astype(float))), rtol=1e-6)
    modulus = np.hypot(draws[..., 3], draws[..., 4])
    np.testing.assert_allclose(out["q"], (1 - modulus) / (1 + modulus), rtol=1e-5)
    np.testing.assert_allclose(out["re_circ_arcsec"], draws[..., 1] * np.sqrt(out["q"]), rtol=1e-5)
    per_row = derive(draws, small_simulator.parameters, np.array([27.0, 28.0, 29.0]))["flux"]
    np.testing.assert_allclose(per_row[1], out["flux"][1] * 10**0.4, rtol=1e-6)


def test_a_model_without_a_magnitude_has_no_flux():
    parameters = Parameters(
        members=(Parameter(name="re_arcsec"),),
        prior=JointPrior(blocks=(ScalarBlock(name="re_arcsec", distribution=Normal(mean=1, sd=1, low=0, high=2)),)),
    )
    assert derive(np.ones((2, 5, 1)), parameters, 27.0) == {}
    assert summarize_derived(np.ones((2, 5, 1)), parameters, 27.0, SkyFrame.unknown(2, 0.2)) == {}


def test_summaries_on_the_sky(draws, small_simulator, wcs_of):
    wcs = wcs_of(50, 40, 0.0)
    frame = SkyFrame.of(wcs, np.full(3, 20.0), np.full(3, 10.0), 0.2)
    out = summarize_derived(draws, small_simulator.parameters, 27.0, frame, centre_dx_arcsec=0.1)
    np.testing.assert_allclose(out["q_mean"], 0.7 / 1.3, atol=0.02)
    np.testing.assert_allclose(out["q_q50"], np.median(derive(draws, small_simulator.parameters, 27.0)["q"], axis=1))
    expected = wcs.all_pix2world(20.0 + 0.2 / 0.2, 10.0 - 0.2 / 0.2, 0)
    np.testing.assert_allclose(out["ra_fit"], expected[0], atol=2e-7 * 5)
    np.testing.assert_allclose(out["dec_fit"], expected[1], atol=2e-7 * 5)
    # North up: elongated along x is east-west.
    np.testing.assert_allclose(out["pa_deg"], 90.0, atol=0.5)
    np.testing.assert_allclose(out["e1_sky"], -0.3, atol=0.01)
    np.testing.assert_allclose(out["e1_sky_sd"], 0.02, rtol=0.2)
    np.testing.assert_allclose(out["pa_deg_sd"], np.rad2deg(0.02 / 0.3) / 2, rtol=0.2)
    assert all(value.shape == (3,) for value in out.values())


def test_position_angles_near_zero_do_not_average_to_ninety(draws, small_simulator, wcs_of):
    draws[..., 3], draws[..., 4] = -0.3, np.where(np.arange(400) % 2, 0.03, -0.03)
    frame = SkyFrame.of(wcs_of(50, 40, 0.0), np.full(3, 20.0), np.full(3, 10.0), 0.2)
    pa = summarize_derived(draws, small_simulator.parameters, 27.0, frame)["pa_deg"]
    np.testing.assert_allclose((pa + 90) % 180, 90, atol=1e-3)
