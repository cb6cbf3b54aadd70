from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from astroflow.networks.targets import box_bijector
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import Architecture, VariationalRecipe
from astroflow.training.loop import fit_estimator
from astroflow.training.recipe import TrainingRecipe
from astroflow.training.variational import FIRST_SD, PointWeights, VariationalWeights

PRIOR = 0.8
NOISE = 0.5
rng = np.random.default_rng


class Line:
    """y = 3 a + x . w + noise, a of no interest: for orthogonal x the weights' posterior is normal and independent, and exactly known."""

    def __init__(self, n=40):
        x = np.linalg.qr(rng(0).normal(size=(n, 2)))[0]
        self.x = (x * np.array([2.0, 0.3])).astype(np.float32)
        self.y = (self.x @ np.array([0.7, -0.4]) + NOISE * rng(1).normal(size=n)).astype(np.float32)
        self.precision = (self.x**2).sum(0) / NOISE**2 + 1 / PRIOR**2
        self.mean = self.x.T @ self.y / NOISE**2 / self.precision
        self.sd = 1 / np.sqrt(self.precision)
        covariance = NOISE**2 * np.eye(n) + PRIOR**2 * self.x @ self.x.T
        self.log_evidence = float(tfd.MultivariateNormalFullCovariance(tf.zeros(n), covariance.astype(np.float32)).log_prob(self.y))

    def log_likelihood(self, w):
        return tf.reduce_sum(tfd.Normal(tf.linalg.matvec(self.x, w), NOISE).log_prob(self.y))


@pytest.fixture(scope="module")
def fitted():
    """The line's weights after the ELBO is at its maximum: everything that the training loop does, on a model whose answer is known."""
    line, w = Line(), tf.Variable([0.0, 0.0])
    n = len(line.y)
    weights = VariationalWeights([w], [(w, np.full(2, PRIOR))], n)
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(0.02, 1500))

    @tf.function(jit_compile=True)
    def step(noise):
        weights.place(noise)
        with tf.GradientTape() as tape:
            loss = -line.log_likelihood(w) / n
        optimizer.apply(weights.gradients(tape.gradient(loss, [w]), noise), weights.variables)

    optimizer.build(weights.variables)
    generator = rng(2)
    for _ in range(1500):
        step(tf.constant(generator.standard_normal(2), tf.float32))
    return line, w, weights


def test_the_exact_posterior_of_a_linear_model_is_found(fitted):
    line, _, weights = fitted
    assert np.allclose(weights.mean, line.mean, atol=0.15 * line.sd.min())
    assert np.allclose(weights.sd, line.sd, rtol=0.1)
    assert line.sd[1] > 3 * line.sd[0], "one weight is known, of the other the data say little"


def test_the_elbo_is_the_evidence_there_and_less_elsewhere(fitted):
    line, w, weights = fitted
    n, kept = len(line.y), [v.numpy() for v in weights.variables]

    def elbo():
        """Integrated over the weights by Gauss-Hermite nodes, exact for a quadratic."""
        nodes, shares = np.polynomial.hermite_e.hermegauss(3)
        loss = 0.0
        for i, a in enumerate(nodes):
            for j, b in enumerate(nodes):
                weights.place(np.array([a, b], np.float32))
                loss -= float(line.log_likelihood(w)) / n * shares[i] * shares[j] / shares.sum() ** 2
        return (-loss - weights.divergence()) * n

    assert elbo() == pytest.approx(line.log_evidence, abs=0.05)
    assert elbo() <= line.log_evidence + 1e-3
    for moved in ((0.3, 0.0), (0.0, 0.15), (0.0, -0.15)):
        for variable, value, step in zip(weights.variables, kept, moved, strict=True):
            variable.assign(value + step)
        assert elbo() < line.log_evidence - 0.1
    for variable, value in zip(weights.variables, kept, strict=True):
        variable.assign(value)


# -- the same by the training loop: moving averages, cut gradients, and the choice of an epoch -----------------------------------


class LineEstimator:
    """The line as the loop trains it. A third weight has no effect."""

    head = None
    shapes: ClassVar = {"x": (2,)}

    def __init__(self, first):
        self.w = tf.Variable(np.float32(first))
        self.trainable_variables = [self.w]

    def summary(self, batch, training):
        return batch["x"]

    def log_prob_graph(self, theta, context):
        return tfd.Normal(tf.linalg.matvec(context, self.w[:2]), NOISE).log_prob(theta[:, 0])


class LineFeed:
    """All of the line in every batch."""

    steps_per_epoch = 20

    def __init__(self, line):
        self.batch = {"x": line.x, "theta": line.y[:, None], "auxiliary": np.zeros((len(line.y), 0), np.float32)}

    def epoch(self, epoch, first=0):
        for _ in range(first, self.steps_per_epoch):
            yield self.batch


@pytest.mark.parametrize("claimed", [20, 40, 80])
def test_training_finds_the_exact_posterior_of_as_many_simulations_as_there_are(claimed):
    """It begins where the score at the mean weights is highest and spreads are far too small. Twice the simulations are another answer."""
    line = Line()
    precision = claimed / 40 * (line.x**2).sum(0) / NOISE**2 + 1 / PRIOR**2
    sd = 1 / np.sqrt(precision)
    mean = claimed / 40 * (line.x.T @ line.y) / NOISE**2 / precision
    estimator, feed = LineEstimator([*(line.x.T @ line.y / (line.x**2).sum(0)), 0.5]), LineFeed(line)
    weights = VariationalWeights([estimator.w], [(estimator.w, np.full(3, PRIOR))], claimed)
    recipe = TrainingRecipe(epochs=60, batch_size=40, learning_rate=2e-2, ema=0.98, clip_norm=0.5)
    fit_estimator(estimator, feed, feed.batch, recipe, weights=weights, seed=3)
    assert np.allclose(weights.sd[:2], sd, rtol=0.1)
    assert np.allclose(weights.mean[:2], mean, atol=0.2 * sd)
    assert float(weights.sd[2]) == pytest.approx(PRIOR, rel=0.05), "of which the simulations say nothing"
    assert float(weights.mean[2]) == pytest.approx(0, abs=0.2 * PRIOR)
    assert np.allclose(estimator.w, weights.mean), "it ends with the means"


def test_gradients_are_those_of_finite_differences():
    w, other = tf.Variable([[0.3, -0.2]]), tf.Variable(1.5)
    weights = VariationalWeights([other, w], [(w, np.array([[0.5, 2.0]]))], 7)
    noise = tf.constant([0.8, -1.3])

    def loss():
        weights.place(noise)
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(tf.sin(w) * other) + other**2
        return value, tape.gradient(value, weights.network)

    _, by_network = loss()
    found = weights.gradients(by_network, noise)
    assert [tuple(v.shape) for v in weights.variables] == [(), (2,), (2,)]
    for variable, gradient in zip(weights.variables, found, strict=True):
        flat = variable.numpy().ravel()
        for k in range(flat.size):
            values = []
            for step in (1e-2, -1e-2):
                moved = flat.copy()
                moved[k] += step
                variable.assign(moved.reshape(variable.shape))
                values.append(float(loss()[0]) + weights.divergence())
            variable.assign(flat.reshape(variable.shape))
            assert np.ravel(gradient)[k] == pytest.approx((values[0] - values[1]) / 2e-2, rel=0.02, abs=1e-3)


def estimator(kind="maf"):
    flow = {"layers": 2, "hidden": (8, 8)} if kind == "maf" else {"kind": "mixture", "hidden": (8,), "components": 3}
    architecture = Architecture.model_validate({"summary": {"channels": {}, "dense": (8,), "context": 4}, "flow": flow})
    return Estimator(architecture, {"x": (2,)}, box_bijector([None, None]), 2, (), 0)


@pytest.mark.parametrize("kind", ["maf", "mixture"])
@pytest.mark.parametrize("layers", ["last", "all"])
def test_only_weights_that_are_asked_for_have_a_distribution(kind, layers):
    made = estimator(kind)
    before = {name: v.numpy() for name, v in made.variables.items()}
    weights = VariationalWeights.of_flow(made, VariationalRecipe(layers=layers), 100)
    weights.place(np.zeros(weights.size, np.float32))
    assert all(np.array_equal(v, before[name]) for name, v in made.variables.items()), "it begins about the weights that are there"
    weights.place(np.ones(weights.size, np.float32))
    changed = {name for name, v in made.variables.items() if not np.array_equal(v, before[name])}
    assert changed
    assert changed <= set(made.flow_variables)
    if layers == "all":
        assert changed == set(made.flow_variables)
    else:
        last = len(made.flow.conditioners[0].biases) - 1
        assert {name.split("/")[1].strip("abcdefghijklmnopqrstuvwxyz") for name in changed} == {str(last)}
    # a standard deviation as the recipe has it, for a bias
    name = next(name for name in changed if "bias" in name)
    assert np.allclose(made.variables[name] - before[name], FIRST_SD, rtol=1e-5)


def test_weights_that_masks_remove_cost_nothing():
    made = estimator()
    weights = VariationalWeights.of_flow(made, VariationalRecipe(layers="all"), 1)
    masked = sum(int((np.asarray(mask) == 0).sum()) for c in made.flow.conditioners for mask in c.masks if mask is not None)
    assert masked > 20
    assert int(np.sum(weights._used == 0)) == masked
    before = weights.divergence()
    weights.mean.assign_add(100.0 * np.asarray(weights._used == 0, np.float32))
    assert weights.divergence() == before


def test_usual_weights_are_left_alone():
    w = tf.Variable([1.0, 2.0])
    weights = PointWeights([w])
    weights.place(np.zeros(0, np.float32))
    assert weights.variables == [w]
    assert weights.size == 0
    assert weights.gradients([3.0], None) == [3.0]
    assert weights.divergence() == 0
