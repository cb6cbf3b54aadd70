import re

import galsim
import numpy as np
import pytest

from astroflow.sims.distributions import LogUniform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.sersics import Sersic, SersicSum, axis_ratio

GALAXY = SersicGalaxy(n=LogUniform(low=0.5, high=4.0))
ZERO_POINT = 25.0


def theta(**changes):
    return {"mag": 20.0, "re_arcsec": 0.8, "n": 1.0, "e1": 0.0, "e2": 0.0, "dx_arcsec": 0.0, "dy_arcsec": 0.0} | changes


@pytest.mark.parametrize(
    ("fwhm", "scale", "re", "limit"),
    [(0.6, 0.2, 0.2, 1e-4), (0.6, 0.2, 0.8, 1e-4), (0.09, 0.03, 0.3, 1e-4), (0.09, 0.03, 1.5, 1e-3)],
    ids=["small from the ground", "large from the ground", "small from space", "large from space"],
)
def test_mixing_two_tabulated_indices_errs_by_less_than_a_thousandth_of_the_peak(fwhm, scale, re, limit):
    psf = galsim.Moffat(beta=3.0, fwhm=fwhm)
    shipped = SersicGalaxy()
    nodes = shipped.nodes
    assert len(nodes) == 64
    worst = 0.0
    for k in (0, 7, 20, 40, 52):  # up to n = 4: exact profiles beyond take long to prepare
        n = float(np.sqrt(nodes[k] * nodes[k + 1]))  # halfway, where linear weights are furthest off
        exact, mixed = (
            galsim.Convolve(shipped.profile(theta(re_arcsec=re, n=n, e1=0.3), ZERO_POINT, exact=e), psf)
            .drawImage(nx=48, ny=48, scale=scale)
            .array
            for e in (True, False)
        )
        worst = max(worst, np.abs(mixed - exact).max() / exact.max())
    assert worst < limit


def indices(profile):
    return [float(n) for n in re.findall(r"Sersic\(n=([0-9.e+-]+)", repr(profile))]


def test_the_mixture_is_of_the_two_neighbours_in_the_table_and_the_exact_profile_is_one():
    lower, upper = indices(GALAXY.profile(theta(n=1.234), ZERO_POINT))
    k = int(np.argmin(np.abs(GALAXY.nodes - lower)))
    assert np.allclose((lower, upper), GALAXY.nodes[k : k + 2])
    assert lower < 1.234 < upper
    assert indices(GALAXY.profile(theta(n=1.234), ZERO_POINT, exact=True)) == [1.234]


def test_indices_at_and_beyond_the_ends_of_the_table_do_not_fail():
    for n in (0.5, 4.0, 0.3, 6.2):
        assert GALAXY.profile(theta(n=n), ZERO_POINT).flux > 0


def test_a_sum_of_components_is_their_sum():
    class Pair(SersicSum):
        @property
        def index_range(self):
            return 1.0, 4.0

        def components(self, theta, zero_point):
            return Sersic(30.0, 0.5, 1.0, 0.2, 0.1, 0.1, 0.0), Sersic(70.0, 0.3, 4.0, -0.1, 0.0, -0.1, 0.2)

    pair = Pair()
    whole = pair.profile({}, ZERO_POINT, exact=True)
    parts = [
        galsim.Sersic(c.n, half_light_radius=c.re * np.sqrt(axis_ratio(c.e1, c.e2)), flux=c.flux).shear(g1=c.e1, g2=c.e2).shift(c.x, c.y)
        for c in pair.components({}, ZERO_POINT)
    ]
    assert abs(whole.flux - 100) < 1e-9
    pixel = galsim.Gaussian(sigma=0.2)
    drawn, summed = (galsim.Convolve(p, pixel).drawImage(nx=48, ny=48, scale=0.1).array for p in (whole, galsim.Sum(parts)))
    assert np.abs(drawn - summed).max() < 1e-3 * summed.max()
