from dataclasses import replace

import galsim
import numpy as np
import pytest
import scipy.stats
from astropy.io import fits

from astroflow.errors import ConfigError, InputError
from astroflow.randomness import generator
from astroflow.sims.correlation import binned_correlation
from astroflow.sims.distributions import Fixed, LogUniform, Uniform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.masks import MaskPopulation
from astroflow.sims.noise import CCDNoise, RMSNoise, add_noise
from astroflow.sims.noise_correlation import CosmosCorrelation, GaussianCorrelation, ValuesCorrelation
from astroflow.sims.psfs import ImagePSF
from astroflow.sims.simulator import Simulator
from astroflow.sims.stamp import StampSpec
from astroflow.types import Noiseless, Stamps


def same(one, other):
    """Bit for bit, with everything that belongs to a simulation."""
    return np.array_equal(one.theta, other.theta) and np.array_equal(one.snr, other.snr) and one.stamps == other.stamps


def rows(simulation, which):
    return replace(simulation, theta=simulation.theta[which], stamps=simulation.stamps[which], snr=simulation.snr[which])


@pytest.fixture(scope="module")
def drawn(small_simulator):
    return small_simulator.draw(range(40), seed=7)


def test_a_draw_has_the_shapes_and_kinds_of_the_conventions(drawn, small_simulator):
    assert drawn.theta.shape == (40, 7)
    assert drawn.theta.dtype == np.float32
    assert drawn.stamps.shape == (40, 1, 32, 32)
    assert drawn.stamps.psf.shape == (40, 1, 17, 17)
    assert drawn.snr.shape == (40,)
    assert drawn.stamps.zero_point == 27.0
    assert drawn.stamps.pixel_scale_arcsec == 0.2
    assert np.isfinite(drawn.stamps.images).all()
    assert small_simulator.parameters.prior.contains(drawn.theta).all()
    assert set(drawn.stamps.binning.tolist()) == {1, 2}


@pytest.mark.parametrize("which", [[3], [5, 4, 3], list(range(39, -1, -1)), [0, 39]])
def test_the_same_id_and_seed_give_the_same_bits_in_any_company_and_order(small_simulator, drawn, which):
    assert same(small_simulator.draw(which, seed=7), rows(drawn, which))


def test_another_seed_gives_other_galaxies(small_simulator, drawn):
    other = small_simulator.draw(range(5), seed=8)
    assert not np.isclose(other.theta, drawn.theta[:5]).any()
    assert not np.isclose(other.stamps.images, drawn.stamps.images[:5]).all((1, 2, 3)).any()


def test_ids_may_be_strings_and_the_string_1_is_not_the_number_1(small_simulator):
    named = small_simulator.draw(["COSMOS-1", "1"], seed=7)
    assert named.stamps.ids.tolist() == ["COSMOS-1", "1"]
    assert same(rows(named, [1]), small_simulator.draw(["1"], seed=7))
    assert not np.isclose(small_simulator.draw([1], seed=7).theta, named.theta[1]).any()


@pytest.mark.parametrize("ids", [np.array([3, 4], ">i4"), np.array([3, 4], np.uint64), (3, 4), range(3, 5)])
def test_ids_of_any_integer_kind_are_the_same_ids(small_simulator, drawn, ids):
    assert same(small_simulator.draw(ids, seed=7), rows(drawn, [3, 4]))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "`ids` is empty"),
        (np.arange(0), "`ids` is empty"),
        ([1.5, 2.0], "integers or strings; got float64"),
        ([[1, 2]], "one-dimensional"),
        ([1, 1], "these come more than once: 1"),
    ],
)
def test_ids_that_name_nothing_are_refused(small_simulator, ids, message):
    with pytest.raises(InputError, match=message):
        small_simulator.draw(ids, seed=1)


def test_draw_is_draw_noiseless_and_then_observe(small_simulator, drawn):
    clean = small_simulator.draw_noiseless([4], seed=7)
    assert same(small_simulator.observe(clean, generator(7, "observation", 4)), rows(drawn, [4]))


def test_observing_a_block_gives_each_row_its_own_noise(small_simulator):
    clean = small_simulator.draw_noiseless(range(6), seed=7)
    one, other = (small_simulator.observe(clean, np.random.default_rng(k)) for k in (0, 1))
    assert np.array_equal(one.theta, other.theta)
    residuals = (one.stamps.images - clean.images) / one.stamps.rms
    assert not np.isclose(one.stamps.images, other.stamps.images).all((1, 2, 3)).any()
    assert np.abs(np.corrcoef(residuals.reshape(6, -1)) - np.eye(6)).max() < 0.15
    assert len(np.unique(one.stamps.rms[:, 0, 0, 0])) == 6


def test_the_noise_is_what_rms_and_gain_say(small_simulator):
    ids = range(60)
    clean = small_simulator.draw_noiseless(ids, seed=7)
    stamps = small_simulator.draw(ids, seed=7).stamps
    sigma = np.sqrt(stamps.rms**2 + np.maximum(clean.images, 0) / stamps.gain[..., None, None])
    pulls = ((stamps.images - clean.images) / sigma).ravel()
    assert scipy.stats.kstest(pulls, "norm").pvalue > 1e-3


def test_binned_stamps_have_the_noise_of_all_their_pixels(small_simulator):
    quiet = replace(small_simulator, noise=RMSNoise(rms=Fixed(value=3.0)))
    stamps = quiet.draw(range(20), seed=1).stamps
    assert np.allclose(stamps.rms[:, 0, 0, 0], 3.0 * stamps.binning)


def test_snr_is_that_of_the_noiseless_model_over_unmasked_pixels(small_simulator, drawn):
    clean = small_simulator.draw_noiseless(range(40), seed=7)
    for i in range(40):
        good = ~drawn.stamps.mask[i, 0]
        m, sigma = clean.images[i, 0][good].astype(float), drawn.stamps.rms[i, 0][good].astype(float)
        assert np.isclose(drawn.snr[i], np.sqrt((m / sigma) @ (m / sigma)), rtol=1e-5)
    assert drawn.stamps.mask.any()


def test_a_galaxy_fits_the_binning_it_is_drawn_at(small_simulator, drawn):
    re = small_simulator.parameters.column(drawn.theta, "re_arcsec")
    for size, binning in zip(re, drawn.stamps.binning, strict=True):
        low, high = small_simulator.stamp.re_limits_arcsec(int(binning))
        assert low <= size <= high


def test_sizes_that_no_prior_gives_are_a_clear_error(small_simulator):
    hopeless = replace(small_simulator, stamp=small_simulator.stamp.model_copy(update={"binning": (1, 8), "re_pixels": (4.0, 5.0)}))
    with pytest.raises(ConfigError, match=r"suit binning 8; change `stamp.binning`"):
        hopeless.draw(range(20), seed=0)


@pytest.mark.parametrize("binning", [(1,), (2,)])
def test_rendering_the_truth_gives_the_noiseless_stamp(small_simulator, binning):
    # A PSF image of the stamp's own sampling cannot hold all of an undersampled PSF, hence the wide one here.
    stamp = StampSpec(size=32, pixel_scale_arcsec=0.1, zero_point=27.0, psf_size=65, binning=binning)
    simulator = replace(small_simulator, stamp=stamp, galaxy=small_simulator.galaxy)
    clean = simulator.draw_noiseless(range(6), seed=3)
    stamps = simulator.draw(range(6), seed=3).stamps
    rendered = simulator.render(clean.theta, stamps)
    assert rendered.dtype == np.float32
    peak = clean.images.max((1, 2, 3))
    error = np.abs(rendered - clean.images).max((1, 2, 3)) / peak
    assert error.max() < 1e-2
    assert np.median(error) < 4e-3


def test_render_needs_one_theta_per_stamp_and_a_known_engine(small_simulator, drawn):
    with pytest.raises(InputError, match=r"`theta` must have shape \(2, 7\); got \(3, 7\)"):
        small_simulator.render(drawn.theta[:3], drawn.stamps[:2])
    with pytest.raises(ConfigError, match="unknown rendering engine 'fast'"):
        small_simulator.render(drawn.theta[:2], drawn.stamps[:2], engine="fast")


def test_values_under_the_mask_are_not_looked_at(small_simulator, drawn):
    stamps = drawn.stamps[:2]
    spoilt = replace(stamps, images=np.where(stamps.mask, 1e9, stamps.images))
    assert np.array_equal(small_simulator.render(drawn.theta[:2], spoilt), small_simulator.render(drawn.theta[:2], stamps))
    everything = replace(small_simulator, masks=MaskPopulation(frame_probability=1.0, frame_min=0.0, pixel_fraction=0.1))
    clean = everything.draw_noiseless([0], seed=1)
    loud = replace(clean, images=clean.images + 0)
    observed = everything.observe(clean, np.random.default_rng(0))
    loud.images[observed.stamps.mask] = 1e6
    assert np.isclose(everything.observe(loud, np.random.default_rng(0)).snr, observed.snr)


def test_the_stamps_that_come_out_can_be_built_again(drawn):
    stamps = drawn.stamps
    again = Stamps(
        images=stamps.images, psf=stamps.psf, rms=stamps.rms, mask=stamps.mask, gain=stamps.gain, binning=stamps.binning,
        ids=stamps.ids, zero_point=stamps.zero_point, pixel_scale_arcsec=stamps.pixel_scale_arcsec,
    )  # fmt: skip
    assert again == stamps


def test_models_through_native_psfs_are_what_draw_makes(tmp_path):
    narrow = galsim.Moffat(beta=3.0, fwhm=0.45).shear(g1=0.05, g2=0.02)  # undersampled once its pixels are binned by four
    psf = narrow.drawImage(nx=31, ny=31, scale=0.2, dtype=np.float64).array
    fits.PrimaryHDU(psf).writeto(tmp_path / "psf.fits")
    simulator = Simulator(
        galaxy=SersicGalaxy(n=LogUniform(low=0.7, high=2.0), n_table=32, re_arcsec=LogUniform(low=0.8, high=5.0)),
        psf=ImagePSF(path=str(tmp_path / "psf.fits"), fwhm_scatter=0.0, ellipticity_sigma=0.0),
        noise=RMSNoise(rms=0.1),
        stamp=StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=15, binning=(1, 4), re_pixels=(0.5, 6.0)),
    )
    clean = simulator.draw_noiseless(range(6), seed=2)
    assert set(clean.binning) == {1, 4}
    points = [simulator.psf.images[0]] * 6
    model = simulator.render_binned(clean.theta, points, clean.binning)
    peak = clean.images.max((1, 2, 3))
    assert (np.abs(model - clean.images).max((1, 2, 3)) < 2e-3 * peak).all()


@pytest.mark.parametrize("how", ["draw", "render", "render_binned"])
def test_a_galaxy_too_large_for_any_memory_is_refused_before_its_transform(small_simulator, how, monkeypatch):
    """GalSim only warns, and the process would be killed."""
    from galsim.gsobject import GSObject

    def transform(*_):
        raise AssertionError("the transform was begun")

    monkeypatch.setattr(GSObject, "drawFFT_finish", transform)
    galaxy = SersicGalaxy(re_arcsec=Uniform(low=20.0, high=30.0), n=Uniform(low=5.9, high=6.1), n_table=8)
    stamp = StampSpec(size=32, pixel_scale_arcsec=0.05, zero_point=27.0, psf_size=17)
    simulator = replace(small_simulator, galaxy=galaxy, stamp=stamp)
    theta = np.array([[20.0, 25.0, 6.0, 0.0, 0.0, 0.0, 0.0]])
    y, x = np.mgrid[-8:9, -8:9]
    psf = np.exp(-0.5 * (x**2 + y**2) / 4)
    psf /= psf.sum()
    message = r"re_arcsec 2\d.*, n (5.9\d|6|6.0\d*) on pixels of 0.05 arcsec takes a Fourier transform of \d{5,} x .*Lower the upper bound"
    stamps = Stamps(images=np.zeros((1, 1, 32, 32)), psf=psf, rms=1.0, zero_point=27.0, pixel_scale_arcsec=0.05)
    calls = {"draw": ([0], 1), "render": (theta, stamps), "render_binned": (theta, [psf], np.array([1]))}
    with pytest.raises(ConfigError, match=message):
        getattr(simulator, how)(*calls[how])


# -- correlated noise ----------------------------------------------------------------------------------------------------


KINDS = {
    "values": ValuesCorrelation(values=((0.0, 0.1, 0.2), (0.3, 1.0, 0.3), (0.2, 0.1, 0.0))),
    "gaussian": GaussianCorrelation(sigma_pixels=0.6),
    "cosmos": CosmosCorrelation(),
}


def autocorrelation(noise, reach=5):
    """The mean product of pixels at each lag, over their variance: ``(2 reach + 1, 2 reach + 1)`` from noise ``(N, H, W)``."""
    height, width = noise.shape[1:]
    out = np.empty((2 * reach + 1, 2 * reach + 1))
    for dy in range(reach + 1):
        for dx in range(-reach, reach + 1):
            first = noise[:, : height - dy, max(0, -dx) : width - max(0, dx)]
            second = noise[:, dy:, max(0, dx) : width - max(0, -dx)]
            out[reach + dy, reach + dx] = out[reach - dy, reach - dx] = (first * second).mean() / noise.var()
    return out


def to_lag(correlation, reach=5):
    wide = np.pad(correlation, max(0, reach - len(correlation) // 2))
    middle = len(wide) // 2
    return wide[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]


@pytest.fixture(scope="module", params=["galsim", "fourier"])
def drawn_by(request, small_simulator):
    simulator = replace(small_simulator, engine=request.param, masks=MaskPopulation(frame_probability=0, pixel_fraction=0))
    if request.param == "galsim":
        return simulator, simulator.draw_noiseless(range(12), seed=3)
    import tensorflow as tf

    # compiling takes longer than all these tests
    tf.config.run_functions_eagerly(True)
    try:
        return simulator, simulator.draw_noiseless(range(12), seed=3)
    finally:
        tf.config.run_functions_eagerly(False)


def noise_of(simulator, clean, seed, repeats=60):
    """Noise of many observations of the same galaxies, over its rms, and their stamps."""
    repeated = Noiseless(
        **{k: np.repeat(v, repeats, axis=0) for k, v in vars(clean).items() if k != "ids"}, ids=np.arange(repeats * len(clean))
    )
    stamps = simulator.observe(repeated, np.random.default_rng(seed)).stamps
    return ((stamps.images - repeated.images) / stamps.rms)[:, 0], stamps


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_correlation_that_the_recipe_says_at_every_lag(drawn_by, kind):
    simulator, clean = drawn_by
    simulator = replace(simulator, noise=RMSNoise(rms=Uniform(low=1, high=3), correlation=KINDS[kind]))
    noise, stamps = noise_of(simulator, clean, seed=1)
    assert set(stamps.binning.tolist()) == {1, 2}
    for b in (1, 2):
        rows = stamps.binning == b
        assert noise[rows].std() == pytest.approx(1, abs=0.02)
        specified, scatter = binned_correlation(KINDS[kind].map, b)
        assert np.abs(autocorrelation(noise[rows]) - to_lag(specified)).max() < 0.02
        assert np.abs(to_lag(stamps.noise_correlation[rows][0, 0]) - to_lag(specified)).max() < 2e-3, "the stamps say so too"
        assert scatter <= stamps.rms[rows].min() * (1 + 1e-5)
        assert stamps.rms[rows].max() <= 3 * scatter * (1 + 1e-5)


def test_noise_that_forgets_its_correlation_is_found(drawn_by):
    """The planted fault of the statistic above: stamps that say they are correlated, and are not."""
    simulator, clean = drawn_by
    noise, _ = noise_of(replace(simulator, noise=RMSNoise(rms=1.0)), clean, seed=1)
    for correlation in KINDS.values():
        assert np.abs(autocorrelation(noise) - to_lag(correlation.map)).max() > 0.1


def test_correlated_noise_with_a_gain_has_the_variance_of_both(drawn_by):
    simulator, clean = drawn_by
    loud = replace(clean, images=np.full_like(clean.images, 50.0))
    for kind in KINDS.values():
        model = CCDNoise(sky=Fixed(value=40.0), gain=Fixed(value=2.0), correlation=kind)
        noise, stamps = noise_of(replace(simulator, noise=model), loud, seed=2)
        expected = 1 + 50.0 / 2.0 / stamps.rms[:, 0, 0, 0] ** 2
        assert np.allclose(noise.var((1, 2)).mean(), expected.mean(), rtol=0.02)
        rows = stamps.binning == 1
        specified = to_lag(kind.map) / expected[rows][0]
        specified[5, 5] = 1  # photons add to the variance alone
        assert np.abs(autocorrelation(noise[rows]) - specified).max() < 0.02


@pytest.fixture(scope="module")
def correlated(small_simulator):
    return replace(small_simulator, noise=CCDNoise(sky=2.0, gain=200.0, correlation=CosmosCorrelation()))


def test_a_correlated_draw_depends_on_its_id_and_seed_alone(correlated):
    whole = correlated.draw(range(6), seed=7)
    assert whole.stamps.noise_correlation.shape == (6, 1, 21, 21)
    for which in ([3], [5, 0, 4]):
        assert same(correlated.draw(which, seed=7), rows(whole, which))
    assert not np.isclose(correlated.draw([3], seed=8).stamps.images, whole.stamps.images[3]).all()


def test_snr_of_correlated_noise_is_lower_for_the_same_rms(correlated):
    clean = replace(correlated.draw_noiseless(range(8), seed=7), binning=np.ones(8, np.int64))
    white = replace(correlated, noise=CCDNoise(sky=2.0, gain=200.0))
    ratio = white.observe(clean, np.random.default_rng(1)).snr / correlated.observe(clean, np.random.default_rng(1)).snr
    # between one, for a point, and the root of the sum over lags, for a flat image
    assert (ratio > 1.3).all()
    assert (ratio < np.sqrt(correlated.noise_correlation.sum())).all()


def test_independent_noise_is_drawn_as_it_always_was(small_simulator):
    """The same numbers in the same order, so that recipes without a correlation keep their bits."""
    clean = small_simulator.draw_noiseless(range(5), seed=7)
    stamps = small_simulator.observe(clean, np.random.default_rng(4)).stamps
    assert stamps.noise_correlation is None
    rng = np.random.default_rng(4)
    levels = small_simulator.noise.levels(rng, 5)
    small_simulator.masks.draw(rng, 5, 32, 32)
    rms = (levels.rms * clean.binning[:, None]).astype(np.float32)[..., None, None]
    assert np.array_equal(stamps.rms, np.broadcast_to(rms, stamps.shape))
    assert np.array_equal(
        stamps.images, add_noise(clean.images, rms, levels.gain, rng.standard_normal(clean.images.shape, dtype=np.float32))
    )
