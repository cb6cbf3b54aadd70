import json
import re
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from matplotlib.figure import Figure

from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.diagnostics.residuals import residuals
from astroflow.errors import AstroflowError, BundleError, ConfigError, InputError
from astroflow.pipelines import query as module
from astroflow.pipelines.query import model_picture, query
from astroflow.posteriors.flags import Flag, flag_names
from astroflow.posteriors.validated import attach_validation
from astroflow.randomness import generator
from astroflow.sims.correlation import correlated_normals, repaired
from astroflow.sims.noise_correlation import GaussianCorrelation
from astroflow.types import Cutout

SCALE, SIDE, RMS, GAIN = 0.2, 48, 0.1, 300.0
X, Y = 25.3, 21.8
THETA = {"mag": 20.6, "re_arcsec": 0.45, "n": 1.3, "e1": 0.2, "e2": -0.1, "dx_arcsec": 0.05, "dy_arcsec": -0.03}


def sky(scale=SCALE):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [150.0, 2.0], [SIDE / 2, SIDE / 2]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    header = wcs.to_header()
    header["MAGZERO"] = 27.0
    return header


class Files:
    """A galaxy's cutout, off its centre by no whole number of pixels, with its maps; to be spoilt and asked about."""

    def __init__(self, folder, simulator, bundle):
        self.folder, self.bundle = folder, bundle
        point = simulator.psf.draw(generator(4, "test psf"), SCALE)
        moved = THETA | {
            "dx_arcsec": THETA["dx_arcsec"] + (X - (SIDE - 1) / 2) * SCALE,
            "dy_arcsec": THETA["dy_arcsec"] + (Y - (SIDE - 1) / 2) * SCALE,
        }
        clean = point.observed(simulator.galaxy.profile(moved, 27.0), SCALE, 1, SIDE).astype(np.float64)
        sigma = np.sqrt(RMS**2 + np.maximum(clean, 0) / GAIN)
        self.image = (clean + sigma * generator(4, "test noise").normal(size=clean.shape)).astype(np.float32)
        self.psf = np.asarray(point.image(SCALE, 1, 17), np.float32)
        self.rms = np.full((SIDE, SIDE), RMS, np.float32)
        self.mask = np.zeros((SIDE, SIDE), np.uint8)
        self.header = sky()
        self.options = {"n_draws": 64, "seed": 2, "x": X, "y": Y, "gain": GAIN, "rms": str(folder / "rms.fits")}

    def write(self, name, *data, header=None):
        units = [fits.PrimaryHDU(data[0], header), *(fits.ImageHDU(plane) for plane in data[1:])]
        fits.HDUList(units).writeto(self.folder / name, overwrite=True)
        return self.folder / name

    def ask(self, **changes):
        self.write("galaxy.fits", self.image, header=self.header)
        self.write("psf.fits", self.psf)
        self.write("rms.fits", self.rms)
        options = {"psf": self.folder / "psf.fits", "bundle": self.bundle, "out": self.folder / "out"} | self.options | changes
        return query(options.pop("image", self.folder / "galaxy.fits"), **options)

    def refused(self, words, kind=InputError, **changes):
        with pytest.raises(kind, match=words) as raised:
            self.ask(**changes)
        assert isinstance(raised.value, AstroflowError)
        assert not (self.folder / "out").exists(), "a refused query writes nothing"


@pytest.fixture
def pictured(tmp_path, small_simulator, small_bundle):
    return Files(tmp_path, small_simulator, small_bundle)


@pytest.fixture
def files(pictured, monkeypatch):
    """The same with blank pictures, which take no time."""
    for name in ("plot_corner", "plot_residual"):
        monkeypatch.setattr(module, name, lambda *_, **__: Figure())
    return pictured


def png_pixels(path):
    from matplotlib.image import imread

    return imread(path)


def test_a_table_and_two_pictures(pictured, small_posterior):
    result = pictured.ask()
    assert [path.name for path in result.files] == ["posterior.parquet", "corner.png", "fit.png"]
    assert sorted(path.name for path in (pictured.folder / "out").iterdir()) == [
        "corner.png",
        "fit.png",
        "posterior.parquet",
        "provenance.json",
    ]
    table = read_posterior_catalog(result.files[0])
    assert table["id"].tolist() == ["galaxy.fits"]
    assert table["samples_mag"].shape == (1, 64)
    assert table["quality"][0] < 2
    assert (table["x"][0], table["y"][0]) == (X, Y)
    assert table["ra"][0] == pytest.approx(WCS(pictured.header).all_pix2world(X, Y, 0)[0], abs=1e-9)
    assert np.abs(table["mag_mean"][0] - THETA["mag"]) < 5 * table["mag_sd"][0] + 0.1
    for path in result.files[1:]:
        pixels = png_pixels(path)
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 200, f"{path.name} shows something"
    assert [line.split()[0] for line in result.lines] == [
        "S/N",
        *small_posterior.parameters.names,
        "q",
        "re_circ_arcsec",
        "certificate:",
        "this",
    ]
    assert "not applicable, the likelihood does not follow wings of the PSF beyond its image" in result.lines[-2]
    assert "was never validated" in result.lines[-1]
    assert result.remarks == []
    record = json.loads((pictured.folder / "out" / "provenance.json").read_text())
    assert record["bundle"] == small_posterior.digest
    assert record["recipe"]["x"] == str(X)


def test_a_query_says_how_often_error_bars_of_its_like_were_right(files, small_bundle, small_posterior, tmp_path):
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    names = small_posterior.parameters.names
    by_snr = {
        "by": "estimated S/N", "edges": [0.1, 1e5], "images": [500], "levels": [0.68], "coverage": [[[*np.full(len(names), 0.66), 0.5]]],
    }  # fmt: skip
    report = {
        "passed": False, "complete": True, "verdict": [], "images": 500, "names": [*names, "joint"], "local": [by_snr],
        "draws": 64, "provenance": {"seed": 1},
    }  # fmt: skip
    attach_validation(bundle, small_posterior.digest, report)
    line = files.ask(bundle=bundle).lines[-1]
    assert "were found NOT calibrated on 500 simulations; of 500 as bright as this one" in line
    assert "mag 66%" in line


def test_a_query_of_an_ensemble_says_how_far_its_members_are_apart(files, small_ensemble, monkeypatch):
    monkeypatch.setattr(module, "load_posterior", lambda path: small_ensemble)
    result = files.ask()
    apart = read_posterior_catalog(result.files[0])["disagreement"][0]
    assert 0 < apart < np.log(2)
    assert f"members of the ensemble: {apart:.3f} nats apart (0: they agree)" in result.lines


def test_a_query_says_what_the_catalog_does(files, small_posterior):
    """The same name and seed give the same bits as the posterior itself."""
    table = read_posterior_catalog(files.ask().files[0])
    cutout = Cutout(
        identity="galaxy.fits", image=files.image[None], rms=files.rms[None], mask=None, psf=files.psf[None], zero_point=27.0,
        pixel_scale_arcsec=SCALE, x=X, y=Y, gain=GAIN,
    )  # fmt: skip
    draws = small_posterior.sample([cutout], 64, 2)[0]
    for place, name in enumerate(small_posterior.parameters.names):
        np.testing.assert_array_equal(table[f"samples_{name}"][0], draws[:, place])


@pytest.mark.parametrize(("x", "y", "oversampling"), [(X, Y, 1), (None, None, 1), (20.5, 26.9, 3)])
def test_the_picture_of_the_truth_explains_the_image(small_posterior, small_simulator, x, y, oversampling):
    """Reduced chi-squared of the true parameters is one, wherever in the cutout the position is."""
    px, py = (c if c is not None else (SIDE - 1) / 2 for c in (x, y))
    point = small_simulator.psf.draw(generator(4, "test psf"), SCALE)
    moved = THETA | {
        "dx_arcsec": THETA["dx_arcsec"] + (px - (SIDE - 1) / 2) * SCALE,
        "dy_arcsec": THETA["dy_arcsec"] + (py - (SIDE - 1) / 2) * SCALE,
    }
    clean = point.observed(small_simulator.galaxy.profile(moved, 27.0, exact=True), SCALE, 1, SIDE)
    sigma = np.sqrt(RMS**2 + np.maximum(clean, 0) / GAIN)
    image = (clean + sigma * generator(4, "test noise").normal(size=clean.shape)).astype(np.float32)
    image[3, 4] = np.nan
    if oversampling == 1:
        psf = point.image(SCALE, 1, 33)
    else:
        import galsim

        pixel = galsim.Convolve(point.profile, galsim.Pixel(SCALE))
        psf = pixel.drawImage(nx=99, ny=99, scale=SCALE / oversampling, method="no_pixel").array
    cutout = Cutout(
        identity=1, image=image[None], rms=np.full((1, SIDE, SIDE), RMS, np.float32), mask=None, psf=np.asarray(psf, np.float32)[None],
        zero_point=27.0, pixel_scale_arcsec=SCALE, psf_oversampling=oversampling, x=x, y=y, gain=GAIN,
    )  # fmt: skip
    theta = np.array([THETA[name] for name in small_posterior.parameters.names])
    stamps, model = model_picture(small_posterior, cutout, theta)
    result = residuals(stamps, model)
    assert result.reduced_chi2[0] == pytest.approx(1, abs=0.08)
    assert stamps.mask.sum() == 1
    yy, xx = np.mgrid[:SIDE, :SIDE]
    middle = px + THETA["dx_arcsec"] / SCALE, py + THETA["dy_arcsec"] / SCALE
    weight = model[0, 0] * np.exp(-0.5 * ((xx - middle[0]) ** 2 + (yy - middle[1]) ** 2) / 16)
    assert (weight * xx).sum() / weight.sum() == pytest.approx(middle[0], abs=0.02)
    assert (weight * yy).sum() / weight.sum() == pytest.approx(middle[1], abs=0.02)
    # a shift by a fifth of a pixel would be seen
    theta[small_posterior.parameters.names.index("dx_arcsec")] += 0.04
    assert residuals(*model_picture(small_posterior, cutout, theta)).reduced_chi2[0] > result.reduced_chi2[0] + 0.08


def test_the_picture_needs_what_it_shows(small_posterior):
    nothing = Cutout(identity="a", image=None, rms=None, mask=None, psf=None, zero_point=27.0, pixel_scale_arcsec=SCALE)
    with pytest.raises(InputError, match="'a' lacks its image, noise or PSF"):
        model_picture(small_posterior, nothing, np.zeros(7))


@pytest.mark.parametrize("keyword", ["MAGZERO", "MAGZPT", "ZP"])
def test_the_zero_point_comes_from_the_header(files, keyword):
    del files.header["MAGZERO"]
    files.header[keyword] = 27.5
    found = read_posterior_catalog(files.ask().files[0])
    given = read_posterior_catalog(files.ask(zero_point=27.5).files[0])
    np.testing.assert_array_equal(found["samples_mag"], given["samples_mag"])
    other = read_posterior_catalog(files.ask(zero_point=27.0).files[0])
    assert other["mag_mean"][0] == pytest.approx(given["mag_mean"][0] - 0.5, abs=0.4)


def test_a_zero_point_is_needed(files):
    del files.header["MAGZERO"]
    files.refused("the zero point of .* is missing.*Give --zero-point")
    files.header["MAGZERO"] = "unknown"
    files.refused("MAGZERO = 'unknown'; expected a finite number")


def test_a_pixel_scale_is_needed_and_may_not_contradict(files):
    files.refused(r"--pixel-scale 0\.1 contradicts the WCS .*, which says 0\.2 arcsec", pixel_scale_arcsec=0.1)
    files.header = sky(0.03)
    files.refused(r"0\.03 arcsec per pixel; this bundle was trained at 0\.2")
    files.header = fits.Header({"MAGZERO": 27.0})
    files.refused("the pixel scale of .* is missing.*Give --pixel-scale")
    assert files.ask(pixel_scale_arcsec=SCALE).flags & Flag.NO_DATA == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"gain": -1.0}, "--gain must be positive"),
        ({"gain": np.nan}, "--gain must be positive"),
        ({"x": np.nan}, "--x must be a finite number"),
        ({"y": np.inf}, "--y must be a finite number"),
        ({"zero_point": np.nan}, "--zero-point must be a finite number"),
        ({"pixel_scale_arcsec": 0.0}, "--pixel-scale must be positive"),
        ({"n_draws": 3}, "--draws must be at least 64"),
    ],
)
def test_options_out_of_range(files, option, words):
    files.refused(words, ConfigError, **option)


def even(psf):
    return psf[:16, :16]


def off_centre(psf):
    return np.roll(psf, (1, 2), (0, 1))


def unnormalised(psf):
    return 1.4 * psf


def with_wings(psf):
    wings = psf - 0.0004
    return wings / wings.sum()


def larger(psf):
    return np.pad(psf, 30)


@pytest.mark.parametrize(
    ("spoil", "flag", "remark"),
    [
        (even, "PSF_RECENTRED", "off-centre or has even sides"),
        (off_centre, "PSF_RECENTRED", "off-centre or has even sides"),
        (unnormalised, "PSF_NORMALISED", "sum is 1.4; it was normalised"),
        (with_wings, None, "negative wings hold"),
        (larger, None, None),
    ],
)
def test_an_imperfect_psf_is_repaired_recorded_and_flagged(files, spoil, flag, remark):
    clean = files.ask()
    before = read_posterior_catalog(clean.files[0])
    files.psf = spoil(files.psf)
    result = files.ask()
    after = read_posterior_catalog(result.files[0])
    repairs = {"PSF_RECENTRED", "PSF_NORMALISED"}
    assert set(flag_names(result.flags)) & repairs == ({flag} if flag else set())
    assert [remark in text for text in result.remarks] == ([True] if remark else [])
    assert json.loads((files.folder / "out" / "provenance.json").read_text())["remarks"] == result.remarks
    # repaired, so that the answer is nearly the same
    assert abs(after["mag_q50"][0] - before["mag_q50"][0]) < 3 * before["mag_sd"][0]


def nan(psf):
    return np.where(psf == psf.max(), np.nan, psf)


@pytest.mark.parametrize("spoil", [nan, np.negative, np.zeros_like, np.ones_like], ids=["NaN", "negative", "zero", "flat"])
def test_what_is_no_psf_is_an_error(files, spoil):
    files.psf = spoil(files.psf)
    files.refused(r"the PSF is missing, not finite, or has no positive sum or core \(BAD_PSF\)")


def test_a_missing_psf_is_an_error(files):
    files.refused(r"PSF image .*nowhere\.fits does not exist", psf=files.folder / "nowhere.fits")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "every pixel is masked or not finite.*NO_DATA"),
        (0.0, "the image is constant.*NO_SIGNAL"),
        (3.5, "the image is constant.*NO_SIGNAL"),
    ],
)
@pytest.mark.parametrize("rms", [str(RMS), None], ids=["rms", "rms-measured"])
def test_an_image_of_nothing_is_an_error(files, value, words, rms):
    files.image[:] = value
    files.refused(words, rms=rms)


def test_bad_pixels_are_masked_and_flagged(files):
    files.image[2, 3], files.image[40, 41] = np.nan, -np.inf
    result = files.ask()
    assert result.flags & Flag.PIXELS_REPAIRED
    clean = files.image.copy()
    files.image[2, 3] = files.image[40, 41] = 1e9
    files.mask[2, 3] = files.mask[40, 41] = 1
    masked = files.ask(mask=files.write("mask.fits", files.mask))
    assert not masked.flags & Flag.PIXELS_REPAIRED
    assert np.isnan(clean[2, 3])


def test_a_mask_hides_what_it_covers(files):
    one = read_posterior_catalog(files.ask(mask=files.write("mask.fits", files.mask)).files[0])
    files.mask[:8] = 4
    two = read_posterior_catalog(files.ask(mask=files.write("mask.fits", files.mask)).files[0])
    files.image[:8] = 1e4
    three = read_posterior_catalog(files.ask(mask=files.write("mask.fits", files.mask)).files[0])
    np.testing.assert_array_equal(two["samples_mag"], three["samples_mag"])
    assert (one["samples_mag"] != two["samples_mag"]).any()
    files.mask[:] = 1
    (files.folder / "out").rename(files.folder / "before")
    files.refused("every pixel is masked", mask=files.write("mask.fits", files.mask))
    files.refused(r"the mask .* has 10 x 12 pixels, the image 48 x 48", mask=files.write("mask.fits", np.zeros((12, 10), np.uint8)))


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_noise_that_cannot_be(files, value):
    files.rms[:] = value
    files.refused(r"the noise map is missing, zero, negative or not finite \(BAD_RMS\)")
    files.refused("BAD_RMS", rms=str(value))


def test_a_noise_map_of_another_shape(files):
    files.rms = files.rms[:-1]
    files.refused(r"the noise map .* has 48 x 47 pixels, the image 48 x 48")
    files.refused(r"noise map .*none\.fits does not exist", rms=str(files.folder / "none.fits"))


def test_the_gain_of_the_header_is_used_and_said_so(files):
    explicit = files.ask()
    files.header["GAIN"] = GAIN
    result = files.ask(gain=None)
    assert result.lines == explicit.lines
    (remark,) = result.remarks
    assert remark.startswith(f"--gain was not given: {GAIN:g} electrons per image unit is taken")


@pytest.mark.parametrize("value", [None, 0.0, -3.0, "unknown", True])
def test_without_any_gain_photon_noise_is_neglected_and_said_so(files, value):
    if value is not None:
        files.header["GAIN"] = value
    result = files.ask(gain=None)
    (remark,) = result.remarks
    assert "photon noise of the galaxy is neglected" in remark
    assert result.flags & Flag.OOD_GAIN


def test_a_noise_map_with_the_galaxys_photons_gives_the_same_posterior(files):
    plain = files.ask()
    clean = np.maximum(files.image, 0)
    files.rms = np.sqrt(files.rms**2 + clean / GAIN).astype(np.float32)
    assert close(files.ask(rms_includes_source=True), plain)
    assert not close(files.ask(), plain)


def close(one, two):
    """Every median of two answers agrees to a tenth of its error bar."""
    pattern = re.compile(r"^(\w+) +(\S+) +\+(\S+) -(\S+)")
    matches = [[pattern.match(line) for line in result.lines[1:-2]] for result in (one, two)]
    return all(abs(float(a[2]) - float(b[2])) < 0.1 * (float(b[3]) + float(b[4])) for a, b in zip(*matches, strict=True))


def test_taking_photons_out_needs_a_map_and_a_gain(files):
    files.refused("--rms-includes-source is about a noise map", ConfigError, rms="0.1", rms_includes_source=True)
    files.refused("--rms-includes-source needs --gain", ConfigError, gain=np.inf, rms_includes_source=True)


def test_noise_is_measured_and_said_so(files):
    result = files.ask(rms=None)
    (remark,) = result.remarks
    assert remark.startswith("--rms was not given: 0.1")
    measured = read_posterior_catalog(result.files[0])
    given = read_posterior_catalog(files.ask().files[0])
    assert measured["snr"][0] == pytest.approx(given["snr"][0], rel=0.3)
    files.image = np.zeros_like(files.image)
    files.image[20:25, 20:25] = 5.0
    (files.folder / "out").rename(files.folder / "before")
    files.refused("the noise cannot be measured: most pixels equal their neighbours", rms=None)


def test_several_images_in_a_file_are_to_be_chosen_from(files):
    several = files.write("several.fits", files.image, files.image, files.rms, header=files.header)
    files.refused(r"holds .*image", image=several)
    assert files.ask(image=several, hdu="0").flags & Flag.NO_DATA == 0
    (files.folder / "out").rename(files.folder / "before")
    files.refused("no HDU", image=several, hdu="SCI")
    psfs = files.write("psfs.fits", files.psf, files.psf)
    files.refused(r"holds .*image", psf=psfs)


def test_files_that_are_no_images(files):
    files.ask()
    (files.folder / "out").rename(files.folder / "before")
    whole = (files.folder / "galaxy.fits").read_bytes()
    (files.folder / "short.fits").write_bytes(whole[: len(whole) // 2])
    files.refused("truncated", image=files.folder / "short.fits")
    (files.folder / "text.fits").write_text("x, y\n1, 2\n")
    files.refused("text", image=files.folder / "text.fits")
    (files.folder / "empty.fits").write_bytes(b"")
    files.refused("is empty", image=files.folder / "empty.fits")
    files.refused("does not exist", image=files.folder / "none.fits")
    files.refused("folder", image=files.folder)
    files.refused("no image|no HDU", image=files.write("table.fits", None))
    files.refused("axes", image=files.write("cube.fits", np.zeros((2, 8, 8), np.float32)))


def test_a_position_outside_is_an_error(files):
    files.refused("no usable pixel near the object", x=500.0, y=500.0)


def test_what_is_no_bundle(files, small_bundle):
    files.refused("no manifest.json", BundleError, bundle=files.folder)
    files.refused("is a file", BundleError, bundle=small_bundle / "config.json")


def test_the_command(files, capsys):
    from astroflow.cli import main

    files.ask()
    asked = ["query", "galaxy.fits", "--psf", "psf.fits", "--bundle", files.bundle, "--out", "out", "--draws", "64"]
    asked = [str(files.folder / a) if a in ("galaxy.fits", "psf.fits", "out") else str(a) for a in asked]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--json"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert [path.rsplit("/")[-1] for path in facts["paths"]] == ["posterior.parquet", "corner.png", "fit.png"]
    assert [remark.split(" was")[0] for remark in facts["remarks"]] == ["--gain", "--rms"]
    assert printed.err.startswith("--gain was not given")
    assert printed.err.splitlines()[-1].startswith("flags: ")
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--rms", "-1"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


# -- correlated noise ----------------------------------------------------------------------------------------------------


def test_refining_is_refused_where_the_likelihood_does_not_follow(files):
    with pytest.raises(ConfigError, match="--refine: the likelihood of .* does not follow wings of the PSF beyond its image"):
        files.ask(refine=True)


def test_a_stated_noise_correlation_is_compared_with_the_bundles(files):
    row = fits.PrimaryHDU(np.array([[0, 0, 0], [0.4, 1, 0.4], [0, 0, 0]]))
    row.writeto(files.folder / "map.fits")
    files.refused("cannot read a correlation", ConfigError, noise_correlation=files.folder / "none.fits")
    assert files.ask(noise_correlation=files.folder / "map.fits").flags & Flag.OOD_CORRELATION
    assert not files.ask().flags & Flag.OOD_CORRELATION


def test_noise_measured_from_neighbours_knows_that_they_are_correlated():
    correlation = repaired(GaussianCorrelation(sigma_pixels=0.6).map)[0]
    pixels = 0.3 * correlated_normals(np.random.default_rng(0), correlation, np.ones(1, int), (200, 200))[0, 0]
    remarks = []
    assert module._noise(None, pixels, correlation, remarks)[0, 0] == pytest.approx(0.3, rel=0.03)
    assert "whose noise is taken to have a correlation of 0.50" in remarks[0]
    assert module._noise(None, pixels, None, remarks)[0, 0] < 0.25
    assert "correlated noise makes that too small" in remarks[1]
