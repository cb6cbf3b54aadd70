import numpy as np
import pydantic
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import dblquad

from astroflow.sims.distributions import Counts, LogNormal, LogUniform, Normal, Uniform, tensorflow_ops
from astroflow.sims.priors import DiscBlock, JointPrior, ScalarBlock, SizeMagnitudeBlock

SIZE = SizeMagnitudeBlock(low=0.1, high=2.0)
DISC = DiscBlock(sigma=0.3, high=0.8)
PRIOR = JointPrior(
    blocks=(
        ScalarBlock(name="mag", distribution=Counts(low=19.0, high=24.0)),
        SIZE,
        ScalarBlock(name="n", distribution=LogUniform(low=0.5, high=6.0)),
        DISC,
        ScalarBlock(name="dx", distribution=Normal(mean=0, sd=0.1, low=-0.3, high=0.4)),
        ScalarBlock(name="dy", distribution=Uniform(low=-1, high=2)),
        ScalarBlock(name="flux", distribution=LogNormal(median=1.0, sd_dex=0.3, low=0.2, high=4.0)),
    )
)


def draws(n, seed=0):
    u = np.random.default_rng(seed).normal(size=(n, len(PRIOR.names)))
    return u, PRIOR.forward(u)


def test_names_and_bounds_follow_the_blocks():
    assert PRIOR.names == ("mag", "re_arcsec", "n", "e1", "e2", "dx", "dy", "flux")
    assert PRIOR.bounds["mag"] == (19.0, 24.0)
    assert PRIOR.bounds["re_arcsec"] == (0.1, 2.0)
    assert PRIOR.bounds["e2"] == (-0.8, 0.8)


@given(st.lists(st.floats(-4.5, 4.5), min_size=8, max_size=8))
def test_inverse_undoes_forward(values):
    u = np.array(values)
    assume(np.hypot(u[3], u[4]) < 5)  # beyond, the disc's edge is reached
    assert np.allclose(PRIOR.inverse(PRIOR.forward(u)), u, atol=2e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=8, max_size=8))
def test_no_number_whatever_leaves_the_bounds(values):
    theta = PRIOR.forward(np.array(values))
    assert np.isfinite(theta).all()
    assert PRIOR.contains(theta[None]).all()
    assert PRIOR.contains(theta[None].astype(np.float32)).all()


def test_log_det_is_that_of_the_numerical_jacobian():
    u, theta = draws(50)
    h = 1e-5
    size = len(PRIOR.names)
    jacobian = np.stack(
        [(PRIOR.forward(u + h * np.eye(size)[k]) - PRIOR.forward(u - h * np.eye(size)[k])) / (2 * h) for k in range(size)], -1
    )
    assert np.allclose(PRIOR.log_det_forward(u, theta), np.linalg.slogdet(jacobian)[1], atol=1e-4)


def test_tensorflow_computes_what_numpy_does():
    import tensorflow as tf

    ops = tensorflow_ops()
    u, theta = draws(500)
    u = np.clip(u, -3.5, 3.5)  # float32 runs out of digits near the edges of the unit interval
    theta = PRIOR.forward(u)
    assert np.allclose(PRIOR.forward(tf.constant(u), ops).numpy(), theta, rtol=1e-9)
    assert np.allclose(PRIOR.inverse(tf.constant(theta), ops).numpy(), u, atol=1e-6)
    assert np.allclose(PRIOR.log_prob(tf.constant(theta), ops).numpy(), PRIOR.log_prob(theta), atol=1e-9)
    single = tf.constant(u, tf.float32)
    assert np.allclose(PRIOR.forward(single, ops).numpy(), theta, rtol=2e-4, atol=2e-5)
    assert np.allclose(PRIOR.inverse(tf.constant(theta, tf.float32), ops).numpy(), u, atol=5e-3)
    assert np.allclose(
        PRIOR.log_det_forward(single, tf.constant(theta, tf.float32), ops).numpy(), PRIOR.log_det_forward(u, theta), atol=2e-3
    )


def test_gradients_are_finite_everywhere_even_at_zero_ellipticity():
    import tensorflow as tf

    ops = tensorflow_ops()
    u = tf.Variable(np.concatenate([np.zeros((1, 8)), draws(200)[0], np.full((1, 8), 6.0)]), dtype=tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        theta = PRIOR.forward(u, ops)
        total = tf.reduce_sum(PRIOR.log_det_forward(u, theta, ops))
        there_and_back = tf.reduce_sum(PRIOR.inverse(theta, ops)[:-1])
    for value in (total, there_and_back):
        assert np.isfinite(tape.gradient(value, u).numpy()).all()


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("mag", lambda x: scipy.stats.truncexpon(5 * 0.33 * np.log(10), scale=1 / (0.33 * np.log(10))).sf(24.0 - x)),
        ("n", scipy.stats.loguniform(0.5, 6.0).cdf),
        ("dx", scipy.stats.truncnorm(-3, 4, scale=0.1).cdf),
        ("dy", scipy.stats.uniform(-1, 3).cdf),
        ("flux", lambda x: scipy.stats.truncnorm(np.log10(0.2) / 0.3, np.log10(4) / 0.3, scale=0.3).cdf(np.log10(x))),
    ],
)
def test_marginals_are_scipys(name, oracle):
    theta = draws(20_000, seed=3)[1]
    column = theta[:, PRIOR.names.index(name)]
    assert scipy.stats.kstest(oracle(column), "uniform").pvalue > 1e-3


def test_counts_rise_towards_the_faint_end():
    _, theta = draws(20_000)
    faint, bright = (np.mean((theta[:, 0] > low) & (theta[:, 0] < low + 0.5)) for low in (23.0, 22.0))
    assert abs(np.log10(faint / bright) - 0.33) < 0.03


@pytest.mark.parametrize("mag", [19.0, 21.5, 24.0])
def test_size_given_magnitude_is_a_truncated_normal_about_the_line(mag):
    u = np.random.default_rng(2).normal(size=(20_000, 1))
    size = SIZE.forward([u[:, 0]], {"mag": np.full(20_000, mag)}, np_ops())[0]
    typical = -0.534 - 0.117 * (mag - 24.0)
    oracle = scipy.stats.truncnorm((np.log10(0.1) - typical) / 0.23, (np.log10(2.0) - typical) / 0.23, loc=typical, scale=0.23)
    assert scipy.stats.kstest(np.log10(size), oracle.cdf).pvalue > 1e-3
    density = np.exp(SIZE.log_density({"mag": mag, "re_arcsec": size}, np_ops()))
    assert np.allclose(density, oracle.pdf(np.log10(size)) / (size * np.log(10)), rtol=1e-9)


def np_ops():
    from astroflow.sims.distributions import numpy_ops

    return numpy_ops()


@pytest.mark.parametrize(("sigma", "high"), [(0.25, 0.8), (0.1, 0.5), (2.0, 0.9)])
def test_ellipticity_density_integrates_to_one_over_the_disc(sigma, high):
    block = DiscBlock(sigma=sigma, high=high)

    def density(r, angle):
        given = {"e1": r * np.cos(angle), "e2": r * np.sin(angle)}
        return r * np.exp(block.log_density(given, np_ops()))

    total, _ = dblquad(density, 0, 2 * np.pi, 0, high, epsabs=1e-9)
    assert abs(total - 1) < 1e-7


def test_ellipticities_fill_the_disc_without_a_preferred_direction():
    u = np.random.default_rng(4).normal(size=(2, 20_000))
    e1, e2 = DISC.forward(list(u), {}, np_ops())
    angle, modulus2 = np.arctan2(e2, e1), e1**2 + e2**2
    assert scipy.stats.kstest(angle, scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    oracle = scipy.stats.truncexpon(0.8**2 / (2 * 0.3**2), scale=2 * 0.3**2)
    assert scipy.stats.kstest(modulus2, oracle.cdf).pvalue > 1e-3
    assert modulus2.max() <= 0.8**2


def test_contains_is_false_outside_any_bound():
    _, theta = draws(7)
    for row, column, value in [(0, 0, 18.9), (1, 1, 2.1), (2, 2, 0.4), (3, 3, 0.79), (4, 5, 0.41), (5, 7, np.nan)]:
        theta[row, column] = value
    theta[3, 4] = 0.3  # inside each bound alone, outside the disc
    assert PRIOR.contains(theta).tolist() == [False] * 6 + [True]


def test_a_prior_survives_being_written_as_plain_data():
    assert JointPrior.model_validate(PRIOR.model_dump(mode="json")) == PRIOR


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((DISC, DISC), "names must be unique"),
        ((SIZE,), "`re_arcsec` follows `mag`, which must come in an earlier block"),
        ((SIZE, PRIOR.blocks[0]), "must come in an earlier block"),
        ((ScalarBlock(name="mag", distribution=Uniform(low=10, high=24)), SIZE), "of `re_arcsec` at mag 10.0; at least 0.01 must"),
    ],
)
def test_blocks_that_do_not_fit_together_are_refused(blocks, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        JointPrior(blocks=blocks)
