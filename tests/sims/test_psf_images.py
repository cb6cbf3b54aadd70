import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroflow.sims.psf_images import measure_psf, psf_at_stamp_scale, tidy_psf

MOFFAT = galsim.Moffat(beta=3.0, fwhm=0.6).shear(g1=0.08, g2=-0.05)


def picture(profile=MOFFAT, size=33, scale=0.2, width=None, offset=(0, 0), method="auto"):
    return profile.drawImage(nx=width or size, ny=size, scale=scale, offset=offset, method=method, dtype=np.float64).array


def centre(image):
    """The centroid that GalSim's adaptive moments give, pixels from the middle."""
    m = galsim.hsm.FindAdaptiveMom(galsim.Image(np.asarray(image, np.float64)))
    h, w = image.shape
    return m.moments_centroid.x - (w + 1) / 2, m.moments_centroid.y - (h + 1) / 2


@pytest.mark.parametrize("g", [(0.0, 0.0), (0.2, 0.1), (-0.1, 0.3)])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.4, -0.7)])
def test_moments_are_those_of_galsims_hsm(g, offset):
    image = picture(galsim.Moffat(beta=3.0, fwhm=0.9).shear(g1=g[0], g2=g[1]), offset=offset)
    ours = {name: float(value[0, 0]) for name, value in measure_psf(image[None, None]).items()}
    theirs = galsim.hsm.FindAdaptiveMom(galsim.Image(image))
    assert abs(ours["sigma"] - theirs.moments_sigma) < 2e-3 * theirs.moments_sigma
    assert abs(ours["e1"] - theirs.observed_shape.g1) < 2e-3
    assert abs(ours["e2"] - theirs.observed_shape.g2) < 2e-3
    assert np.allclose((ours["x"], ours["y"]), centre(image), atol=2e-3)


def test_moments_of_a_gaussian_are_its_own():
    image = picture(galsim.Gaussian(sigma=0.5), method="no_pixel")
    m = measure_psf(image[None])
    assert abs(m["sigma"][0] - 2.5) < 1e-3
    assert abs(m["kurtosis"][0] - 2.0) < 1e-2
    assert abs(m["core"][0] - (1 - np.exp(-1.125))) < 0.02


def test_each_image_of_a_block_is_measured_alone():
    block = np.stack([[picture(offset=(0.3 * i, 0.2 * j)) for j in range(2)] for i in range(3)])
    together = measure_psf(block)
    for name, values in together.items():
        assert values.shape == (3, 2)
        assert np.allclose(values[2, 1], measure_psf(block[2:, 1:])[name][0, 0], atol=1e-12)


@given(
    total=st.floats(0.05, 1e4),
    x=st.floats(-1.5, 1.5),
    y=st.floats(-1.5, 1.5),
    size=st.sampled_from([(33, 33), (32, 32), (33, 32), (24, 41)]),
)
@settings(max_examples=25)
def test_any_sum_and_centre_are_put_right_and_reported(total, x, y, size):
    image = picture(size=size[0], width=size[1], offset=(x, y)) * total
    report = tidy_psf(image[None, None])
    tidy = report.images[0, 0]
    assert tidy.shape == (size[0] + 1 - size[0] % 2, size[1] + 1 - size[1] % 2)
    assert abs(tidy.sum(dtype=np.float64) - 1) < 1e-5
    assert np.hypot(*centre(tidy)) < 0.02
    assert not report.bad[0]
    even = size[0] % 2 == 0 or size[1] % 2 == 0
    if even or np.hypot(x, y) > 0.12:
        assert report.recentred[0]
    elif np.hypot(x, y) < 0.08:
        assert not report.recentred[0]
    off = abs(image.sum() - 1)
    if abs(off - 0.02) > 1e-3:
        assert report.renormalised[0] == (off > 0.02)


def test_moving_a_psf_keeps_its_shape():
    straight = picture(method="no_pixel", profile=galsim.Convolve(MOFFAT, galsim.Pixel(0.2)))
    moved = picture(method="no_pixel", profile=galsim.Convolve(MOFFAT, galsim.Pixel(0.2)), offset=(0.7, -0.4))
    tidy = tidy_psf(moved[None, None]).images[0, 0]
    assert np.abs(tidy - straight / straight.sum()).max() < 5e-3 * straight.max()


@pytest.mark.parametrize("fwhm_pixels", [1.3, 1.6, 2.0, 2.5])
@pytest.mark.parametrize("x", [-0.45, 0.0, 0.2, 0.7])
def test_undersampled_psfs_are_measured_and_recentred_too(fwhm_pixels, x):
    profile = galsim.Gaussian(fwhm=fwhm_pixels).shear(g1=0.15, g2=-0.1)
    image = picture(profile, scale=1.0, offset=(x, 0.3))
    m = {name: float(value[0]) for name, value in measure_psf(image[None]).items()}
    assert np.allclose((m["x"], m["y"]), (x, 0.3), atol=0.02)
    sigma = np.sqrt((fwhm_pixels / 2.3548) ** 2 + 1 / 12)  # the pixel's own variance is 1/12
    assert abs(m["sigma"] - sigma) < 0.03 * sigma
    assert m["e1"] > 0.08
    assert m["e2"] < -0.06
    tidy = tidy_psf(image[None, None]).images[0, 0]
    middle = picture(profile, scale=1.0)
    lost = {1.3: 0.15, 1.6: 0.09, 2.0: 0.05, 2.5: 0.02}[fwhm_pixels]  # what sampling has lost, no shift restores
    assert np.abs(tidy - middle / middle.sum()).max() < lost * middle.max()


def test_a_good_psf_is_left_alone():
    image = picture()
    report = tidy_psf((image / image.sum())[None, None])
    assert not (report.bad | report.renormalised | report.recentred).any()
    assert np.allclose(report.images[0, 0], image / image.sum(), atol=1e-7)


def test_negative_wings_are_kept():
    image = picture(size=41) - 2e-4
    report = tidy_psf(image[None, None])
    assert not report.bad[0]
    assert report.renormalised[0]
    assert report.images.min() < 0
    assert np.hypot(*centre(report.images[0, 0])) < 0.02


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9)),
        -picture(size=9),
        np.full((9, 9), np.nan),
        np.full((9, 9), np.inf),
        np.ones((33, 33)),
        np.random.default_rng(0).normal(0, 1, (33, 33)),
        np.random.default_rng(0).uniform(0, 1, (33, 33)),
        np.arange(1.0, 34.0)[:, None] * np.ones(33),
    ],
    ids=["zero", "negative", "nan", "inf", "flat", "noise", "positive noise", "gradient"],
)
def test_what_is_no_psf_is_bad_and_its_neighbours_are_not(image):
    good = picture(size=image.shape[0])
    report = tidy_psf(np.stack([good, image])[:, None])
    assert report.bad.tolist() == [False, True]
    assert np.isfinite(report.images).all()
    assert np.allclose(report.images[0], tidy_psf(good[None, None]).images[0], atol=1e-7)


def test_one_nan_is_enough():
    image = picture()
    image[3, 4] = np.nan
    assert tidy_psf(image[None, None]).bad.all()


def test_bands_are_tidied_each_and_reported_together():
    good, heavy = picture() / picture().sum(), 1.6 * picture()
    report = tidy_psf(np.stack([[good, heavy], [good, good]]))
    assert report.renormalised.tolist() == [True, False]
    assert np.allclose(report.images.sum((-1, -2)), 1, atol=1e-5)


@pytest.mark.parametrize(("oversampling", "binning"), [(1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (3, 1), (3, 2), (2, 4)])
def test_psf_at_stamp_scale_is_what_galsim_draws_there(oversampling, binning):
    native = 0.2
    effective = galsim.Convolve(galsim.Moffat(beta=3.5, fwhm=0.9).shear(g1=0.1, g2=0.05), galsim.Pixel(native))
    fine = picture(effective, size=301, scale=native / oversampling, method="no_pixel")
    size = 15
    ours = psf_at_stamp_scale(fine[None, None], oversampling=oversampling, binning=binning, size=size)[0, 0]
    boxes = effective
    if binning > 1:
        comb = [(k - (binning - 1) / 2) * native for k in range(binning)]
        boxes = galsim.Sum([effective.shift(x, y) / binning**2 for x in comb for y in comb])
    drawn = picture(boxes, size=size, scale=native * binning, method="no_pixel")
    assert ours.shape == (size, size)
    assert abs(ours.sum(dtype=np.float64) - 1) < 1e-5
    assert np.abs(ours - drawn / drawn.sum()).max() < 1e-3 * ours.max()


@pytest.mark.parametrize("size", [9, 33, 51])
def test_a_psf_of_another_size_is_cropped_or_padded_about_its_middle(size):
    image = picture()
    ours = psf_at_stamp_scale(image[None, None], oversampling=1, binning=1, size=size)[0, 0]
    assert ours.shape == (size, size)
    assert np.unravel_index(ours.argmax(), ours.shape) == (size // 2, size // 2)
    half = min(size, 33) // 2
    middle = slice(size // 2 - half, size // 2 + half + 1)
    source = image[16 - half : 16 + half + 1, 16 - half : 16 + half + 1]
    assert np.allclose(ours[middle, middle], source / source.sum(), atol=1e-7)
