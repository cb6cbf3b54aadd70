import galsim
import numpy as np
import pytest
from astropy.io import fits

from astroflow.errors import ConfigError
from astroflow.sims.distributions import Fixed, Normal
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.psf_images import measure_psf
from astroflow.sims.psfs import MAX_PSF_ELLIPTICITY, ImagePSF, KolmogorovPSF, MoffatPSF, PSFDraw

SCALE = 0.2
THETA = {"mag": 20.0, "re_arcsec": 0.8, "n": 1.3, "e1": 0.2, "e2": -0.1, "dx_arcsec": 0.13, "dy_arcsec": -0.07}
GALAXY = SersicGalaxy().profile(THETA, 25.0, exact=True)
MOFFAT = galsim.Moffat(beta=3.0, fwhm=0.75).shear(g1=0.05, g2=0.02)


def native_image(profile=MOFFAT, size=33):
    image = profile.drawImage(nx=size, ny=size, scale=SCALE, dtype=np.float64).array
    return image / image.sum()


DRAWS = {"profile": PSFDraw(profile=MOFFAT), "image": PSFDraw(native_image=native_image())}


def sums(image, b):
    side = image.shape[0] // b
    return image.reshape(side, b, side, b).sum((1, 3))


@pytest.mark.parametrize("binning", [1, 2, 4])
@pytest.mark.parametrize("kind", DRAWS)
def test_a_binned_stamp_is_the_sum_of_native_pixels(kind, binning):
    size = 16
    binned = DRAWS[kind].observed(GALAXY, SCALE, binning, size)
    native = DRAWS[kind].observed(GALAXY, SCALE, 1, size * binning)
    assert np.abs(binned - sums(native, binning)).max() < 2e-3 * binned.max()
    assert abs(binned.sum() - native.sum()) < 1e-3 * native.sum()


def test_an_image_of_the_psf_serves_as_well_as_its_profile():
    by_profile, by_image = (DRAWS[kind].observed(GALAXY, SCALE, 1, 32) for kind in ("profile", "image"))
    assert np.abs(by_profile - by_image).max() < 3e-3 * by_profile.max()


@pytest.mark.parametrize("binning", [1, 2, 4])
@pytest.mark.parametrize("kind", DRAWS)
def test_the_psf_image_includes_the_pixel_and_sums_to_one(kind, binning):
    image = DRAWS[kind].image(SCALE, binning, 17)
    assert image.shape == (17, 17)
    assert image.dtype == np.float32
    assert abs(image.sum(dtype=np.float64) - 1) < 1e-6
    with_pixel = (
        galsim.Convolve(MOFFAT, galsim.Pixel(SCALE * binning)).drawImage(nx=17, ny=17, scale=SCALE * binning, method="no_pixel").array
    )
    without = MOFFAT.drawImage(nx=17, ny=17, scale=SCALE * binning, method="no_pixel").array
    tolerance = 4e-3 if kind == "image" else 1e-4
    assert np.abs(image - with_pixel / with_pixel.sum()).max() < tolerance * image.max()
    assert np.abs(image - without / without.sum()).max() > 2e-2 * image.max()


@pytest.mark.parametrize("model", [MoffatPSF, KolmogorovPSF])
def test_drawn_psfs_have_the_fwhm_and_ellipticity_asked_for(model):
    population = model(fwhm_arcsec=Normal(mean=0.8, sd=0.05, low=0.6, high=1.0), ellipticity_sigma=0.05)
    drawn = [population.draw(np.random.default_rng(k), SCALE).profile for k in range(40)]
    shapes = np.array([shear_of(p) for p in drawn])
    assert abs(shapes.std() - 0.05) < 5 * 0.05 / np.sqrt(2 * shapes.size)
    round_ones = [population.model_copy(update={"ellipticity_sigma": 0.0}).draw(np.random.default_rng(k), SCALE).profile for k in range(40)]
    fwhm = np.array([p.calculateFWHM() for p in round_ones])
    assert fwhm.min() > 0.6 - 1e-3
    assert fwhm.max() < 1.0 + 1e-3
    assert abs(fwhm.mean() - 0.8) < 5 * 0.05 / np.sqrt(40)
    assert 0.5 * 0.05 < fwhm.std() < 1.6 * 0.05


def shear_of(profile):
    image = profile.drawImage(nx=129, ny=129, scale=0.03, method="no_pixel", dtype=np.float64).array
    m = measure_psf(image[None])
    return m["e1"][0], m["e2"][0]


def test_the_wildest_psf_is_still_no_needle():
    population = MoffatPSF(fwhm_arcsec=Fixed(value=0.8), ellipticity_sigma=0.19)
    shapes = np.array([shear_of(population.draw(np.random.default_rng(k), SCALE).profile) for k in range(60)])
    moduli = np.hypot(*shapes.T)
    assert moduli.max() < MAX_PSF_ELLIPTICITY + 0.01
    assert (moduli > MAX_PSF_ELLIPTICITY - 0.01).any()


def write_psfs(path, *arrays):
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(np.asarray(a, np.float32)) for a in arrays)]).writeto(path)
    return str(path)


def test_images_are_read_from_every_hdu_and_cube_and_tidied(tmp_path):
    wide = native_image(galsim.Moffat(beta=3.0, fwhm=1.2))
    off_centre = 1.6 * native_image(MOFFAT.shift(0.14, 0.0))
    path = write_psfs(tmp_path / "psf.fits", native_image(), np.stack([wide, off_centre]))
    images = ImagePSF(path=path).images
    assert len(images) == 3
    m = measure_psf(np.stack(images))
    assert np.allclose([image.sum() for image in images], 1, atol=1e-5)
    assert np.hypot(m["x"], m["y"]).max() < 0.02
    assert m["sigma"][1] > 1.3 * m["sigma"][0]


def test_image_psfs_scatter_about_the_images(tmp_path):
    path = write_psfs(tmp_path / "psf.fits", native_image(galsim.Moffat(beta=3.0, fwhm=0.9)))
    population = ImagePSF(path=path, fwhm_scatter=0.05, ellipticity_sigma=0.03)
    drawn = np.stack([population.draw(np.random.default_rng(k), SCALE).native_image for k in range(60)])
    m = measure_psf(drawn)
    assert np.allclose(drawn.sum((1, 2)), 1, atol=1e-5)
    assert 0.03 < np.std(np.log(m["sigma"])) < 0.08
    assert 0.02 < np.std([m["e1"], m["e2"]]) < 0.045
    still = ImagePSF(path=path, fwhm_scatter=0.0, ellipticity_sigma=0.0).draw(np.random.default_rng(0), SCALE).native_image
    assert np.abs(still - population.images[0]).max() < 1e-4 * still.max()


def test_psf_files_that_cannot_be_used_are_one_clear_error(tmp_path):
    (tmp_path / "text.fits").write_text("no FITS at all")
    broken = write_psfs(tmp_path / "bad.fits", np.full((9, 9), np.nan))
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    fits.ImageHDU(np.ones(5, np.float32)).writeto(tmp_path / "line.fits")
    for path in (tmp_path / "missing.fits", tmp_path / "text.fits", broken, tmp_path / "empty.fits", tmp_path / "line.fits"):
        with pytest.raises(ConfigError, match=r"\.fits"):
            _ = ImagePSF(path=str(path)).images


def test_pinned_images_are_these_and_no_others(tmp_path):
    path = tmp_path / "psf.fits"
    write_psfs(path, native_image())
    pinned = ImagePSF(path=str(path)).pinned()
    assert len(pinned.sha256) == 64
    assert pinned.pinned() == pinned
    assert ImagePSF(path=write_psfs(tmp_path / "moved.fits", native_image()), sha256=pinned.sha256).images
    path.unlink()
    write_psfs(path, native_image(MOFFAT.dilate(1.001)))
    again = ImagePSF(path=str(path), sha256=pinned.sha256)
    for ask in (lambda: again.images, again.pinned):
        with pytest.raises(
            ConfigError, match=rf"psf.fits have sha256 \w+..., but the recipe says {pinned.sha256[:12]}...: they are others"
        ):
            ask()
    assert ImagePSF(path=str(path)).pinned().sha256 != pinned.sha256
    path.unlink()
    with pytest.raises(ConfigError, match="cannot read PSF images"):
        ImagePSF(path=str(path)).pinned()


def test_the_digest_tells_shapes_and_orders_apart(tmp_path):
    one, two = native_image(), native_image(galsim.Moffat(beta=3.0, fwhm=1.2))
    digests = [
        ImagePSF(path=write_psfs(tmp_path / f"{k}.fits", *images)).pinned().sha256
        for k, images in enumerate([(one, two), (two, one), (one,)])
    ]
    assert len(set(digests)) == 3


def test_a_draw_is_a_profile_or_an_image():
    for given in ({}, {"profile": MOFFAT, "native_image": native_image()}):
        with pytest.raises(ConfigError, match="either a GalSim `profile` or a `native_image`"):
            PSFDraw(**given)
