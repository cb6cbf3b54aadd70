import galsim
import numpy as np
import pydantic
import pytest

from astroflow.sims.distributions import Uniform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.parameters import Parameter, Parameters
from astroflow.sims.priors import DiscBlock, JointPrior, ScalarBlock
from astroflow.sims.psfs import PSFDraw
from astroflow.sims.symmetry import turn_images

GALAXY = SersicGalaxy()
SERSIC = GALAXY.parameters


def test_names_units_and_columns_are_in_one_order():
    assert SERSIC.names == ("mag", "re_arcsec", "n", "e1", "e2", "dx_arcsec", "dy_arcsec")
    assert SERSIC.units == ("mag", "arcsec", "", "", "", "arcsec", "arcsec")
    assert len(SERSIC) == len(SERSIC.labels) == 7
    assert SERSIC.labels[1] == "$R_e$ [arcsec]"
    theta = np.arange(14.0).reshape(2, 7)
    assert SERSIC.column(theta, "n").tolist() == [2.0, 9.0]


def test_units_are_astropys():
    import astropy.units as u

    for unit in SERSIC.units:
        u.Unit(unit, parse_strict="raise")


def test_a_name_without_a_prior_is_refused():
    prior = JointPrior(blocks=(ScalarBlock(name="a", distribution=Uniform(low=0, high=1)),))
    with pytest.raises(pydantic.ValidationError, match=r"parameters \['b'\] and prior \['a'\] differ"):
        Parameters(members=(Parameter(name="b"),), prior=prior)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_galaxy_seen_through_a_turned_psf_is_the_turned_image(turn):
    psf = galsim.Moffat(beta=3, fwhm=0.7).shear(g1=0.1, g2=-0.05).withFlux(0.6) + galsim.Gaussian(sigma=0.3).shift(0.3, 0.1) * 0.4
    native = psf.drawImage(nx=33, ny=33, scale=0.2).array
    theta = np.array([22.0, 0.8, 1.2, 0.35, -0.2, 0.13, -0.31])

    def draw(values, image):
        profile = GALAXY.profile(dict(zip(SERSIC.names, values, strict=True)), 25.0, exact=True)
        return PSFDraw(native_image=image).observed(profile, 0.2, 1, 24)

    straight = draw(theta, native)
    turned = draw(SERSIC.turned(theta, turn), np.ascontiguousarray(turn_images(native, turn)))
    assert np.allclose(turned, turn_images(straight, turn), atol=2e-5 * straight.max())
    assert turn == 0 or not np.allclose(turned, straight, atol=1e-2 * straight.max())


def test_turning_works_on_any_leading_axes_and_keeps_what_it_is_given():
    theta = np.random.default_rng(0).normal(size=(3, 4, 7))
    before = theta.copy()
    turned = SERSIC.turned(theta, 5)
    assert turned.shape == theta.shape
    assert np.array_equal(turned[1, 2], SERSIC.turned(theta[1, 2], 5))
    assert np.array_equal(theta, before)


def test_the_prior_that_ships_is_symmetric():
    assert SERSIC.prior_is_symmetric()


@pytest.mark.parametrize(
    "change",
    [
        {"dx_arcsec": Uniform(low=-0.5, high=0.6)},
        {"dx_arcsec": Uniform(low=-0.5, high=0.5)},  # symmetric in itself, but x and y change places
    ],
)
def test_a_prior_with_a_preferred_direction_is_found_out(change):
    assert not SersicGalaxy(**change).parameters.prior_is_symmetric()


def test_parameters_without_partners_do_not_turn():
    prior = JointPrior(blocks=(DiscBlock(), ScalarBlock(name="dx", distribution=Uniform(low=-1, high=1))))
    members = (Parameter(name="e1"), Parameter(name="e2"), Parameter(name="dx", spin=1))
    theta = np.array([0.1, 0.2, 0.3])
    assert np.array_equal(Parameters(members=members, prior=prior).turned(theta, 7), theta)
