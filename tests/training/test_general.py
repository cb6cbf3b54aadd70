import numpy as np
import pytest

import astroflow.training.general as general
from astroflow.errors import ConfigError, InputError
from astroflow.training.general import GeneralConfig, train_estimator

SMALL = {
    "summary": {"dense": [32], "context": 8},
    "flow": {"layers": 2, "hidden": [16]},
    "training": {"epochs": 6, "batch_size": 64, "learning_rate": 5e-3, "ema": 0.95},
}
rng = np.random.default_rng


class Linear:
    """theta ~ N(m, P), x = A theta + noise: the posterior is known exactly."""

    mean = np.array([1.0, -2.0])
    prior = np.array([[1.0, 0.3], [0.3, 0.5]])
    matrix = np.array([[1.0, 0.5], [-0.7, 1.0], [0.2, 0.9]])
    noise = np.diag([0.3, 0.8, 0.5]) ** 2

    def draw(self, n, seed):
        theta = rng(seed).multivariate_normal(self.mean, self.prior, n)
        return theta, theta @ self.matrix.T + rng(seed + 1).multivariate_normal(np.zeros(3), self.noise, n)

    def posterior(self, x):
        precision = np.linalg.inv(self.prior) + self.matrix.T @ np.linalg.inv(self.noise) @ self.matrix
        covariance = np.linalg.inv(precision)
        data = x @ np.linalg.inv(self.noise) @ self.matrix + np.linalg.inv(self.prior) @ self.mean
        return data @ covariance, covariance


@pytest.fixture(scope="module")
def linear():
    theta, x = Linear().draw(20_000, seed=0)
    return train_estimator(
        theta,
        x,
        {
            "summary": {"channels": {}, "dense": [32], "context": 8},
            "flow": {"layers": 3, "hidden": [24]},
            "training": {"epochs": 12, "batch_size": 256, "learning_rate": 5e-3, "ema": 0.98},
        },
    )


def test_a_linear_gaussian_problem_has_its_exact_posterior(linear):
    theta, x = Linear().draw(1000, seed=50)
    mean, covariance = Linear().posterior(x)
    sd = np.sqrt(np.diag(covariance))
    context, _ = linear.encode({"x": x})
    draws = linear.sample(context, rng(1).standard_normal((1000, 400, 2), dtype=np.float32)).astype(np.float64)
    pull = (draws.mean(1) - mean) / sd
    assert np.sqrt((pull**2).mean(0)).max() < 0.15
    assert np.abs(pull.mean(0)).max() < 0.1
    centred = draws - draws.mean(1, keepdims=True)
    found = np.einsum("nsp,nsq->npq", centred, centred) / 399
    assert np.allclose(found.mean(0), covariance, atol=0.05 * covariance.max())
    assert np.allclose(np.sqrt(np.median(found, 0).diagonal()), sd, rtol=0.05)
    correlation = covariance[0, 1] / sd.prod()
    assert abs(correlation) > 0.2
    assert np.isclose(np.median(found[:, 0, 1] / np.sqrt(found[:, 0, 0] * found[:, 1, 1])), correlation, atol=0.06)
    # and the truth is as likely under it as under the exact one, to a fiftieth of a nat
    residual = theta - mean
    exact = (
        -0.5 * np.einsum("np,pq,nq->n", residual, np.linalg.inv(covariance), residual) - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    assert abs((linear.log_prob(theta[:, None], context)[:, 0] - exact).mean()) < 0.02


def test_its_density_integrates_to_one(linear):
    _, x = Linear().draw(64, seed=70)
    mean, covariance = Linear().posterior(x)
    root = np.linalg.cholesky(4 * covariance)
    u = rng(0).normal(size=(64, 4000, 2))
    theta = mean[:, None] + u @ root.T
    weight = -0.5 * (u**2).sum(-1) - np.log(2 * np.pi) - np.linalg.slogdet(root)[1]
    context, _ = linear.encode({"x": x})
    assert np.allclose(np.exp(linear.log_prob(theta, context) - weight).mean(1), 1, atol=0.1)


def test_bounded_parameters_stay_inside_and_are_learned():
    theta = rng(0).uniform([-1.0, 0.0], [1.0, 1e-6], (2000, 2))
    x = (theta * [1, 1e6] + rng(1).normal(0, 0.15, (2000, 2))) * 1e-9
    estimator = train_estimator(theta, x, SMALL | {"bounds": [[-1.0, 1.0], [0.0, 1e-6]]})
    far = np.array([[0, 0], [1e-9, 1e-9], [5e-9, -5e-9], [1.0, -1.0]])  # the last two are nothing that it has seen
    context, _ = estimator.encode({"x": far})
    draws = estimator.sample(context, rng(2).standard_normal((4, 2000, 2), dtype=np.float32) * 3)
    assert draws[..., 0].min() > -1
    assert draws[..., 0].max() < 1
    assert draws[..., 1].min() > 0
    assert draws[..., 1].max() < np.float32(1e-6)
    assert np.isfinite(estimator.log_prob(draws, context)).all()
    outside = np.array([[[1.01, 5e-7], [0, -1e-9], [-2, 2e-6], [np.nan, 5e-7]]] * 4, np.float32)
    assert (estimator.log_prob(outside, context) == -np.inf).all()
    assert abs(np.median(draws[0, :, 0])) < 0.3
    assert np.median(draws[1, :, 0]) > 0.6
    assert np.median(draws[1, :, 1]) > 6e-7


def pictures(n, seed):
    """A spot whose brightness and column are the parameters."""
    theta = rng(seed).uniform([1, 2], [5, 9], (n, 2))
    column = np.arange(12)[None, None, :]
    spot = np.exp(-0.5 * (column - theta[:, 1, None, None]) ** 2) * np.ones((1, 10, 1))
    return theta, theta[:, 0, None, None] * spot + rng(seed + 1).normal(0, 0.5, (n, 10, 12))


@pytest.mark.parametrize("kind", ["(N, H, W)", "dict"])
def test_pictures_and_dicts_are_data_too(kind):
    theta, image = pictures(1200, seed=0)
    if kind == "dict":
        x = {
            "picture": np.stack([image, -image], -1),
            "context": theta[:, :1] + rng(5).normal(0, 0.1, (1200, 1)),
            "noise": rng(6).normal(size=(1200, 3)),
        }
    else:
        x = image
    channels = {"picture" if kind == "dict" else "x": [4, 8]}
    estimator = train_estimator(theta, x, SMALL | {"summary": SMALL["summary"] | {"channels": channels}, "bounds": [None, [1.5, 9.5]]})
    names = x if isinstance(x, dict) else {"x": x}
    arrays = {name: (value[..., None] if value.ndim == 3 else value) for name, value in names.items()}
    context, _ = estimator.encode({name: value[:300] for name, value in arrays.items()})
    draws = estimator.sample(context, rng(2).standard_normal((300, 64, 2), dtype=np.float32))
    for k in range(2):
        assert np.corrcoef(draws[..., k].mean(1), theta[:300, k])[0, 1] > 0.8
        assert draws[..., k].std(1).mean() < 0.6 * theta[:, k].std()


def test_one_parameter_is_enough():
    theta = rng(0).normal(size=(600, 1))
    estimator = train_estimator(theta, theta + rng(1).normal(0, 0.3, (600, 1)), SMALL)
    context, _ = estimator.encode({"x": np.array([[-1.0], [1.0]])})
    low, high = estimator.sample(context, rng(2).standard_normal((2, 64, 1), dtype=np.float32)).mean((1, 2))
    assert high - low > 1


def test_rows_that_come_in_an_order_are_held_out_at_random(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        general, "fit_members", lambda estimator, feed, held_out, *_, **__: seen.update(held_out=held_out, train=feed.arrays)
    )
    theta = np.arange(400.0)[:, None]
    train_estimator(theta, theta * 2, SMALL)
    held_out = seen["held_out"]["theta"][:, 0]
    assert len(held_out) == 20
    assert held_out.min() < 100
    assert held_out.max() > 300
    assert np.array_equal(np.sort(np.concatenate([held_out, seen["train"]["theta"][:, 0]])), theta[:, 0])
    for rows in seen.values():
        assert np.array_equal(rows["x"], rows["theta"] * 2), "rows stay together"


def test_small_sets_train_in_smaller_batches(monkeypatch):
    sizes = []
    monkeypatch.setattr(general, "fit_members", lambda estimator, feed, *_, **__: sizes.append((feed.batch_size, feed.steps_per_epoch)))
    train_estimator(rng(0).normal(size=(20, 2)), rng(1).normal(size=(20, 3)), SMALL)
    assert sizes == [(19, 1)]


@pytest.mark.parametrize(
    ("n", "training", "epochs", "size"),
    [
        (20, {}, 60, 20),
        (1000, {}, 60, 32),
        (20_000, {}, 60, 100),
        (50_000, {}, 30, 250),
        (10**6, {}, 15, 256),
        (10**6, {"batch_size": 64}, 15, 64),
        (50, {"batch_size": 64}, 60, 50),
        (1000, {"epochs": 3}, 3, 32),
    ],
)
def test_small_sets_are_seen_more_often_in_smaller_batches_unless_these_are_given(n, training, epochs, size):
    settings = GeneralConfig.model_validate({"training": {"patience": 5, **training}}).training.sized(n)
    assert (settings.epochs, settings.batch_size, settings.patience) == (epochs, size, 5)


def test_a_parameter_that_rounding_puts_on_its_bound_is_inside():
    theta = rng(0).uniform(0, 1, (200, 1))
    theta[:2] = [[1 - 1e-12], [1e-60]]
    estimator = train_estimator(theta, theta + rng(1).normal(0, 0.1, theta.shape), SMALL | {"bounds": [[0, 1]]})
    context, _ = estimator.encode({"x": theta})
    assert np.isfinite(estimator.log_prob(theta[:, None], context)).all()


def test_positive_parameters_stay_positive_and_are_learned():
    theta = rng(0).lognormal([-8.0, 3.0], [1.0, 0.5], (2000, 2))
    estimator = train_estimator(theta, np.log(theta) + rng(1).normal(0, 0.2, theta.shape), SMALL | {"bounds": [[0, None], [0.0, None]]})
    context, _ = estimator.encode({"x": np.log([[1e-5, 10.0], [1e-2, 40.0]])})
    draws = estimator.sample(context, rng(2).standard_normal((2, 2000, 2), dtype=np.float32) * 3)
    assert draws.min() > 0
    assert np.isfinite(estimator.log_prob(draws, context)).all()
    assert (estimator.log_prob(-draws, context) == -np.inf).all()
    middle = np.median(np.log(draws), 1)
    assert np.abs(middle[1] - middle[0] - np.log([1000.0, 4.0])).max() < 1.5


GOOD = (rng(0).normal(size=(32, 2)), rng(1).normal(size=(32, 3)))


@pytest.mark.parametrize(
    ("theta", "x", "config", "message"),
    [
        (GOOD[0][:, 0], GOOD[1], {}, r"`theta` must be \(N, P\), with N of at least 16; got shape \(32,\)"),
        (GOOD[0][:3], GOOD[1][:3], {}, r"N of at least 16; got shape \(3, 2\)"),
        (GOOD[0][:, :0], GOOD[1], {}, r"got shape \(32, 0\)"),
        (GOOD[0], GOOD[1][:31], {}, r"`x` must be \(32, K\), \(32, H, W\) or \(32, H, W, C\); got shape \(31, 3\)"),
        (GOOD[0], GOOD[1][:, 0], {}, r"`x` must be .* got shape \(32,\)"),
        (GOOD[0], {"a": GOOD[1], "b": GOOD[1][:5]}, {}, r"`b` must be \(32, K\)"),
        (GOOD[0], np.where(np.arange(3) == 1, np.nan, GOOD[1]), {}, r"`x` holds 32 values that are not finite; mask or impute them first"),
        (np.where(np.arange(2) == 1, np.inf, GOOD[0]), GOOD[1], {}, "`theta` holds values that are not finite"),
        (GOOD[0], GOOD[1], {"bounds": [[-9, 9]]}, r"`bounds` must have one entry per parameter: expected 2, got 1"),
        (GOOD[0], GOOD[1], {"bounds": [[-9, 9], [0, 9]]}, r"parameter 1 spans .*, not inside its bounds \(0.0, 9.0\)"),
        (GOOD[0], GOOD[1], {"bounds": [None, [0, None]]}, r"parameter 1 spans .*, not inside its bounds \(0.0, None\)"),
        (GOOD[0], GOOD[1], {"bounds": [[None, 1], None]}, r"parameter 0 spans .*, not inside its bounds \(None, 1.0\)"),
        (GOOD[0], {"theta": GOOD[1]}, {}, r"'theta' cannot name an input"),
        (GOOD[0], {"my data": GOOD[1]}, {}, r"'my data' cannot name an input; use a Python identifier"),
    ],
)
def test_data_that_cannot_be_right_are_refused(theta, x, config, message):
    with pytest.raises(InputError, match=message):
        train_estimator(theta, x, config)


def test_no_data_at_all_are_refused():
    with pytest.raises(InputError, match="`x` is empty: give at least one array"):
        train_estimator(GOOD[0], {})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"epochs": 3}, r"config: unknown key `epochs`; known keys: .*training"),
        ({"training": {"epoch": 3}}, r"unknown key `training.epoch`.* Did you mean 'epochs'\?"),
        ({"summary": {"channels": {"x": [4]}}}, "`summary.channels` names 'x', which is no image input; the image inputs are none"),
        ({"flow": {"hidden": [1]}}, "needs hidden layers of at least 2 units"),
        ({"linearized": {"steps": 1}}, "config: `linearized`: it fits images of galaxies .* general problems do not have; leave it out"),
    ],
)
def test_unknown_settings_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        train_estimator(*GOOD, config)


def test_a_config_may_be_a_model(monkeypatch):
    seen = []
    monkeypatch.setattr(general, "fit_members", lambda estimator, feed, held_out, recipe, *_, **__: seen.append((recipe.epochs, feed.seed)))
    train_estimator(*GOOD, GeneralConfig.model_validate(SMALL | {"seed": 4}))
    assert seen == [(6, 4)]
