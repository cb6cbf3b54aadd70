from dataclasses import replace

import galsim
import numpy as np
import pytest

from astroflow.posteriors.familiarity import Familiarity, _Cloud, psf_features, unfamiliar_correlation
from astroflow.posteriors.flags import Flag
from astroflow.sims.correlation import binned_correlation
from astroflow.sims.noise_correlation import CosmosCorrelation, GaussianCorrelation
from astroflow.sims.psf_images import psf_at_stamp_scale, tidy_psf
from astroflow.types import Noiseless, Stamps

OOD = int(Flag.OOD_PSF | Flag.OOD_RMS | Flag.OOD_IMAGE)


def moffat(fwhm=0.7, g1=0.0, g2=0.0, binning=1, size=17):
    profile = galsim.Moffat(beta=3.0, fwhm=fwhm).shear(g1=g1, g2=g2)
    image = profile.drawImage(nx=size, ny=size, scale=0.2 * binning, dtype=np.float64).array
    return (image / image.sum()).astype(np.float32)


def share(flags, bits):
    return float(((flags & int(bits)) != 0).mean())


def through(small_posterior, stamps, **changes):
    return small_posterior.encode(replace(stamps, **changes)).flags


@pytest.fixture(scope="module")
def unbinned(galaxies):
    return galaxies.stamps[galaxies.stamps.binning == 1]


def test_fresh_simulations_are_familiar(small_posterior, small_simulator, galaxies):
    """False alarms: at most one in a hundred."""
    clean = small_simulator.draw_noiseless(range(5000, 5300), seed=1)
    flags = [small_posterior.encode(small_simulator.observe(clean, np.random.default_rng(k)).stamps).flags for k in range(4)]
    assert share(np.concatenate(flags), OOD) <= 0.01
    assert share(small_posterior.encode(galaxies.stamps).flags, OOD) <= 0.03


def test_wider_psfs_are_caught_and_ordinary_ones_are_not(small_posterior, unbinned):
    ordinary = through(small_posterior, unbinned, psf=moffat(0.7))
    assert share(ordinary, Flag.OOD_PSF) == 0
    for fwhm in (0.9 * 1.4, 0.5 / 1.4):
        assert share(through(small_posterior, unbinned, psf=moffat(fwhm)), Flag.OOD_PSF) == 1


@pytest.mark.parametrize(("g1", "g2"), [(0.3, 0.0), (0.0, -0.3), (-0.2, 0.2)])
def test_elliptical_psfs_are_caught(small_posterior, unbinned, g1, g2):
    assert share(through(small_posterior, unbinned, psf=moffat(0.7, g1, g2)), Flag.OOD_PSF) == 1


def test_psfs_of_another_profile_are_caught(small_posterior, unbinned):
    double = moffat(0.55) + np.roll(moffat(0.55), 4, axis=1)
    assert share(through(small_posterior, unbinned, psf=double / double.sum()), Flag.OOD_PSF) == 1


@pytest.mark.parametrize("factor", [30, 1 / 30, 4, 0.2])
def test_noise_beyond_the_training_range_is_caught(small_posterior, galaxies, factor):
    """Only the noise map is wrong, the image has the noise that it had."""
    flags = through(small_posterior, galaxies.stamps, rms=galaxies.stamps.rms * factor)
    assert share(flags, Flag.OOD_RMS) == 1


@pytest.mark.parametrize("factor", [10, 0.1, np.inf])
def test_a_gain_beyond_the_training_range_is_caught(small_posterior, galaxies, factor):
    flags = through(small_posterior, galaxies.stamps, gain=galaxies.stamps.gain * np.float32(factor))
    assert share(flags, Flag.OOD_GAIN) == 1
    assert share(small_posterior.encode(galaxies.stamps).flags, Flag.OOD_GAIN) == 0


def test_binned_noise_is_judged_per_native_pixel(small_posterior, galaxies):
    flags = small_posterior.encode(galaxies.stamps).flags
    assert share(flags[galaxies.stamps.binning == 2], Flag.OOD_RMS) == 0
    assert share(flags[galaxies.stamps.binning == 1], Flag.OOD_RMS) == 0


def noise(stamps, seed=0):
    return np.random.default_rng(seed).normal(size=stamps.images.shape).astype(np.float32) * stamps.rms


def sinusoid(stamps):
    y, x = np.mgrid[:32, :32]
    return 50 * stamps.rms * np.sin(x) * np.cos(0.7 * y)


def star_field(stamps):
    rng = np.random.default_rng(0)
    out = np.zeros(stamps.images.shape, np.float32)
    star = moffat(0.6, size=32)
    for image in out:
        for _ in range(12):
            image[0] += np.roll(star, tuple(rng.integers(0, 32, 2)), (0, 1)) * 3000 * rng.random()
    return out


def bar_code(stamps):
    return 40 * stamps.rms * (np.arange(32) % 4 < 2)


def bright_corner(stamps):
    out = np.zeros(stamps.images.shape, np.float32)
    out[..., :10, :10] = 30 * stamps.rms[..., :10, :10]
    return out


def negative_galaxy(stamps):
    return -2 * stamps.images.clip(0) - 20 * stamps.rms * (np.hypot(*np.mgrid[-15.5:16, -15.5:16]) < 5)


@pytest.mark.parametrize("picture", [sinusoid, star_field, bar_code, bright_corner, negative_galaxy])
def test_pictures_that_are_no_galaxy_are_caught(small_posterior, galaxies, picture):
    stamps = replace(galaxies.stamps, mask=np.zeros(galaxies.stamps.mask.shape, bool))
    flags = through(small_posterior, stamps, images=picture(stamps) + noise(stamps))
    assert share(flags, Flag.OOD_IMAGE) > 0.9


def test_one_unfamiliar_row_says_nothing_of_the_others(small_posterior, galaxies):
    stamps = galaxies.stamps[:6]
    images = stamps.images.copy()
    images[2] = sinusoid(stamps)[2]
    before, after = small_posterior.encode(stamps).flags, through(small_posterior, stamps, images=images)
    assert after[2] & Flag.OOD_IMAGE
    assert np.array_equal(np.delete(after, 2), np.delete(before, 2))


def test_features_of_a_psf_are_those_of_its_moments(unbinned):
    stamps = replace(unbinned[:3], psf=np.stack([moffat(0.7), moffat(0.7, g1=0.1), moffat(0.7)])[:, None])
    features = psf_features(stamps)
    assert features.shape == (3, 6)
    assert np.array_equal(features[0], features[2])
    assert features[1, 1] > features[0, 1] + 0.05
    assert np.allclose(features[:, 5], 0)
    assert np.allclose(psf_features(stamps[1])[0], features[1])
    assert np.allclose(psf_features(replace(stamps, binning=2))[:, 0] - features[:, 0], np.log(2))


def test_arrays_bring_it_back(small_posterior, galaxies):
    familiarity = small_posterior.familiarity
    arrays = familiarity.to_arrays()
    assert {name: value.shape for name, value in arrays.items()} == Familiarity.shapes(16)
    context = small_posterior.encode(galaxies.stamps).context
    assert np.array_equal(Familiarity.from_arrays(arrays).flags(galaxies.stamps, context), familiarity.flags(galaxies.stamps, context))


def test_a_share_of_one_in_a_thousand_lies_beyond(small_simulator):
    """With plain normal contexts the threshold is that of a chi-squared."""
    from scipy.stats import chi2

    one = small_simulator.draw_noiseless(range(4), seed=1)
    rows = np.arange(20_000) % 4
    clean = Noiseless(
        theta=one.theta[rows], images=one.images[rows, :, :16, :16], psf=one.psf[rows], binning=one.binning[rows], ids=np.arange(20_000)
    )
    stamps = small_simulator.observe(clean, np.random.default_rng(0)).stamps
    context = np.random.default_rng(0).normal(size=(20_000, 5)).astype(np.float32) * [1, 10, 0.1, 3, 0.02] + 7
    cloud = Familiarity.of(stamps, context).context
    assert np.isclose(cloud.threshold, 1.05 * chi2(5).ppf(0.999), rtol=0.1)
    assert np.isclose(cloud.distance(context).mean(), 5, rtol=0.02)


@pytest.mark.parametrize("dimensions", [32, 512])
def test_fresh_rows_are_familiar_however_long_the_context(dimensions):
    """Of several networks' contexts together too, a share of one in a thousand is flagged; and a departure is still seen."""
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(dimensions, dimensions))
    n = 4096

    def contexts(rows):
        return rng.normal(size=(rows, dimensions)) @ mixing + 5

    cloud = _Cloud.of(contexts(n), 0.001)
    beyond = np.mean(cloud.distance(contexts(16_000)) > cloud.threshold)
    assert beyond < 0.002
    odd = rng.normal(size=(500, dimensions))
    odd[:, :8] += 6  # in a few directions only
    assert np.mean(cloud.distance(odd @ mixing + 5) > cloud.threshold) > 0.9


def test_thresholds_are_those_of_rows_that_are_left_out():
    """By measuring the cloud anew without each row."""
    features = np.random.default_rng(0).normal(size=(60, 7)) @ np.random.default_rng(1).normal(size=(7, 7))
    expected = [_Cloud.of(np.delete(features, i, 0), 0.1).distance(features[i : i + 1])[0] for i in range(60)]
    assert _Cloud.of(features, 0.1).threshold == pytest.approx(1.05 * np.quantile(expected, 0.9), rel=1e-9)


def test_rows_fewer_than_dimensions_leave_a_number():
    cloud = _Cloud.of(np.random.default_rng(0).normal(size=(6, 9)), 0.001)
    assert 1e6 < cloud.threshold < np.inf


def seen_through(psf, n=50):
    rms = np.random.default_rng(0).uniform(1, 2, (n, 1, 1, 1))
    return Stamps(images=np.zeros((n, 1, 32, 32)), psf=psf, rms=rms, zero_point=27.0, pixel_scale_arcsec=0.2)


def test_where_every_training_psf_is_the_same_one_it_is_familiar_on_an_image_of_any_size():
    """The wings that an image holds change with its size, a little; another width is another PSF."""
    context = np.random.default_rng(0).normal(size=(50, 4))
    familiarity = Familiarity.of(seen_through(moffat(0.7, 0.02)), context)

    def flagged(fwhm, size, g1=0.02):
        framed = psf_at_stamp_scale(tidy_psf(moffat(fwhm, g1, size=size)[None, None]).images, oversampling=1, binning=1, size=17)
        return share(familiarity.flags(seen_through(framed), context), Flag.OOD_PSF)

    assert [flagged(0.7, size) for size in (15, 17, 21, 33, 51)] == [0] * 5
    assert [flagged(0.75, 33), flagged(0.65, 33), flagged(0.7, 33, g1=0.08)] == [1] * 3


def test_a_context_of_one_number_has_a_cloud_too():
    context = np.random.default_rng(0).normal(3.0, 0.5, size=(1000, 1))
    familiarity = Familiarity.of(seen_through(moffat(), 1000), context)
    assert {name: value.shape for name, value in familiarity.to_arrays().items()} == Familiarity.shapes(1)
    flags = familiarity.flags(seen_through(moffat(), 2), np.array([[3.5], [6.0]]))
    assert ((flags & int(Flag.OOD_IMAGE)) != 0).tolist() == [False, True]


# -- correlated noise ----------------------------------------------------------------------------------------------------

COSMOS = CosmosCorrelation().map
KIDS = GaussianCorrelation(sigma_pixels=0.43).map


def correlated(correlation, binning=(1, 2, 4)):
    given = {"images": np.zeros((len(binning), 1, 8, 8)), "psf": np.ones((3, 3)), "rms": 1.0, "zero_point": 27.0, "pixel_scale_arcsec": 0.2}
    maps = None if correlation is None else np.stack([binned_correlation(correlation, b)[0] for b in binning])[:, None]
    return Stamps(**given, binning=binning, noise_correlation=maps)


def test_the_training_correlation_is_familiar_at_every_binning():
    for trained in (COSMOS, KIDS, None):
        assert not unfamiliar_correlation(correlated(trained), trained).any()
        assert not unfamiliar_correlation(correlated(None), trained).any(), "nothing stated, nothing to compare"
    assert not unfamiliar_correlation(correlated(np.ones((1, 1))), None).any()
    close = COSMOS * 0.97
    close[10, 10] = 1
    assert not unfamiliar_correlation(correlated(close), COSMOS).any()
    assert unfamiliar_correlation(correlated(COSMOS)[:0], COSMOS).shape == (0,)


@pytest.mark.parametrize(
    ("stated", "trained"),
    [
        (COSMOS, None),
        (np.ones((1, 1)), COSMOS),
        (KIDS, COSMOS),
        (np.ones((1, 1)), KIDS),
        # as strong, along x instead of y
        (np.array([[0, 0, 0], [0.4, 1, 0.4], [0, 0, 0]]), np.array([[0, 0.4, 0], [0, 1, 0], [0, 0.4, 0]])),
    ],
    ids=["correlated for white", "white for cosmos", "kids for cosmos", "white for kids", "turned"],
)
def test_another_correlation_is_caught(stated, trained):
    assert (unfamiliar_correlation(correlated(stated, (1, 1)), trained) == int(Flag.OOD_CORRELATION)).all()


def test_each_row_is_judged_by_itself():
    maps = np.stack([COSMOS, np.pad(KIDS, 10 - len(KIDS) // 2), binned_correlation(COSMOS, 2)[0]])[:, None]
    stamps = replace(correlated(None, (1, 1, 2)), noise_correlation=maps)
    assert (unfamiliar_correlation(stamps, COSMOS) != 0).tolist() == [False, True, False]


def test_a_posterior_flags_stamps_of_another_correlation(small_posterior, unbinned):
    learned = replace(small_posterior, noise_correlation=COSMOS)
    assert share(learned.encode(unbinned).flags, Flag.OOD_CORRELATION) == 0
    assert np.allclose(learned.encode(unbinned).framed.stamps.noise_correlation[0, 0], COSMOS, atol=1e-6), "taken to be the training's"
    assert share(through(learned, unbinned, noise_correlation=COSMOS), Flag.OOD_CORRELATION) == 0
    assert share(through(learned, unbinned, noise_correlation=[[1.0]]), Flag.OOD_CORRELATION) == 1
    assert share(through(small_posterior, unbinned, noise_correlation=COSMOS), Flag.OOD_CORRELATION) == 1
    assert share(through(small_posterior, unbinned), Flag.OOD_CORRELATION) == 0
