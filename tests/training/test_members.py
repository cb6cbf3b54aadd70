import numpy as np
import pytest

from astroflow.networks.targets import box_bijector
from astroflow.posteriors.ensemble import build_any_estimator
from astroflow.posteriors.recipe import Architecture
from astroflow.training.members import STRIDE, fit_members
from astroflow.training.recipe import TrainingRecipe
from astroflow.training.variational import VariationalWeights

PLAIN = {"summary": {"channels": {}, "dense": (16,), "context": 4}, "flow": {"layers": 2, "hidden": (8,)}}
RECIPE = TrainingRecipe(epochs=3, batch_size=32, learning_rate=1e-2, ema=0.9, polish=1)
STEPS = 6


class KilledError(Exception):
    """Stands for a kill."""


def problem(n, seed):
    """Theta is x, with noise of a third."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    theta = x + 0.3 * rng.normal(size=(n, 2))
    return {name: np.asarray(value, np.float32) for name, value in {"x": x, "theta": theta, "auxiliary": np.zeros((n, 0))}.items()}


class Feed:
    steps_per_epoch = STEPS

    def __init__(self):
        self.asked = []

    def epoch(self, epoch, first=0):
        self.asked.append((epoch, first))
        for k in range(first, STEPS):
            yield problem(32, seed=1000 * epoch + k)


HELD_OUT = problem(300, seed=5)


def build(epistemic):
    made = build_any_estimator(Architecture.model_validate(PLAIN | {"epistemic": epistemic}), {"x": (2,)}, box_bijector([None, None]), 2)
    first = problem(256, seed=7)
    made.adapt({"x": first["x"]}, first["theta"])
    return made


def weights(estimator):
    return {name: v.numpy() for name, v in estimator.variables.items()}


def score(estimator):
    context, _ = estimator.encode(HELD_OUT)
    return estimator.log_prob(HELD_OUT["theta"][:, None], context).mean(dtype=np.float64)


def divergence(mean, sd, ensemble):
    """From the prior of the last layers' weights, nats, by its formula: kernels of masked layers, of the context, and biases."""
    prior = []
    for conditioner in ensemble.member(0).flow.conditioners:
        mask, context = np.asarray(conditioner.masks[-1], float), conditioner.weights_c[-1]
        prior += [(mask / np.sqrt(np.maximum(mask.sum(0), 1))).ravel()]
        prior += [np.full(np.prod(context.shape), context.shape[0] ** -0.5), np.ones(mask.shape[1])]
    prior = np.concatenate(prior)
    m, s, p = (values[prior > 0].astype(np.float64) for values in (mean, sd, prior))
    return np.sum(np.log(p / s) + (s**2 + m**2) / (2 * p**2) - 0.5)


DEEP = {"kind": "ensemble", "members": 2}
BAYES = {"kind": "variational", "members": 3}


@pytest.fixture(scope="module")
def deep():
    made, feed, told = build(DEEP), Feed(), []
    result = fit_members(made, feed, HELD_OUT, RECIPE, 1, 192, progress=lambda *args: told.append(args))
    return made, feed, told, result


def test_members_are_trained_apart(deep):
    made, feed, told, result = deep
    assert [epoch for epoch, _ in feed.asked] == [0, 1, 2, 3, STRIDE, STRIDE + 1, STRIDE + 2, STRIDE + 3], "on epochs of their own"
    assert [record["member"] for record in result.history] == [0, 0, 0, 1, 1, 1]
    assert result.best_epoch == int(np.argmin([record["val_loss"] for record in result.history]))
    assert list(dict.fromkeys(stage for stage, *_ in told)) == ["train 1 of 2", "polish 1 of 2", "train 2 of 2", "polish 2 of 2"]
    one, other = (made.member(k) for k in (0, 1))
    assert not np.allclose(one.variables["dense0/kernel"], other.variables["dense0/kernel"])
    scores = [score(member) for member in (one, other)]
    assert result.best_score == pytest.approx(score(made), abs=1e-5)
    assert result.best_score >= np.mean(scores) - 1e-6, "a mixture is never worse than its members on average"


def test_a_killed_ensemble_goes_on_with_the_member_at_which_it_stopped(deep, tmp_path):
    def kill(stage, done, total, figures):
        if stage == "train 2 of 2" and done == STEPS + 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit_members(build(DEEP), Feed(), HELD_OUT, RECIPE, 1, 192, tmp_path, kill)
    feed, resumed = Feed(), build(DEEP)
    result = fit_members(resumed, feed, HELD_OUT, RECIPE, 1, 192, tmp_path)
    assert feed.asked == [(STRIDE + 1, 0), (STRIDE + 2, 0), (STRIDE + 3, 0)], "what is done is not done again"
    assert [pytest.approx(record, rel=1e-4) for record in result.history] == deep[3].history
    for name, value in weights(deep[0]).items():
        assert np.allclose(resumed.variables[name], value, rtol=1e-4, atol=1e-4), name


def test_a_killed_variational_training_ends_as_an_undisturbed_one(tmp_path, monkeypatch):
    made, told, found = build(BAYES), [], []
    of_flow = VariationalWeights.of_flow
    monkeypatch.setattr(VariationalWeights, "of_flow", lambda *given: found.append(of_flow(*given)) or found[-1])
    result = fit_members(made, Feed(), HELD_OUT, RECIPE, 1, 192, progress=lambda *args: told.append(args[:2]))
    assert {stage for stage, _ in told} == {"train"}, "nothing is polished"
    best = result.history[result.best_epoch]
    assert best["divergence"] == pytest.approx(divergence(found[0].mean.numpy(), found[0].sd.numpy(), made) / 192, rel=1e-4)
    for record in result.history:
        assert record["elbo"] == pytest.approx(-record["train_loss"] - record["divergence"], abs=1e-6)
    bounds = [-record["val_loss"] - record["divergence"] for record in result.history]
    assert result.best_epoch == int(np.argmax(bounds))
    assert result.history[-1]["elbo"] > result.history[0]["elbo"]
    context, _ = made.encode(HELD_OUT)
    noise = np.random.default_rng(0).standard_normal((300, 30, 2), dtype=np.float32)
    assert (made.disagreement(context, noise) > 1e-4).mean() > 0.9, "the members are different draws of the weights"

    def kill(stage, done, total, figures):
        if done == STEPS + 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit_members(build(BAYES), Feed(), HELD_OUT, RECIPE, 1, 192, tmp_path, kill)
    resumed = build(BAYES)
    fit_members(resumed, Feed(), HELD_OUT, RECIPE, 1, 192, tmp_path)
    for name, value in weights(made).items():
        assert np.allclose(resumed.variables[name], value, rtol=1e-4, atol=1e-4), name
