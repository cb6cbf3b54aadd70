import galsim
import numpy as np
import pydantic
import pytest

from astroflow.sims.distributions import Counts, LogUniform, Uniform
from astroflow.sims.galaxies import Galaxy, SersicGalaxy
from astroflow.sims.priors import SizeMagnitudeBlock
from astroflow.sims.sersics import axis_ratio

GALAXY = SersicGalaxy(n=LogUniform(low=0.5, high=4.0))
ZERO_POINT = 25.0


def theta(**changes):
    return {"mag": 20.0, "re_arcsec": 0.8, "n": 1.0, "e1": 0.0, "e2": 0.0, "dx_arcsec": 0.0, "dy_arcsec": 0.0} | changes


def picture(profile, size=512, scale=0.05):
    return profile.drawImage(nx=size, ny=size, scale=scale, method="no_pixel", dtype=np.float64).array


def elliptical_radius(e1, e2, size=512, scale=0.05):
    """Semi-major axis of the ellipse through each pixel, arcsec, for an axis ratio and angle of the reduced shear."""
    xy = (np.arange(size) - (size - 1) / 2) * scale
    x, y = np.meshgrid(xy, xy)
    modulus = np.hypot(e1, e2)
    q = (1 - modulus) / (1 + modulus)
    angle = 0.5 * np.arctan2(e2, e1)
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    return np.hypot(along, across / q)


def test_the_galaxy_that_ships_is_a_galaxy():
    assert isinstance(GALAXY, Galaxy)
    assert GALAXY.parameters.names == ("mag", "re_arcsec", "n", "e1", "e2", "dx_arcsec", "dy_arcsec")


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("e", [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.35)])
def test_half_the_light_lies_inside_re_along_the_major_axis(e, exact):
    profile = GALAXY.profile(theta(e1=e[0], e2=e[1], n=1.3), ZERO_POINT, exact=exact)
    image = picture(profile)
    radius = elliptical_radius(*e)
    # Light inside growing ellipses, normalised by the untruncated total.
    inside = [image[radius < r].sum() * 0.05**2 / 0.05**2 / profile.flux for r in (0.78, 0.8, 0.82)]
    assert inside[0] < 0.5 < inside[2]
    assert abs(inside[1] - 0.5) < 5e-3


@pytest.mark.parametrize("mag", [18.0, 22.5])
@pytest.mark.parametrize("exact", [True, False])
def test_flux_is_that_of_the_magnitude_in_image_units(mag, exact):
    profile = GALAXY.profile(theta(mag=mag, e1=0.3), ZERO_POINT, exact=exact)
    assert np.isclose(profile.flux, 10 ** (0.4 * (ZERO_POINT - mag)), rtol=1e-12)
    assert np.isclose(picture(profile).sum(), profile.flux, rtol=2e-3)
    assert np.isclose(-2.5 * np.log10(profile.flux) + ZERO_POINT, mag)


@pytest.mark.parametrize("e", [(0.4, 0.0), (0.0, 0.3), (-0.2, -0.3)])
def test_ellipticity_is_the_reduced_shear_of_the_image_frame(e):
    profile = GALAXY.profile(theta(e1=e[0], e2=e[1], n=0.5), ZERO_POINT, exact=True)
    moments = galsim.hsm.FindAdaptiveMom(galsim.Image(picture(profile)))
    assert np.allclose((moments.observed_shape.g1, moments.observed_shape.g2), e, atol=2e-3)
    modulus = np.hypot(*e)
    assert np.isclose(axis_ratio(*e), (1 - modulus) / (1 + modulus))


def test_a_positive_e1_lies_along_x_and_a_positive_e2_along_the_diagonal():
    along_x = picture(GALAXY.profile(theta(e1=0.5, n=0.5), ZERO_POINT), size=65)
    assert along_x[32, 52] > 3 * along_x[52, 32]
    diagonal = picture(GALAXY.profile(theta(e2=0.5, n=0.5), ZERO_POINT), size=65)
    assert diagonal[44, 44] > 3 * diagonal[44, 20]


def test_offsets_go_along_x_and_y_from_the_middle():
    image = picture(GALAXY.profile(theta(dx_arcsec=0.35, dy_arcsec=-0.2, n=0.5), ZERO_POINT), size=256)
    y, x = np.mgrid[:256, :256] - 127.5
    centre = [(image * axis).sum() / image.sum() * 0.05 for axis in (x, y)]
    assert np.allclose(centre, (0.35, -0.2), atol=2e-3)


def test_a_size_of_its_own_distribution_replaces_the_size_magnitude_line():
    alone = SersicGalaxy(re_arcsec=LogUniform(low=0.1, high=1.0), mag=Counts(low=19, high=24))
    assert alone.parameters.prior.bounds["re_arcsec"] == (0.1, 1.0)
    line = SersicGalaxy(re_arcsec=SizeMagnitudeBlock(low=0.1, high=2.0))
    assert isinstance(line.parameters.prior.blocks[1], SizeMagnitudeBlock)


@pytest.mark.parametrize(("low", "high"), [(0.2, 4.0), (0.5, 6.5)])
def test_indices_that_galsim_cannot_draw_are_refused(low, high):
    with pytest.raises(pydantic.ValidationError, match=r"GalSim's Sersic takes 0.3 to 6.2"):
        SersicGalaxy(n=Uniform(low=low, high=high))
