"""The comparison with others: conventions are theirs, and a planted error is found."""

import json
import sys

import galsim
import numpy as np
import pytest
from scipy.special import gamma

from benchmarks.peers import compare
from benchmarks.peers.conventions import COMPARED, compared_from_astroflow, compared_from_pysersic, flux, to_pysersic

GALAXY = {"mag": 22.0, "re_arcsec": 1.1, "n": 1.0, "e1": 0.15, "e2": -0.2, "dx_arcsec": 0.3, "dy_arcsec": -0.2}
ZERO_POINT, SCALE, SIZE = 27.0, 0.2, 64


def surface_brightness(x, y, p):
    """pysersic's ``render_sersic_2d``, in NumPy."""
    bn, theta = 1.9992 * p["n"] - 0.3271, p["theta"] + np.pi / 2
    along = (x - p["xc"]) * np.cos(theta) + (y - p["yc"]) * np.sin(theta)
    across = -(x - p["xc"]) * np.sin(theta) + (y - p["yc"]) * np.cos(theta)
    z = np.hypot(along / p["r_eff"], across / ((1 - p["ellip"]) * p["r_eff"]))
    peak = p["flux"] * bn ** (2 * p["n"]) / (np.exp(bn) * gamma(2 * p["n"]) * p["r_eff"] ** 2 * 2 * np.pi * p["n"] * (1 - p["ellip"]))
    return peak * np.exp(-bn * (z ** (1 / p["n"]) - 1))


def test_pysersics_formula_at_converted_parameters_is_galsims_galaxy():
    e = np.hypot(GALAXY["e1"], GALAXY["e2"])
    galaxy = galsim.Sersic(n=1.0, half_light_radius=GALAXY["re_arcsec"] * np.sqrt((1 - e) / (1 + e)), flux=flux(22.0, ZERO_POINT))
    galaxy = galaxy.shear(g1=GALAXY["e1"], g2=GALAXY["e2"]).shift(GALAXY["dx_arcsec"], GALAXY["dy_arcsec"])
    x, y = np.random.default_rng(1).uniform(20, 44, (2, 50))
    expected = [galaxy.xValue((a - 31.5) * SCALE, (b - 31.5) * SCALE) * SCALE**2 for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(
        surface_brightness(x, y, to_pysersic(GALAXY, ZERO_POINT, SCALE, SIZE)), expected, rtol=0.03
    )  # b_n is approximate


def test_both_ways_to_the_compared_quantities_agree():
    there = compared_from_pysersic(to_pysersic(GALAXY, ZERO_POINT, SCALE, SIZE), ZERO_POINT, SCALE)
    np.testing.assert_allclose(there, compared_from_astroflow(GALAXY), atol=1e-12)
    assert there.shape == (len(COMPARED),)


def test_a_planted_bias_outlier_and_too_small_error_are_found():
    rng = np.random.default_rng(2)
    truth, noise = rng.normal(size=(2, 4000, 4))
    noise *= 0.02
    honest = compare.statistics(truth + noise, np.full_like(noise, 0.02), truth)
    np.testing.assert_allclose(honest["bias"], 0, atol=2e-3)
    np.testing.assert_allclose(honest["scatter"], 0.02, rtol=0.08)
    np.testing.assert_allclose([honest["pull scatter"], honest["pull rms"]], 1, rtol=0.08)
    assert not honest["outliers"].any()
    noise[:400, 2] = 1.0
    found = compare.statistics(truth + noise + [0.1, 0, 0, 0], np.array([0.02, 0.005, 0.02, 0.02]), truth)
    np.testing.assert_allclose(found["bias"][[0, 1]], [0.1, 0], atol=2e-3)
    np.testing.assert_allclose(found["pull scatter"][[1, 3]], [4, 1], rtol=0.08)
    np.testing.assert_allclose(found["outliers"], [0, 0, 0.1, 0])
    assert np.isnan(compare.statistics(truth, None, truth)["pull rms"]).all()


def test_the_table_counts_galaxies_that_were_fitted_and_within_the_peers_limits(tmp_path, monkeypatch, capsys):
    truth = np.array([[22.0, 0.0, np.log10(n), 0.7] for n in (1.0, 2.0, 0.55)])
    np.savez(tmp_path / "stamps.npz", truth=truth, bins=np.array([0, 1, 1]), edges=[(5, 10), (10, 30)])
    cost = {"sd": None, "seconds": 3.0, "compile_seconds": 2.0, "cpu_seconds": 4.0}
    rows = [("a", 0, truth[0]), ("a", 1, truth[1]), ("a", 2, truth[2]), ("b", 1, truth[1] + 0.01), ("b", 0, truth[0] * np.nan)]
    lines = [json.dumps({"method": m, "galaxy": i, "estimate": list(v), **cost}) for m, i, v in rows]
    (tmp_path / "found.jsonl").write_text("\n".join(lines))
    command = ["compare", str(tmp_path / "found.jsonl"), "--stamps", str(tmp_path / "stamps.npz")]
    monkeypatch.setattr(sys, "argv", command)
    compare.main()
    out = capsys.readouterr().out
    assert "b: galaxy 0 has no finite answer" in out
    rows = [line.split()[:5] for line in out.splitlines() if line[:2] in ("a ", "b ")]
    assert rows == [[name, "1", "2", "1", "4"] for name in "aab"], "method, galaxies, compiling, the rest, CPU"
    monkeypatch.setattr(sys, "argv", [*command, "--of", "b"])
    compare.main()
    assert sum(line.startswith("a ") for line in capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setattr(sys, "argv", [*command, "--of", "c"])
    with pytest.raises(SystemExit, match=r"no 'c' in the files, which hold \['a', 'b'\]"):
        compare.main()
