"""The linearised stage: its densities, its training, and which rows get it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import astroflow.posteriors.bundle as bundle
from astroflow.errors import BundleError, ConfigError
from astroflow.posteriors.bundle import BundleConfig, build_linearized, load_posterior, save_bundle
from astroflow.posteriors.inputs import network_inputs
from astroflow.posteriors.kept import Kept
from astroflow.posteriors.linearized import SQUASH
from astroflow.posteriors.recipe import Architecture, LinearizedRecipe
from astroflow.sims.noise_correlation import CosmosCorrelation
from astroflow.training.fresh import FreshFeed
from astroflow.training.linearize import fit_linearized
from astroflow.training.recipe import TrainingRecipe

RECIPE = LinearizedRecipe.model_validate({"steps": 2, "flow": {"layers": 2, "hidden": (32, 32)}})


@pytest.fixture(scope="module")
def simulator(small_simulator):
    return replace(small_simulator, engine="fourier", psf=small_simulator.psf.model_copy(update={"image_size": 17}))


@pytest.fixture(scope="module")
def forward_model(small_forward_model):
    return small_forward_model | {"engine": "fourier", "psf": small_forward_model["psf"] | {"image_size": 17}}


def built(small_posterior, forward_model, recipe=RECIPE):
    architecture = Architecture.model_validate(small_posterior.estimator.architecture.model_dump() | {"linearized": recipe})
    config = BundleConfig(
        architecture=architecture,
        parameters=small_posterior.parameters,
        stamp=small_posterior.stamp,
        forward_model=forward_model,
        training={},
    )
    return architecture, build_linearized(config, seed=2)


@pytest.fixture(scope="module")
def trained(small_posterior, simulator, forward_model):
    """A posterior with a stage trained for seconds, the score it reached, and what it was scored on."""
    architecture, stage = built(small_posterior, forward_model)
    feed = FreshFeed(simulator, 64, seed=6, n=1024, validation=0.25)
    held_out = feed.held_out()
    recipe = TrainingRecipe(epochs=1, polish=1, linearized=2)
    score = fit_linearized(stage, small_posterior.estimator, feed, held_out, recipe, seed=1)
    estimator = copy.copy(small_posterior.estimator)  # which other tests go on using
    estimator.architecture = architecture
    return replace(small_posterior, estimator=estimator, linearized=stage, forward_model=forward_model), score, held_out


@pytest.fixture(scope="module")
def fits(trained):
    posterior, _, held_out = trained
    context, _ = posterior.estimator.encode(network_inputs(held_out.stamps))
    return posterior.linearized.fit(context, posterior.estimator.guess(context), held_out.stamps)


def test_it_is_better_than_the_network_alone(trained):
    posterior, score, held_out = trained
    context, _ = posterior.estimator.encode(network_inputs(held_out.stamps))
    assert score > posterior.estimator.log_prob(held_out.theta[:, None], context).mean() + 0.5


def test_fits_whiten_the_truth(trained, fits):
    posterior, _, held_out = trained
    y = posterior.linearized.whiten(held_out.theta, fits)
    assert fits.converged.all()
    spread = 1.4826 * np.median(np.abs(y), 0)
    assert (spread > 0.5).all()
    assert (spread < 2.5).all()


def test_fits_know_how_noise_is_correlated(trained, fits):
    """Correlated noise tells less of a smooth galaxy than independent noise of the same rms, and the fits say so."""
    posterior, _, held_out = trained
    maps = np.broadcast_to(CosmosCorrelation().map, (len(held_out), 1, 21, 21))
    context, _ = posterior.estimator.encode(network_inputs(held_out.stamps))
    stamps = replace(held_out.stamps, noise_correlation=maps)
    correlated = posterior.linearized.fit(context, posterior.estimator.guess(context), stamps)
    assert correlated.converged.all()
    known, less = (np.log(np.diagonal(one.factor, axis1=1, axis2=2)).sum(1) for one in (fits, correlated))
    assert (less < known).mean() > 0.95
    assert np.median(known - less) > 1


def test_the_first_draws_are_the_same_however_many_there_are(trained, fits):
    stage, few = trained[0].linearized, fits[np.arange(5)]
    noise = np.random.default_rng(4).standard_normal((5, 300, stage.dimensions), dtype=np.float32)
    every = stage.sample(few, noise)
    for n_draws in (1, 64, 128, 256):
        np.testing.assert_array_equal(stage.sample(few, noise[:, :n_draws]), every[:, :n_draws])


def test_draws_and_densities_are_one_distribution(trained, fits):
    """Against the change of variables by automatic differentiation."""
    posterior = trained[0]
    stage, few = posterior.linearized, fits[np.arange(3)]
    noise = np.random.default_rng(4).normal(size=(3, 5, len(posterior.parameters))).astype(np.float32)
    draws = stage.sample(few, noise)
    features = stage.scale(tf.constant(few.features))
    np.testing.assert_allclose(stage.whiten(draws[:, 0], few), stage.flow.draw(noise, features)[:, 0], atol=5e-3)
    for s in range(5):
        theta = tf.constant(draws[:, s])
        with tf.GradientTape() as tape:
            tape.watch(theta)
            z = tf.linalg.matvec(few.factor, stage.target.inverse(theta) - few.point, transpose_a=True)
            y = SQUASH * tf.asinh(z / SQUASH)
        expected = stage.flow.log_prob(y, features) + tf.linalg.slogdet(tape.batch_jacobian(y, theta))[1]
        np.testing.assert_allclose(stage.log_prob(draws, few)[:, s], expected, atol=5e-3, rtol=1e-4)


def test_no_draw_leaves_the_prior(trained, fits):
    posterior = trained[0]
    noise = 4 * np.random.default_rng(5).normal(size=(len(fits), 40, len(posterior.parameters))).astype(np.float32)
    assert posterior.parameters.prior.contains(posterior.linearized.sample(fits, noise).astype(np.float64)).all()
    # base draws that no flow was trained for end at the bounds, not at infinity
    far = posterior.linearized.sample(fits[np.arange(4)], 1e4 * noise[:4])
    assert np.isfinite(far).all()
    assert not np.isnan(posterior.linearized.log_prob(far, fits[np.arange(4)])).any()


def test_rows_are_fitted_from_a_signal_to_noise_on_and_alone_as_in_company(trained):
    posterior, _, held_out = trained
    stamps = held_out.stamps[:70]
    everything, nothing = posterior.encode(stamps), posterior.encode(stamps, least_snr=np.inf)
    assert everything.fitted[everything.framed.usable].all()
    assert not nothing.fitted.any()
    limit = float(np.median(everything.snr))
    some = posterior.encode(stamps, least_snr=limit)
    np.testing.assert_array_equal(some.fitted, some.framed.usable & (some.snr >= limit))
    draws = {name: posterior.sample(encoded, 20, seed=3) for name, encoded in (("all", everything), ("none", nothing), ("some", some))}
    np.testing.assert_array_equal(draws["some"], np.where(some.fitted[:, None, None], draws["all"], draws["none"]))
    alone = posterior.encode(stamps[[33]])
    np.testing.assert_array_equal(posterior.sample(alone, 20, seed=3), draws["all"][[33]])
    log_prob = posterior.log_prob(draws["some"], some)
    np.testing.assert_array_equal(log_prob[some.fitted], posterior.log_prob(draws["some"], everything)[some.fitted])
    picked = some[np.array([5, 33, 2])]
    np.testing.assert_array_equal(posterior.sample(picked, 20, seed=3), draws["some"][[5, 33, 2]])


def test_draws_and_densities_are_those_of_the_mixture(trained, fits, monkeypatch):
    posterior, _, held_out = trained
    stage, stamps = posterior.linearized, held_out.stamps[:40]
    shares = np.linspace(0.05, 0.9, 40).astype(np.float32)
    monkeypatch.setattr(stage, "share", lambda fits: shares[: len(fits)])
    encoded, plain = posterior.encode(stamps), posterior.encode(stamps, least_snr=np.inf)
    draws, own = (posterior.frame_draws(e, 300, seed=5) for e in (encoded, plain))
    monkeypatch.setattr(stage, "share", lambda fits: np.zeros(len(fits)))
    linear = posterior.frame_draws(encoded, 300, seed=5)
    of_network = (draws == own).all(-1)
    assert (of_network | (draws == linear).all(-1)).all(), "every draw is one of the two"
    assert np.abs(of_network.mean(1) - shares).max() < 4 * np.sqrt(0.25 / 300)
    monkeypatch.setattr(stage, "share", lambda fits: shares[: len(fits)])
    theta = draws[:, :7]
    expected = np.log(
        shares[:, None] * np.exp(posterior.frame_log_prob(theta, plain).astype(float))
        + (1 - shares[:, None]) * np.exp(stage.log_prob(theta, encoded.fits).astype(float))
    )
    np.testing.assert_allclose(posterior.frame_log_prob(theta, encoded), expected, rtol=1e-5, atol=1e-4)


def test_fits_that_fail_leave_the_networks_own_answer(trained, monkeypatch):
    posterior, _, held_out = trained
    stage, stamps = posterior.linearized, held_out.stamps[:10]
    plain = posterior.sample(posterior.encode(stamps, least_snr=np.inf), 20)
    fit = stage._fit

    def failing(*inputs):
        parts = fit(*inputs)
        parts[1] = tf.concat([parts[1][:1] * np.nan, parts[1][1:]], 0)
        return parts

    monkeypatch.setattr(stage, "_fit", failing)
    encoded = posterior.encode(stamps)
    assert encoded.fitted.tolist() == [False] + [True] * 9
    np.testing.assert_array_equal(posterior.sample(encoded, 20)[0], plain[0])


def test_a_bundle_holds_it(trained, tmp_path):
    posterior, _, held_out = trained
    save_bundle(tmp_path / "bundle", posterior, held_out.stamps)
    again = load_posterior(tmp_path / "bundle")
    assert again.linearized.recipe == RECIPE
    for name, variable in posterior.linearized.variables.items():
        np.testing.assert_array_equal(again.linearized.variables[name], variable, err_msg=name)


def test_a_bundle_whose_stage_gives_other_answers_is_refused(trained, tmp_path, monkeypatch):
    """The golden answers are those of the whole flow: one weight that is off is found."""
    posterior, _, held_out = trained
    name = next(name for name, variable in posterior.linearized.variables.items() if len(variable.shape) == 2)
    honest = bundle.save
    monkeypatch.setattr(bundle, "save", lambda arrays: honest({k: v + 0.3 if k == f"linearized/{name}" else v for k, v in arrays.items()}))
    save_bundle(tmp_path / "bundle", posterior, held_out.stamps)
    with pytest.raises(BundleError, match="does not reproduce the bundle's stored answers .*linearized/density"):
        load_posterior(tmp_path / "bundle")


def test_what_the_engine_cannot_draw_is_refused(small_posterior, forward_model):
    with pytest.raises(ConfigError, match="has no galaxy recipe"):
        built(small_posterior, {"reference": "mine:simulator"})


def test_certificates_follow_the_posterior_that_is_certified(trained):
    """The stage's rows are better; binned rows, and models that the likelihood does not follow, are not judged."""
    posterior, _, held_out = trained
    stamps = held_out.stamps[:50]
    encoded, plain = posterior.encode(stamps), posterior.encode(stamps, least_snr=np.inf)
    ours, theirs = (posterior.certify(e, n_draws=256, seed=2) for e in (encoded, plain))
    judged = stamps.binning == 1
    np.testing.assert_array_equal(ours.inference != -1, judged)
    assert np.isnan(ours.efficiency[~judged]).all()
    assert np.median(ours.efficiency[judged]) > np.median(theirs.efficiency[judged])
    assert np.median(ours.efficiency[judged]) > 0.1
    assert (ours.model[judged] == 1).mean() > 0.9, "the simulator is its own model"
    unfollowed = replace(posterior, forward_model=posterior.forward_model | {"psf": posterior.forward_model["psf"] | {"image_size": None}})
    assert (unfollowed.certify(encoded, n_draws=256).inference == -1).all()


def test_a_wrong_noise_map_fails_the_model(trained):
    posterior, _, held_out = trained
    stamps = held_out.stamps[np.flatnonzero(held_out.stamps.binning == 1)[:10]]
    wrong = replace(stamps, rms=0.8 * stamps.rms)
    assert (posterior.certify(wrong, n_draws=256).model == 0).all()


def test_rows_that_fail_get_the_better_posterior(trained):
    posterior, _, held_out = trained
    stamps = held_out.stamps[:60]
    limit = float(np.median(held_out.snr[:60]))
    encoded = posterior.encode(stamps, least_snr=limit)
    certificate = posterior.certify(encoded, n_draws=256, seed=2)
    sharper, judged = posterior.sharpen(encoded, certificate, n_draws=256, seed=2)
    new = sharper.fitted & ~encoded.fitted
    assert new.any()
    assert (certificate.inference[new] == 0).all()
    assert ((judged.efficiency[new] > certificate.efficiency[new]) | (judged.inference[new] == 1)).all()
    # the certificates are those of the draws that it now gives, row by row
    again = posterior.certify(sharper, n_draws=256, seed=2)
    for name, values in vars(again).items():
        np.testing.assert_array_equal(getattr(judged, name), values, err_msg=name)
    alone = posterior.certify(sharper[np.array([7])], n_draws=256, seed=2)
    for name, values in vars(alone).items():
        np.testing.assert_array_equal(getattr(judged, name)[[7]], values, err_msg=name)
    everything = posterior.encode(stamps)
    draws = posterior.sample(sharper, 30, seed=4)
    np.testing.assert_array_equal(draws[new], posterior.sample(everything, 30, seed=4)[new])
    np.testing.assert_array_equal(draws[~new], posterior.sample(encoded, 30, seed=4)[~new])
    # nothing changes where nothing can
    same, unchanged = posterior.sharpen(everything, posterior.certify(everything, n_draws=256, seed=2), n_draws=256, seed=2)
    assert same is everything
    assert unchanged.inference.shape == (60,)
    plain = replace(posterior, linearized=None)
    assert plain.sharpen(encoded, certificate)[1] is certificate


def test_rows_without_any_fit_are_certified_sharpened_and_refined(trained, monkeypatch):
    """Fits that never converge, and parts of a batch in which no row is fitted."""
    posterior, _, held_out = trained
    stamps = held_out.stamps[np.flatnonzero(held_out.stamps.binning == 1)[:6]]
    encoded = posterior.encode(stamps, least_snr=1e9)
    assert encoded.fits is None
    assert encoded[np.array([1, 2])].fits is None
    mixed = encoded.with_fits(np.array([4]), posterior.fitted_rows(encoded, np.array([4])).fits)
    assert mixed.fitted.tolist() == [False] * 4 + [True, False]
    assert mixed[np.array([0, 1])].fits is None
    for some in (encoded, mixed[np.array([0, 1])]):
        certificate = posterior.certify(some, n_draws=256)
        assert np.isfinite(certificate.efficiency).all()
    stage = posterior.linearized
    fit = stage._fit
    monkeypatch.setattr(stage, "_fit", lambda *inputs: [fit(*inputs)[0], fit(*inputs)[1] * np.nan, *fit(*inputs)[2:]])
    failing = posterior.encode(stamps)
    assert failing.fits is None
    certificate = posterior.certify(failing, n_draws=256)
    same, judged = posterior.sharpen(failing, certificate, n_draws=256)
    assert same is failing
    assert judged is certificate
    assert posterior.sample(failing, 20).shape == (6, 20, len(posterior.parameters))
    assert (posterior.refine(failing, 64).method >= 0).all()


def test_draws_are_made_again_from_what_is_kept_of_fits(trained):
    posterior, _, held_out = trained
    stamps = held_out.stamps[np.arange(24)]
    middle = float(np.median(posterior.encode(stamps, least_snr=np.inf).snr))
    encoded = posterior.encode(stamps, least_snr=middle, halved=True)
    assert 0 < encoded.fitted.sum() < len(stamps), "some rows of each kind"
    kept = Kept.of_columns(encoded.ids, encoded.usable, Kept.columns(encoded), len(posterior.parameters))
    np.testing.assert_array_equal(kept.fitted, encoded.fitted)
    for name in ("features", "point", "factor"):
        np.testing.assert_array_equal(getattr(kept.fits, name), getattr(encoded.fits, name))
    np.testing.assert_array_equal(posterior.sample(kept, 64, seed=5), posterior.sample(encoded, 64, seed=5))
