"""Medians scored in bins of the data: planted errors come back, an exact posterior has no bias, and true bins would say otherwise."""

import numpy as np
import pytest

from astroflow.diagnostics.estimated_accuracy import error_kinds, estimated_accuracy
from astroflow.diagnostics.known import known_posterior
from astroflow.diagnostics.point_accuracy import point_accuracy
from astroflow.errors import InputError
from astroflow.sims.bulge_disc import BulgeDiscGalaxy
from astroflow.sims.galaxies import SersicGalaxy


@pytest.fixture(scope="module")
def parameters():
    return SersicGalaxy(kind="sersic").parameters


def galaxies(parameters, n=3000, s=40, shift=0.0):
    """Truths, and draws of exact posteriors: both are normal about the same means on the prior's scale; `shift` is planted, in sd."""
    rng = np.random.default_rng(3)
    mean, sd = 0.9 * rng.normal(size=(n, len(parameters))), 0.3
    truth = parameters.prior.forward(mean + sd * rng.normal(size=mean.shape))
    draws = parameters.prior.forward(mean[:, None] + sd * (shift + rng.normal(size=(n, s, len(parameters)))))
    return draws, truth, np.median(parameters.prior.forward(mean[:, None])[:, :, 0], 1)


def test_errors_are_counted_as_the_challenge_does(parameters):
    assert error_kinds(parameters) == {"flux": "relative", "re_arcsec": "relative", "n": "dex", "e1": "plain", "e2": "plain", "q": "plain"}
    kinds = error_kinds(BulgeDiscGalaxy(kind="bulge_disc").parameters)
    assert {"flux", "bulge_re_arcsec", "bulge_q", "disc_q", "bulge_to_total"} <= set(kinds)
    assert not any(name.startswith(("dx", "dy")) for name in kinds)


def test_an_exact_posterior_has_no_bias_in_bins_of_the_data(parameters):
    draws, truth, magnitude = galaxies(parameters)
    found = estimated_accuracy(draws, truth, parameters, "median mag", magnitude)
    assert found.n_images.tolist() == [600] * 5
    assert {name: len(scores.bias) for name, scores in found.scores.items()} == dict.fromkeys(error_kinds(parameters), 5)
    for name, scores in found.scores.items():
        assert (np.abs(scores.bias) < 4 * 1.25 * scores.dispersion / np.sqrt(600)).all(), name
        np.testing.assert_array_equal(scores.completeness, 1)


def test_the_same_posterior_looks_biased_in_bins_of_the_truth():
    """What the page warns of, on a problem whose posterior is known."""
    problem = known_posterior(4000, seed=2)
    median = np.median(problem.claim().draws(100)[..., 0], 1)
    arguments = {"a": median}, {"a": problem.truth[:, 0]}, {"a": "plain"}
    by_truth = point_accuracy(*arguments, problem.truth[:, 0], [-4, -1, 1, 4])["a"]
    by_estimate = point_accuracy(*arguments, np.median(problem.claim().draws(101)[..., 0], 1), [-4, -1, 1, 4])["a"]
    assert by_truth.bias[0] > 10 * abs(by_estimate.bias[0])
    assert by_truth.bias[2] < -10 * abs(by_estimate.bias[2])


def test_a_planted_bias_shows(parameters):
    draws, truth, magnitude = galaxies(parameters, shift=1.0)
    scores = estimated_accuracy(draws, truth, parameters, "median mag", magnitude).scores
    exact = estimated_accuracy(*galaxies(parameters)[:2], parameters, "median mag", magnitude).scores
    assert (scores["flux"].bias < -0.5 * exact["flux"].dispersion).all()
    assert (scores["n"].bias > 0.5 * exact["n"].dispersion).all()


def test_medians_without_any_spread_are_scored_and_bad_input_is_refused(parameters):
    draws, truth, magnitude = galaxies(parameters, n=50)
    alone = estimated_accuracy(truth[:, None], truth, parameters, "median mag", magnitude)
    assert all((scores.outliers == 0).all() and (scores.bias == 0).all() for scores in alone.scores.values())
    draws[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        estimated_accuracy(draws, truth, parameters, "median mag", magnitude)


def test_numbers_are_plain(parameters):
    draws, truth, magnitude = galaxies(parameters, n=50)
    found = estimated_accuracy(draws, truth, parameters, "median mag", magnitude).to_json()
    assert (found["by"], found["images"]) == ("median mag", [10] * 5)
    assert found["scores"]["n"]["kind"] == "dex"
    assert all(isinstance(value, float) for value in found["scores"]["flux"]["bias"])
