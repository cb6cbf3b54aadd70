"""The gate learns whom to believe, and never quite leaves either out."""

import numpy as np
import tensorflow as tf
from scipy import stats

from astroflow.posteriors.exact.certificate import weigh
from astroflow.posteriors.gate import LEAST, MOST, Gate, log_mixture
from astroflow.training.flow_fit import fit_flow


def test_the_gate_believes_whom_the_truth_favours():
    """Where each of the two densities is the right one is known here; and neither is ever left out."""
    features = np.random.default_rng(1).normal(size=(16384, 5)).astype(np.float32)
    gate = Gate(5, seed=0)
    better = features[:, 0] > 0
    arrays = {"advantage": np.where(better, 3.0, -3.0), "features": features}

    def gain(advantage, features):
        return gate.log_gain(tf.constant(advantage, tf.float32), tf.constant(features))

    before = np.mean(gain(**arrays))
    score = fit_flow(gate.log_gain, gate.trainable_variables, arrays, lambda: np.asarray(gain(**arrays)), stage="gate", rounds=20,
                     clip_norm=10.0, seed=0)  # fmt: skip
    assert score > before + 0.5
    share = np.asarray(gate(features))
    assert np.quantile(share[features[:, 0] > 0.5], 0.1) > 0.8
    assert np.quantile(share[features[:, 0] < -0.5], 0.9) < 0.2
    assert (np.asarray(gate(1e4 * features)) > 0.99 * LEAST).all()
    assert (np.asarray(gate(1e4 * features)) < 1 - 0.99 * LEAST).all()


def test_the_gain_is_that_of_the_mixture():
    gate, features = Gate(3, seed=1), np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    own, linear = np.array([-3.0, 2.0, -800.0, 5.0, 0.0, -1.0]), np.array([1.0, -2.0, 4.0, -900.0, 0.0, -1.0])
    share = np.asarray(gate(features), np.float64)
    expected = log_mixture(share, own, linear) - linear
    expected[3] = np.log(share[3]) + MOST  # an advantage is limited, or one galaxy would decide all
    np.testing.assert_allclose(gate.log_gain(tf.constant(own - linear, tf.float32), features), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        log_mixture(share[:2], own[:2], linear[:2]), np.log(share[:2] * np.exp(own[:2]) + (1 - share[:2]) * np.exp(linear[:2]))
    )


def test_a_share_covers_what_the_linearised_posterior_leaves_out():
    """The posterior is a standard normal, the linearised one three times too narrow, the network's own a little too wide."""
    rng = np.random.default_rng(3)
    narrow, wide = stats.norm(0, 1 / 3), stats.norm(0, 1.5)
    verdicts = {}
    for share in (1e-12, 0.3):
        own = rng.random((40, 2000)) < share
        x = np.where(own, wide.rvs((40, 2000), random_state=rng), narrow.rvs((40, 2000), random_state=rng))
        verdicts[share] = weigh(stats.norm.logpdf(x) - log_mixture(np.array(share), wide.logpdf(x), narrow.logpdf(x)))
    assert np.median(verdicts[1e-12]["k_hat"]) > 0.7
    assert np.median(verdicts[0.3]["k_hat"]) < 0.5
    assert (verdicts[0.3]["efficiency"] > 2 * verdicts[1e-12]["efficiency"]).mean() > 0.9


def test_the_least_share_does_not_show_in_standard_deviations():
    for times_too_wide in (3, 20):
        assert np.sqrt(1 + LEAST * (times_too_wide**2 - 1)) < 1.03
