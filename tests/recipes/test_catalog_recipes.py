"""Every recipe of ``catalogs/`` parses, and finds its data where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from astroflow.catalogs import load_catalog, open_source
from astroflow.posteriors.flags import Flag
from astroflow.sims.psf_images import tidy_psf

CHECKOUT = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((CHECKOUT / "catalogs").glob("*.yaml"))


@pytest.fixture
def data(monkeypatch):
    folder = Path(os.environ.get("ASTROFLOW_DATA", CHECKOUT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set ASTROFLOW_DATA")
    monkeypatch.setenv("ASTROFLOW_DATA", str(folder))
    return folder


def read(name):
    source = open_source(load_catalog(name))
    return [c for p in source.partitions(64) for c in source.read(p)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_under_its_path_and_its_name(path, monkeypatch):
    monkeypatch.setenv("ASTROFLOW_DATA", "/nowhere")
    recipe = load_catalog(path)
    assert recipe == load_catalog(path.stem)
    assert recipe.description


def test_the_cosmos_galaxies(data):
    cutouts = read("cosmos_f814w")
    assert len(cutouts) == 100
    assert all(c.flags == 0 for c in cutouts)
    sides = [side for c in cutouts for side in c.image.shape[1:]]
    assert (min(sides), max(sides)) == (27, 443)
    assert not tidy_psf(cutouts[0].psf[None]).bad.any()
    # Total fluxes agree with the catalog's magnitudes, so the zero point is right.
    from astropy.table import Table

    magnitude = np.array(Table.read(data / "cosmos_f814w" / "real_galaxy_catalog_23.5_example.fits")["MAG"])
    offset = 25.94 - 2.5 * np.log10([c.image.sum() for c in cutouts]) - magnitude
    assert abs(np.median(offset)) < 0.15


def test_the_gama_galaxies_in_kids(data):
    cutouts = read("gama_kids_r")
    assert [c.identity for c in cutouts] == [265911, 266033, 266662, 267525, 279148]
    published = [16.0796, 16.6388, 15.8448, 18.1404, 16.9540]
    for cutout, magnitude in zip(cutouts, published, strict=True):
        assert cutout.flags == Flag(0)
        report = tidy_psf(cutout.psf[None])
        assert report.renormalised.all()
        assert not report.bad.any()
        good = ~cutout.mask[0]
        assert 0 < cutout.mask.mean() < 0.1
        assert -2.5 * np.log10(cutout.image[0][good].sum()) == pytest.approx(magnitude, abs=0.15)
        # Without the galaxy's photons the noise is nearly flat, and is what the sky scatters by.
        sky = cutout.image[0][good & (np.abs(cutout.image[0]) < 5e-12)]
        assert np.median(cutout.rms[0]) == pytest.approx(1.4826 * np.median(np.abs(sky - np.median(sky))), rel=0.2)
        assert np.percentile(cutout.rms[0], 99) < 1.5 * np.percentile(cutout.rms[0], 1)
