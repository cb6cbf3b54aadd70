"""The PSFs of framed objects: put right and said so, at the stamp's sampling, measured, and as fine as they were given for exact models."""

import galsim
import numpy as np
import pytest

import astroflow.posteriors.framed_psfs as framed_psfs
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.framing import frame
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.psf_images import measure_psf
from astroflow.sims.stamp import StampSpec
from astroflow.types import Cutout, Stamps

SPEC = StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=15, binning=(1, 2, 4, 8), re_pixels=(1.5, 5.0))
PSF = galsim.Moffat(beta=3.0, fwhm=0.7).shear(g1=0.05, g2=0.02)
# what a PSF may raise without the row being unusable
PUT_RIGHT = Flag.PSF_NORMALISED | Flag.PSF_RECENTRED


def psf_image(size=25, scale=0.2, width=None, offset=(0, 0), total=1.0, profile=PSF):
    image = profile.drawImage(nx=width or size, ny=size, scale=scale, offset=offset, dtype=np.float64).array
    return (image / image.sum() * total)[None].astype(np.float32)


def cutout(side=48, psf=None, **changes):
    """Nothing but noise: what is asked here is about PSFs."""
    image = np.random.default_rng(0).normal(0, 0.1, (1, side, side)).astype(np.float32)
    given = {"identity": 7, "rms": np.full_like(image, 0.1), "mask": None, "zero_point": 27.0, "pixel_scale_arcsec": 0.2} | changes
    return Cutout(image=image, psf=psf, **given)


def framed(*cutouts):
    return frame([Cutout(**{**vars(c), "identity": i}) for i, c in enumerate(cutouts)], SPEC)


@pytest.mark.parametrize(
    ("psf", "flags"),
    [
        (psf_image(), 0),
        (psf_image(24), Flag.PSF_RECENTRED),
        (psf_image(25, width=24), Flag.PSF_RECENTRED),
        (psf_image(offset=(0.6, -1.2)), Flag.PSF_RECENTRED),
        (psf_image(total=1.6), Flag.PSF_NORMALISED),
        (psf_image(total=0.3, offset=(1, 0)), Flag.PSF_NORMALISED | Flag.PSF_RECENTRED),
        (psf_image(61), 0),
        (psf_image(11), 0),
    ],
    ids=[
        "good",
        "even",
        "one side even",
        "off-centre",
        "sum 1.6",
        "sum 0.3 and off-centre",
        "larger than the stamp",
        "smaller than the network's",
    ],
)
def test_imperfect_psfs_are_put_right_and_said_so(psf, flags):
    got = framed(cutout(psf=psf))
    assert got.usable[0]
    assert got.flags[0] & PUT_RIGHT == flags
    expected = PSF.drawImage(nx=15, ny=15, scale=0.2, dtype=float).array
    assert got.stamps.psf.shape == (1, 1, 15, 15)
    assert np.isclose(got.stamps.psf.sum(), 1, atol=1e-5)
    if psf.shape[-1] > 11:
        assert np.abs(got.stamps.psf[0, 0] - expected / expected.sum()).max() < 0.03 * expected.max()


def test_negative_wings_stay():
    wings = psf_image(25) - 3e-4
    got = framed(cutout(psf=wings))
    assert got.usable[0]
    assert got.flags[0] & Flag.PSF_NORMALISED
    assert got.stamps.psf.min() < 0


@pytest.mark.parametrize(
    "psf",
    [None, psf_image() * np.nan, -psf_image(), psf_image() * 0, np.ones((1, 15, 15), np.float32), np.full((1, 3, 3), np.inf, np.float32)],
    ids=["missing", "nan", "negative", "zero", "flat", "infinite"],
)
def test_what_is_no_psf_makes_the_row_unusable_and_its_neighbour_not(psf):
    got = framed(cutout(psf=psf), cutout(psf=psf_image()))
    assert got.flags[0] & Flag.BAD_PSF
    assert got.usable.tolist() == [False, True]
    assert got.notes == ["the PSF is missing, not finite, or has no positive sum or core", ""]
    assert np.isfinite(got.stamps.psf).all()


def test_equal_psfs_are_tidied_once(monkeypatch):
    seen = []
    real = framed_psfs.tidy_psf
    monkeypatch.setattr(framed_psfs, "tidy_psf", lambda images, **options: seen.append(len(images)) or real(images, **options))
    one, other, wide = psf_image(), psf_image(offset=(0.4, 0)), psf_image(31)
    got = framed(*[cutout(psf=p) for p in (one, other, one, wide, one.copy(), other, wide)])
    assert sorted(seen) == [1, 2]
    assert np.array_equal(got.stamps.psf[0], got.stamps.psf[4])
    assert [bool(f & Flag.PSF_RECENTRED) for f in got.flags] == [False, True, False, False, False, True, False]
    seen.clear()
    framed(*[cutout(96, psf=one, size_pixels=s) for s in (1.0, 5.0, 5.0)])
    assert sorted(seen) == [1, 1], "one for each binning"


def test_psfs_are_measured_as_the_network_sees_them():
    sharp = psf_image(width=33)
    psfs = [psf_image(), psf_image(), psf_image(offset=(0.3, 0.2)), None, psf_image(15), np.zeros((1, 15, 15), np.float32)]
    small = framed(*[cutout(psf=psf) for psf in psfs], cutout(psf=sharp, psf_oversampling=3), cutout(96, psf=psf_image(), size_pixels=5.0))
    native = frame(Stamps(images=np.random.default_rng(0).normal(size=(2, 32, 32)), psf=np.stack([psfs[4], psf_image(15, offset=(0.2, 0))]),
                          rms=0.1, zero_point=27.0, pixel_scale_arcsec=0.2), SPEC)  # fmt: skip
    for got in (small, native, small[np.array([5, 2])]):
        expected = measure_psf(got.stamps.psf[:, 0])
        for name, values in got.measured_psfs.items():
            assert np.allclose(values, expected[name], atol=2e-5), name


@pytest.mark.parametrize("binning", [1, 2, 4])
@pytest.mark.parametrize("oversampling", [1, 3])
def test_the_psf_comes_at_the_stamps_own_sampling(binning, oversampling):
    fine = galsim.Convolve(PSF, galsim.Pixel(0.2)).drawImage(nx=151, ny=151, scale=0.2 / oversampling, method="no_pixel", dtype=float).array
    got = framed(cutout(256, psf=fine[None] / fine.sum(), psf_oversampling=oversampling, size_pixels=3.1 * binning))
    assert got.stamps.binning.tolist() == [binning]
    expected = PSF.drawImage(nx=15, ny=15, scale=0.2 * binning, dtype=float).array
    assert np.abs(got.stamps.psf[0, 0] - expected / expected.sum()).max() < 4e-3 * got.stamps.psf.max()
    assert got.stamps.psf_oversampling == 1
    assert not got.flags[0] & PUT_RIGHT


@pytest.mark.parametrize(("binning", "oversampling"), [(1, 3), (2, 1), (2, 3)])
def test_models_through_fine_psfs_are_galsims_summed_pixels(binning, oversampling):
    """A sharp PSF, undersampled by binned pixels: only the PSF as it was given draws what was observed."""
    scale, size = 0.2, 32
    star = galsim.Moffat(beta=3.0, fwhm=0.45).shear(g1=0.05)
    psf = galsim.Convolve(star, galsim.Pixel(scale)).drawImage(nx=51, ny=51, scale=scale / oversampling, method="no_pixel").array
    psf /= psf.sum()
    seen = galsim.InterpolatedImage(galsim.Image(psf, scale=scale / oversampling), x_interpolant="quintic", flux=1.0)
    shape = {"mag": 21.0, "re_arcsec": 0.5, "n": 1.5, "e1": 0.2, "e2": -0.1, "dx_arcsec": 0.05, "dy_arcsec": -0.03}
    galaxy = SersicGalaxy()
    native = galsim.Convolve(galaxy.profile(shape, 27.0, exact=True), seen).drawImage(nx=64, ny=64, scale=scale, method="no_pixel").array
    cutout = Cutout(
        identity=1, image=native[None], rms=np.ones_like(native)[None], mask=None, psf=psf[None], zero_point=27.0, pixel_scale_arcsec=scale,
        psf_oversampling=oversampling, size_pixels=2.0 if binning == 1 else 5.0,
    )  # fmt: skip
    spec = StampSpec(size=size, pixel_scale_arcsec=scale, zero_point=27.0, psf_size=17, binning=(1, 2), re_pixels=(1.5, 5.0))
    framed = frame([cutout], spec)
    assert framed.stamps.binning.tolist() == [binning]
    fine = framed.fine_stamps()
    assert fine.psf_oversampling == binning * oversampling
    theta = np.array([[list(shape.values())]], np.float32)
    theta[..., 5:] -= framed.shift_arcsec[0]
    engine = FourierEngine(galaxy, galaxy.parameters.names)
    peak = framed.stamps.images.max()
    assert np.abs(engine.render_draws(theta, fine)[0, 0] - framed.stamps.images[0]).max() < 1e-3 * peak
    assert np.abs(engine.render_draws(theta, framed.stamps)[0, 0] - framed.stamps.images[0]).max() > 3e-3 * peak, (
        "or this test shows nothing"
    )


def test_rows_are_sorted_by_what_their_psfs_are():
    spec = StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=17, binning=(1, 2), re_pixels=(1.5, 5.0))
    psf = galsim.Gaussian(sigma=0.3).drawImage(nx=17, ny=17, scale=0.2).array
    image = galsim.Gaussian(sigma=0.5).drawImage(nx=64, ny=64, scale=0.2).array
    cutouts = [
        Cutout(
            identity=i, image=image[None], rms=np.ones((1, 64, 64)), mask=None, psf=point[None], zero_point=27.0, pixel_scale_arcsec=0.2,
            size_pixels=size,
        )
        for i, (size, point) in enumerate([(2.0, psf), (5.0, psf), (2.0, psf[2:-2, 2:-2]), (2.0, psf)])
    ]  # fmt: skip
    framed = frame(cutouts, spec)
    assert [rows.tolist() for rows in framed.alike(np.arange(4))] == [[0, 3], [1], [2]]
    assert framed[np.array([0, 3])].fine_stamps().psf.shape == (2, 1, 17, 17)
