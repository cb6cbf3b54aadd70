"""Refining on targets that are known in closed form, and on galaxies, whose truths must fall anywhere in their posteriors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from astroflow.errors import ConfigError, InputError
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.exact.certify import recertified
from astroflow.posteriors.exact.density import log_normal
from astroflow.posteriors.exact.refine import PRIOR_DRAWS, ROUND, Method, Search, least_budget

DIMENSIONS = 5


class Known:
    """An exact posterior in closed form, in the place of an `ExactPosterior`."""

    def __init__(self, density):
        self.density, self.evaluations = density, 0
        self.is_exact, self.best = True, np.zeros(DIMENSIONS)

    def log_prob(self, u):
        self.evaluations += len(u)
        return self.density(u)

    def to_theta(self, u):
        return u


def search(density, flow, n_draws=256, budget=20_000, seed=1):
    """Refine draws of the frozen distribution `flow`."""
    rng = np.random.default_rng(seed)
    u = np.concatenate([flow.rvs(max(ROUND, 8 * n_draws), random_state=rng), rng.normal(size=(PRIOR_DRAWS, DIMENSIONS))])
    return Search(Known(density), rng, n_draws, budget).run(u, flow.logpdf(u))


def curved(u):
    """A standard normal seen through a bend, whose evidence is exp(-7): its first axis is 0.1 wide, its second follows the first."""
    bent = np.column_stack([u[:, 0] / 0.1, (u[:, 1] - 4 * u[:, 0] ** 2) / 0.05, u[:, 2:] / 0.3])
    return -7 + stats.norm.logpdf(bent).sum(1) - np.log(0.1 * 0.05 * 0.3**3)


def normal(mean, sd):
    return stats.multivariate_normal(np.full(DIMENSIONS, mean), sd**2 * np.eye(DIMENSIONS))


def test_a_good_flow_is_resampled_only():
    target = normal(0.1, 0.2)
    found = search(lambda u: target.logpdf(u) - 3, normal(0.11, 0.21))
    assert found.method == Method.RESAMPLED
    assert abs(found.log_evidence + 3) < 0.05
    assert stats.kstest(found.draws[:, 0], stats.norm(0.1, 0.2).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "flow", [normal(0.0, 0.03), normal(0.0, 1.0), normal(0.5, 0.1)], ids=["too narrow", "the prior itself", "elsewhere"]
)
def test_a_poor_flow_is_replaced_by_the_posterior(flow):
    found = search(curved, flow)
    assert found.method == Method.ADAPTED
    assert found.efficiency > 0.5
    assert abs(found.log_evidence + 7) < max(5 * found.log_evidence_error, 0.1)
    assert len(np.unique(found.draws[:, 0])) == 256
    assert stats.kstest(found.draws[:, 0], stats.norm(0, 0.1).cdf).pvalue > 1e-3
    assert stats.kstest(found.draws[:, 1] - 4 * found.draws[:, 0] ** 2, stats.norm(0, 0.05).cdf).pvalue > 1e-3


def test_a_mode_that_the_flow_has_missed_is_found_and_kept():
    sides = normal(-0.8, 0.35), normal(0.8, 0.35)
    found = search(lambda u: np.logaddexp(sides[0].logpdf(u), sides[1].logpdf(u)) - np.log(2), sides[0])
    assert found.method == Method.ADAPTED
    assert abs((found.draws.mean(1) > 0).mean() - 0.5) < 0.1
    assert abs(found.log_evidence) < 0.15


def test_a_budget_that_ends_too_early_says_so():
    found = search(curved, normal(0.5, 0.1), budget=2 * ROUND + PRIOR_DRAWS)
    assert found.method == Method.POOR
    assert found.evaluations <= 2 * ROUND + PRIOR_DRAWS


def test_a_likelihood_that_is_zero_everywhere_ends_in_poor_draws():
    assert search(lambda u: np.full(len(u), -np.inf), normal(0.0, 1.0), budget=4 * ROUND).method == Method.POOR


def test_more_draws_than_the_budget_can_choose_from_are_poor():
    target = normal(0.0, 0.05)
    assert search(target.logpdf, normal(0.0, 0.2), n_draws=2000, budget=4 * ROUND).method == Method.POOR
    assert search(target.logpdf, normal(0.0, 0.2), n_draws=2000).method == Method.ADAPTED


@pytest.mark.parametrize("place", [100, 1500])
@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_a_draw_whose_density_is_no_number_is_not_used(place, value):
    target, flow = normal(0.1, 0.2), normal(0.15, 0.22)
    rng = np.random.default_rng(1)
    u = np.concatenate([flow.rvs(2048, random_state=rng), rng.normal(size=(PRIOR_DRAWS, DIMENSIONS))])
    density = flow.logpdf(u)
    density[place] = value
    found = Search(Known(target.logpdf), rng, 256, 20_000).run(u, density)
    assert found.method > 0
    assert abs(found.log_evidence) < 0.1
    assert abs(found.draws.mean() - 0.1) < 0.03


@pytest.fixture(scope="module")
def refined(followed_posterior, followed_simulator):
    """A rough network and thirty galaxies of native pixels: posterior, simulation, certificate, refinement."""
    posterior, rng = followed_posterior, np.random.default_rng(5)
    simulation = followed_simulator.observe(followed_simulator.draw_block(rng, 120), rng)
    simulation = simulation[np.flatnonzero(simulation.stamps.binning == 1)[:30]]
    certificate = posterior.certify(simulation.stamps, seed=3)
    return posterior, simulation, certificate, posterior.refine(simulation.stamps, n_draws=128, seed=3)


def test_refined_posteriors_hold_the_truths_as_often_as_they_should(refined):
    posterior, simulation, _, refinement = refined
    assert (refinement.method > 0).mean() > 0.95
    ranks = (refinement.draws < simulation.theta[:, None]).mean(1)
    for k, name in enumerate(posterior.parameters.names):
        assert stats.kstest(ranks[:, k], "uniform").pvalue > 1e-3, name
    z = (simulation.theta - refinement.draws.mean(1)) / refinement.draws.std(1)
    assert 0.8 < z.std() < 1.25
    width = refinement.draws.std(1) / posterior.sample(simulation.stamps, 128).std(1)
    assert np.median(width) < 0.9, "this network is far from the posterior, or the test shows nothing"


def test_refined_rows_pass_and_say_what_it_took(refined):
    posterior, simulation, certificate, refinement = refined
    assert (certificate.inference == Verdict.FAILED).mean() > 0.5
    encoded = posterior.encode(simulation.stamps)
    after = recertified(posterior, encoded, certificate, refinement)
    good = refinement.method > 0
    np.testing.assert_array_equal(after.inference[good], Verdict.OK)
    np.testing.assert_array_equal(after.inference[~good], certificate.inference[~good])
    assert (after.model[good] == Verdict.OK).mean() > 0.9, "the simulator is its own model"
    assert (after.chi_squared <= certificate.chi_squared + 1)[good].mean() > 0.9, "fits begin where the posterior is"
    columns = refinement.columns(certificate)
    np.testing.assert_array_equal(columns["ess_fraction_amortized"], certificate.efficiency)
    assert (columns["refine_evaluations"] >= ROUND + PRIOR_DRAWS).all()
    both = (certificate.efficiency > 0.2) & good
    error = np.hypot(certificate.log_evidence_error, refinement.log_evidence_error)[both]
    assert (np.abs(certificate.log_evidence - refinement.log_evidence)[both] < 5 * error + 0.05).all()


def test_galaxies_alone_are_refined_as_in_a_batch(refined):
    posterior, simulation, _, refinement = refined
    for row in (4, 20):
        alone = posterior.refine(simulation.stamps[[row]], n_draws=128, seed=3)
        np.testing.assert_allclose(alone.draws[0], refinement.draws[row], atol=1e-5)


def test_what_a_poor_search_leaves_are_the_amortized_draws(refined, monkeypatch):
    posterior, simulation, certificate, _ = refined
    stamps = simulation.stamps[:8]
    monkeypatch.setattr("astroflow.posteriors.exact.refine.MOST_CLIPPED", -1.0)
    poor = posterior.refine(stamps, n_draws=64, seed=3, budget=least_budget(64))
    assert (poor.method == Method.POOR).all()
    np.testing.assert_array_equal(poor.draws, posterior.sample(stamps, 64, seed=3))
    before = replace(certificate, **{k: v[:8] for k, v in vars(certificate).items()})
    after = recertified(posterior, posterior.encode(stamps), before, poor)
    np.testing.assert_array_equal(after.efficiency, before.efficiency)


def test_rows_that_are_not_asked_for_stay_amortized(refined):
    posterior, simulation, certificate, _ = refined
    some = posterior.refine(simulation.stamps[:3], n_draws=64, seed=3, where=np.array([False, True, False]))
    assert (some.method == Method.NOT_APPLICABLE).tolist() == [True, False, True]
    np.testing.assert_array_equal(some.draws[0], posterior.sample(simulation.stamps[:3], 64, seed=3)[0])
    before = replace(certificate, **{k: v[:3] for k, v in vars(certificate).items()})
    unchanged = recertified(posterior, posterior.encode(simulation.stamps[:3]), before, some)
    assert unchanged.inference[0] == certificate.inference[0]
    for where in (np.array([1]), np.ones(2, bool)):
        with pytest.raises(InputError, match="`where`"):
            posterior.refine(simulation.stamps[:3], where=where)


def test_refining_what_the_likelihood_does_not_follow_is_refused(refined, small_posterior):
    posterior, simulation, _, _ = refined
    with pytest.raises(ConfigError, match="error bars would be too small"):
        small_posterior.refine(simulation.stamps[:1])
    with pytest.raises(InputError, match="`budget`"):
        posterior.refine(simulation.stamps[:1], budget=10)


def test_the_prior_is_standard_normal_on_its_own_scale():
    u = np.random.default_rng(0).normal(size=(4, DIMENSIONS))
    np.testing.assert_allclose(log_normal(u), stats.norm.logpdf(u).sum(1))
