"""Catalogs: from survey files to cutouts, and from posteriors back to a table.

Start with `load_catalog` and `open_source`. Reading, bottom up: `files` and `fits_files` (careful ways in), `tables`, `rows`, `maps`
(what noise maps and masks mean), `psf_files`, and the three kinds of data sources `tiles`, `stamps` and `realgalaxy`. Writing:
`derived` (quantities that follow from parameters), `sky` (positions and angles), `posterior_columns` and `posterior_table`; `healpix` and
`hats` make a catalog of it that LSDB opens. `mock_survey` makes a survey to practise on.
"""

from astroflow.catalogs.recipe import CatalogRecipe as CatalogRecipe
from astroflow.catalogs.recipe import load_catalog as load_catalog
from astroflow.catalogs.sources import Partition as Partition
from astroflow.catalogs.sources import Source as Source
from astroflow.catalogs.sources import open_source as open_source
