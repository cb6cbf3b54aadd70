import numpy as np
import pytest

from astroflow.networks.targets import box_bijector
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import Architecture
from astroflow.training.polish import ROUNDS, polish_flow
from astroflow.training.recipe import TrainingRecipe

ARCHITECTURE = Architecture.model_validate(
    {"summary": {"channels": {}, "dense": (16,), "context": 4}, "flow": {"layers": 2, "hidden": (8,)}}
)
RECIPE = TrainingRecipe(epochs=4, batch_size=64, polish=2)


def problem(n, seed):
    """Theta is x, with noise of a tenth."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return {"x": x.astype(np.float32), "theta": (x + 0.1 * rng.normal(size=(n, 2))).astype(np.float32)}


class Feed:
    steps_per_epoch = 12

    def __init__(self):
        self.asked = []

    def epoch(self, epoch, first=0):
        self.asked.append(epoch)
        for k in range(self.steps_per_epoch):
            yield problem(64, seed=100 * epoch + k)


HELD_OUT = problem(300, seed=12345)


@pytest.fixture
def estimator():
    """A summary that says enough, and a flow that knows nothing yet."""
    made = Estimator(ARCHITECTURE, {"x": (2,)}, box_bijector([None, None]), 2, (), 0)
    made.adapt({"x": HELD_OUT["x"]}, HELD_OUT["theta"])
    return made


def weights(estimator):
    return {name: v.numpy() for name, v in estimator.variables.items()}


def score(estimator):
    context, _ = estimator.encode(HELD_OUT)
    return estimator.log_prob(HELD_OUT["theta"][:, None], context).mean(dtype=np.float64)


def test_the_flow_gets_better_and_the_summary_stays(estimator):
    before, first, feed, told = weights(estimator), score(estimator), Feed(), []
    after = polish_flow(estimator, feed, HELD_OUT, RECIPE, seed=1, progress=lambda *args: told.append(args[:3]))
    assert after > first + 0.2
    assert np.isclose(after, score(estimator))
    changed = {name for name, value in weights(estimator).items() if not np.array_equal(value, before[name])}
    assert changed
    assert all(name.startswith("layer") for name in changed)
    assert {name.split("/")[0] for name in changed} == {"layer0", "layer1"}
    assert feed.asked == [4, 5], "the epochs after the training's"
    assert [stage for stage, _, _ in told] == ["polish"] * (ROUNDS + 1)
    assert [done * ROUNDS / total for _, done, total in told] == list(range(ROUNDS + 1))


def test_the_same_seed_gives_the_same_flow(estimator):
    before = weights(estimator)
    polish_flow(estimator, Feed(), HELD_OUT, RECIPE, seed=1)
    one = weights(estimator)
    for variable, value in zip(estimator.variables.values(), before.values(), strict=True):
        variable.assign(value)
    polish_flow(estimator, Feed(), HELD_OUT, RECIPE, seed=1)
    assert all(np.allclose(value, one[name], atol=1e-5) for name, value in weights(estimator).items())


def test_a_worse_flow_is_not_kept(estimator):

    class Nonsense(Feed):
        def epoch(self, epoch, first=0):
            for batch in super().epoch(epoch, first):
                yield batch | {"theta": -batch["theta"]}

    first = polish_flow(estimator, Feed(), HELD_OUT, RECIPE, seed=1)
    before = weights(estimator)
    assert np.isclose(polish_flow(estimator, Nonsense(), HELD_OUT, RECIPE, seed=1), first)
    assert all(np.array_equal(value, before[name]) for name, value in weights(estimator).items())


def test_no_polishing_is_no_polishing(estimator):
    before, feed = weights(estimator), Feed()
    assert np.isclose(polish_flow(estimator, feed, HELD_OUT, RECIPE.model_copy(update={"polish": 0}), seed=1), score(estimator))
    assert feed.asked == []
    assert all(np.array_equal(value, before[name]) for name, value in weights(estimator).items())
