"""Posterior catalogs of invented draws, where on the sky a test wants them: no images, no network."""

from datetime import UTC, datetime

import numpy as np

from astroflow.catalogs.hats import HatsPart, check_part, part_path, write_hats
from astroflow.catalogs.healpix import sky_tiles, spatial_index
from astroflow.catalogs.parts import parquet_bytes
from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table
from astroflow.files import atomic_write
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.summary import summarize_draws

CREATED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


class InventedCatalog:
    """Rows with their truth, and how they are written: `ra`, `dec`, `ids`, `draws`, `unusable` are in the order of the input."""

    def __init__(self, parameters, ra, dec, ids=None, n_draws=8, samples=True, seed=0):
        rng = np.random.default_rng(seed)
        self.parameters, self.ra, self.dec, self.samples = parameters, np.asarray(ra), np.asarray(dec), samples
        n = len(self.ra)
        self.ids = np.arange(n) + 10**12 if ids is None else np.asarray(ids)
        draws = parameters.prior.forward(rng.normal(size=(n * n_draws, len(parameters))))
        self.draws = np.asarray(draws, np.float32).reshape(n, n_draws, len(parameters))
        self.unusable = np.arange(n) % 20 == 3
        self.draws[self.unusable] = np.nan
        self.summary = summarize_draws(self.draws, parameters)
        self.index = spatial_index(self.ra, self.dec)

    def table(self, rows):
        n = len(rows)
        info = RowInfo(
            row_index=rows, ids=self.ids[rows], ra=self.ra[rows], dec=self.dec[rows], x=np.full(n, 15.5), y=np.full(n, 15.5),
            snr=np.where(self.unusable[rows], np.nan, 20.0), binning=np.ones(n), flags=np.where(self.unusable[rows], int(Flag.NO_DATA), 0),
            notes=np.where(self.unusable[rows], "off the tile", ""),
        )  # fmt: skip
        summary = {name: value[rows] for name, value in self.summary.items()}
        samples = self.draws[rows] if self.samples else None
        return build_posterior_table(self.parameters, info, summary, bundle="abc", samples=samples, healpix=self.index[rows])

    def write_part(self, rows, root, order, pixel):
        table = self.table(rows)
        check_part(table, order, pixel)
        atomic_write(root / part_path(order, pixel), parquet_bytes(table), stage_in=root)
        return HatsPart(order, pixel, len(rows))

    def write(self, root, rows_per_tile=100, created=CREATED, reverse=False, **facts):
        """Write the HATS catalog; return its parts."""
        tiles = sky_tiles(self.index, rows_per_tile)
        parts = [self.write_part(t.rows, root, t.order, t.pixel) for t in (tiles[::-1] if reverse else tiles)]
        schema = self.table(np.zeros(0, int)).schema
        write_hats(root, name="invented posteriors", schema=schema, parts=parts, created=created, facts=facts)
        return parts
