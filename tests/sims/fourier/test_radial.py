import galsim
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from astroflow.errors import ConfigError
from astroflow.sims.fourier.psf import moffat_family
from astroflow.sims.fourier.radial import moffat_table, sersic_table

K = np.geomspace(0.01, 200, 300)
TIGHT = galsim.GSParams(kvalue_accuracy=1e-7, maxk_threshold=1e-5, folding_threshold=1e-4)


def evaluated(table, shape, k=K):
    return table.evaluate(tf.constant([shape], tf.float32), tf.constant(k[None] ** 2, tf.float32)).numpy()[0]


@pytest.mark.parametrize("n", [0.31, 0.5, 0.83, 1.0, 2.4, 4.0, 6.15])
def test_sersic_transforms_are_galsims(n):
    table = sersic_table(0.3, 6.2)
    profile = galsim.Sersic(n, half_light_radius=1.0, gsparams=TIGHT)
    truth = np.array([profile.kValue(k, 0).real for k in K])
    assert np.abs(evaluated(table, n) - truth).max() < 2.5e-5


def test_gauss_and_exponential_are_exact():
    table = sersic_table(0.5, 1.0)
    gauss = np.exp(-(K**2) / 4 / special.gammaincinv(1, 0.5))
    exponential = (1 + (K / special.gammaincinv(2, 0.5)) ** 2) ** -1.5
    assert np.abs(evaluated(table, 0.5) - gauss).max() < 2.5e-5
    assert np.abs(evaluated(table, 1.0) - exponential).max() < 2.5e-5


@pytest.mark.parametrize("beta", [1.5, 1.9, 2.0, 3.0, 4.49, 4.5, 10.0, 19.9])
def test_moffat_transforms_are_galsims(beta):
    profile = galsim.Moffat(beta=beta, scale_radius=1.0)
    truth = np.array([profile.kValue(k, 0).real for k in K])
    assert np.abs(evaluated(moffat_table(*moffat_family(beta).detail), beta) - truth).max() < 2.5e-5


@pytest.mark.parametrize(("low", "high"), [(0.3, 6.2), (0.5, 6.0), (1.0, 4.0), (2.0, 2.0)])
def test_a_table_is_as_exact_as_it_says(low, high):
    table = sersic_table(low, high)
    assert table.error < 2e-5
    n = float(np.sqrt(low * high))
    fine = sersic_table(low, high, 5e-6)
    assert np.abs(evaluated(table, n) - evaluated(fine, n)).max() < table.error + 7e-6
    assert fine.coefficients.shape[1] >= table.coefficients.shape[1]


def test_nothing_is_lost_at_the_ends():
    table = sersic_table(0.3, 6.2)
    for n in (0.3, 1.0, 6.2):
        ends = evaluated(table, n, np.array([0.0, 1e6]))
        assert abs(ends[0] - 1) < 2.5e-5
        assert abs(ends[1]) < 2.5e-5


def test_gradients_are_exact_and_finite():
    table = sersic_table(0.5, 6.0)
    k2 = tf.constant([[0.0, 0.01, 1.0, 9.0, 400.0]])
    for n in (0.6, 1.7, 5.0):
        shape = tf.constant([n])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([shape, k2])
            values = table.evaluate(shape, k2)
        jacobian = tape.jacobian(values, shape).numpy().ravel()
        slope = tape.gradient(values, k2).numpy().ravel()
        h = 0.01
        profiles = [galsim.Sersic(n + s * h, half_light_radius=1.0, gsparams=TIGHT) for s in (-1, 1)]
        ks = np.sqrt(k2.numpy().ravel())
        low, high = (np.array([p.kValue(k, 0).real for k in ks]) for p in profiles)
        np.testing.assert_allclose(jacobian, (high - low) / (2 * h), atol=2e-4)
        assert np.isfinite(slope).all()
        middle = galsim.Sersic(n, half_light_radius=1.0, gsparams=TIGHT)
        difference = [
            (middle.kValue(np.sqrt(v * 1.001), 0).real - middle.kValue(np.sqrt(v * 0.999), 0).real) / (0.002 * v) for v in ks[2:] ** 2
        ]
        np.testing.assert_allclose(slope[2:], difference, atol=2e-4)


def test_ranges_that_no_table_covers_are_refused():
    with pytest.raises(ConfigError, match="between 0.25 and 8"):
        sersic_table(0.1, 4.0)
    with pytest.raises(ConfigError, match="between 1.5 and 20"):
        moffat_table(1.0, 4.0)
