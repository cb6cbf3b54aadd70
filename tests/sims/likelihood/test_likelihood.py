"""Against dense algebra: covariances written out pixel by pixel, SciPy's multivariate normal, quadrature, finite differences."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from scipy.signal import correlate2d

from astroflow.errors import ConfigError, InputError
from astroflow.sims.likelihood import Nuisances, PixelLikelihood
from astroflow.types import Stamps

SIDE = 12
Y, X = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2


def galaxy(flux, radius, e, x=0.0, y=0.0):
    distance = np.sqrt(((X - x) * (1 + e)) ** 2 + ((Y - y) * (1 - e)) ** 2 + 0.5) / radius
    profile = np.exp(-distance)
    return flux * profile / (2 * np.pi * radius**2)


def correlations(n, bands, reach, seed=0):
    """Of white noise that was smoothed by random kernels: asymmetric under x -> -x."""
    rng = np.random.default_rng(seed)
    kernels = rng.uniform(0.05, 0.5, (n, bands, reach + 1, reach + 1))
    kernels[..., 0, 0] += 1
    out = np.array([[correlate2d(k, k) for k in row] for row in kernels])
    return (out / out.max((-1, -2), keepdims=True)).astype(np.float32)


def drizzled(strength):
    """Like resampled images: neighbours correlated by `strength` / (1 + strength^2 / 2) or so."""
    line = np.convolve([strength, 1, strength], [strength, 1, strength])
    return (np.outer(line, line) / line.max() ** 2).astype(np.float32)[None, None]


def observed(seed=0, gain=np.inf, bands=2, masked=0.1, n=2, **more):
    """Stamps, and five models of each."""
    rng = np.random.default_rng(seed)
    models = np.array([[[galaxy(f * (1 + 0.02 * s), 1.5 + 0.1 * b, 0.1) for b in range(bands)] for s in range(5)] for f in (60, 300)])[:n]
    return Stamps(
        images=models[:, 2] + rng.normal(size=(n, bands, SIDE, SIDE)), psf=np.ones((3, 3)), zero_point=25.0, pixel_scale_arcsec=0.2,
        rms=rng.uniform(0.8, 1.3, (n, bands, SIDE, SIDE)), mask=rng.random((n, bands, SIDE, SIDE)) < masked, gain=gain, **more,
    ), models  # fmt: skip


def some_nuisances(n=2, bands=2):
    modes = np.random.default_rng(5).normal(size=(n, bands, 2, SIDE, SIDE))
    return Nuisances(sky=0.3, gradient=0.05, zero_point=0.05, modes=modes, mode_covariance=np.array([[0.1, 0.03], [0.03, 0.2]]))


def dense(stamps, model, i, b, correlation=None, nuisances=None):
    """The covariance of one band, written out; and the pixels that count."""
    keep = ~stamps.mask[i, b].ravel()
    y, x = np.divmod(np.arange(SIDE**2), SIDE)
    if correlation is None:
        R = np.eye(SIDE**2)
    else:
        half = correlation.shape[-1] // 2
        dy, dx = y[:, None] - y, x[:, None] - x
        inside = (abs(dy) <= half) & (abs(dx) <= half)
        R = np.where(inside, correlation[i, b].astype(float)[np.clip(dy, -half, half) + half, np.clip(dx, -half, half) + half], 0)
    rms = stamps.rms[i, b].ravel().astype(float)
    C = rms[:, None] * R * rms + np.diag(np.maximum(model, 0).ravel() / stamps.gain[i, b].astype(float))
    if nuisances:
        x, y = x - x.mean(), y - y.mean()
        zero_point = 0.4 * np.log(10) * nuisances.zero_point * model.ravel()
        columns = [np.full(SIDE**2, nuisances.sky), nuisances.gradient * x, nuisances.gradient * y, zero_point]
        C += sum(np.outer(c, c) for c in columns)
        A = nuisances.modes[i, b].reshape(2, -1)
        C += A.T @ nuisances.mode_covariance @ A
    return C[np.ix_(keep, keep)], keep


def dense_log_prob(stamps, models, correlation=None, nuisances=None):
    out = np.zeros(models.shape[:2])
    for i, s, b in np.ndindex(models.shape[:3]):
        if stamps.band_present[i, b]:
            C, keep = dense(stamps, models[i, s, b], i, b, correlation, nuisances)
            data, mean = stamps.images[i, b].ravel()[keep].astype(float), models[i, s, b].ravel()[keep]
            out[i, s] += scipy.stats.multivariate_normal(mean, C).logpdf(data)
    return out


CASES = {
    "white": (np.inf, None), "photon": (3.0, None), "correlated": (np.inf, 2), "far": (np.inf, 3), "very far": (np.inf, 13)
}  # fmt: skip


@pytest.mark.parametrize("nuisances", [None, some_nuisances()], ids=["bare", "nuisances"])
@pytest.mark.parametrize("case", CASES)
def test_exact_cases_are_the_dense_multivariate_normal(case, nuisances):
    gain, reach = CASES[case]
    stamps, models = observed(gain=gain, band_present=[[True, True], [True, False]])
    correlation = None if reach is None else correlations(2, 2, reach)
    likelihood = PixelLikelihood(stamps, nuisances=nuisances, noise_correlation=correlation)
    assert likelihood.exact
    models = models[:, ::4]
    truth = dense_log_prob(stamps, models, correlation, nuisances)
    np.testing.assert_allclose(likelihood.log_prob(models), truth, rtol=1e-9)
    fast = PixelLikelihood(stamps, nuisances=nuisances, noise_correlation=correlation, dtype="float32").log_prob(models)
    assert fast.dtype == tf.float64
    np.testing.assert_allclose(fast, truth, rtol=2e-6)


def posterior(snr, ratio, correlation, seed=0, draws=60):
    """A galaxy whose photon noise at the peak is `ratio` times the other, and draws of its exact posterior by importance sampling."""
    rng = np.random.default_rng(seed)
    middle, spread = np.array([0.0, np.log(1.5), 0.1, 0.0, 0.0]), np.array([1.0, 0.4, 0.2, 1.0, 1.0])

    def draw(theta):
        return np.array([galaxy(np.exp(f), np.exp(r), e, x, y) for f, r, e, x, y in theta])[:, None]

    blank = Stamps(images=np.zeros((SIDE, SIDE)), psf=np.ones((3, 3)), zero_point=25.0, pixel_scale_arcsec=0.2, rms=1.0)
    unit = draw(middle[None])[0]
    C0, _ = dense(blank, unit[0], 0, 0, correlation)
    middle[0] = np.log(snr / np.sqrt(unit.ravel() @ np.linalg.solve(C0, unit.ravel())))
    truth = draw(middle[None])[0]
    mask = rng.random((1, 1, SIDE, SIDE)) < 0.05
    gain = truth.max() / ratio
    C = C0 + np.diag(truth.ravel() / gain)
    data = truth + (np.linalg.cholesky(C) @ rng.normal(size=SIDE**2)).reshape(1, SIDE, SIDE)
    stamps = Stamps(images=data, psf=np.ones((3, 3)), zero_point=25.0, pixel_scale_arcsec=0.2, rms=1.0, mask=mask, gain=gain)
    jacobian = np.array([(draw((middle + h)[None])[0] - draw((middle - h)[None])[0]).ravel() / 2e-4 for h in 1e-4 * np.eye(5)])
    solved = np.linalg.solve(C, jacobian.T)
    covariance = np.linalg.inv(jacobian @ solved + np.diag(spread**-2))
    centre = middle + covariance @ (solved.T @ (data - truth).ravel())
    theta = rng.multivariate_normal(centre, 1.3 * covariance, size=300)
    theta = theta[np.abs(theta[:, 2]) < 0.8]
    models = draw(theta)[None]
    keep = ~mask.ravel()
    C = (C0 + np.einsum("sp,pq->spq", models.reshape(len(theta), -1) / gain, np.eye(SIDE**2)))[:, keep][:, :, keep]
    residual = (data - models[0]).reshape(len(theta), -1)[:, keep].astype(np.float32).astype(float)
    root = tf.linalg.cholesky(C)
    white = tf.linalg.triangular_solve(root, residual[..., None])[..., 0].numpy()
    exact = -0.5 * np.sum(white**2, 1) - np.sum(np.log(tf.linalg.diag_part(root)), 1)
    off = theta - centre
    weight = exact - 0.5 * np.sum(((theta - middle) / spread) ** 2, 1) + np.sum(off @ np.linalg.inv(1.3 * covariance) * off, 1) / 2
    chosen = rng.choice(len(theta), draws, p=scipy.special.softmax(weight))
    return stamps, models[:, chosen], exact[chosen]


@pytest.mark.parametrize("snr", [10, 100, 1000])
@pytest.mark.parametrize("ratio", [3, 30])
def test_photon_noise_on_correlated_noise_is_right_in_differences_over_the_posterior(snr, ratio):
    correlation = drizzled(0.35)
    stamps, models, exact = posterior(snr, ratio, correlation)
    assert np.ptp(exact) > 3
    for dtype in ("float64", "float32"):
        likelihood = PixelLikelihood(stamps, models, noise_correlation=correlation, dtype=dtype)
        assert not likelihood.exact
        error = likelihood.log_prob(models).numpy()[0] - exact
        assert np.std(error) * np.sqrt(2) < (0.01 if snr < 50 else 0.001)
        assert np.ptp(error) < (0.05 if snr < 50 else 0.01)
    # it is no trifle: with the reference's covariance for all, differences are off by as much as log L varies
    still = PixelLikelihood(stamps, models, noise_correlation=correlation)
    reference = np.repeat(models.mean(1, keepdims=True), len(exact), 1)
    frozen = -0.5 * np.sum(still.whitened_residuals(models).numpy() ** 2, (2, 3, 4))[0]
    assert np.std(frozen - exact) > 3 * np.std(error)
    assert np.ptp(still.log_prob(reference)) == 0


@pytest.mark.parametrize("strength", [0.35, 0.5])
@pytest.mark.parametrize(("snr", "ratio"), [(10, 3), (15, 30)])
def test_models_far_from_the_reference_are_never_taken_for_good_ones(snr, ratio, strength):
    """A prior's draws are weighed with a posterior's: up to 40 times as bright, and as wide as the stamp."""
    correlation = drizzled(strength)
    stamps, models, _ = posterior(snr, ratio, correlation)
    flux = models.sum((2, 3, 4)).mean()
    far = np.array([galaxy(flux * f, r, 0.1) for f in (0, 0.03, 0.3, 1, 3, 10, 40) for r in (0.7, 1.5, 3.0, 6.0)])[None, :, None]
    every = np.concatenate([models[:, :8], far], 1)
    truth = dense_log_prob(stamps, every, correlation)[0]
    likelihood = PixelLikelihood(stamps, models, noise_correlation=correlation, dtype="float32")
    found = likelihood.log_prob(every).numpy()[0]
    best, behind = truth[:8].max(), truth.max() - truth
    hopeless = behind > 30
    assert hopeless.sum() > 8
    assert (found[hopeless] < best - 15).all()
    assert np.abs((found - truth)[~hopeless]).max() < 3
    # and the same in a graph, which cannot know how many models are far
    graph = tf.function(likelihood.log_prob)
    np.testing.assert_allclose(graph(tf.constant(every, tf.float32))[0], found, rtol=1e-5, atol=0.02)


def test_nuisances_over_correlated_noise_with_photons_are_marginalised():
    correlation = correlations(2, 2, 2)
    stamps, models = observed(gain=3.0)
    models, nuisances = models[:, ::2], some_nuisances()
    truth = dense_log_prob(stamps, models, correlation, nuisances)
    found = PixelLikelihood(stamps, models, nuisances, noise_correlation=correlation).log_prob(models).numpy()
    assert np.ptp(found - truth, axis=1).max() < 0.01
    assert np.abs(found - truth).max() < 0.05
    single = PixelLikelihood(stamps, models[:, 1], nuisances, noise_correlation=correlation).log_prob(models[:, 1:2]).numpy()
    np.testing.assert_allclose(single, truth[:, 1:2], rtol=1e-9)  # exact at the reference


@pytest.mark.parametrize("case", ["white", "photon", "correlated", "both"])
def test_gradients_are_finite_differences(case):
    gain, reach = (CASES | {"both": (3.0, 2)})[case]
    stamps, models = observed(gain=gain)
    models[0, 0, 0, 2, 3] = -1.0  # no photon noise below zero
    correlation = None if reach is None else correlations(2, 2, reach)
    likelihood = PixelLikelihood(stamps, models, some_nuisances(), noise_correlation=correlation)
    direction = np.random.default_rng(3).normal(size=models.shape) * np.sqrt(np.abs(models) + 0.01)
    variable = tf.constant(models)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = likelihood.log_prob(variable)
    slope = np.sum(tape.gradient(value, variable) * direction, (2, 3, 4))
    h = 1e-5
    difference = (likelihood.log_prob(models + h * direction) - likelihood.log_prob(models - h * direction)).numpy() / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-5)


def test_it_is_a_graph_over_any_number_of_chains():
    stamps, models = observed(gain=3.0)
    likelihood = PixelLikelihood(stamps, models, some_nuisances(), noise_correlation=correlations(2, 2, 2))
    graph = tf.function(likelihood.log_prob, input_signature=[tf.TensorSpec((None, None, 2, SIDE, SIDE), tf.float64)])
    np.testing.assert_allclose(graph(models), likelihood.log_prob(models), rtol=1e-12)
    np.testing.assert_allclose(graph(models[:, :2]), likelihood.log_prob(models)[:, :2], rtol=1e-9)


@pytest.mark.parametrize("case", ["photon", "correlated"])
def test_marginal_is_the_integral_over_the_amplitudes(case):
    """Two nuisances, integrated by brute force on a grid."""
    gain, reach = CASES[case]
    stamps, models = observed(gain=gain, bands=1, n=1)
    correlation = None if reach is None else correlations(1, 1, reach)
    mode = galaxy(40, 1.0, 0.0)[None, None, None]
    nuisances = Nuisances(sky=0.2, modes=mode)
    C, keep = dense(stamps, models[0, 0, 0], 0, 0, correlation)
    residual = (stamps.images[0, 0] - models[0, 0, 0]).ravel()[keep]
    sky, amplitude = np.meshgrid(np.linspace(-1.2, 1.2, 161), np.linspace(-6, 6, 161), indexing="ij")
    x = residual - sky[..., None] - amplitude[..., None] * mode.ravel()[keep]
    density = scipy.stats.multivariate_normal(np.zeros(keep.sum()), C).logpdf(x)
    density += scipy.stats.norm(0, 0.2).logpdf(sky) + scipy.stats.norm(0, 1).logpdf(amplitude)
    integral = scipy.special.logsumexp(density) + np.log(2.4 / 160 * 12 / 160)
    found = PixelLikelihood(stamps, nuisances=nuisances, noise_correlation=correlation).log_prob(models[:, :1])
    np.testing.assert_allclose(found, integral, rtol=1e-8)


def test_fisher_matrices_and_scores_are_dense_ones():
    jacobians = np.random.default_rng(1).normal(size=(2, 3, 2, SIDE, SIDE))
    for (gain, reach), nuisances in [(CASES["photon"], some_nuisances()), (CASES["correlated"], None), ((3.0, 2), some_nuisances())]:
        stamps, models = observed(gain=gain)
        correlation = None if reach is None else correlations(2, 2, reach)
        likelihood = PixelLikelihood(stamps, models[:, 1], nuisances, noise_correlation=correlation)
        information, score = likelihood.fisher(jacobians, models[:, 1])
        for i in range(2):
            F, g = np.zeros((3, 3)), np.zeros(3)
            for b in range(2):
                C, keep = dense(stamps, models[i, 1, b], i, b, correlation, nuisances)
                J = jacobians[i, :, b].reshape(3, -1)[:, keep]
                F += J @ np.linalg.solve(C, J.T)
                g += J @ np.linalg.solve(C, (stamps.images[i, b] - models[i, 1, b]).ravel()[keep])
            np.testing.assert_allclose(information[i], F, rtol=1e-8)
            np.testing.assert_allclose(score[i], g, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_whitened_residuals_are_white_and_sum_to_chi_squared(case):
    """A square root of the covariance, column by column, whitens to an orthogonal matrix."""
    gain, reach = CASES[case]
    stamps, models = observed(gain=gain, bands=1, n=1)
    correlation = None if reach is None else correlations(1, 1, reach)
    nuisances = Nuisances(sky=0.5, gradient=0.1)  # no column that depends on the model
    likelihood = PixelLikelihood(stamps, nuisances=nuisances, noise_correlation=correlation)
    model = models[:, :1]
    C, keep = dense(stamps, model[0, 0, 0], 0, 0, correlation)
    y, x = np.divmod(np.arange(SIDE**2), SIDE)
    for column in (np.full(SIDE**2, 0.5), 0.1 * (x - x.mean()), 0.1 * (y - y.mean())):
        C = C + np.outer(column[keep], column[keep])
    columns = np.zeros((keep.sum(), SIDE**2))
    columns[:, keep] = np.linalg.cholesky(C).T
    residual = tf.constant(columns * likelihood.pixels.scale)[None]
    white = likelihood.noise.whiten(residual, likelihood.pixels.rows(np.repeat(model, keep.sum(), 1), "float64"))[0].numpy()
    np.testing.assert_allclose(white[:, keep].T @ white[:, keep], np.eye(keep.sum()), atol=1e-8)
    assert not white[:, ~keep].any()
    marginal = PixelLikelihood(stamps, nuisances=some_nuisances(1, 1), noise_correlation=correlation)
    found = marginal.whitened_residuals(models)
    assert found.shape == models.shape
    np.testing.assert_allclose(np.sum(found**2, (2, 3, 4)), marginal.chi_squared(models), rtol=1e-9)
    assert marginal.dof.tolist() == [keep.sum()]


def test_chi_squared_and_whitened_residuals_find_a_wrong_model_and_wrong_noise():
    rng = np.random.default_rng(2)
    correlation = drizzled(0.3)
    stamps, models = observed(bands=1, n=1, masked=0.0)
    C, _ = dense(stamps, models[0, 0, 0], 0, 0, correlation)
    n = 200
    noise = (rng.normal(size=(n, SIDE**2)) @ np.linalg.cholesky(C).T).reshape(n, 1, SIDE, SIDE)
    data = models[0, 0] + noise
    many = Stamps(images=data, psf=np.ones((3, 3)), zero_point=25.0, pixel_scale_arcsec=0.2, rms=np.repeat(stamps.rms, n, 0))
    true = np.repeat(models[:1, :1], n, 0)

    def neighbours(likelihood):
        white = likelihood.whitened_residuals(true).numpy()[:, 0, 0]
        return np.mean(white[..., 1:] * white[..., :-1])

    right = PixelLikelihood(many, noise_correlation=np.repeat(correlation, n, 0))
    expected = right.dof.mean()
    assert abs(right.chi_squared(true).numpy().mean() - expected) < 4 * np.sqrt(2 * expected / n)
    assert abs(neighbours(right)) < 4 / np.sqrt(data.size)
    white = PixelLikelihood(many)
    assert neighbours(white) > 0.4
    brighter = true + galaxy(60, 1.5, 0.1)
    assert right.chi_squared(brighter).numpy().mean() > expected + 5 * np.sqrt(2 * expected / n)


@pytest.mark.parametrize("case", ["photon", "correlated", "both"])
def test_masked_pixels_are_ignored_whatever_they_hold(case):
    gain, reach = (CASES | {"both": (3.0, 2)})[case]
    stamps, models = observed(gain=gain)
    spoilt = stamps.images.copy()
    rms = stamps.rms.copy()
    spoilt[stamps.mask], rms[stamps.mask] = np.nan, 0.0
    spoilt[0][stamps.mask[0]] = 1e30
    again = Stamps(images=spoilt, rms=rms, mask=stamps.mask, gain=gain, psf=stamps.psf, zero_point=25.0, pixel_scale_arcsec=0.2)
    correlation = None if reach is None else correlations(2, 2, reach)
    for nuisances in (None, some_nuisances()):
        one, other = (PixelLikelihood(s, models, nuisances, noise_correlation=correlation) for s in (stamps, again))
        np.testing.assert_array_equal(one.log_prob(models), other.log_prob(models))
        assert np.isfinite(other.whitened_residuals(models)).all()
    unmasked = Stamps(images=spoilt, rms=stamps.rms, mask=stamps.mask & False, psf=stamps.psf, zero_point=25.0, pixel_scale_arcsec=0.2)
    assert not np.allclose(PixelLikelihood(unmasked).log_prob(models)[0], PixelLikelihood(stamps).log_prob(models)[0])


def test_a_stamp_has_the_same_likelihood_in_any_company():
    stamps, models = observed(gain=[[np.inf], [3.0]])
    correlation = correlations(2, 2, 2)
    together = PixelLikelihood(stamps, models, noise_correlation=correlation).log_prob(models)
    alone = PixelLikelihood(stamps[1], models[1:], noise_correlation=correlation[1:]).log_prob(models[1:])
    np.testing.assert_allclose(together[1:], alone, rtol=1e-9)
    exact = PixelLikelihood(stamps[0], noise_correlation=correlation[:1]).log_prob(models[:1])
    np.testing.assert_allclose(together[:1], exact, rtol=1e-9)


def test_what_cannot_be_is_one_clear_error():
    stamps, models = observed(gain=3.0, bands=1)
    given = {"images": stamps.images, "psf": np.ones((3, 3)), "rms": 1.0, "zero_point": 25.0, "pixel_scale_arcsec": 0.2, "ids": ["a", "b"]}
    mask = np.zeros((2, 1, SIDE, SIDE), bool)
    mask[1] = True
    good = correlations(2, 1, 2)
    bad = np.zeros((2, 1, 3, 3))
    bad[..., 1, 1] = 1
    bad[1, 0, 1] = 0.9, 1, 0.9
    for change, message in [({"mask": mask}, "no unmasked pixel.*'b'"), ({"rms": [1.0, 0.0]}, "positive and finite.*'b'"),
                            ({"gain": [-1.0, 1.0]}, "gain.*'a'")]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            PixelLikelihood(Stamps(**given | change))
    with pytest.raises(InputError, match="give `reference`"):
        PixelLikelihood(stamps, noise_correlation=good)
    with pytest.raises(InputError, match="stamp 1, band 0 is not positive definite"):
        PixelLikelihood(Stamps(**given), noise_correlation=bad)
    with pytest.raises(InputError, match="not positive definite"):  # though the covariance may be, with photon noise
        PixelLikelihood(stamps, models * 1e3, noise_correlation=bad)
    with pytest.raises(InputError, match="must be finite noiseless"):
        PixelLikelihood(stamps, models * np.nan, noise_correlation=good)
    with pytest.raises(InputError, match=r"expected images \(N, S, B, H, W\)"):
        PixelLikelihood(stamps).log_prob(models[:, 0])
    with pytest.raises(ConfigError, match="float16"):
        PixelLikelihood(stamps, dtype="float16")
