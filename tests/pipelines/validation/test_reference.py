import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import astroflow.pipelines.validation.reference as module
from astroflow.diagnostics import c2st
from astroflow.errors import InputError
from astroflow.pipelines.validate import validate
from astroflow.pipelines.validation.reference import Closeness, ReferenceScore, against_exact, exact_posteriors, reference, remembering
from astroflow.posteriors.bundle import load_posterior

REFERENCE = Path(__file__).parents[3] / "benchmarks" / "reference_posteriors" / "sersic_v1.npz"


@pytest.fixture
def far_apart(monkeypatch):
    """Not a classifier, which takes seconds: 1 where means are a unit apart."""
    monkeypatch.setattr(module, "c2st", lambda draws, exact, seed: float(abs(draws[:, 0].mean() - exact[:, 0].mean()) > 1))


@pytest.fixture(scope="module")
def stamps(small_simulator):
    """Four, of which one cannot be used."""
    drawn = small_simulator.draw(np.arange(4), seed=3).stamps
    mask = drawn.mask.copy()
    mask[3] = True
    return replace(drawn, mask=mask)


def test_exact_posteriors_of_another_forward_model_are_refused(small_bundle, tmp_path):
    with pytest.raises(InputError, match="of another forward model: its stamp is"):
        validate(small_bundle, out=tmp_path, n=100, n_draws=64, seed=77, reference=REFERENCE)
    own = load_posterior(REFERENCE.parents[1] / "reference_bundle")
    assert len(exact_posteriors(REFERENCE, own)) == 60
    other = replace(own, forward_model=own.forward_model | {"psf": {"kind": "moffat", "fwhm_arcsec": 0.9}})
    with pytest.raises(InputError, match="of another forward model: its psf is"):
        exact_posteriors(REFERENCE, other)


def test_exact_posteriors_are_told_from_the_networks(small_posterior, small_simulator, stamps, far_apart):
    """Draws of the posterior itself stand in for exact ones, those of one galaxy moved."""
    theta = small_posterior.sample(stamps, 200, 1)
    u = small_posterior.parameters.prior.inverse(theta.astype(np.float64))
    u[1, :, 0] += 5
    exact, told = SimpleNamespace(stamps=stamps, theta=theta, u=u, simulator=small_simulator), []
    found = against_exact(small_posterior, exact, "file", seed=2, progress=lambda *args: told.append(args[:3]))
    assert (found.unusable, found.amortized.c2st.tolist()) == (1, [0.0, 1.0, 0.0])
    assert found.amortized.wasserstein.shape == (3, len(small_posterior.parameters))
    assert found.refined is None, "its likelihood does not follow the wings of the PSF"
    assert told == [("reference", k, 6) for k in range(1, 7)], "three galaxies, and the exact draws of each among themselves"
    assert (found.draws, found.floor.tolist()) == (200, [0.0] * 3)
    assert found.to_json()["refined"] is None
    backwards = against_exact(small_posterior, exact, "file", 2, lambda function, jobs: reversed([function(*job) for job in jobs]))
    np.testing.assert_array_equal(backwards.amortized.c2st, found.amortized.c2st, "however the classifiers are run")
    assert "cannot be refined" in reference(found)


def test_refined_draws_are_compared_too(small_posterior, small_simulator, small_forward_model, stamps, far_apart):
    """Refining is of the posterior that the likelihood knows, so it mends a shift that the network has."""
    followed = small_forward_model | {"engine": "fourier", "psf": small_forward_model["psf"] | {"image_size": 17}}
    theta = small_posterior.sample(stamps, 64, 1)
    u = small_posterior.parameters.prior.inverse(theta.astype(np.float64))
    exact = SimpleNamespace(stamps=stamps, theta=theta, u=u, simulator=small_simulator)
    told = []
    found = against_exact(replace(small_posterior, forward_model=followed), exact, "file", 2, progress=lambda *args: told.append(args[1:3]))
    assert told[-1] == (9, 9)
    assert found.refined.c2st.shape == (3,)
    assert not np.array_equal(found.refined.wasserstein, found.amortized.wasserstein)
    assert set(found.to_json()["refined"]) == {"c2st", "wasserstein"}


def test_galaxies_without_a_posterior_are_no_score(small_posterior, small_simulator, stamps):
    blind = replace(stamps, mask=np.ones_like(stamps.mask))
    exact = SimpleNamespace(stamps=blind, theta=np.zeros((4, 9, 7)), u=np.zeros((4, 9, 7)), simulator=small_simulator)
    assert (
        against_exact(small_posterior, exact, "file", 2) == "Not compared, which is no pass: none of the galaxies of file has a posterior."
    )
    assert "None of the galaxies" in reference("None of the galaxies of file has a posterior.")


def test_the_floor_is_what_a_classifier_makes_of_one_posterior():
    """Halves share no draw, and are in no order; a chain that wanders would be told apart if they were."""
    chain = np.cumsum(np.random.default_rng(1).normal(size=(400, 2)), 0)
    first, second = module._halves(chain, 3, 0)
    assert len({tuple(draw) for draw in np.concatenate([first, second])}) == 400
    assert c2st(first, second) < 0.6 < 0.9 < c2st(chain[:200], chain[200:])
    assert module._spread_out(60) == [0, 15, 30, 44, 59]
    assert module._spread_out(2) == [0, 1]


def test_the_section_says_both_and_how_to_read_them():
    near, far = (Closeness(np.array([value, value + 0.1, value + 0.2]), np.full((3, 2), value)) for value in (0.5, 0.7))
    section = reference(ReferenceScore("exact.npz", ("mag", "n"), 2, far, near, 2000, np.array([0.48, 0.49, 0.53])))
    for words in ("C2ST 0.800 in the median", "once refined, C2ST 0.600", "2 galaxies have no posterior", "Good:", "Bad:", "exact.npz",
        "tell 2000 of those draws", "10000 draws a side", "The floor, 1000 draws a side of 3 galaxies, is 0.490 in the median, 0.480 to 0.530",
    ):  # fmt: skip
        assert words in section
    assert section.count("<td>0.700</td>") == 4
    assert section.count("<td>0.500</td>") == 4


def test_a_comparison_that_was_stopped_goes_on_with_the_classifiers_that_are_missing(tmp_path):
    rng, asked = np.random.default_rng(1), []
    jobs = [(kind, row, rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), 7) for kind, row in ((0, 0), (0, 1), (1, 0))]

    def answer(kind, row, ours, exact, seed):
        asked.append((kind, row))
        return kind, row, float(ours[0, 0])

    expected = [answer(*job) for job in jobs]
    asked.clear()
    runs = remembering(tmp_path / "answers.jsonl", itertools.starmap)
    stopped = runs(answer, jobs)
    assert [next(stopped), next(stopped)] == expected[:2]
    stopped.close()
    with open(tmp_path / "answers.jsonl", "a") as file:
        file.write('{"key": "cut o')
    assert sorted(runs(answer, jobs)) == expected
    assert asked == [(0, 0), (0, 1), (1, 0)], "each once"
    asked.clear()
    assert sorted(runs(answer, [(*job[:4], 8) for job in jobs])) == expected
    assert len(asked) == 3, "another seed, other classifiers"
