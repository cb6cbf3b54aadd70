from dataclasses import dataclass, field

import numpy as np
import pytest

import astroflow.training.loop as loop
from astroflow.errors import AstroflowError, InputError
from astroflow.networks.targets import box_bijector
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import Architecture
from astroflow.training.loop import fit_estimator
from astroflow.training.recipe import TrainingRecipe
from astroflow.training.variational import PointWeights

ARCHITECTURE = Architecture.model_validate(
    {"summary": {"channels": {}, "dense": (16,), "context": 4}, "flow": {"layers": 2, "hidden": (8,)}}
)
RECIPE = TrainingRecipe(epochs=4, batch_size=32, learning_rate=5e-3, ema=0.9, patience=8)
STEPS = 6


class KilledError(Exception):
    """Stands for a kill."""


def problem(n, seed):
    """theta = (sum, difference) of x, with a little noise; the auxiliary is a function of x that theta does not need."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    theta = np.stack([x.sum(1), x[:, 0] - x[:, 1]], -1) + 0.3 * rng.normal(size=(n, 2))
    return {name: np.asarray(value, np.float32) for name, value in {"x": x, "theta": theta, "auxiliary": 50 + 3 * x[:, :1]}.items()}


@dataclass
class Feed:
    """Repeatable by epoch number; may be killed at the start of an epoch or after some batches of it."""

    steps_per_epoch: int = STEPS
    killed_in: tuple[int, int] | None = None
    asked: list = field(default_factory=list)

    def epoch(self, epoch, first=0):
        self.asked.append((epoch, first))
        for k in range(first, self.steps_per_epoch):
            if self.killed_in == (epoch, k):
                raise KilledError
            yield problem(32, seed=1000 * epoch + k)


HELD_OUT = problem(200, seed=-1 % 2**32)


def build(seed=0, auxiliary=("bright",), architecture=ARCHITECTURE):
    estimator = Estimator(architecture, {"x": (2,)}, box_bijector([None, None]), 2, auxiliary, seed)
    first = problem(256, seed=7)
    estimator.adapt({"x": first["x"]}, first["theta"], first["auxiliary"])
    return estimator


def plain(estimator, feed, recipe):
    """The loop itself, before it runs."""
    return loop._Loop(estimator, feed, recipe, PointWeights(estimator.trainable_variables), 0)


def weights(estimator):
    return {name: v.numpy() for name, v in estimator.variables.items()}


def equal(one, other):
    """Within rounding: several threads may add up in another order."""
    return one.keys() == other.keys() and all(np.allclose(one[name], other[name], rtol=1e-5, atol=1e-6) for name in one)


@pytest.fixture(scope="module")
def undisturbed():
    estimator, told = build(), []
    result = fit_estimator(estimator, Feed(), HELD_OUT, RECIPE, progress=lambda *args: told.append(args))
    return estimator, result, told


def test_training_learns(undisturbed):
    estimator, result, _ = undisturbed
    losses = [h["val_loss"] for h in result.history]
    assert losses[-1] < losses[0] - 0.3
    assert result.best_score == -min(losses)
    assert result.best_epoch == int(np.argmin(losses))
    assert [h["epoch"] for h in result.history] == [0, 1, 2, 3]
    assert [h["step"] for h in result.history] == [STEPS * k for k in (1, 2, 3, 4)]
    context, extra = estimator.encode({"x": HELD_OUT["x"]})
    score = estimator.log_prob(HELD_OUT["theta"][:, None], context).mean()
    assert np.isclose(score, result.best_score, atol=1e-4), "it ends with the weights that scored best"
    assert np.corrcoef(extra["bright"], HELD_OUT["auxiliary"][:, 0])[0, 1] > 0.5


def test_progress_is_told_of_every_step(undisturbed):
    told = undisturbed[2]
    assert [(stage, done, total) for stage, done, total, _ in told] == [("train", k + 1, 4 * STEPS) for k in range(4 * STEPS)]
    assert all(np.isfinite(figures["loss"]) for *_, figures in told)


@pytest.mark.parametrize(
    ("killed_in", "seconds", "first", "ahead"),
    [((1, 0), 60, (1, 0), False), ((2, 3), 60, (2, 0), False), ((2, 3), 0, (2, 3), False), ((2, 3), 0, (2, 3), True)],
    ids=["between epochs", "within an epoch", "resumed within an epoch", "batches prepared ahead"],
)
def test_a_killed_training_ends_as_an_undisturbed_one(undisturbed, tmp_path, killed_in, seconds, first, ahead, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", seconds)
    monkeypatch.setattr(loop, "_has_gpu", lambda: ahead)
    path = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        fit_estimator(build(), Feed(killed_in=killed_in), HELD_OUT, RECIPE, path)
    feed, resumed = Feed(), build(seed=9)  # whatever it starts with, the checkpoint replaces
    resumed.standardise.mean.assign(undisturbed[0].standardise.mean)
    resumed.standardise.scale.assign(undisturbed[0].standardise.scale)
    result = fit_estimator(resumed, feed, HELD_OUT, RECIPE, path)
    assert feed.asked == [first, *((epoch, 0) for epoch in range(first[0] + 1, 4))], "what is done is not done again"
    assert [pytest.approx(h, rel=1e-5) for h in result.history] == undisturbed[1].history
    assert result.best_epoch == undisturbed[1].best_epoch
    assert equal(weights(resumed), weights(undisturbed[0]))


def test_a_training_that_is_complete_only_loads(undisturbed, tmp_path):
    path = tmp_path / "state.safetensors"
    fit_estimator(build(), Feed(), HELD_OUT, RECIPE, path)
    feed, again = Feed(), build()
    result = fit_estimator(again, feed, HELD_OUT, RECIPE, path)
    assert feed.asked == []
    assert [pytest.approx(h, rel=1e-5) for h in result.history] == undisturbed[1].history
    assert equal(weights(again), weights(undisturbed[0]))


def scripted(monkeypatch, scores):
    """Give the epochs these held-out scores; return the averages that they belong to."""
    averages = []

    def validate(self, held_out):
        averages.append([v.numpy() for v in self.average])
        return scores[len(averages) - 1], 0.0

    monkeypatch.setattr(loop._Loop, "_validate", validate)
    return averages


def test_it_stops_when_the_held_out_score_no_longer_rises_and_keeps_the_best(monkeypatch):
    averages = scripted(monkeypatch, [1.0, 3.0, 2.0, 2.9, 9.0, 9.0])
    estimator = build()
    result = fit_estimator(estimator, Feed(steps_per_epoch=2), HELD_OUT, RECIPE.model_copy(update={"epochs": 6, "patience": 2}))
    assert len(result.history) == 4
    assert (result.best_epoch, result.best_score) == (1, 3.0)
    assert all(np.array_equal(v.numpy(), a) for v, a in zip(estimator.trainable_variables, averages[1], strict=True))


def test_weights_that_have_a_distribution_are_chosen_by_what_is_trained():
    """Of two epochs the better is that whose score less the divergence is higher, which neither alone decides."""
    records = [{"val_loss": -3.0, "divergence": 2.0}, {"val_loss": -2.0, "divergence": 0.5}, {"val_loss": -1.0, "divergence": 0.1}]
    assert loop._best(records) == 1
    assert loop._best([{"val_loss": -3.0}, {"val_loss": -4.0}, {"val_loss": -4.0}]) == 1, "the first of the best"


def test_it_goes_on_while_the_score_rises(monkeypatch):
    scripted(monkeypatch, [1.0, 2.0, 1.5, 3.0, 2.0, 4.0])
    result = fit_estimator(build(), Feed(steps_per_epoch=1), HELD_OUT, RECIPE.model_copy(update={"epochs": 6, "patience": 2}))
    assert (len(result.history), result.best_epoch) == (6, 5)


def test_a_loss_that_is_not_finite_is_one_clear_error(tmp_path):
    @dataclass
    class Broken(Feed):
        def epoch(self, epoch, first=0):
            for k, batch in enumerate(super().epoch(epoch, first), first):
                yield batch | ({"theta": batch["theta"] * np.nan} if (epoch, k) == (1, 1) else {})

    path = tmp_path / "state.safetensors"
    with pytest.raises(
        AstroflowError, match=r"the loss became nan in epoch 1, step 1: lower `training.learning_rate`, or check the simulations"
    ):
        fit_estimator(build(), Broken(steps_per_epoch=3), HELD_OUT, RECIPE, path)
    again = fit_estimator(build(), Feed(steps_per_epoch=3), HELD_OUT, RECIPE, path)
    assert np.isfinite(again.best_score), "the checkpoint is from before"


def test_a_held_out_loss_that_is_not_finite_is_one_clear_error():
    spoilt = HELD_OUT | {"theta": np.where(np.arange(200)[:, None] == 3, np.inf, HELD_OUT["theta"]).astype(np.float32)}
    with pytest.raises(AstroflowError, match=r"the held-out loss became (inf|nan) in epoch 0"):
        fit_estimator(build(), Feed(steps_per_epoch=1), spoilt, RECIPE)


def test_a_set_smaller_than_a_batch_is_refused():
    with pytest.raises(AstroflowError, match="the training set is smaller than one batch"):
        fit_estimator(build(), Feed(steps_per_epoch=0), HELD_OUT, RECIPE)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    fit_estimator(build(), Feed(steps_per_epoch=1), HELD_OUT, RECIPE.model_copy(update={"epochs": 1}), path)
    wider = ARCHITECTURE.model_copy(update={"flow": ARCHITECTURE.flow.model_copy(update={"hidden": (9,)})})
    with pytest.raises(InputError, match="the checkpoint belongs to another architecture; remove it to start again"):
        fit_estimator(build(architecture=wider), Feed(steps_per_epoch=1), HELD_OUT, RECIPE, path)


def test_the_learning_rate_rises_and_falls_as_a_cosine():
    recipe = TrainingRecipe(epochs=10, batch_size=32, learning_rate=2e-3, warmup=0.2)
    schedule = plain(build(), Feed(steps_per_epoch=10), recipe).schedule
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert np.isclose(rates[0], 2e-5)
    assert np.argmax(rates) == 20
    assert np.isclose(rates[20], 2e-3)
    assert np.isclose(rates[60], (2e-3 + 2e-5) / 2, rtol=1e-3)
    assert np.isclose(rates[100], 2e-5, rtol=1e-3)
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()


def test_biases_do_not_decay():
    recipe = TrainingRecipe(epochs=1, batch_size=32, learning_rate=1e-2, weight_decay=1.0, warmup=0.0)
    made = plain(build(), Feed(), recipe)
    biases = [v for v in made.variables if len(v.shape) < 2]
    assert biases
    assert not any(made.optimizer._use_weight_decay(v) for v in biases)
    assert all(made.optimizer._use_weight_decay(v) for v in made.variables if len(v.shape) > 1)
