"""P-values of residuals: uniform under the model, small for planted faults."""

import numpy as np
import pytest
from scipy import stats

from astroflow.posteriors.exact.residuals import chi_squared_p, core_p, neighbour_p, normal_p, profile_score, structure_p

N, SIDE = 400, 32


@pytest.fixture
def white():
    return np.random.default_rng(1).normal(size=(N, SIDE, SIDE))


@pytest.fixture(scope="module")
def galaxy():
    """A Gaussian of S/N 100 on noise of unit rms."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    profile = np.exp(-0.5 * (x**2 + y**2) / 2.5**2)
    return 100 * profile / np.sqrt((profile**2).sum())


def uniform(p):
    return stats.kstest(p, "uniform").pvalue > 1e-3


def test_noise_passes(white, galaxy):
    model = np.repeat(galaxy[None], N, 0)
    assert uniform(chi_squared_p((white**2).sum((1, 2)), SIDE**2))
    assert uniform(core_p(white, model, np.ones_like(model), 0))
    assert uniform(neighbour_p(white))


def test_masked_pixels_are_no_evidence(white, galaxy):
    mask = np.random.default_rng(2).random(white.shape) < 0.3
    white[mask] = 0
    model = np.repeat(galaxy[None], N, 0)
    assert uniform(chi_squared_p((white**2).sum((1, 2)), (~mask).sum((1, 2))))
    assert uniform(core_p(white, model, np.ones_like(model), 0))
    assert uniform(neighbour_p(white))


def test_wrong_noise_maps_fail(white):
    for factor in (0.8, 1.25):
        assert (chi_squared_p((factor**2 * white**2).sum((1, 2)), SIDE**2) < 1e-3).all()


def test_correlated_noise_taken_for_white_fails(white):
    smooth = (white + 0.3 * np.roll(white, 1, 2) + 0.3 * np.roll(white, 1, 1)) / np.sqrt(1.18)
    assert (neighbour_p(smooth) < 1e-3).mean() > 0.95


def test_a_core_that_does_not_fit_fails(white, galaxy):
    model = np.repeat(galaxy[None], N, 0)
    core = model > 1
    assert core[0].sum() > 20
    assert (core_p(white + 2.0 * core, model, np.ones_like(model), 7) < 1e-3).mean() > 0.95
    faint = np.full_like(model, 0.1)
    assert (core_p(white + 2.0 * core, faint, np.ones_like(model), 7) == 1).all()


def pictures(galaxy):
    """What a wider and two differently elliptical PSFs add, to first order, and a level of the sky."""
    gy, gx = np.gradient(galaxy)
    (gxy, gxx), gyy = np.gradient(gx), np.gradient(gy)[0]
    return np.stack([gxx + gyy, gxx - gyy, 2 * gxy, np.ones_like(galaxy)])


def score_case(galaxy, white, extra, aside=0, after_fit=True):
    """A fit of flux, position and a round size, beside the pictures, in white noise."""
    gy, gx = np.gradient(galaxy)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    columns = np.concatenate([np.stack([galaxy, gx, gy, x * gx + y * gy]), pictures(galaxy)]).reshape(-1, SIDE**2)
    residual = (white + extra).reshape(len(white), -1)
    free = columns[:4]
    if after_fit:
        residual = residual - residual @ free.T @ np.linalg.solve(free @ free.T, free)
    information = np.repeat((columns @ columns.T)[None], len(white), 0)
    return profile_score(information, residual @ columns.T, 4, aside), columns, residual


def test_scores_pass_noise_and_catch_an_elliptical_psf(white, galaxy):
    found = score_case(galaxy, white, 0.0)[0]
    assert uniform(found.p)
    for k in range(4):
        assert uniform(normal_p(found.amplitude[:, k] / found.error[:, k]))
    elliptical = pictures(galaxy)[1]
    amount = 8 / np.sqrt((elliptical**2).sum())  # eight sigma
    found = score_case(galaxy, white, amount * elliptical)[0]
    assert (found.p < 1e-3).mean() > 0.95
    pulls = (found.amplitude[:, 1] - amount) / found.error[:, 1]
    assert uniform(normal_p(pulls))
    assert (score_case(galaxy, white, 0.3)[0].p < 1e-3).mean() > 0.95, "a level of the sky"


@pytest.mark.parametrize("aside", [0, 1])
def test_amplitudes_are_those_of_least_squares_wherever_the_parameters_are(white, galaxy, aside):
    """Fitting the parameters, the direction, and what is set aside together, by dense algebra; before the fit as after it."""
    for after_fit in (True, False):
        found, columns, residual = score_case(galaxy, white[:3], 0.0, aside, after_fit)
        for k in range(4):
            used = [*range(4), 4 + k] + ([7] if aside and k < 3 else [])
            normal = columns[used] @ columns[used].T
            expected = np.linalg.solve(normal, columns[used] @ residual.T)[4]
            np.testing.assert_allclose(found.amplitude[:, k], expected, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(found.error[:, k], np.sqrt(np.linalg.inv(normal)[4, 4]), rtol=1e-6)


def test_directions_that_the_parameters_absorb_are_no_test(white):
    information = np.repeat(np.array([[2.0, 2.0], [2.0, 2.0]])[None], 3, 0)
    found = profile_score(information, np.array([[9.0, 9.0]] * 3), 1)
    assert (found.p == 1).all()
    assert np.isnan(found.amplitude).all()
    assert (normal_p(found.amplitude / found.error) == 1).all()


def test_a_model_that_is_no_number_says_nothing_and_disturbs_no_other():
    information = np.repeat(np.array([[2.0, 0.5], [0.5, 2.0]])[None], 3, 0)
    score = np.array([[1.0, 2.0]] * 3)
    alone = profile_score(information[:1], score[:1], 1)
    information[1, 0, 1] = score[2, 1] = np.nan
    found = profile_score(information, score, 1)
    for name in ("p", "amplitude", "error"):
        assert getattr(found, name)[0] == getattr(alone, name)[0]
        assert np.isnan(getattr(found, name)[1:]).all()


def test_the_smallest_of_several_is_corrected_for_their_number():
    p = np.random.default_rng(0).random((3, 20_000))
    found = structure_p(*p)
    assert abs((found < 0.05).mean() - 0.05) < 0.006
    assert found.max() <= 1
