"""Rows judged together: exact formulas on made-up rows, and faults planted in simulated galaxies that all of them share."""

import re
from dataclasses import replace

import galsim
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from scipy import stats

from astroflow.errors import InputError
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.exact.certify import residual_figures
from astroflow.posteriors.exact.population import BIAS, judge_bins, judge_population
from astroflow.posteriors.exact.residuals import DIRECTIONS
from astroflow.sims.likelihood import PixelLikelihood


def rows(n, seed, offsets=(0, 0, 0, 0), failing=0):
    """Columns as of a certified catalog, of a right model but for what is planted."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.random(n) for name in ("chi2_p", "residual_p")}
    columns["residual_p"][:failing] = 1e-5
    for name, offset in zip(DIRECTIONS, offsets, strict=True):
        sd = rng.uniform(0.05, 0.3, n)
        columns |= {name: offset + sd * rng.normal(size=n), f"{name}_sd": sd}
    return columns


@pytest.mark.parametrize("n", [20, 400])
def test_right_models_pass_at_the_stated_rate(n):
    found = [judge_population(rows(n, seed)) for seed in range(300)]
    p = np.array([one.p for one in found])
    assert (p < 0.05).mean() < 0.06
    assert (p < 0.05).mean() > (0.02 if n == 20 else 0.001), "errors are wider than they need be, by little where rows are few"
    assert np.mean([one.verdict == Verdict.OK for one in found]) > 0.99


def test_the_figures_are_those_of_the_formula():
    columns = rows(50, 1, (0.1, 0, 0, 0))
    found = judge_population(columns)
    a, weight = columns[DIRECTIONS[0]], columns[f"{DIRECTIONS[0]}_sd"] ** -2.0
    mean = np.average(a, weights=weight)
    scatter = max(1, np.sqrt((weight * (a - mean) ** 2).sum() / 49))
    error = np.sqrt((scatter**2 + BIAS**2 * 50) / weight.sum())
    np.testing.assert_allclose([found.amplitude[0], found.error[0], found.scatter[0]], [mean, error, scatter])
    np.testing.assert_allclose(found.p[0], 2 * stats.norm.sf(abs(mean) / error))


def test_tables_and_plain_arrays_are_taken_and_their_gaps_left_out():
    columns = rows(40, 2)
    expected = judge_population({name: values[5:] for name, values in columns.items()})
    mask = np.arange(40) < 5
    masked = Table({name: MaskedColumn(np.where(mask, 1e9, values), mask=mask) for name, values in columns.items()})
    gaps = {name: np.where(mask, np.nan, values) for name, values in columns.items()}
    for table in (masked, gaps):
        found = judge_population(table)
        assert found.rows == 35
        np.testing.assert_array_equal(found.amplitude, expected.amplitude)


def test_planted_faults_fail_in_their_direction_and_are_said():
    found = judge_population(rows(100, 3, (0.14, 0, 0, -0.2)))
    assert list(found.directions.values()) == [Verdict.FAILED, Verdict.OK, Verdict.OK, Verdict.FAILED]
    assert found.verdict == Verdict.FAILED
    text = "\n".join(found.lines())
    assert text.startswith("100 certified rows together: model FAILED (a test fails at p below 0.0002, as there are 6)")
    wide, e1, _, sky, *counts = found.lines()[1:]
    assert re.fullmatch(r"  width of the PSF in use: 1\d\.\d \+- \d\.\d % too wide; p = .*e-\d+, more than chance makes, FAILED", wide)
    assert re.fullmatch(r"  e1 of the PSF in use: 0\.0\d+ \+- 0\.0\d+ too (large|small); p = 0\.\d+, no more than chance makes, passed", e1)
    assert re.search(r"noise rms too low; p = .*, more than chance makes, FAILED$", sky)
    assert [line.split(";")[0] for line in counts] == [
        f"  {count} rows of {name} < 0.001, 0.1 expected" for count, name in zip(found.failures, ("chi2_p", "residual_p"), strict=True)
    ]


def test_too_many_rows_that_fail_alone_are_decisive():
    """5.5 % instead of 0.1 %, in a hundred rows; one in a hundred is nothing."""
    assert judge_population(rows(100, 4, failing=6)).verdict == Verdict.FAILED
    assert judge_population(rows(100, 4, failing=1)).verdict == Verdict.OK


def test_rows_that_disagree_widen_the_error():
    columns = rows(100, 5)
    columns[DIRECTIONS[1]][::2] += 1.0
    columns[DIRECTIONS[1]][1::2] -= 1.0
    found = judge_population(columns)
    assert found.scatter[1] > 3
    assert found.directions[DIRECTIONS[1]] == Verdict.OK


def test_bins_share_the_rate_of_false_alarms():
    columns = rows(400, 6)
    tile = np.repeat(["a", "b", "c", "d"], 100)
    columns[DIRECTIONS[0]][tile == "c"] -= 0.2
    found = judge_bins(columns, tile)
    assert {name: one.verdict for name, one in found.items()} == {"a": 1, "b": 1, "c": 0, "d": 1}
    assert found["a"].tests == 4 * judge_population(columns).tests
    with pytest.raises(InputError, match="one value for each of the 400 rows"):
        judge_bins(columns, tile[:3])
    for undefined in (np.where(tile == tile[0], np.nan, 1.0), np.ma.masked_array(tile, tile == tile[0])):
        with pytest.raises(InputError, match="undefined"):
            judge_bins(columns, undefined)
    assert set(judge_bins(columns, np.array([str(t) for t in tile.tolist()], object))) == {str(t) for t in np.unique(tile).tolist()}


def test_nothing_to_judge_is_not_applicable_and_a_missing_column_an_error():
    nothing = judge_population({name: np.full(3, np.nan) for name in rows(1, 0)})
    assert nothing.verdict == Verdict.NOT_APPLICABLE
    assert nothing.lines() == ["0 certified rows together: model not applicable"]
    with pytest.raises(InputError, match="column 'sky_left' is missing"):
        judge_population({name: values for name, values in rows(3, 0).items() if name != "sky_left"})


# -- galaxies ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def population(bright_simulator, bright_galaxies):
    """Figures of galaxies of S/N 100 whose PSF or sky is not what is said, fitted from near the truth."""
    theta, stamps = bright_galaxies
    prior = bright_simulator.parameters.prior
    start = prior.forward(np.clip(prior.inverse(theta), -4, 4) + 0.02 * np.random.default_rng(1).normal(size=theta.shape))

    def judged(psf=lambda psf: psf, sky=0.0):
        seen = replace(stamps, images=stamps.images + np.float32(0.3 * sky), psf=psf(stamps.psf))
        figures = residual_figures(bright_simulator.fourier, prior, start, PixelLikelihood(seen, dtype="float32"), seen)
        columns = {"chi2_p": figures["chi_squared_p"], "residual_p": figures["residual_p"]}
        for k, name in enumerate(DIRECTIONS):
            columns |= {name: figures["nuisances"][:, k, 0], f"{name}_sd": figures["nuisances"][:, k, 1]}
        return columns, judge_population(columns)

    return judged


def moffat(fwhm, g1=0.0):
    """PSF images of the simulator, of another width or shape."""
    image = galsim.Moffat(beta=3.0, fwhm=fwhm).shear(g1=g1).drawImage(nx=25, ny=25, scale=0.2).array
    image = image / image.sum()
    return lambda psf: np.broadcast_to(image, psf.shape).astype(np.float32)


def test_galaxies_of_the_model_pass_and_their_scores_are_standard_normal(population):
    columns, found = population()
    assert found.verdict == Verdict.OK
    for name in DIRECTIONS:
        z = columns[name] / columns[f"{name}_sd"]
        assert abs(z.mean()) < 0.5, name
        assert 0.7 < z.std() < 1.3, name


@pytest.mark.parametrize("factor", [1.15, 1 / 1.15])
def test_a_psf_of_the_wrong_width_is_caught_though_single_rows_pass(population, factor):
    columns, found = population(moffat(0.7 * factor))
    assert (columns["residual_p"] < 1e-3).mean() < 0.5
    assert found.directions["psf_width_error"] == Verdict.FAILED
    assert abs(found.amplitude[0] - np.log(factor)) < 0.3 * abs(np.log(factor))


def test_small_errors_of_the_width_are_recovered(population):
    _, found = population(moffat(0.7 * 1.04))
    assert abs(found.amplitude[0] - np.log(1.04)) < 3 * found.error[0]
    none = population()[1]  # the same noise, so that the difference shows the slope
    assert abs(found.amplitude[0] - none.amplitude[0] - np.log(1.04)) < 0.25 * np.log(1.04)


def test_an_elliptical_psf_is_caught_and_measured(population):
    _, found = population(moffat(0.7, g1=0.08))
    assert found.directions["psf_e1_error"] == Verdict.FAILED
    assert abs(found.amplitude[1] - 0.08) < 3 * found.error[1]
    assert found.directions["psf_e2_error"] == Verdict.OK


def test_a_sky_that_was_left_in_is_caught_and_is_no_wider_psf(population):
    _, found = population(sky=0.1)
    assert found.directions["sky_left"] == Verdict.FAILED
    assert abs(found.amplitude[3] - 0.1) < 3 * found.error[3]
    assert found.directions["psf_width_error"] == Verdict.OK
