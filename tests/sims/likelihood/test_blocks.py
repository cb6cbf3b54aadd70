import numpy as np
import pytest
import tensorflow as tf
from scipy.linalg import toeplitz

from astroflow.sims.likelihood.blocks import factorise
from astroflow.sims.likelihood.correlation import toeplitz_blocks

HEIGHT, WIDTH = 9, 5
P = HEIGHT * WIDTH
LINE = np.array([0.0, 0.1, 0.5, 1.0, 0.5, 0.1, 0.0])[1:-1]


def covariances(seed=0):
    """Two masks and two photon noises over one correlation, and the dense covariances of the pixels that count."""
    rng = np.random.default_rng(seed)
    keep, q = rng.random((2, P)) < 0.8, rng.uniform(0, 2, (2, P))
    column = np.r_[LINE[2:], np.zeros(10)]
    R = np.kron(toeplitz(column[:HEIGHT]), toeplitz(column[:WIDTH]))
    dense = [(R + np.diag(extra))[np.ix_(k, k)] for k, extra in zip(keep, q, strict=True)]
    return keep, q, dense, factorise(toeplitz_blocks(np.outer(LINE, LINE)[None], HEIGHT, WIDTH), keep, q)


def test_factors_solve_whiten_and_have_the_determinant_of_the_pixels_that_count():
    keep, _, dense, factor = covariances()
    np.testing.assert_allclose(factor.log_det, [np.linalg.slogdet(C)[1] for C in dense], rtol=1e-12)
    x = np.random.default_rng(1).normal(size=(2, 3, P)) * keep[:, None]
    white = factor.whiten(tf.constant(x))
    solved = factor.unwhiten(white).numpy()
    for row, C in enumerate(dense):
        expected = np.linalg.solve(C, x[row][:, keep[row]].T).T
        np.testing.assert_allclose(solved[row][:, keep[row]], expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.sum(white[row] ** 2, -1), np.sum(expected * x[row][:, keep[row]], -1), rtol=1e-10)
        assert not solved[row][:, ~keep[row]].any()


def test_the_selected_inverse_is_the_inverse_where_it_is_selected():
    keep, _, dense, factor = covariances()
    on, below = factor.selected_inverse()
    size = on[0].shape[-1]
    for row, C in enumerate(dense):
        whole = np.eye(len(on) * size)
        whole[np.ix_(np.flatnonzero(keep[row]), np.flatnonzero(keep[row]))] = np.linalg.inv(C)
        for j, block in enumerate(on):
            np.testing.assert_allclose(block[row], whole[j * size : (j + 1) * size, j * size : (j + 1) * size], atol=1e-12)
        for j, block in enumerate(below):
            np.testing.assert_allclose(block[row], whole[(j + 1) * size : (j + 2) * size, j * size : (j + 1) * size], atol=1e-12)


def test_one_factor_serves_all_rows():
    blocks = toeplitz_blocks(np.outer(LINE, LINE)[None], HEIGHT, WIDTH)
    one, two = (factorise(blocks, np.ones((n, P), bool), np.zeros((n, P))) for n in (1, 2))
    x = tf.constant(np.random.default_rng(1).normal(size=(2, 3, P)))
    np.testing.assert_allclose(one.whiten(x), two.whiten(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(one.unwhiten(one.whiten(x)), two.unwhiten(two.whiten(x)), rtol=1e-10, atol=1e-12)


def test_what_is_not_positive_definite_has_no_factor():
    line = np.array([0.9, 1.0, 0.9])
    with pytest.raises(np.linalg.LinAlgError):
        factorise(toeplitz_blocks(np.outer(line, line)[None], HEIGHT, WIDTH), np.ones((1, P), bool), np.zeros((1, P)))
