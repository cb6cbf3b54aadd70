import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

import astroflow.posteriors.bundle as bundle
from astroflow.errors import BundleError, ConfigError, InputError
from astroflow.networks.targets import box_bijector
from astroflow.posteriors.bundle import load_posterior, save_bundle
from astroflow.posteriors.ensemble import Ensemble, build_any_estimator
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.linearized import Linearization
from astroflow.posteriors.recipe import Architecture, LinearizedRecipe
from astroflow.randomness import standard_normals
from astroflow.types import Stamps

MEMBERS = 3
BOUNDS = [(-2.0, 1.0), None]
PLAIN = {"summary": {"channels": {}, "dense": (8,), "context": 4}, "flow": {"layers": 2, "hidden": (8,)}}
KINDS = {"ensemble": {"kind": "ensemble", "members": MEMBERS}, "variational": {"kind": "variational", "members": MEMBERS}}


def build(kind, seed=0, size=0.25):
    """An ensemble with weights of the size that training gives them, so that members differ."""
    architecture = Architecture.model_validate(PLAIN | {"epistemic": KINDS[kind]})
    ensemble = build_any_estimator(architecture, {"x": (3,)}, box_bijector(BOUNDS), 2, ("brightness",), seed)
    rng = np.random.default_rng(seed + 1)
    for name, v in ensemble.variables.items():
        if "target" not in name and "standardise" not in name:
            v.assign_add(size * rng.normal(size=v.shape))
    return ensemble


def inputs(n, seed=0):
    return {"x": np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)}


def normals(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture(scope="module", params=KINDS)
def ensemble(request):
    return build(request.param)


def contexts(ensemble, context):
    """Each member's part of the context, by the definition."""
    if ensemble.architecture.epistemic.kind == "variational":
        return [context] * MEMBERS
    return np.split(context, MEMBERS, axis=1)


def test_an_architecture_says_whether_it_is_one_network_or_several(ensemble):
    assert isinstance(ensemble, Ensemble)
    one = build_any_estimator(Architecture.model_validate(PLAIN), {"x": (3,)}, box_bijector(BOUNDS), 2)
    assert isinstance(one, Estimator)
    with pytest.raises(ConfigError, match="an ensemble needs `epistemic`"):
        Ensemble(lambda seed: one)


def test_the_density_is_the_mean_of_the_members(ensemble):
    context, _ = ensemble.encode(inputs(5))
    assert context.shape == (5, ensemble.context_length)
    theta = ensemble.sample(context, normals(5, 9, 2))
    each = [ensemble.member(k).log_prob(theta, part) for k, part in enumerate(contexts(ensemble, context))]
    assert np.ptp(each, axis=0).max() > 0.5, "members differ"
    assert np.allclose(ensemble.log_prob(theta, context), np.log(np.mean(np.exp(np.float64(each)), 0)), atol=1e-5)
    outside = np.full((5, 1, 2), 1.5, np.float32)
    assert (ensemble.log_prob(outside, context) == -np.inf).all()


def test_it_is_the_density_of_its_tfp_distribution(ensemble):
    context, _ = ensemble.encode(inputs(4))
    theta = ensemble.sample(context, normals(4, 1, 2))
    assert np.allclose(ensemble.distribution(context).log_prob(theta[:, 0]), ensemble.log_prob(theta, context)[:, 0], atol=1e-4)


def test_each_draw_is_of_the_member_that_makes_it(ensemble):
    context, _ = ensemble.encode(inputs(5))
    noise = normals(5, 13, 2)
    draws, order = ensemble.sample(context, noise), ensemble.drawn_by(noise)
    assert draws.shape == noise.shape
    for k, part in enumerate(contexts(ensemble, context)):
        assert np.array_equal(draws[order == k], ensemble.member(k).sample(part, noise)[order == k])
    for few in (1, 2, 7):
        assert np.array_equal(ensemble.sample(context, noise[:, :few]), draws[:, :few]), "a draw does not depend on how many there are"


def test_any_few_draws_are_a_sample_of_the_mixture(ensemble):
    """Every block has each member once, and each place in it is as often of each member."""
    n = 3000
    order = ensemble.drawn_by(standard_normals(5, "posterior", np.arange(n), (3 * MEMBERS, 2)))
    blocks = order.reshape(n, 3, MEMBERS)
    assert np.array_equal(np.sort(blocks, axis=2), np.broadcast_to(np.arange(MEMBERS), blocks.shape))
    places = np.eye(MEMBERS)[order].sum(0)
    assert places.shape == (3 * MEMBERS, MEMBERS)
    assert stats.chisquare(places, axis=1).pvalue.min() > 1e-4
    pairs = np.bincount(order[:, 0] * MEMBERS + order[:, MEMBERS], minlength=MEMBERS**2)
    assert stats.chisquare(pairs).pvalue > 1e-4, "blocks have orders of their own"


def test_the_first_draw_is_distributed_as_the_mixture(ensemble):
    """Of one context, by the probability integral transform of each parameter among draws that are known to be the mixture's."""
    n = 1500
    context = np.repeat(ensemble.encode(inputs(1, seed=4))[0], n, axis=0)
    first = ensemble.sample(context, normals(n, 1, 2, seed=6))[:, 0]
    noise = normals(n, 1, 2, seed=7)
    each = np.concatenate([ensemble.member(k).sample(part, noise)[:, 0] for k, part in enumerate(contexts(ensemble, context))])
    apart = [stats.ks_2samp(first[:, p], each[:n, p]).pvalue for p in range(2)]
    assert min(stats.ks_2samp(first[:, p], each[:, p]).pvalue for p in range(2)) > 1e-3
    assert min(apart) < 1e-9, "which the first member alone is not"


def test_draws_follow_the_density(ensemble):
    """Weighed by a density whose integral is known, they give it back: the mean of a normal density over them, by importance."""
    context, _ = ensemble.encode(inputs(2))
    draws = ensemble.sample(context, normals(2, 6000, 2)).astype(np.float64)
    mean, sd = draws.mean(1, keepdims=True), draws.std(1, keepdims=True)
    bump = -0.5 * (((draws - mean) / (0.5 * sd)) ** 2).sum(-1) - np.log(2 * np.pi * (0.25 * sd[..., 0] * sd[..., 1]))
    # the bump's mass inside the bounds
    edge = special.ndtr((1 - mean[:, 0, 0]) / (0.5 * sd[:, 0, 0])) - special.ndtr((-2 - mean[:, 0, 0]) / (0.5 * sd[:, 0, 0]))
    ratio = np.exp(bump - ensemble.log_prob(draws.astype(np.float32), context))
    assert np.allclose(ratio.mean(1), edge, atol=5 * ratio.std(1).max() / np.sqrt(6000) + 0.01)


def test_members_that_say_the_same_do_not_disagree_and_those_far_apart_do_completely(ensemble):
    """Mutual information by its definition: the mean of log q_m(theta) - log q(theta) over draws of the members."""
    context, _ = ensemble.encode(inputs(6))
    noise = normals(6, 33, 2)
    found = ensemble.disagreement(context, noise)
    assert found.shape == (6,)
    assert ((found > 0.001) & (found < np.log(MEMBERS))).all()
    theta = ensemble.sample(context, normals(6, 3000, 2, seed=2))
    each = np.stack([ensemble.member(k).log_prob(theta, part) for k, part in enumerate(contexts(ensemble, context))])
    order = ensemble.drawn_by(normals(6, 3000, 2, seed=2))
    own = np.take_along_axis(each, order[None], 0)[0] - ensemble.log_prob(theta, context)
    inside = (own > -50).all(1)  # not rounded to a bound, where a member contradicts itself
    assert inside.sum() >= 4
    scatter = own.std(1) / np.sqrt(3000)
    assert (np.abs(ensemble.disagreement(context, normals(6, 3000, 2, seed=2)) - own.mean(1)) < 4 * scatter)[inside].all()
    kept = {name: v.numpy() for name, v in ensemble.variables.items()}
    for name, v in ensemble.variables.items():
        if name.startswith("member"):
            v.assign(kept[name.replace(name.split("/")[0], "member0")])
    context, _ = ensemble.encode(inputs(6))
    assert np.allclose(ensemble.disagreement(context, noise), 0, atol=1e-5)
    for k in range(MEMBERS):  # the shift of the parameter without bounds
        ensemble.variables[f"member{k}/layer0/bias1"].assign_add([0.0, 0.0, 100.0 * k, 0.0])
    context, _ = ensemble.encode(inputs(6))
    assert np.allclose(ensemble.disagreement(context, noise), np.log(MEMBERS), atol=0.02)
    for name, v in ensemble.variables.items():
        v.assign(kept[name])


def test_members_count_the_same_however_many_draws_they_have(ensemble):
    """One draw more of a member, or one less, is no other weight."""
    context, _ = ensemble.encode(inputs(200))
    noise = normals(200, MEMBERS + 1, 2)
    draws, order = ensemble.sample(context, noise), ensemble.drawn_by(noise)
    each = np.stack([ensemble.member(k).log_prob(draws, part) for k, part in enumerate(contexts(ensemble, context))]).astype(np.float64)
    rows = np.isfinite(each).all((0, 2))
    assert rows.sum() > 150
    told = np.log(MEMBERS) - special.entr(special.softmax(each, 0)).sum(0)
    expected = np.mean([(told * (order == k)).sum(1) / (order == k).sum(1) for k in range(MEMBERS)], 0)
    assert np.allclose(ensemble.disagreement(context, noise)[rows], expected[rows], atol=2e-3)
    assert np.abs(told.mean(1) - expected)[rows].max() > 0.02
    with pytest.raises(InputError, match=f"comparing {MEMBERS} members takes at least as many draws; got 2"):
        ensemble.disagreement(context, noise[:, :2])


def test_a_density_that_nobody_has_is_no_missing_number(ensemble, monkeypatch):
    context, _ = ensemble.encode(inputs(4))
    noise = normals(4, 9, 2)
    before = ensemble.disagreement(context, noise)
    densities = ensemble._log_probs(ensemble.sample(context, noise), context)
    densities[:, 2, 5] = -np.inf
    densities[:, 3] = -np.inf
    monkeypatch.setattr(ensemble, "_log_probs", lambda *_: densities)
    after = ensemble.disagreement(context, noise)
    assert np.array_equal(after[:2], before[:2])
    assert 0 < after[2] <= before[2]
    assert after[3] == pytest.approx(0, abs=1e-12)


def test_threads_do_not_mix_each_others_members(ensemble, monkeypatch):
    """One thread waits after its member's weights are in place; another begins meanwhile."""
    network, asked = ensemble._network, {k: ensemble.encode(inputs(5, seed=k))[0] for k in (0, 1)}
    noise = {k: normals(5, 6, 2, seed=k) for k in asked}
    expected = {k: ensemble.sample(asked[k], noise[k]) for k in asked}
    sample, found = network.sample, {}
    monkeypatch.setattr(network, "sample", lambda *given: time.sleep(0.03) or sample(*given))
    threads = [threading.Thread(target=lambda k=k: found.update({k: ensemble.sample(asked[k], noise[k])})) for k in asked]
    for thread in threads:
        thread.start()
        time.sleep(0.045)
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[k], expected[k]) for k in asked)


@pytest.mark.parametrize("rows", [[0], [4, 1], list(range(70))[::-1]])
def test_a_row_gives_the_same_bits_in_any_company(ensemble, rows):
    many, noise = inputs(70), normals(70, 5, 2)
    context, extra = ensemble.encode(many)
    some, more = ensemble.encode({"x": many["x"][rows]})
    assert np.array_equal(some, context[rows])
    assert np.array_equal(more["brightness"], extra["brightness"][rows])
    assert np.array_equal(ensemble.sample(some, noise[rows]), ensemble.sample(context, noise)[rows])
    assert np.array_equal(ensemble.disagreement(some, noise[rows]), ensemble.disagreement(context, noise)[rows])
    assert np.array_equal(ensemble.guess(some), ensemble.guess(context)[rows])


def test_members_of_an_ensemble_begin_apart_on_one_scale(ensemble):
    one, other = (ensemble.untrained(k).variables for k in (0, 1))
    for name in ("dense0/kernel", "layer0/x0"):
        assert not np.allclose(one[name], other[name]), name
    assert np.array_equal(one["standardise_x/mean"], other["standardise_x/mean"])
    again = build(ensemble.architecture.epistemic.kind, seed=1)
    assert not np.allclose(one["dense0/kernel"], again.untrained(0).variables["dense0/kernel"]), "the seed says where they begin"
    plain = Architecture.model_validate(PLAIN)
    for seed in (0, 1, 1000, 1001):  # a network of its own, trained with a seed of somebody's choice, is no member
        lone = build_any_estimator(plain, {"x": (3,)}, box_bijector(BOUNDS), 2, ("brightness",), seed)
        for begun in (one, other, again.untrained(0).variables):
            assert not np.allclose(lone.variables["dense0/kernel"], begun["dense0/kernel"])


def test_a_member_is_built_once_and_has_the_weights_of_now(ensemble):
    one = ensemble.member(1)
    assert ensemble.member(1) is one
    before = one.variables["layer0/bias0"].numpy()
    variable = ensemble.variables["member1/layer0/bias0"]
    variable.assign_add(np.ones_like(before))
    assert np.allclose(ensemble.member(1).variables["layer0/bias0"], before + 1)
    variable.assign(before)


def test_what_is_kept_is_the_member(ensemble):
    changed = build(ensemble.architecture.epistemic.kind)
    for k in range(MEMBERS):
        changed.keep(k, ensemble.member(k))
    x, noise = inputs(5), normals(5, 7, 2)
    context, _ = changed.encode(x)
    assert np.array_equal(changed.sample(context, noise), ensemble.sample(ensemble.encode(x)[0], noise))
    made = ensemble.untrained(0)
    changed.keep(1, made)
    assert np.array_equal(changed.member(1).variables["layer1/bias1"], made.variables["layer1/bias1"])
    assert not np.array_equal(changed.member(2).variables["layer1/x0"], made.variables["layer1/x0"])


def test_variational_members_share_their_summary():
    shared = build("variational").variables
    assert sum("dense0/kernel" in name for name in shared) == 1
    assert sum("layer0/bias0" in name for name in shared) == MEMBERS
    apart = build("ensemble").variables
    assert sum("dense0/kernel" in name for name in apart) == MEMBERS


# -- of galaxies: a posterior whose estimator is an ensemble -------------------------------------------------------------


@pytest.fixture(scope="module")
def stamps(small_simulator):
    return small_simulator.draw(range(40), seed=8).stamps


@pytest.fixture(scope="module")
def encoded(small_ensemble, stamps):
    return small_ensemble.encode(stamps)


def test_its_draws_and_densities_are_the_members_mixture(small_ensemble, small_posterior, stamps, encoded):
    draws = small_ensemble.sample(encoded, 30, seed=2)
    noise = standard_normals(2, "posterior", stamps.ids, (30, len(small_posterior.parameters)))
    first = small_ensemble.estimator.drawn_by(noise) == 0
    assert (first.sum(1) == 15).all()
    assert np.array_equal(draws[first], small_posterior.sample(stamps, 30, seed=2)[first]), "half of them are the first member's"
    own = small_posterior.log_prob(draws, stamps).astype(np.float64)
    mixed = small_ensemble.log_prob(draws, encoded)
    assert (mixed >= own - np.log(2) - 1e-4).all(), "at least half of each member's density"
    assert ((mixed - own).std(1) > 1e-3).all()


def test_every_row_says_how_far_its_members_are_apart(small_ensemble, stamps, encoded):
    apart = encoded.disagreement
    assert ((apart > 0) & (apart < np.log(2))).all()
    table = small_ensemble.summarize(encoded, 64)
    assert np.array_equal(table["disagreement"], apart)
    rows = np.array([7, 3, 31])
    assert np.array_equal(encoded[rows].disagreement, apart[rows])
    assert np.array_equal(small_ensemble.encode(stamps[rows]).disagreement, apart[rows]), "whatever the company"


def test_one_network_says_nothing_of_the_kind(small_posterior, stamps):
    assert small_posterior.encode(stamps[:2]).disagreement is None
    assert "disagreement" not in small_posterior.summarize(stamps[:2], 16).colnames


def test_rows_that_cannot_be_used_say_nothing(small_ensemble, stamps):
    fields = {name: getattr(stamps[:3], name).copy() for name in ("images", "psf", "rms", "mask")}
    fields["mask"][1] = True
    blind = Stamps(**fields, zero_point=stamps.zero_point, pixel_scale_arcsec=stamps.pixel_scale_arcsec, gain=stamps.gain[:3])
    assert np.isfinite(small_ensemble.encode(blind).disagreement).tolist() == [True, False, True]


def test_it_is_a_bundle_like_any_other(small_ensemble, stamps, encoded, tmp_path):
    digest = save_bundle(tmp_path / "bundle", small_ensemble, stamps)
    again = load_posterior(tmp_path / "bundle")
    assert again.digest == digest
    assert np.array_equal(again.sample(stamps, 9, seed=3), small_ensemble.sample(encoded, 9, seed=3))
    assert np.array_equal(again.encode(stamps).disagreement, encoded.disagreement)
    assert np.array_equal(again.encode(stamps).flags, encoded.flags)


def test_golden_answers_hold_a_draw_of_every_member(small_ensemble, stamps, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "GOLDEN_DRAWS", 1)
    save_bundle(tmp_path / "bundle", small_ensemble, stamps)
    changed = load_posterior(tmp_path / "bundle")
    golden = bundle._golden(changed, stamps)
    assert all(set(row) == {0, 1} for row in changed.estimator.drawn_by(golden["noise"]).tolist())
    for name in ("member0/layer0/bias0", "member1/layer0/bias0"):
        variable = changed.estimator.variables[name]
        variable.assign_add(np.ones(variable.shape, np.float32))
        with pytest.raises(BundleError, match="does not reproduce the bundle's stored answers"):
            bundle._check_golden(changed.estimator, None, golden, tmp_path)
        variable.assign_add(-np.ones(variable.shape, np.float32))
    bundle._check_golden(changed.estimator, None, golden, tmp_path)


# -- with a linearised stage ---------------------------------------------------------------------------------------------


class Stage:
    """Stands for a linearised stage: whatever the fit, each parameter is normal about the middle of its prior; a share is the network's own."""

    recipe = LinearizedRecipe()
    part = 0.25

    def __init__(self, parameters):
        self.prior = parameters.prior

    def fit(self, context, guess, stamps):
        n, p = guess.shape
        return Linearization(context, guess, np.broadcast_to(np.eye(p, dtype=np.float32), (n, p, p)), np.ones(n, bool))

    def sample(self, fits, noise):
        return self.prior.forward(0.01 * noise.astype(np.float64)).astype(np.float32)

    def share(self, fits):
        return np.full(len(fits), self.part, np.float32)

    def log_prob(self, theta, fits):
        return np.full(theta.shape[:2], -3.0, np.float32)


def test_the_networks_own_draws_are_of_all_members_where_a_row_has_a_linearised_posterior(small_ensemble, stamps):
    """Members far apart in the first parameter, at places that tell them."""
    posterior = replace(small_ensemble, linearized=Stage(small_ensemble.parameters))
    variables = small_ensemble.estimator.variables
    shifted = [variables[f"member{k}/target/mean"] for k in range(2)]
    kept = [v.numpy() for v in shifted]
    for v, move in zip(shifted, (-3.0, 3.0), strict=True):
        v.assign_add([move, *np.zeros(v.shape[0] - 1)])
    encoded = posterior.encode(stamps)
    draws = posterior.sample(encoded, 64, seed=3)
    u = posterior.parameters.prior.inverse(draws.astype(np.float64))[..., 0]
    own = np.abs(u) > 0.1
    high = own & (u > 0)
    few = posterior.sample(encoded, 10, seed=3)
    for v, value in zip(shifted, kept, strict=True):
        v.assign(value)
    usable = encoded.framed.usable
    n = own[usable].sum()
    assert abs(n - 64 * usable.sum() * Stage.part) < 5 * np.sqrt(n)
    assert abs(high[usable].sum() - n / 2) < 0.1 * n
    rows = usable & (own.sum(1) > 3)
    assert (np.abs(2 * high.sum(1) - own.sum(1))[rows] <= 0.5 * own.sum(1)[rows] + 4).all(), "in every row"
    first = np.argmax(own, 1)
    of_the_second = np.take_along_axis(u, first[:, None], 1)[rows, 0] > 0
    assert 0.2 < of_the_second.mean() < 0.8, "the first of a row's own draws is of any"
    assert np.array_equal(few, draws[:, :10], equal_nan=True)
