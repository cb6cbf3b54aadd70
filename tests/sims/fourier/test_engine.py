from dataclasses import replace

import galsim
import numpy as np
import pytest
import tensorflow as tf

from astroflow.errors import ConfigError, InputError
from astroflow.sims.bulge_disc import BulgeDiscGalaxy
from astroflow.sims.distributions import Fixed, LogUniform, Normal, Uniform
from astroflow.sims.fourier.engine import FEW, FourierEngine
from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.grouping import group_images
from astroflow.sims.fourier.psf import describe_profile
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.noise import RMSNoise
from astroflow.sims.psfs import MoffatPSF, PSFDraw, ShearedProfiles
from astroflow.sims.simulator import Simulator
from astroflow.sims.stamp import StampSpec

SCALE, SIZE, ZERO_POINT = 0.2, 64, 27.0
# GalSim's own error below the tolerances: its settings, and no wing of a large galaxy may wrap round
TIGHT = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=1e-4, kvalue_accuracy=1e-6, maximum_fft_size=16384)
GALAXIES = {
    "sersic": SersicGalaxy(n=LogUniform(low=0.5, high=6.0), re_arcsec=LogUniform(low=0.15, high=2.0)),
    "bulge_disc": BulgeDiscGalaxy(disc_re_arcsec=LogUniform(low=0.15, high=2.0), bulge_re_arcsec=LogUniform(low=0.1, high=1.5)),
}
FWHM = Normal(mean=0.75, sd=0.1, low=0.55, high=1.0)
ONE_GRID = MoffatPSF(fwhm_arcsec=Uniform(low=0.73, high=0.79))
"""PSFs that share their modes, for tests that need no others: each set of modes is compiled for seconds."""


def simulator(kind="sersic", psf=None, **stamp):
    return Simulator(
        galaxy=GALAXIES[kind],
        psf=psf or MoffatPSF(fwhm_arcsec=FWHM),
        noise=RMSNoise(rms=Uniform(low=0.1, high=0.3)),
        stamp=StampSpec(**{"size": SIZE, "pixel_scale_arcsec": SCALE, "zero_point": ZERO_POINT, "psf_size": 33} | stamp),
    )


def galsims(model, theta, point, binning=1, scale=SCALE):
    """The stamp as GalSim draws it when it takes its time."""
    named = dict(zip(model.parameters.names, map(float, theta), strict=True))
    galaxy = model.galaxy.profile(named, ZERO_POINT, exact=True).withGSParams(TIGHT)
    return point.observed(galaxy, scale, binning, model.stamp.size).astype(np.float64)


def errors(found, truth):
    difference = found - truth
    axes = (-2, -1)
    return (
        np.abs(difference).max(axes) / truth.max(axes),
        np.abs(difference.sum(axes)) / truth.sum(axes),
        np.sqrt((difference**2).sum(axes) / (truth**2).sum(axes)),
    )


def assert_within_limits(found, truth):
    """Limits of what the Fourier engine may err by, as the documents state them."""
    peak, flux, norm = errors(found.astype(np.float64), truth)
    assert peak.max() < 3e-4, peak
    assert flux.max() < 1e-3, flux
    assert norm.max() < 3e-4, norm


@pytest.mark.parametrize("kind", GALAXIES)
def test_stamps_are_galsims(kind):
    psf = MoffatPSF(fwhm_arcsec=FWHM) if kind == "sersic" else ONE_GRID
    model = simulator(kind, psf)
    ids = np.arange(12)
    theta = np.array([model._draw_theta(np.random.default_rng(i))[1] for i in ids])
    if kind == "sersic":
        theta[:3, 1:3] = [(2.0, 5.99), (0.15, 5.99), (2.0, 0.5)]  # widest wings, smallest cusp, flattest
    points = [psf.draw(np.random.default_rng([7, i]), SCALE) for i in ids]
    ones = np.ones(len(ids), np.int64)
    found, stars = model.fourier.draw(theta, points, SCALE * ones, ones, SIZE, 33, ZERO_POINT)
    truth = np.array([galsims(model, t, p) for t, p in zip(theta, points, strict=True)])
    assert_within_limits(found, truth)
    expected = np.array([p.image(SCALE, 1, 33) for p in points])
    assert np.abs(stars - expected).max() < 1e-3 * expected.max()


AIRY = galsim.Airy(lam_over_diam=0.6, obscuration=0.3)
COMA = galsim.Moffat(beta=3.0, fwhm=0.7) * 0.8 + galsim.Moffat(beta=2.5, fwhm=0.9).shift(0.3, -0.2) * 0.2
PSFS = {
    "moffat": (galsim.Moffat(beta=2.2, fwhm=0.9).shear(g1=0.05, g2=-0.05), 0.2),
    "kolmogorov": (galsim.Kolmogorov(fwhm=0.9).shear(g1=-0.05, g2=0.05), 0.2),
    "gaussian": (galsim.Gaussian(fwhm=0.8).shear(g1=0.05, g2=0.05), 0.2),
    "optical": (AIRY, 0.2),
    "optical, wide": (galsim.OpticalPSF(lam_over_diam=0.7, obscuration=0.3, defocus=0.1, coma1=0.1), 0.2),
    "undersampled": (galsim.Airy(lam_over_diam=0.17, obscuration=0.3), 0.1),
    "lopsided image": (PSFDraw(native_image=PSFDraw(profile=COMA).image(SCALE, 1, 33)), 0.2),
}
LONGEST_RIDGE = (20, 1.7, 5, 0.69, 0, 0, 0)
"""Behind wings of apertures its copies are the hardest to take off."""
# widest wings, long ridges, smallest cusp, flattest
HARD = np.array(
    [
        (20, 2, 6, 0.1, 0, 0.3, -0.2),
        (20, 2, 6, 0.5, -0.45, 0, 0.2),
        (20, 0.15, 6, 0.3, 0.3, 0.1, 0),
        (20, 2, 0.5, 0, 0.4, 0, 0),
    ],
    np.float32,
)


@pytest.mark.parametrize("kind", PSFS)
def test_the_hardest_galaxies_are_galsims_through_every_type_of_psf(kind):
    psf, scale = PSFS[kind]
    hard = np.vstack([HARD, np.float32(LONGEST_RIDGE) * np.float32([1, scale / SCALE, 1, 1, 1, 1, 1])])
    assert_within_limits(*drawn_by_both(hard, psf if isinstance(psf, PSFDraw) else PSFDraw(profile=psf), scale))


def test_edge_on_galaxies_are_galsims():
    """As elongated as priors go, along the axes and across them; the largest a little less."""
    rows = [(20, 2, 4, 0.8, 0, 0.1, 0), (20, 2, 2, 0, 0.8, 0, 0), (20, 1, 6, 0.35, -0.77, 0, -0.1), (20, 1, 1, -0.85, 0, 0.2, 0)]
    assert_within_limits(*drawn_by_both(np.float32(rows), PSFDraw(profile=galsim.Moffat(beta=3.0, fwhm=0.75)), SCALE))


def drawn_by_both(theta, point, scale):
    """Stamps by the Fourier engine, uncompiled, which is the same arithmetic, and by GalSim."""
    model = simulator()
    if point.native_image is None:
        family, grid, arrays = describe_profile(point.profile, scale, SIZE)
        arrays = {name: np.asarray(values)[None] for name, values in arrays.items()}
    else:
        (group,) = group_images(point.native_image[None], np.array([1]), SIZE)
        family, grid, arrays = group.family, group.grid, group.arrays
    arrays = {name: tf.constant(v, tf.float32) for name, v in arrays.items()}
    planes, ones = tf.repeat(family.transform(arrays, grid), len(theta), 0), tf.ones(len(theta))
    found = model.fourier.images(tf.constant(theta), planes, ZERO_POINT * ones, scale * ones, tf.zeros((len(theta), 2)), grid).numpy()
    return found, np.array([galsims(model, row, point, scale=scale) for row in theta])


@pytest.mark.parametrize("oversampling", [1, 3, 5])
def test_stamps_through_psf_images_are_galsims(oversampling):
    """Undersampled like Euclid's: pixels as wide as the PSF's core, its image sampled finely."""
    model = simulator(pixel_scale_arcsec=0.1, size=32)
    simulation = model.draw(np.arange(10), seed=2)
    fwhm = 0.16 if oversampling > 1 else 0.3
    native = galsim.Convolve(galsim.OpticalPSF(lam_over_diam=fwhm, obscuration=0.3), galsim.Pixel(0.1))
    side = 16 * oversampling + 1
    image = native.drawImage(nx=side, ny=side, scale=0.1 / oversampling, method="no_pixel").array
    stamps = replace(
        simulation.stamps, psf=np.broadcast_to(image / image.sum(), (10, 1, side, side)).astype(np.float32), psf_oversampling=oversampling
    )
    found, truth = (model.render(simulation.theta, stamps, engine=engine) for engine in ("fourier", "galsim"))
    peak, flux, norm = errors(found[:, 0].astype(np.float64), truth[:, 0].astype(np.float64))
    assert peak.max() < 1e-3
    assert flux.max() < 2e-3  # GalSim's folding_threshold is not tightened here
    assert norm.max() < 1e-3


@pytest.mark.parametrize(("height", "width"), [(33, 33), (30, 41), (64, 50)])
def test_stamps_of_any_shape(height, width):
    model = simulator()
    simulation = model.draw(np.arange(3), seed=2)
    stamps = replace(
        simulation.stamps,
        **{name: getattr(simulation.stamps, name)[..., :height, :width].copy() for name in ("images", "rms", "mask")},
    )
    found, truth = (model.render(simulation.theta, stamps, engine=engine) for engine in ("fourier", "galsim"))
    assert found.shape == (3, 1, height, width)
    assert np.abs(found - truth).max() < 1e-3 * truth.max()


def test_few_draws_share_calls_and_are_what_many_are():
    model = simulator(size=32, psf=MoffatPSF(fwhm_arcsec=FWHM, image_size=17))
    simulation = model.draw(np.arange(5), seed=2)
    many = np.repeat(simulation.theta[:, None], FEW + 1, 1)
    many[..., 0] += 0.01 * np.arange(FEW + 1, dtype=np.float32)
    own = model.fourier.render_draws(many, simulation.stamps)
    few = model.fourier.render_draws(many[:, :3], simulation.stamps)
    np.testing.assert_allclose(few, own[:, :3], atol=2e-6 * own.max())
    for rows in ([2], [4, 0, 3]):
        np.testing.assert_array_equal(model.fourier.render_draws(many[rows, :3], simulation.stamps[rows]), few[rows])
    np.testing.assert_array_equal(model.fourier.render_draws(many[:, :1], simulation.stamps), few[:, :1])


def test_galaxies_through_psfs_of_the_callers_are_linear_in_them():
    model = simulator(size=32, psf=MoffatPSF(fwhm_arcsec=FWHM, image_size=17))
    simulation = model.draw(np.arange(4), seed=3)
    theta, psf = np.repeat(simulation.theta[:, None], 3, 1), simulation.stamps.psf[:, None]
    change = np.roll(psf, 1, -1) - psf
    drawn = model.fourier.render_through(theta, simulation.stamps, np.concatenate([psf, psf + 0.1 * change, psf - 0.2 * change], 1))
    own = model.fourier.render_draws(theta[:, :1], simulation.stamps)
    np.testing.assert_allclose(drawn[:, :1], own, atol=1e-4 * own.max())
    np.testing.assert_allclose(drawn[:, 2] - drawn[:, 0], -2 * (drawn[:, 1] - drawn[:, 0]), atol=1e-5 * own.max())
    assert np.abs(drawn[:, 1] - drawn[:, 0]).max() > 1e-3 * own.max()


def test_a_psf_of_any_sum_draws_the_same_galaxy():
    model = simulator()
    simulation = model.draw(np.arange(3), seed=2)
    stamps = simulation.stamps
    doubled = replace(stamps, psf=stamps.psf * np.array([1.0, 2.0, 0.7], np.float32)[:, None, None, None])
    for engine in ("fourier", "galsim"):
        expected = model.render(simulation.theta, stamps, engine=engine)
        np.testing.assert_allclose(model.render(simulation.theta, doubled, engine=engine), expected, atol=1e-5 * expected.max())
    draws = np.repeat(simulation.theta[:, None], 2, 1)
    expected = model.fourier.render_draws(draws, stamps)
    np.testing.assert_allclose(model.fourier.render_draws(draws, doubled), expected, atol=1e-5 * expected.max())
    empty = replace(stamps, psf=stamps.psf * np.array([1.0, 0.0, 1.0], np.float32)[:, None, None, None])
    with pytest.raises(InputError, match=r"the PSF of object 1, band 0, must have a positive finite sum; it is 0"):
        model.render(simulation.theta, empty, engine="fourier")


def test_a_psf_image_wider_than_the_stamp_has_its_wings():
    galsims_own = simulator(size=32, psf_size=65, psf=ONE_GRID)
    a, b = (m.draw_noiseless(np.arange(6), seed=4) for m in (galsims_own, replace(galsims_own, engine="fourier")))
    assert np.abs(a.psf - b.psf).max() < 1e-3 * a.psf.max()
    edge = np.s_[..., :10, :]
    np.testing.assert_allclose(b.psf[edge].sum((1, 2, 3)), a.psf[edge].sum((1, 2, 3)), rtol=0.1)


def test_both_engines_draw_the_same_simulations():
    galsims_own = simulator(psf_size=25, size=48, psf=ONE_GRID)
    ours = replace(galsims_own, engine="fourier")
    a, b = (m.draw_noiseless(np.arange(20), seed=4) for m in (galsims_own, ours))
    np.testing.assert_array_equal(a.theta, b.theta)
    np.testing.assert_array_equal(a.binning, b.binning)
    assert (np.abs(a.images - b.images).max((1, 2, 3)) / a.images.max((1, 2, 3))).max() < 1e-3
    assert np.abs(a.psf - b.psf).max() < 1e-3 * a.psf.max()


def test_a_stamp_is_the_same_alone_and_in_any_company():
    model = replace(simulator(binning=(1, 2), psf=ONE_GRID), engine="fourier")
    together = model.draw_noiseless(np.arange(100), seed=4)
    for ids in ([17], [99, 3, 50], np.arange(99, 29, -1)):
        some = model.draw_noiseless(ids, seed=4)
        np.testing.assert_array_equal(some.images, together.images[ids])
        np.testing.assert_array_equal(some.psf, together.psf[ids])


@pytest.mark.parametrize("kind", GALAXIES)
def test_gradients_are_finite_differences(kind):
    galaxy = GALAXIES[kind]
    engine = FourierEngine(galaxy, galaxy.parameters.names)
    rng = np.random.default_rng(3)
    theta = np.array([simulator(kind)._draw_theta(rng)[1] for _ in range(4)])
    family, grid, arrays = describe_profile(galsim.Moffat(beta=3.0, fwhm=0.8).shear(g1=0.05, g2=0.02), SCALE, 32)
    psf = family.transform({name: tf.constant(np.repeat(np.asarray(v)[None], 4, 0), tf.float32) for name, v in arrays.items()}, grid)
    weights = tf.constant(rng.normal(size=(4, 32, 32)), tf.float32)

    def drawn(values):
        ones = tf.ones(4)
        return engine.images(values, psf, ZERO_POINT * ones, SCALE * ones, tf.zeros((4, 2)), grid)

    values = tf.constant(theta)
    with tf.GradientTape() as tape:
        tape.watch(values)
        score = tf.reduce_sum(drawn(values) * weights, (1, 2))
    gradient = tape.gradient(score, values).numpy()
    for k, name in enumerate(galaxy.parameters.names):
        step = 0.01 if name in ("mag", "n", "bulge_to_total") else 0.003
        ends = [drawn(values + sign * step * tf.one_hot([k] * 4, theta.shape[1])).numpy().astype(np.float64) for sign in (1, -1)]
        difference = ((ends[0] - ends[1]) * weights.numpy()).sum((1, 2)) / (2 * step)
        np.testing.assert_allclose(gradient[:, k], difference, rtol=0.02, atol=0.01 * np.abs(difference).max(), err_msg=name)


@pytest.mark.parametrize("kind", GALAXIES)
def test_slopes_are_gradients(kind):
    """Closed forms against automatic differentiation, wings included, through a map of the parameters."""
    galaxy = GALAXIES[kind]
    engine = FourierEngine(galaxy, galaxy.parameters.names)
    rng = np.random.default_rng(3)
    theta = np.array([simulator(kind)._draw_theta(rng)[1] for _ in range(3)])
    theta[:, 0] = 21.0
    if kind == "sersic":
        theta[0, 1:3] = 2.0, 5.9  # the widest wings
    grid = ModeGrid(32, 1.25)
    stretch = tf.constant(rng.uniform(0.5, 2.0, theta.shape[1]), tf.float32)
    psf = tf.constant(np.exp(-0.1 * rng.random((3, 2, 1, 1)) * (grid.kx[:, None] ** 2 + grid.ky**2)), tf.float32)
    given = (psf, ZERO_POINT * tf.ones(3), SCALE * tf.ones(3), tf.constant(rng.normal(0, 1, (3, 2)), tf.float32), grid)
    v = tf.constant(theta) / stretch
    images, slopes = engine.images_and_slopes(lambda v: v * stretch, v, *given)
    np.testing.assert_allclose(images, engine.images(v * stretch, *given), rtol=1e-5, atol=1e-5 * float(tf.reduce_max(images)))
    wide, exact = [tf.cast(value, tf.float64) for value in given[1:4]], tf.cast(stretch, tf.float64)
    for found, expected in zip(
        engine.images_and_slopes(lambda v: v * exact, tf.cast(v, tf.float64), psf, *wide, grid), (images, slopes), strict=True
    ):
        np.testing.assert_allclose(
            found, expected, rtol=1e-3, atol=1e-4 * float(tf.reduce_max(tf.abs(expected))), err_msg="float64 goes in"
        )
    for weights in tf.random.stateless_normal((3, 32, 32), (1, 2))[:, None]:
        with tf.GradientTape() as tape:
            tape.watch(v)
            score = tf.reduce_sum(engine.images(v * stretch, *given) * weights)
        found = tf.reduce_sum(slopes * weights, (2, 3))
        expected = tape.gradient(score, v).numpy()
        assert (np.abs(found - expected) < 2e-3 * np.abs(expected) + 1e-3 * np.abs(expected).max(0)).all()


def test_a_centre_given_once_for_both_axes_is_two_coordinates():
    """A population of one's own may fix the centre with the very same zero for x and y."""

    class Centred(SersicGalaxy):
        def components(self, theta, zero_point):
            (c,) = super().components(theta, zero_point)
            nowhere = 0 * c.flux
            return (replace(c, x=nowhere, y=nowhere),)

    galaxy = Centred(**GALAXIES["sersic"].model_dump())
    engine, grid = FourierEngine(galaxy, galaxy.parameters.names), ModeGrid(32, 1.0)
    psf = tf.ones((1, 1, len(grid.kx), len(grid.ky)))
    theta, ones, shift = tf.constant([[20.0, 0.8, 1.0, 0.0, 0.0, 0.0, 0.0]]), tf.ones(1), tf.constant([[3.5, -1.5]])
    drawn = engine.images(theta, psf, ZERO_POINT * ones, SCALE * ones, shift, grid).numpy()[0]
    assert np.unravel_index(drawn.argmax(), drawn.shape) == (14, 19)


def test_round_galaxies_have_finite_gradients():
    engine = FourierEngine(GALAXIES["sersic"], GALAXIES["sersic"].parameters.names)
    theta = tf.constant([[20.0, 0.8, 2.0, 0.0, 0.0, 0.0, 0.0]])
    grid = ModeGrid(32, 1.0)
    psf = tf.ones((1, 1, len(grid.kx), len(grid.ky)))
    with tf.GradientTape() as tape:
        tape.watch(theta)
        total = tf.reduce_sum(engine.images(theta, psf, tf.constant([ZERO_POINT]), tf.constant([SCALE]), tf.zeros((1, 2)), grid) ** 2)
    assert np.isfinite(tape.gradient(total, theta)).all()


def test_what_is_no_sum_of_sersics_stays_with_galsim():
    class Ring:
        parameters = GALAXIES["sersic"].parameters

        def profile(self, theta, zero_point, *, exact=False):
            return galsim.Gaussian(sigma=1.0)

    model = replace(simulator(), galaxy=Ring())
    with pytest.raises(ConfigError, match=r"draws sums of Sersic profiles .* Ring is none. Use engine: galsim"):
        _ = model.fourier
    with pytest.raises(ConfigError, match=r"unknown rendering engine 'furier'.*Did you mean 'fourier'"):
        replace(simulator(), engine="furier")


def test_a_population_of_images_needs_no_profile():
    model = simulator()
    image = model.psf.draw(np.random.default_rng(1), SCALE).image(SCALE, 1, 33)
    theta = np.array([model._draw_theta(np.random.default_rng(5))[1]])
    for binning in (1, 2):
        point = PSFDraw(native_image=image)
        found, stars = model.fourier.draw(theta, [point], np.array([SCALE * binning]), np.array([binning]), SIZE, 33, ZERO_POINT)
        truth = galsims(model, theta[0], point, binning)
        assert np.abs(stars[0] - point.image(SCALE, binning, 33)).max() < 1e-6
        assert np.abs(found[0] - truth).max() < 1e-3 * truth.max()


def test_populations_as_numbers_are_what_they_are_as_profiles():
    """Whole blocks, slopes that no table covers among them, against the same PSFs one by one."""
    population = MoffatPSF(fwhm_arcsec=Fixed(value=0.8), beta=Uniform(low=1.3, high=2.2), ellipticity_sigma=0.1)
    model = simulator(psf=population, size=32)
    profiles = population.draw_many(np.random.default_rng(8), 24)
    theta = np.array([model._draw_theta(np.random.default_rng(i))[1] for i in range(24)])
    ones = np.ones(24, np.int64)
    drawn = [
        model.fourier.draw(theta, psfs, SCALE * ones, ones, 32, 17, ZERO_POINT)
        for psfs in (profiles, [profiles.one(i, SCALE) for i in range(24)])
    ]
    for many, single in zip(*drawn, strict=True):
        assert np.abs(many - single).max() < 1e-5 * single.max()
    first = population.draw(np.random.default_rng(8), SCALE).profile
    assert ShearedProfiles.joined([population.draw_many(np.random.default_rng(8), 1)]).one(0, SCALE).profile == first
