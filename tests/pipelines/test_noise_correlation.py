import json
import re
import shlex

import numpy as np
import pytest
from astropy.io import fits

from astroflow.cli import main
from astroflow.config import parse_recipe
from astroflow.errors import InputError
from astroflow.pipelines.noise_correlation import noise_correlation
from astroflow.sims.correlation import correlated_normals, repaired
from astroflow.sims.noise import RMSNoise
from astroflow.sims.noise_correlation import GaussianCorrelation, read_noise_correlation

SMOOTH = repaired(GaussianCorrelation(sigma_pixels=0.6).map)[0]
WHITE = np.ones((1, 1))


def write(path, image, *others):
    fits.HDUList([fits.PrimaryHDU(image), *(fits.ImageHDU(o) for o in others)]).writeto(path)
    return path


def sky(correlation, seed=0, side=256):
    return correlated_normals(np.random.default_rng(seed), correlation, np.ones(1, int), (side, side))[0, 0]


def test_the_file_says_what_was_measured_and_a_recipe_takes_it(tmp_path):
    image = write(tmp_path / "image.fits", 1e-3 * sky(SMOOTH))
    report = noise_correlation([image], out=tmp_path / "map.fits", max_lag=6)
    with fits.open(tmp_path / "map.fits") as hdus:
        stored, error = hdus[0].data, hdus["ERROR"].data
        assert hdus[0].header["SKYRMS"] == pytest.approx(1e-3, rel=0.03)
        assert hdus[0].header["PIXELS"] > 0.9 * 256**2
    assert stored.shape == error.shape == (13, 13)
    assert stored[6, 7] == pytest.approx(SMOOTH[len(SMOOTH) // 2, len(SMOOTH) // 2 + 1], abs=0.02)
    assert (report.lag_x, report.lag_y) == pytest.approx((stored[6, 7], stored[7, 6]), abs=0.02)
    assert not report.is_white
    (line,) = (line for line in report.lines if line.startswith("lag (1,  0)"))
    assert f"{report.lag_x:.4f} +- {error[6, 7]:.4f}" in line
    assert not any("warning" in line for line in report.lines)
    # the line that it recommends, in a recipe beside it
    hint = re.fullmatch(r"in a recipe: correlation: \{kind: image, path: map.fits, max_lag: 6\}", report.lines[-1])
    assert hint
    model = parse_recipe(RMSNoise, {"rms": 1.0, "correlation": {"kind": "image", "path": "map.fits", "max_lag": 6}}, "r", tmp_path)
    assert np.allclose(model.correlation.map, stored, atol=1e-6), "the file needs no repair any more"
    assert np.array_equal(read_noise_correlation(tmp_path / "map.fits"), model.correlation.map)


def test_independent_pixels_are_told(tmp_path):
    report = noise_correlation([write(tmp_path / "image.fits", sky(WHITE))], out=tmp_path / "map.fits", max_lag=4)
    assert report.is_white
    assert any(line.startswith("warning: this cannot be told from independent pixels") for line in report.lines)


def test_images_masks_and_noise_maps_count_together(tmp_path):
    deep = np.where(np.arange(256) < 128, 1, 30.0)
    images = [write(tmp_path / f"i{k}.fits", np.zeros((2, 2)), sky(SMOOTH, k) * deep) for k in range(2)]
    rms = [write(tmp_path / f"r{k}.fits", deep * np.ones((256, 1))) for k in range(2)]
    mask = np.zeros((256, 256), "u1")
    mask[:100] = 1
    masks = [write(tmp_path / f"m{k}.fits", mask) for k in range(2)]
    report = noise_correlation(images, out=tmp_path / "map.fits", masks=masks, rms=rms, hdu="1", max_lag=4)
    assert report.lag_x == pytest.approx(SMOOTH[len(SMOOTH) // 2, len(SMOOTH) // 2 + 1], abs=0.03)
    assert int(report.lines[0].split()[0]) <= 2 * 156 * 256
    for name, given in (("--mask", {"masks": masks[:1]}), ("--rms", {"rms": rms[:1]})):
        with pytest.raises(InputError, match=f"{name} must be given once per image, in their order; got 1 for 2 images"):
            noise_correlation(images, out=tmp_path / "other.fits", hdu="1", **given)
    assert not (tmp_path / "other.fits").exists()


def test_what_is_no_noise_is_refused(tmp_path):
    # correlated far beyond the longest lag, where the map would end like a cliff
    wide = sky(repaired(GaussianCorrelation(sigma_pixels=4).map)[0])
    with pytest.raises(InputError, match="what was measured is no correlation of any noise: without negative power it would differ by"):
        noise_correlation([write(tmp_path / "image.fits", wide)], out=tmp_path / "map.fits", max_lag=3)
    assert not (tmp_path / "map.fits").exists()
    with pytest.raises(InputError, match="is a folder"):
        noise_correlation([tmp_path / "image.fits"], out=tmp_path)
    with pytest.raises(InputError, match="none.fits does not exist"):
        noise_correlation([tmp_path / "none.fits"], out=tmp_path / "map.fits")


def test_the_command_of_the_documents_runs(tmp_path, root, monkeypatch, capsys):
    (command,) = re.findall(r"^astroflow (noise-correlation .*)$", (root / "docs" / "noise.md").read_text(), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    write("image.fits", 2 * sky(SMOOTH))
    write("rms.fits", np.full((256, 256), 2.0))
    write("mask.fits", np.zeros((256, 256), "u1"))
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command), "--json"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert facts["paths"] == ["noise_correlation.fits"]
    assert facts["lag_x"] == pytest.approx(0.5, abs=0.03)
    assert facts["is_white"] is False
    assert "lag (1,  0)" in printed.err
    assert read_noise_correlation("noise_correlation.fits").shape == (21, 21)
