from dataclasses import replace

import galsim
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

import astroflow.posteriors.framing as framing
from astroflow.errors import InputError
from astroflow.posteriors.flags import UNUSABLE, Flag
from astroflow.posteriors.framing import frame
from astroflow.posteriors.inputs import network_inputs
from astroflow.sims.correlation import binned_correlation, correlated_normals
from astroflow.sims.distributions import LogUniform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.noise import RMSNoise
from astroflow.sims.noise_correlation import CosmosCorrelation
from astroflow.sims.psfs import ImagePSF, MoffatPSF
from astroflow.sims.simulator import Simulator
from astroflow.sims.stamp import StampSpec
from astroflow.types import Cutout, Stamps

SPEC = StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=15, binning=(1, 2, 4, 8), re_pixels=(1.5, 5.0))
PSF = galsim.Moffat(beta=3.0, fwhm=0.7).shear(g1=0.05, g2=0.02)
RMS = 0.1
# what a PSF may raise without the row being unusable
PUT_RIGHT = Flag.PSF_NORMALISED | Flag.PSF_RECENTRED


def psf_image(size=25, scale=0.2, width=None, offset=(0, 0), total=1.0, profile=PSF):
    image = profile.drawImage(nx=width or size, ny=size, scale=scale, offset=offset, dtype=np.float64).array
    return (image / image.sum() * total)[None].astype(np.float32)


def picture(height, width, re_pixels=0.8, flux=2000.0, x=None, y=None, n=1.0):
    """A galaxy of known half-light radius, at a known place (its centre by default), with noise."""
    x, y = ((s - 1) / 2 if p is None else p for s, p in ((width, x), (height, y)))
    scene = galsim.Convolve(galsim.Sersic(n, half_light_radius=re_pixels * 0.2, flux=flux), PSF)
    image = scene.drawImage(nx=width, ny=height, scale=0.2, offset=(x - (width - 1) / 2, y - (height - 1) / 2), dtype=np.float64).array
    return (image + np.random.default_rng(0).normal(0, RMS, (height, width)))[None].astype(np.float32)


def cutout(pixels=None, **changes):
    image = picture(48, 48) if pixels is None else pixels
    given = {
        "identity": 7,
        "image": image,
        "rms": np.full_like(image, RMS),
        "mask": None,
        "psf": psf_image(),
        "zero_point": 27.0,
        "pixel_scale_arcsec": 0.2,
    }
    return Cutout(**(given | changes))


def framed(*cutouts, spec=SPEC):
    return frame([replace(c, identity=i) for i, c in enumerate(cutouts)], spec)


def centroid(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    light = np.where(image > 5 * RMS, image, 0).astype(float)
    return (light * x).sum() / light.sum(), (light * y).sum() / light.sum()


# -- cropping, padding, position ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 48), (47, 47), (48, 47), (32, 32), (33, 31), (20, 20), (21, 40), (9, 9), (200, 121)], ids=str)
def test_any_size_becomes_the_networks_about_the_centre(size):
    image = picture(*size, re_pixels=1.5)
    got = framed(cutout(image, size_pixels=1.5))
    stamp, mask = got.stamps.images[0, 0], got.stamps.mask[0, 0]
    assert stamp.shape == (32, 32)
    assert got.usable.all()
    shift = got.shift_arcsec[0] / 0.2
    # the frame's centre plus what was handed on is where the galaxy is
    assert np.allclose(np.array([15.5, 15.5]) - shift, centroid(np.where(mask, 0, stamp)), atol=0.06)
    assert np.array_equal(np.abs(shift), [0.5 * (side % 2) for side in size[::-1]])
    # pixels are copied, never resampled, and what was not there is masked
    assert (~mask).sum() == min(32, size[0]) * min(32, size[1])
    assert np.isin(stamp[~mask], image).all()
    assert not stamp[mask].any()


@given(x=st.floats(-20, 70), y=st.floats(-20, 70), height=st.integers(16, 60), width=st.integers(16, 60))
@settings(max_examples=60)
def test_every_pixel_keeps_its_place_relative_to_the_position(x, y, height, width):
    # each pixel holds its own coordinates
    image = (np.arange(height)[:, None] * 1000.0 + np.arange(width) + 1)[None].astype(np.float32)
    got = framed(cutout(image, x=x, y=y, size_pixels=1.0))
    good = ~got.stamps.mask[0, 0]
    if not got.usable[0]:
        assert got.flags[0] & (Flag.NO_DATA | Flag.CENTRE_MASKED | Flag.NO_SIGNAL)
        return
    rows, columns = np.nonzero(good)
    values = got.stamps.images[0, 0][good].astype(float) - 1
    shift_x, shift_y = got.shift_arcsec[0] / 0.2
    assert max(abs(shift_x), abs(shift_y)) <= 0.5 + 1e-9
    assert np.allclose(columns - 15.5 + shift_x, values % 1000 - x, atol=1e-6)
    assert np.allclose(rows - 15.5 + shift_y, values // 1000 - y, atol=1e-6)


def test_an_object_at_an_edge_has_the_rest_masked():
    image = picture(60, 60, x=5, y=40)
    got = framed(cutout(image, x=5.0, y=40.0, size_pixels=2.0))
    mask = got.stamps.mask[0, 0]
    assert got.usable[0]
    assert got.flags[0] & Flag.MASKED
    assert mask[:, :10].all()
    assert not mask[:, 10:].any()
    assert np.allclose(np.array([15.5, 15.5]) - got.shift_arcsec[0] / 0.2, centroid(np.where(mask, 0, got.stamps.images[0, 0])), atol=0.2)


@pytest.mark.parametrize(("x", "y"), [(200.0, 24.0), (24.0, -60.0), (1e12, 1e12)])
def test_an_object_off_the_image_has_no_data(x, y):
    got = framed(cutout(x=x, y=y))
    assert got.flags[0] & Flag.NO_DATA
    assert got.notes[0] == "no usable pixel near the object"


@pytest.mark.parametrize(("x", "y"), [(np.nan, 24.0), (24.0, np.inf)])
def test_a_position_that_is_no_number_is_flagged(x, y):
    got = framed(cutout(x=x, y=y), cutout())
    assert got.flags[0] & Flag.BAD_POSITION
    assert got.usable.tolist() == [False, True]


# -- binning --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("re_pixels", "binning"), [(0.5, 1), (1.0, 1), (4.5, 2), (9.0, 4), (19.0, 8)])
@pytest.mark.parametrize("flux", [3e4, 3e6])
def test_binning_follows_the_galaxys_size(re_pixels, binning, flux):
    got = framed(cutout(picture(256, 256, re_pixels, flux=flux * re_pixels)))
    assert got.stamps.binning.tolist() == [binning]
    assert not got.flags[0] & Flag.CROPPED
    assert got.usable[0]


def test_a_size_that_is_given_decides():
    image = picture(256, 256)
    for size, binning in ((1.0, 1), (3.2, 1), (3.3, 2), (25.6, 8), (60.0, 8)):
        assert framed(cutout(image, size_pixels=size)).stamps.binning[0] == binning
    for nonsense in (np.nan, 0.0, -3.0, np.inf, None):
        assert framed(cutout(image, size_pixels=nonsense)).stamps.binning[0] == 1


@pytest.mark.parametrize("binning", [(1,), (1, 2)])
def test_galaxies_beyond_the_largest_stamp_are_flagged(binning):
    spec = SPEC.model_copy(update={"binning": binning})
    large = framed(cutout(picture(256, 256, 20.0, flux=1e6)), cutout(picture(256, 256)), spec=spec)
    assert large.stamps.binning.tolist() == [binning[-1], 1]
    assert [bool(f & Flag.CROPPED) for f in large.flags] == [True, False]


@pytest.mark.parametrize("binning", [2, 4, 8])
def test_binned_stamps_are_sums_with_their_noise_and_masks(binning):
    side = 32 * binning
    image = picture(side, side, 3.2 * binning * 0.9, flux=1e5)
    mask = np.zeros(image.shape, bool)
    mask[0, 0, 0] = mask[0, -1, -2] = True
    rms = np.random.default_rng(1).uniform(0.05, 0.2, image.shape).astype(np.float32)
    got = framed(cutout(image, rms=rms, mask=mask, size_pixels=3.2 * binning * 0.99))
    assert got.stamps.binning.tolist() == [binning]
    blocks = image.reshape(32, binning, 32, binning).sum((1, 3))
    expected = np.zeros((32, 32), bool)
    expected[0, 0] = expected[-1, -1] = True
    assert np.array_equal(got.stamps.mask[0, 0], expected)
    assert np.allclose(got.stamps.images[0, 0], np.where(expected, 0, blocks), rtol=1e-4, atol=1e-4)
    assert np.allclose(got.stamps.rms[0, 0, 5, 7], np.sqrt((rms.reshape(32, binning, 32, binning) ** 2).sum((1, 3)))[5, 7])
    assert np.allclose(got.shift_arcsec, 0)


# -- stamps of the network's own size ----------------------------------------------------------------------------------


def test_framed_stamps_are_framed_already(small_simulator):
    stamps = small_simulator.draw(range(20), seed=3).stamps
    spec = small_simulator.stamp
    once = frame(stamps, spec)
    assert set(once.stamps.binning.tolist()) == {1, 2}
    assert np.array_equal(once.stamps.images, np.where(stamps.mask, 0, stamps.images))
    assert np.array_equal(once.stamps.mask, stamps.mask)
    assert np.allclose(once.stamps.psf, stamps.psf, atol=1e-6)
    assert not once.shift_arcsec.any()
    twice = frame(once.stamps, spec)
    assert np.array_equal(twice.stamps.images, once.stamps.images)
    assert np.array_equal(twice.flags, once.flags)


def test_stamps_that_are_binned_must_have_the_networks_size():
    stamps = Stamps(images=picture(40, 40), psf=psf_image()[0], rms=RMS, zero_point=27, pixel_scale_arcsec=0.2, binning=2)
    with pytest.raises(InputError, match=r"binned already must have 32 x 32 pixels; got \(40, 40\)"):
        frame(stamps, SPEC)


def test_a_band_that_was_not_observed_is_no_data():
    images = np.stack([picture(48, 48)] * 2)
    stamps = Stamps(images=images, psf=psf_image()[0], rms=RMS, zero_point=27, pixel_scale_arcsec=0.2, band_present=[[True], [False]])
    got = frame(stamps, SPEC)
    assert got.usable.tolist() == [True, False]
    assert got.flags[1] & Flag.NO_DATA
    assert got.notes[1] == "no band was observed"


# -- pixels and noise --------------------------------------------------------------------------------------------------


def spoilt(what, value):
    """A cutout of which a patch, the centre or all of the image or noise map is `value`."""
    image = picture(48, 48)
    arrays = {"image": image, "rms": np.full_like(image, RMS)}
    where = {"all": np.s_[:], "patch": np.s_[:, :6, :6], "one": np.s_[:, 10, 10], "centre": np.s_[:, 18:30, 18:30]}
    part, place = what.split()
    arrays[part][where[place]] = value
    return cutout(arrays["image"], rms=arrays["rms"])


@pytest.mark.parametrize(
    ("what", "value", "flag"),
    [
        ("image all", np.nan, Flag.NO_DATA),
        ("image all", np.inf, Flag.NO_DATA),
        ("image all", 0.0, Flag.NO_SIGNAL),
        ("image all", -7.5, Flag.NO_SIGNAL),
        ("image one", np.nan, Flag.PIXELS_REPAIRED),
        ("image one", -np.inf, Flag.PIXELS_REPAIRED),
        ("image one", 3e38, Flag.PIXELS_REPAIRED),
        ("image centre", np.nan, Flag.CENTRE_MASKED),
        ("rms all", 0.0, Flag.BAD_RMS),
        ("rms all", -1.0, Flag.BAD_RMS),
        ("rms all", np.nan, Flag.BAD_RMS),
        ("rms all", np.inf, Flag.BAD_RMS),
        ("rms patch", 0.0, Flag.PIXELS_REPAIRED),
        ("rms patch", -1.0, Flag.PIXELS_REPAIRED),
        ("rms patch", np.nan, Flag.PIXELS_REPAIRED),
        ("rms centre", np.nan, Flag.CENTRE_MASKED),
    ],
)
def test_bad_values_become_a_flag(what, value, flag):
    got = framed(spoilt(what, value), cutout())
    assert got.flags[0] & flag
    assert got.usable[0] == (not flag & UNUSABLE)
    assert bool(got.notes[0]) == bool(flag & UNUSABLE)
    assert got.flags[1] == 0
    assert np.isfinite(got.stamps.images).all()
    assert (got.stamps.rms > 0).all()
    if flag == Flag.PIXELS_REPAIRED:
        assert got.stamps.mask[0, 0, 2, 2] == (" one" in what)  # pixel (10, 10) of the cutout
        assert got.stamps.mask[0].any() == (" one" in what)


def test_noise_that_is_bad_where_the_image_is_masked_anyway_is_no_remark():
    image = picture(48, 48)
    mask, rms = np.zeros(image.shape, bool), np.full_like(image, RMS)
    mask[:, 10, 10], rms[:, 10, 10] = True, np.nan
    assert framed(cutout(image, mask=mask, rms=rms)).flags.tolist() == [0]


def test_everything_masked_is_no_data_and_a_missing_noise_map_is_bad():
    image = picture(48, 48)
    got = framed(
        cutout(image, mask=np.ones(image.shape, bool)), cutout(image, rms=None), cutout(image=image, mask=np.zeros(image.shape, int))
    )
    assert got.flags[0] & Flag.NO_DATA
    assert got.flags[1] & Flag.BAD_RMS
    assert got.usable.tolist() == [False, False, True]


def test_a_gap_of_the_mosaic_is_no_signal_even_if_the_rest_of_the_cutout_is_not():
    image = np.zeros((1, 120, 120), np.float32)
    image[:, 80:, 80:] = picture(40, 40)
    got = framed(cutout(image, x=30.0, y=30.0, size_pixels=1.0))
    assert got.flags[0] & Flag.NO_SIGNAL
    assert "constant (= 0 per stamp pixel)" in got.notes[0]


@pytest.mark.parametrize("gain", [0.0, -1.0, np.nan])
def test_a_gain_that_is_not_positive_is_bad_noise(gain):
    got = framed(cutout(gain=gain), cutout(gain=300.0), cutout())
    assert got.flags[0] & Flag.BAD_RMS
    assert got.usable.tolist() == [False, True, True]
    assert got.stamps.gain.ravel().tolist() == [np.inf, 300.0, np.inf]


def test_much_masked_is_a_remark():
    image = picture(48, 48)
    mask = np.zeros(image.shape, bool)
    mask[:, :, :19] = True
    got = framed(cutout(image, mask=mask))
    assert got.usable[0]
    assert got.flags.tolist() == [int(Flag.MASKED)]


def test_units_are_those_of_the_networks_zero_point():
    image = picture(48, 48)
    got = framed(cutout(image, gain=100.0, zero_point=24.5), cutout(image, gain=100.0))
    assert np.allclose(got.stamps.images[0], 10 * got.stamps.images[1], rtol=1e-5)
    assert np.allclose(got.stamps.rms[0], 10 * RMS, rtol=1e-5)
    assert np.allclose(got.stamps.gain.ravel(), [10, 100])
    assert got.stamps.zero_point == 27.0


def test_reading_errors_are_handed_on():
    broken = cutout(image=None, rms=None, psf=None, flags=int(Flag.READ_ERROR), note="the file is cut off", zero_point=np.nan)
    got = frame([replace(broken, identity="a"), cutout(identity="b"), replace(broken, identity="c", flags=0, note="")], SPEC)
    assert got.flags[0] == Flag.READ_ERROR
    assert got.flags[2] & Flag.NO_DATA
    assert got.notes == ["the file is cut off", "", "no image"]
    assert got.stamps.ids.tolist() == ["a", "b", "c"]
    assert np.isfinite(got.stamps.images).all()


# -- what is no row's fault is an error -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_scale_arcsec": 0.21}, r"cutout 7: 0.21 arcsec per pixel; this bundle was trained at 0.2"),
        ({"pixel_scale_arcsec": np.nan}, r"cutout 7: nan arcsec per pixel"),
        ({"zero_point": np.nan}, r"cutout 7 has no zero point: expected the AB magnitude of one image unit, got nan"),
        ({"image": np.ones((48, 48))}, r"the image of cutout 7 must be \(1, H, W\), one band; got shape \(48, 48\)"),
        ({"image": np.ones((2, 48, 48))}, r"one band; got shape \(2, 48, 48\)"),
        ({"rms": np.ones((1, 48, 47))}, r"the noise map of cutout 7 has shape \(1, 48, 47\), its image \(1, 48, 48\)"),
        ({"mask": np.ones((48, 48), bool)}, r"the mask of cutout 7 has shape \(48, 48\), its image \(1, 48, 48\)"),
        ({"psf": np.ones((25, 25))}, r"the PSF of cutout 7 must be \(1, h, w\), one band; got shape \(25, 25\)"),
    ],
    ids=lambda v: "" if isinstance(v, str) else "-".join(v),
)
def test_a_cutout_that_contradicts_itself_or_the_bundle_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        frame([cutout(**changes)], SPEC)


def test_pixel_scales_may_differ_by_rounding():
    assert frame([cutout(pixel_scale_arcsec=0.2005)], SPEC).usable.all()


def test_identities_are_of_one_kind_and_unique():
    with pytest.raises(InputError, match="all integers or all strings"):
        frame([cutout(identity=1), cutout(identity="1")], SPEC)
    with pytest.raises(InputError, match="these come more than once: 7"):
        frame([cutout(), cutout()], SPEC)


def test_no_cutouts_are_no_stamps():
    got = frame([], SPEC)
    assert len(got.stamps) == 0
    assert got.flags.shape == (0,)
    assert got.shift_arcsec.shape == (0, 2)


# -- training and inference see the same ---------------------------------------------------------------------------------


@pytest.mark.parametrize("binning", [1, 2, 4, 8])
def test_simulated_stamps_reach_the_network_as_they_were_trained_on(tmp_path, binning):
    # a lopsided PSF: its centroid moves when it is binned, which must not be taken for a PSF that is off-centre
    lopsided = 0.8 * galsim.Gaussian(fwhm=0.5) + 0.2 * galsim.Gaussian(fwhm=0.7).shift(0.35, -0.2)
    fits.PrimaryHDU(lopsided.drawImage(nx=39, ny=37, scale=0.2, dtype=np.float64).array).writeto(tmp_path / "psf.fits")
    simulator = Simulator(
        galaxy=SersicGalaxy(n=LogUniform(low=0.7, high=2.5), re_arcsec=LogUniform(low=0.3, high=7.0), n_table=8),
        psf=ImagePSF(path=str(tmp_path / "psf.fits")),
        noise=RMSNoise(rms=RMS),
        stamp=SPEC.model_copy(update={"binning": (binning,), "re_pixels": (0.5, 8.0)}),
    )
    stamps = simulator.draw(range(8), seed=1).stamps
    trained, seen = network_inputs(stamps), network_inputs(frame(stamps, simulator.stamp).stamps)
    for name, values in trained.items():
        np.testing.assert_allclose(seen[name], values, atol=2e-3, err_msg=name)


# -- correlated noise ----------------------------------------------------------------------------------------------------

COSMOS = CosmosCorrelation().map


def lags(got, row=0, side=21):
    wide = np.pad(got.stamps.noise_correlation[row, 0], max(0, (side - got.stamps.noise_correlation.shape[-1]) // 2))
    return wide


def test_without_any_correlation_there_is_none():
    assert framed(cutout()).stamps.noise_correlation is None


@pytest.mark.parametrize("size_pixels", [1.5, 5.0, 10.0, 20.0])
def test_binned_cutouts_have_the_noise_of_correlated_pixels(size_pixels):
    """What is measured on frames of pure noise is what the frames say of themselves."""
    noise = correlated_normals(np.random.default_rng(1), COSMOS, np.ones(60, int), (256, 256))[:, 0] * RMS
    got = framed(*(cutout(n[None], size_pixels=size_pixels, noise_correlation=COSMOS[None]) for n in noise))
    b = int(got.stamps.binning[0])
    assert b == {1.5: 1, 5.0: 2, 10.0: 4, 20.0: 8}[size_pixels]
    images = got.stamps.images[:, 0]
    assert images.std() == pytest.approx(got.stamps.rms.mean(), rel=0.03)
    assert np.allclose(got.stamps.rms, RMS * binned_correlation(COSMOS, b)[1], rtol=1e-5)
    middle = got.stamps.noise_correlation.shape[-1] // 2
    for dy, dx in ((0, 1), (1, 0), (1, 1), (2, 0)):
        found = (images[:, dy:, dx:] * images[:, : 32 - dy, : 32 - dx]).mean() / images.var()
        assert found == pytest.approx(got.stamps.noise_correlation[0, 0, middle + dy, middle + dx], abs=0.03)
    if b > 1:
        independent = framed(cutout(noise[0][None], size_pixels=size_pixels))
        assert independent.stamps.rms.mean() < 0.75 * got.stamps.rms.mean(), "the planted fault: summed in quadrature"


def test_what_states_no_correlation_has_the_typical_one():
    stated = np.array([[[0, 0, 0], [0.2, 1, 0.2], [0, 0, 0]]])
    cutouts = [
        cutout(identity=0),
        cutout(identity=1, noise_correlation=stated),
        cutout(identity=2, noise_correlation=np.ones((1, 1, 1))),
        cutout(identity=3, size_pixels=5.0),
        cutout(identity=4, image=None),
    ]
    got = frame(cutouts, SPEC, COSMOS)
    assert got.stamps.noise_correlation.shape == (5, 1, 21, 21)
    white = np.zeros((21, 21))
    white[10, 10] = 1
    assert np.allclose(lags(got, 0), COSMOS, atol=1e-6)
    assert np.allclose(lags(got, 1), np.pad(stated[0], 9))
    assert np.allclose(lags(got, 2), white)
    assert np.allclose(lags(got, 3), binned_correlation(COSMOS, 2)[0], atol=1e-6)
    assert np.allclose(lags(got, 4), white), "nothing is known of a missing image"
    alone = frame(cutouts[:2], SPEC).stamps.noise_correlation
    assert np.array_equal(alone[0, 0], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert frame([], SPEC, COSMOS).stamps.noise_correlation is None


@pytest.mark.parametrize("binning", [1, 4])
def test_stamps_of_the_networks_size_keep_what_they_say_of_their_pixels(binning):
    given = {"images": picture(32, 32, re_pixels=1.2)[None], "psf": psf_image(), "rms": RMS, "binning": binning}
    stamps = Stamps(**given, zero_point=27.0, pixel_scale_arcsec=0.2, noise_correlation=COSMOS)
    assert np.array_equal(frame(stamps, SPEC).stamps.noise_correlation, stamps.noise_correlation)
    silent = frame(replace(stamps, noise_correlation=None), SPEC, COSMOS).stamps
    assert np.allclose(silent.noise_correlation[0, 0], binned_correlation(COSMOS, binning)[0], atol=1e-6)
    assert np.array_equal(silent.rms, stamps.rms), "the rms of a binned stamp is that of its pixels"


@pytest.mark.parametrize("shape", [(21, 21), (1, 20, 20), (1, 3, 5), (2, 3, 3)])
def test_correlations_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"the noise correlation of cutout 7 must be \(1, L, L\), one band, with odd L; got shape"):
        frame([cutout(noise_correlation=np.ones(shape))], SPEC)


def test_simulated_correlated_stamps_are_framed_as_they_were_drawn():
    simulator = Simulator(
        galaxy=SersicGalaxy(n=LogUniform(low=0.7, high=2.5), re_arcsec=LogUniform(low=0.3, high=7.0), n_table=8),
        psf=MoffatPSF(fwhm_arcsec=0.7),
        noise=RMSNoise(rms=RMS, correlation=CosmosCorrelation()),
        stamp=SPEC,
    )
    stamps = simulator.draw(range(6), seed=1).stamps
    got = frame(stamps[stamps.binning > 1], SPEC).stamps
    assert len(got)
    assert np.array_equal(got.noise_correlation, stamps[stamps.binning > 1].noise_correlation)


# -- stamps that are framed already -------------------------------------------------------------------------------------


def sized_stamps():
    """Stamps of the network's size with every oddity that framing knows, one a row, after two without any."""
    rng = np.random.default_rng(3)
    n = 14
    images = np.repeat(picture(32, 32)[None], n, 0) + rng.normal(0, RMS, (n, 1, 32, 32)).astype(np.float32)
    rms, mask, gain, binning = np.full_like(images, RMS), np.zeros(images.shape, bool), np.full(n, 100.0), np.ones(n, int)
    mask[1, 0, 3:5, 7] = True
    images[1, 0, 3, 7] = np.nan  # behind a mask
    rms[1, 0, 4, 7] = -1
    images[2, 0, 3, 3], images[3, 0, 3, 3], rms[4, 0, 3, 3] = np.nan, 2e30, 0.0
    mask[5, 0, :, :12] = True  # more than a quarter
    mask[6, 0, 14:18, 14:18] = True
    images[7], mask[8], rms[9], gain[10] = 0.3, True, np.nan, -1.0
    binning[11], binning[12] = 2, 4
    images[13] = np.nan
    return Stamps(images=images, psf=psf_image(15)[0], rms=rms, mask=mask, gain=gain, binning=binning, zero_point=26.0,
                  pixel_scale_arcsec=0.2, band_present=np.arange(n)[:, None] != 0, ids=np.arange(n) + 5)  # fmt: skip


@pytest.mark.parametrize("stated", [None, "typical", "own"])
def test_stamps_with_nothing_to_do_are_framed_as_one_by_one(monkeypatch, stated):
    stamps = sized_stamps()
    kernel = np.array([[0.0, 0.2, 0.0], [0.3, 1.0, 0.3], [0.0, 0.2, 0.0]])
    if stated == "own":
        stamps = replace(stamps, noise_correlation=kernel)
    options = (SPEC, kernel if stated == "typical" else None)
    ready = framing._nothing_to_do(stamps, SPEC)
    assert np.flatnonzero(ready).tolist() == [1, 5, 11, 12]
    together = frame(stamps, *options)
    monkeypatch.setattr(framing, "_nothing_to_do", lambda stamps, spec: np.zeros(len(stamps), bool))
    alone = frame(stamps, *options)
    assert together.stamps == alone.stamps
    assert np.array_equal(together.flags, alone.flags)
    assert together.flags[5] & Flag.MASKED
    assert together.notes == alone.notes
    assert np.array_equal(together.shift_arcsec, alone.shift_arcsec)
