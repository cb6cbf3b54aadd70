"""The comparison with others: conventions are theirs, and a planted error is found."""

import json
import sys

import galsim
import numpy as np
import pytest
from scipy.signal import fftconvolve
from scipy.special import gamma, gammaincinv

from benchmarks.jsonl import append
from benchmarks.peers import compare
from benchmarks.peers.claimed import claimed_errors
from benchmarks.peers.conventions import (
    COMPARED,
    compared_from_astroflow,
    compared_from_pyimfit,
    compared_from_pysersic,
    flux,
    psf_for_pyimfit,
    to_pyimfit,
    to_pysersic,
)
from benchmarks.peers.moments import shape_of_pixels
from benchmarks.peers.renders import FAULTS
from benchmarks.peers.results import left_to_do, read

GALAXY = {"mag": 22.0, "re_arcsec": 1.1, "n": 1.0, "e1": 0.15, "e2": -0.2, "dx_arcsec": 0.3, "dy_arcsec": -0.2}
ZERO_POINT, SCALE, SIZE = 27.0, 0.2, 64


def pysersics_brightness(x, y, theta):
    """pysersic's ``render_sersic_2d``, in NumPy."""
    p = to_pysersic(theta, ZERO_POINT, SCALE, SIZE)
    bn, theta = 1.9992 * p["n"] - 0.3271, p["theta"] + np.pi / 2
    along = (x - p["xc"]) * np.cos(theta) + (y - p["yc"]) * np.sin(theta)
    across = -(x - p["xc"]) * np.sin(theta) + (y - p["yc"]) * np.cos(theta)
    z = np.hypot(along / p["r_eff"], across / ((1 - p["ellip"]) * p["r_eff"]))
    peak = p["flux"] * bn ** (2 * p["n"]) / (np.exp(bn) * gamma(2 * p["n"]) * p["r_eff"] ** 2 * 2 * np.pi * p["n"] * (1 - p["ellip"]))
    return peak * np.exp(-bn * (z ** (1 / p["n"]) - 1))


def imfits_brightness(x, y, p):
    """Imfit's ``Sersic``, in NumPy; its first pixel is 1."""
    angle, dx, dy = np.radians(p["PA"] + 90), x + 1 - p["X0"], y + 1 - p["Y0"]
    across = (-dx * np.sin(angle) + dy * np.cos(angle)) / (1 - p["ell"])
    r = np.hypot(dx * np.cos(angle) + dy * np.sin(angle), across)
    return p["I_e"] * np.exp(-gammaincinv(2 * p["n"], 0.5) * ((r / p["r_e"]) ** (1 / p["n"]) - 1))


PEERS = {
    "pysersic": pysersics_brightness,
    "pyimfit": lambda x, y, theta: imfits_brightness(x, y, to_pyimfit(theta, ZERO_POINT, SCALE, SIZE)),
}


def worst(peer, theta):
    """The largest error of the brightness of a peer's galaxy, over the brightness itself, at points on GalSim's."""
    e = np.hypot(GALAXY["e1"], GALAXY["e2"])
    galaxy = galsim.Sersic(n=1.0, half_light_radius=GALAXY["re_arcsec"] * np.sqrt((1 - e) / (1 + e)), flux=flux(22.0, ZERO_POINT))
    galaxy = galaxy.shear(g1=GALAXY["e1"], g2=GALAXY["e2"]).shift(GALAXY["dx_arcsec"], GALAXY["dy_arcsec"])
    x, y = np.random.default_rng(1).uniform(20, 44, (2, 50))
    expected = np.array([galaxy.xValue((a - 31.5) * SCALE, (b - 31.5) * SCALE) * SCALE**2 for a, b in zip(x, y, strict=True)])
    return np.abs(PEERS[peer](x, y, theta) / expected - 1).max()


@pytest.mark.parametrize(("peer", "tolerance"), [("pysersic", 0.03), ("pyimfit", 1e-6)])  # pysersic's b_n is approximate
def test_a_peers_formula_at_converted_parameters_is_galsims_galaxy(peer, tolerance):
    assert worst(peer, GALAXY) < tolerance


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"pixel twice"}))
def test_a_planted_wrong_convention_is_no_longer_galsims_galaxy(peer, fault):
    theta, _ = FAULTS[fault](GALAXY, np.ones((3, 3)), SCALE)
    assert worst(peer, theta) > 0.15


def test_both_ways_to_the_compared_quantities_agree():
    expected = compared_from_astroflow(GALAXY)
    there = compared_from_pysersic(to_pysersic(GALAXY, ZERO_POINT, SCALE, SIZE), ZERO_POINT, SCALE)
    np.testing.assert_allclose(there, expected, atol=1e-12)
    np.testing.assert_allclose(compared_from_pyimfit(to_pyimfit(GALAXY, ZERO_POINT, SCALE, SIZE), ZERO_POINT, SCALE), expected, atol=1e-12)
    assert there.shape == (len(COMPARED),)


def imfits_image(galaxy, psf, oversampling):
    """Draw as Imfit does: whole pixels around each point of a fine grid, convolved, averaged over the points of a pixel."""
    fine = galsim.Convolve(galaxy, galsim.Pixel(1.0)).drawImage(
        nx=32 * oversampling, ny=32 * oversampling, scale=1 / oversampling, method="no_pixel"
    )
    return fftconvolve(fine.array, psf, mode="same").reshape(32, oversampling, 32, oversampling).sum((1, 3))


@pytest.mark.parametrize("oversampling", [1, 2, 3])
def test_the_pixel_counts_once_through_the_psf_that_pyimfit_is_given(oversampling):
    galaxy, point = galsim.Gaussian(sigma=1.5, flux=100).shear(g1=0.2, g2=-0.1).shift(0.3, -0.4), galsim.Gaussian(sigma=1.3).shear(g2=0.1)
    expected = galsim.Convolve(galaxy, point).drawImage(nx=32, ny=32, scale=1.0).array
    psf = point.drawImage(nx=33, ny=33, scale=1.0).array

    def error(psf):
        return np.abs(imfits_image(galaxy, psf_for_pyimfit(psf, oversampling), oversampling) - expected).max() / expected.max()

    assert error(psf) < 1e-3
    assert error(FAULTS["pixel twice"](GALAXY, psf, SCALE)[1]) > 0.01


@pytest.mark.parametrize("q", [0.4, 0.8])
def test_moments_show_the_direction_of_a_galaxy_and_how_long_it_is_at_most(q):
    for angle in (-60.0, 10.0, 80.0):
        galaxy = galsim.Exponential(half_light_radius=4 * np.sqrt(q), flux=1e4).shear(q=q, beta=(angle + 90) * galsim.degrees).shift(2, -1)
        image = galsim.Convolve(galaxy, galsim.Moffat(beta=3, fwhm=3)).drawImage(nx=64, ny=64, scale=1.0).array
        noisy = image + np.random.default_rng(4).normal(size=image.shape)
        found, ellipticity = shape_of_pixels(noisy, np.ones_like(image))
        assert abs((found - angle + 90) % 180 - 90) < 8
        assert 0.3 * (1 - q) < ellipticity < 1 - q
    assert shape_of_pixels(np.zeros_like(image), np.ones_like(image)) is None


class Formula:
    """Imfit's brightness without a PSF, with PyImfit's method."""

    def getModelImage(self, *, newParameters):  # noqa: N802
        y, x = np.indices((SIZE, SIZE))
        names = to_pyimfit(GALAXY, ZERO_POINT, SCALE, SIZE)
        return imfits_brightness(x, y, dict(zip(names, newParameters, strict=True)))


def errors_by_fisher(draw, values, rms):
    """Standard deviations of parameters, from differences of a model image."""
    steps = np.diag(1e-4 * np.maximum(np.abs(values), 1e-2))
    slopes = np.array([((draw(values + step) - draw(values - step)) / (2 * step.sum() * rms)).ravel() for step in steps])
    return np.sqrt(np.diag(np.linalg.inv(slopes @ slopes.T)))


def test_the_claimed_error_of_mag_is_that_of_a_fit_to_the_flux():
    found, rms = to_pyimfit(GALAXY, ZERO_POINT, SCALE, SIZE), np.full((SIZE, SIZE), 0.05)
    values = np.array(list(found.values()))
    own = errors_by_fisher(lambda values: Formula().getModelImage(newParameters=values), values, rms)
    claimed = claimed_errors(Formula(), found, own, rms, ZERO_POINT, SCALE)

    def with_mag(values):
        return imfits_brightness(
            *np.indices((SIZE, SIZE))[::-1], to_pyimfit(dict(zip(GALAXY, values, strict=True)), ZERO_POINT, SCALE, SIZE)
        )

    of_mag, of_re, of_n = errors_by_fisher(with_mag, np.array(list(GALAXY.values())), rms)[:3]
    dex = np.log(10) * np.array([GALAXY["re_arcsec"], GALAXY["n"]])
    np.testing.assert_allclose(claimed[:3], [of_mag, *[of_re, of_n] / dex], rtol=0.01)
    careless = 2.5 / np.log(10) * own[list(found).index("I_e")] / found["I_e"]  # that of I_e alone
    assert careless > 1.5 * claimed[0]
    own[list(found).index("n")] = 0.0
    at_bound = claimed_errors(Formula(), found, own, rms, ZERO_POINT, SCALE)
    assert np.isnan(at_bound[2])
    assert at_bound[0] < 0.9 * claimed[0]


def test_fits_are_taken_in_turn_from_each_bin_and_none_is_made_twice(tmp_path):
    path, bins = tmp_path / "some" / "found.jsonl", np.array([0, 0, 0, 1, 1, 1])
    assert left_to_do(path, "a", bins, 2) == [0, 3, 1, 4]
    append(path, {"method": "a", "galaxy": 3, "estimate": [np.nan]})
    append(path, {"method": "b", "galaxy": 0, "estimate": [1.0]})
    assert left_to_do(path, "a", bins, 2) == [0, 1, 4]
    assert list(read([path])) == ["a", "b"]
    with path.open("a") as file:
        file.write('{"method": "a", "gal')
    assert left_to_do(path, "a", bins, 2) == [0, 1, 4], "a line that was cut off is no fit"


def test_planted_too_small_errors_are_found_and_missing_ones_counted():
    noise = np.random.default_rng(2).normal(size=4000) * 0.02
    pull, rms, inside, claimed = compare.claims(noise, np.full(4000, 0.02))
    np.testing.assert_allclose([pull, rms, inside, claimed], [1, 1, 0.683, 1], rtol=0.05)
    pull, rms, inside, claimed = compare.claims(noise, np.where(np.arange(4000) % 4 == 0, np.nan, 0.005))
    np.testing.assert_allclose([pull, rms, inside, claimed], [4, 4, 0.197, 0.75], rtol=0.08)
    noise[:40] = 5.0
    pull, rms, _, _ = compare.claims(noise, np.full(4000, 0.02))
    np.testing.assert_allclose([pull, rms], [1, 25], rtol=0.05)
    assert compare.claims(noise, np.full(4000, np.nan))[3] == 0


def shown(capsys):
    """The rows of the table, split; those of further quantities of a method follow its first."""
    return [line.split() for line in capsys.readouterr().out.splitlines() if line[:2] in ("a ", "b ")]


def test_the_table_counts_galaxies_that_were_given_and_within_the_peers_limits(tmp_path, monkeypatch, capsys):
    truth = np.array([[mag, 0.0, np.log10(n), 0.7] for mag, n in ((22.0, 1.0), (23.0, 2.0), (23.0, 0.55), (23.0, 3.0))])
    np.savez(tmp_path / "stamps.npz", truth=truth, snr=np.array([7.0, 12.0, 12.0, 13.0]), edges=[(5, 10), (10, 30)])
    cost = {"sd": None, "seconds": 3.0, "compile_seconds": 2.0, "cpu_seconds": 4.0}
    rows = [("a", i, truth[i] + [0.0, np.log10(1.5), 0.0, 0.0]) for i in range(3)] + [
        ("b", 1, truth[1] + 0.01),
        ("b", 3, truth[3] * np.nan),
    ]
    for method, i, estimate in rows:
        append(tmp_path / "found.jsonl", {"method": method, "galaxy": i, "estimate": list(estimate), **cost})
    command = ["compare", str(tmp_path / "found.jsonl"), "--stamps", str(tmp_path / "stamps.npz")]
    monkeypatch.setattr(sys, "argv", command)
    compare.main()
    rows = shown(capsys)
    assert [row[:6] for row in rows] == [[name, count, "2", "1", "4", "mag"] for name, count in (("a", "1"), ("a", "1"), ("b", "2"))]
    assert [row[9] for row in rows] == ["1.00", "1.00", "0.50"], "completeness: of the galaxies that were given, not of all"
    monkeypatch.setattr(sys, "argv", [*command, "--by", "snr", "--least-n", "0.5"])
    compare.main()
    assert [row[:2] for row in shown(capsys)] == [["a", "1"], ["a", "2"], ["b", "2"]]
    monkeypatch.setattr(sys, "argv", [*command, "--of", "b", "--by", "nothing"])
    compare.main()
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if " mag " in line] == ["a", "b"]
    re = next(line.split() for line in out.splitlines() if line.split()[:1] == ["re"])
    np.testing.assert_allclose(float(re[1]), 0.5, atol=1e-3, err_msg="errors of re are relative")
    monkeypatch.setattr(sys, "argv", [*command, "--of", "c"])
    with pytest.raises(SystemExit, match=r"no 'c' in the files, which hold \['a', 'b'\]"):
        compare.main()


def test_a_claimed_error_of_one_row_is_held_against_its_own_truth(tmp_path):
    truth = np.tile([22.0, 0.1, 0.2, 0.6], (40, 1))
    noise = np.random.default_rng(3).normal(size=truth.shape) * 0.01
    cost = {"seconds": 1.0, "compile_seconds": 0.0, "cpu_seconds": 1.0}
    lines = {i: json.loads(json.dumps({"estimate": list(truth[i] + noise[i]), "sd": [0.01, 0.01, 0.01, 0.001], **cost})) for i in range(40)}
    rows = compare.table("a", lines, {"truth": truth}, truth[:, 0], (20.0, 24.0))[0]
    pulls = [float(row.split()[-3]) for row in rows]
    np.testing.assert_allclose(pulls, [1, 1, 1, 10], rtol=0.35)
