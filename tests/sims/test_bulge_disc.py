import galsim
import numpy as np
import pytest

from astroflow.sims.bulge_disc import BulgeDiscGalaxy
from astroflow.sims.distributions import LogUniform
from astroflow.sims.galaxies import Galaxy
from astroflow.sims.recipe import build_simulator
from astroflow.sims.symmetry import turn_images

ZERO_POINT = 25.0
THETA = {
    "mag": 21.0, "bulge_to_total": 0.3, "disc_re_arcsec": 0.9, "bulge_re_arcsec": 0.25, "disc_e1": 0.3, "disc_e2": -0.1, "bulge_e1": 0.05,
    "bulge_e2": 0.1, "dx_arcsec": 0.1, "dy_arcsec": -0.05,
}  # fmt: skip


def test_it_is_a_galaxy_whose_parameters_turn_with_the_image():
    galaxy = BulgeDiscGalaxy()
    assert isinstance(galaxy, Galaxy)
    assert galaxy.parameters.names == tuple(THETA)
    spins = {p.name: p.spin for p in galaxy.parameters.members}
    assert [name for name, spin in spins.items() if spin == 2] == ["disc_e1", "disc_e2", "bulge_e1", "bulge_e2"]
    assert [name for name, spin in spins.items() if spin == 1] == ["dx_arcsec", "dy_arcsec"]
    assert galaxy.parameters.prior_is_symmetric()


@pytest.mark.parametrize("turn", range(8))
def test_turned_parameters_draw_the_turned_image(turn):
    """Both components turn."""
    galaxy = BulgeDiscGalaxy()
    psf = galsim.Gaussian(fwhm=0.5)

    def drawn(theta):
        profile = galaxy.profile(dict(zip(THETA, theta, strict=True)), ZERO_POINT)
        return galsim.Convolve(profile, psf).drawImage(nx=48, ny=48, scale=0.2, dtype=np.float64).array

    theta = np.array(list(THETA.values()))
    image = drawn(theta)
    assert np.abs(drawn(galaxy.parameters.turned(theta, turn)) - turn_images(image, turn)).max() < 1e-4 * image.max()


def test_it_is_an_exponential_and_a_de_vaucouleurs_profile():
    """Against GalSim's own classes of these names, which astroflow does not use."""
    q = [(1 - e) / (1 + e) for e in (np.hypot(0.3, 0.1), np.hypot(0.05, 0.1))]
    flux = 10 ** (0.4 * (ZERO_POINT - 21.0))
    disc = galsim.Exponential(half_light_radius=0.9 * q[0] ** 0.5, flux=0.7 * flux).shear(g1=0.3, g2=-0.1)
    bulge = galsim.DeVaucouleurs(half_light_radius=0.25 * q[1] ** 0.5, flux=0.3 * flux).shear(g1=0.05, g2=0.1)
    psf = galsim.Moffat(beta=3.0, fwhm=0.6)
    truth, ours = (
        galsim.Convolve(p, psf).drawImage(nx=48, ny=48, scale=0.2).array
        for p in ((disc + bulge).shift(0.1, -0.05), BulgeDiscGalaxy().profile(THETA, ZERO_POINT))
    )
    assert np.abs(ours - truth).max() < 1e-3 * truth.max()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_bulge_and_all_disc_are_single_profiles(share):
    galaxy = BulgeDiscGalaxy(bulge_index=2.5)
    profile = galaxy.profile(THETA | {"bulge_to_total": share}, ZERO_POINT)
    fluxes = [abs(part.flux) for part in profile.obj_list]
    assert abs(sum(fluxes) - 10 ** (0.4 * 4)) < 1e-6
    assert min(fluxes) == 0


def test_a_recipe_need_not_repeat_the_names():
    recipe = {
        "stamp": {"size": 48, "pixel_scale_arcsec": 0.2, "zero_point": 27.0, "psf_size": 25, "binning": [1, 2]},
        "galaxy": {
            "kind": "bulge_disc", "disc_ellipticity": {"sigma": 0.3}, "disc_re_arcsec": {"kind": "size_magnitude", "low": 0.1, "high": 3.0},
        },
        "psf": {"kind": "moffat", "fwhm_arcsec": 0.7},
        "noise": {"kind": "rms", "rms": 0.1},
        "engine": "fourier",
    }  # fmt: skip
    simulator, resolved = build_simulator(recipe)
    assert build_simulator(resolved)[0].galaxy == simulator.galaxy
    clean = simulator.draw_noiseless(np.arange(40), seed=1)
    sizes = clean.theta[:, list(simulator.parameters.names).index("disc_re_arcsec")]
    bulges = clean.theta[:, list(simulator.parameters.names).index("bulge_re_arcsec")]
    low = simulator.stamp.re_limits_arcsec(2)[0]
    assert (np.maximum(sizes, bulges)[clean.binning == 2] >= low).all(), "the larger of the two sizes chooses the binning"
    assert set(clean.binning) == {1, 2}


def test_its_size_can_have_a_distribution_of_its_own():
    galaxy = BulgeDiscGalaxy(disc_re_arcsec=LogUniform(low=0.2, high=1.0))
    assert galaxy.parameters.prior.bounds["disc_re_arcsec"] == (0.2, 1.0)
