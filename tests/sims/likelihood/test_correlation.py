import numpy as np
import pytest
from scipy.linalg import toeplitz

from astroflow.errors import InputError
from astroflow.sims.likelihood.correlation import central_moments, checked_correlation, power, toeplitz_blocks


def example(reach=2):
    line = np.exp(-(np.arange(-reach, reach + 1.0) ** 2))
    return np.outer(line, line)


def test_lags_without_correlation_and_beyond_the_stamp_are_cut():
    wide = np.zeros((1, 1, 31, 31))
    wide[0, 0, 13:18, 13:18] = example()
    wide[0, 0, [2, 28], 15] = 0.1  # 13 rows apart: none are, in 12 rows
    cut = checked_correlation(wide, (1, 1, 12, 12))
    np.testing.assert_allclose(cut[0], example())
    assert checked_correlation(wide, (1, 1, 14, 14)).shape == (1, 27, 5)


@pytest.mark.parametrize("change", ["centre", "lopsided", "nan", "even", "shape"])
def test_what_is_no_correlation_is_refused(change):
    given = example()[None, None].copy()
    if change == "centre":
        given *= 2
    elif change == "lopsided":
        given[0, 0, 0, 0] += 0.1
    elif change == "nan":
        given[0, 0, 0, 0] = np.nan
    elif change == "even":
        given = given[..., :4, :4]
    else:
        given = given[0]
    with pytest.raises(InputError, match="noise_correlation"):
        checked_correlation(given, (1, 1, 12, 12))


@pytest.mark.parametrize("height", [3, 7, 12])
def test_blocks_put_together_are_the_correlation_matrix(height):
    blocks = toeplitz_blocks(example()[None], height, 5)
    size = blocks.diagonal.shape[-1]
    whole = np.zeros((blocks.count * size,) * 2)
    for j in range(blocks.count):
        here, after = slice(j * size, (j + 1) * size), slice((j + 1) * size, (j + 2) * size)
        whole[here, here] = blocks.diagonal[0]
        if j + 1 < blocks.count:
            whole[after, here], whole[here, after] = blocks.lower[0], blocks.lower[0].T
    line = np.exp(-(np.arange(20.0) ** 2)) * (np.arange(20) < 3)
    expected = np.kron(toeplitz(line[:height]), toeplitz(line[:5]))
    np.testing.assert_allclose(whole[: height * 5, : height * 5], expected, atol=1e-15)


def test_power_and_its_moments_are_those_of_the_periodic_covariance():
    spectrum = power(example())
    lags = np.minimum(np.arange(32), 32 - np.arange(32))
    line = np.where(lags < 3, np.exp(-(lags.astype(float) ** 2)), 0)
    values = np.linalg.eigvalsh(toeplitz(line))
    np.testing.assert_allclose(np.sort(spectrum), np.sort(np.outer(values, values).ravel()), atol=1e-12)
    q = np.array([0.0, 0.02, 1.0, 30.0])
    third, fourth = central_moments(spectrum, q)
    inverse = 1 / (spectrum[:, None] + np.maximum(q, 1e-4))
    centred = inverse - inverse.mean(0)
    np.testing.assert_allclose(third, (centred**3).mean(0), rtol=0.05, atol=1e-3)
    np.testing.assert_allclose(fourth, (centred**4).mean(0), rtol=0.05, atol=1e-3)
