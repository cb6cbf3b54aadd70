from itertools import islice, pairwise

import numpy as np
import tensorflow as tf

from astroflow.sims.likelihood.photon import conjugate_gradient_forms, log_det_change


def example(seed=0, n=30, change=0.3):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    C0 = root @ root.T / n + np.eye(n)
    delta = change * rng.uniform(-1, 1, (2, n))
    x = rng.normal(size=(2, 3, n))
    solve = tf.constant(np.linalg.inv(C0))
    return C0, delta, x, lambda r: tf.matmul(r, solve)


def test_conjugate_gradients_come_quadratically_closer_and_are_exact_in_the_end():
    C0, delta, x, solve = example()
    steps = islice(conjugate_gradient_forms(tf.constant(x[None]), tf.constant(delta[None]), solve), 12)
    truth = np.array([y @ np.linalg.solve(C0 + np.diag(d), y.T) for d, y in zip(delta, x, strict=True)])
    errors = [np.abs(forms[0] - truth).max() for forms in steps]
    assert errors[0] < 1
    assert all(after < 0.2 * before for before, after in pairwise(errors[:5]))
    assert errors[-1] < 1e-10


def test_no_change_takes_one_step_and_zero_has_no_norm():
    C0, delta, x, solve = example()
    x[:, 0] = 0
    first, second = islice(conjugate_gradient_forms(tf.constant(x[None]), tf.constant(0 * delta[None]), solve), 2)
    np.testing.assert_allclose(first[0], x @ np.linalg.solve(C0, x.transpose(0, 2, 1)), atol=1e-12)
    np.testing.assert_array_equal(first, second)


def test_the_determinant_is_exact_in_pairs():
    """One block, so every pair is in: what is left is of third order."""
    for change in (0.3, 0.03):
        C0, delta, _, _ = example(change=change)
        S = np.linalg.inv(C0)
        zero = np.zeros((1, 1, len(S)))
        squares = (S * S * (1 - np.eye(len(S))))[None]
        arguments = (tf.constant(delta[None]), lambda x: [x], np.diag(S)[None, None], [tf.constant(squares)], [], zero, zero)
        found = log_det_change(*arguments).numpy()[0]
        truth = [np.linalg.slogdet(C0 + np.diag(d))[1] - np.linalg.slogdet(C0)[1] for d in delta]
        size = np.sum(np.abs(delta) ** 3)
        assert np.abs(found - truth).max() < 0.2 * size
    unmixed = log_det_change(tf.constant(delta[None]), lambda x: [x], np.ones((1, 1, len(S))), [0 * squares], [], zero, zero)
    np.testing.assert_allclose(unmixed[0], np.log1p(delta).sum(1), rtol=1e-12)
