"""Small surveys on disk, to be broken in every way."""

import copy

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

SCALE = 0.2


def make_wcs(width, height, angle_degrees=20.0, flipped=False, scale=SCALE, ra=150.0, dec=2.0):
    wcs = WCS(naxis=2)
    angle = np.deg2rad(angle_degrees)
    parity = 1.0 if flipped else -1.0
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2]
    # rows: east, north; columns: x, y
    wcs.wcs.cd = np.array([[parity * np.cos(angle), -parity * np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale / 3600
    return wcs


def gaussian(height, width, x, y, sigma, flux=1.0):
    yy, xx = np.mgrid[:height, :width]
    return flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((xx - x) ** 2 + (yy - y) ** 2) / sigma**2)


@pytest.fixture
def wcs_of():
    return make_wcs


@pytest.fixture
def blob():
    return gaussian


class Survey:
    """A folder with two tiles and their maps, a table and a recipe that can be changed before it is opened."""

    def __init__(self, folder):
        self.folder = folder
        self.width, self.height = 120, 90
        self.wcs = {name: make_wcs(self.width, self.height, dec=2.0 + 0.01 * k) for k, name in enumerate("AB")}
        rng = np.random.default_rng(1)
        grid = np.array([[30, 28], [88, 28], [30, 62], [88, 62]])
        self.pixels = {name: grid + rng.uniform(-2, 2, (4, 2)) for name in "AB"}
        ids, ra, dec, tile = [], [], [], []
        for k, name in enumerate("AB"):
            image = rng.normal(0, 0.01, (self.height, self.width))
            for x, y in self.pixels[name]:
                image += gaussian(self.height, self.width, x, y, 2.0, flux=100)
            header = self.wcs[name].to_header()
            header["MAGZERO"], header["GAIN"] = 25.0 + k, 100.0
            self.write(f"tile_{name}.fits", image.astype("f4"), header)
            self.write(f"rms_{name}.fits", np.full((self.height, self.width), 0.01, "f4"))
            self.write(f"mask_{name}.fits", np.zeros((self.height, self.width), "u1"))
            r, d = self.wcs[name].all_pix2world(*self.pixels[name].T, 0)
            ids += [100 * k + j for j in range(4)]
            ra, dec, tile = ra + r.tolist(), dec + d.tolist(), tile + [name] * 4
        order = np.array([0, 4, 1, 5, 2, 6, 3, 7])
        self.table = Table({"ID": ids, "RA": ra, "DEC": dec, "TILE": tile})[order]
        self.order = order
        self.write("psf.fits", gaussian(21, 21, 10, 10, 1.5).astype("f4"))
        self.recipe = {
            "kind": "tiles",
            "table": {"path": "objects.fits"},
            "columns": {"id": "ID", "ra": "RA", "dec": "DEC", "tile": "TILE"},
            "image": {"path": "tile_{tile}.fits"},
            "noise": {"path": "rms_{tile}.fits"},
            "mask": {"path": "mask_{tile}.fits"},
            "psf": {"path": "psf.fits"},
            "zero_point": 25.0,
            "pixel_scale_arcsec": SCALE,
        }

    def write(self, name, data, header=None):
        fits.PrimaryHDU(data, header).writeto(self.folder / name, overwrite=True)

    def single(self):
        """Keep tile A alone, without a tile column."""
        self.table = self.table[[row["TILE"] == "A" for row in self.table]]
        del self.recipe["columns"]["tile"]
        for part in ("image", "noise", "mask"):
            self.recipe[part]["path"] = self.recipe[part]["path"].replace("{tile}", "A")
        return self

    def changed(self, **changes):
        """Change recipe keys, written with double underscores for nested ones; None deletes."""
        self.recipe = copy.deepcopy(self.recipe)
        for key, value in changes.items():
            *path, last = key.split("__")
            place = self.recipe
            for part in path:
                place = place.setdefault(part, {})
            if value is None:
                place.pop(last, None)
            else:
                place[last] = value
        return self

    def load(self):
        from astroflow.catalogs import load_catalog

        self.table.write(self.folder / "objects.fits", overwrite=True)
        (self.folder / "survey.yaml").write_text(yaml.safe_dump(self.recipe))
        return load_catalog(self.folder / "survey.yaml")

    def open(self):
        from astroflow.catalogs import open_source

        return open_source(self.load())

    def cutouts(self, side=32, rows_per_partition=100):
        source = self.open()
        return {c.identity: c for p in source.partitions(rows_per_partition) for c in source.read(p, side)}


@pytest.fixture
def survey(tmp_path):
    return Survey(tmp_path)
