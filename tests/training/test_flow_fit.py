"""Fitting a density to rows: what is kept, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from astroflow.errors import AstroflowError
from astroflow.training.flow_fit import fit_flow

X = np.random.default_rng(1).normal(0.5, 1.0, 2048).astype(np.float32)
HELD = np.random.default_rng(2).normal(0.5, 1.0, 500).astype(np.float32)


class Normal:
    """Of unit width, about a centre that is to be found."""

    def __init__(self):
        self.centre = tf.Variable(0.0)

    def log_prob(self, x):
        return -0.5 * (x - self.centre) ** 2 - 0.5 * np.log(2 * np.pi)

    def fit(self, x=X, scores=None):
        scores = scores or (lambda: self.log_prob(HELD).numpy())
        return fit_flow(self.log_prob, [self.centre], {"x": x}, scores, stage="test", rounds=200, clip_norm=100.0, seed=1)


def test_the_centre_is_found():
    model = Normal()
    score = model.fit()
    assert abs(model.centre.numpy() - X.mean()) < 0.1
    assert np.isclose(score, model.log_prob(HELD).numpy().mean(), atol=1e-6)


def test_what_is_worse_is_not_kept():
    model = Normal()
    score = model.fit(x=-X)
    assert model.centre.numpy() == 0
    assert np.isclose(score, model.log_prob(HELD).numpy().mean(), atol=1e-6)


def test_a_few_truths_without_a_density_do_not_count():
    model = Normal()

    def scores():
        out = model.log_prob(HELD).numpy()
        out[:3] = -np.inf
        return out

    score = model.fit(scores=scores)
    assert abs(model.centre.numpy() - X.mean()) < 0.1
    assert np.isclose(score, model.log_prob(HELD[3:]).numpy().mean(), atol=1e-6)


def test_many_truths_without_a_density_are_an_error():
    with pytest.raises(AstroflowError, match="test: 100 of 500 held-out truths have no finite density"):
        Normal().fit(scores=lambda: np.where(np.arange(500) < 100, -np.inf, 0.0))


def test_a_fit_that_ended_nowhere_is_an_error():
    """Not silently what it was before."""
    model = Normal()
    with pytest.raises(AstroflowError, match="became nan"):
        model.fit(x=np.where(np.arange(len(X)) == 7, np.nan, X))
