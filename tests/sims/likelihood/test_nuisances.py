import numpy as np
import pytest
import tensorflow as tf

from astroflow.errors import InputError
from astroflow.sims.likelihood.nuisances import Nuisances, columns_of, marginal_forms, shrinkage

SHAPE = (2, 1, 5, 6)


def test_columns_are_sky_gradient_and_modes_times_their_prior_widths():
    modes = np.random.default_rng(0).normal(size=(2, 1, 2, 5, 6))
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    columns = columns_of(Nuisances(sky=[[0.1], [0.2]], gradient=0.3, modes=modes, mode_covariance=covariance), SHAPE)
    assert columns.shape == (2, 1, 5, 5, 6)
    np.testing.assert_allclose(columns[:, 0, 0, 0, 0], [0.1, 0.2])
    np.testing.assert_allclose(columns[0, 0, 1, 3], 0.3 * (np.arange(6) - 2.5))
    np.testing.assert_allclose(columns[0, 0, 2, :, 3], 0.3 * (np.arange(5) - 2))
    given, flat = modes[1, 0].reshape(2, -1), columns[1, 0, 3:].reshape(2, -1)
    np.testing.assert_allclose(flat.T @ flat, given.T @ covariance @ given)
    assert columns_of(Nuisances(zero_point=0.1), SHAPE).shape == (2, 1, 0, 5, 6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sky": -1.0}, "`sky`"),
        ({"zero_point": np.nan}, "`zero_point`"),
        ({"zero_point": np.ones(2)}, "`zero_point`"),
        ({"mode_covariance": np.eye(2)}, "one row per image of `modes`"),
        ({"modes": np.zeros((2, 1, 2, 5, 6)), "mode_covariance": np.ones((2, 2))}, "not positive definite"),
        ({"gradient": np.ones(3)}, "`gradient`"),
        ({"modes": np.zeros((2, 1, 5, 6))}, "`modes`"),
    ],
)
def test_what_is_no_prior_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        columns_of(Nuisances(**given), SHAPE)


def test_woodbury_and_the_square_root_are_dense_algebra():
    rng = np.random.default_rng(1)
    x, A = rng.normal(size=(3, 20)), rng.normal(size=(4, 20))
    both = np.concatenate([x, A])
    forms, log_det = marginal_forms(tf.constant(both @ both.T), 3)
    C = np.eye(20) + A.T @ A
    np.testing.assert_allclose(forms, x @ np.linalg.solve(C, x.T), rtol=1e-10)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(C)[1], rtol=1e-12)
    root = np.eye(20) - A.T @ shrinkage(tf.constant(A @ A.T)).numpy() @ A
    np.testing.assert_allclose(root @ C @ root, np.eye(20), atol=1e-10)
    tiny = shrinkage(tf.constant([[1e-20]], tf.float64)).numpy()
    np.testing.assert_allclose(tiny, 0.5, rtol=1e-12)
