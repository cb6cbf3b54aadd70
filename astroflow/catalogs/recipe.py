"""Catalog recipes: the YAML files of the folder ``catalogs/``, which say where images are and what their numbers mean.

Three kinds of data sources: ``tiles`` (a table of positions and images with a WCS), ``stamps`` (one small image per object) and
``realgalaxy`` (GalSim's RealGalaxy format, as the COSMOS sample has it). Nothing about an image is guessed: a recipe states what
its noise map is, its zero point, its pixel scale (checked against the WCS) and what its masks mean.
"""

__all__ = ["CatalogRecipe", "RealGalaxyRecipe", "StampsRecipe", "TilesRecipe", "load_catalog", "parse_catalog"]

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from astroflow.catalogs.paths import template_fields
from astroflow.config import Recipe, RecipePath, find_recipe, parse_kind, read_yaml
from astroflow.sims.noise_correlation import NoiseCorrelation

Name = Annotated[str, pydantic.Field(min_length=1)]


DataPath = Annotated[RecipePath, pydantic.Field(min_length=1)]
"""A file, path template or pattern."""


class TableFile(Recipe):
    """The table of objects."""

    path: DataPath
    """FITS, Parquet, ECSV or CSV file, told by its extension."""
    hdu: int | str | None = None
    """Which table of a FITS file; the first if not given."""


class Columns(Recipe):
    """Which column of the table holds what."""

    id: Name
    """Unique integer or string."""
    ra: Name | None = None
    """Right ascension, ICRS, degrees unless the table states another unit."""
    dec: Name | None = None
    """Declination."""
    x: Name | None = None
    """Pixel column of the object, instead of sky positions."""
    y: Name | None = None
    """Pixel row of the object."""
    tile: Name | None = None
    """Which tile an object is on; fills `{tile}` in paths."""
    size: Name | None = None
    """A guess of the half-light radius, which helps to choose the binning."""
    gain: Name | None = None
    """Electrons per image unit, per object."""
    psf_index: Name | None = None
    """Which plane of the PSF cube, or which HDU of the PSF file (see `psf.index`), is the object's."""
    noise: Name | None = None
    """The noise of an object as one number, for noise maps of kind `constant`; rms after `noise.scale`."""
    label: Name | None = None
    """The object's label in the segmentation map; the label at its position if not given."""
    origin: Literal[0, 1] = 0
    """Number of the first pixel in `x` and `y`: 0, or 1 as FITS and SExtractor count."""
    size_unit: Literal["arcsec", "pixel"] = "arcsec"
    """Unit of `size`."""
    size_scale: pydantic.PositiveFloat = 1.0
    """Factor that turns `size` into a half-light radius."""

    def position_pairs(self) -> int | None:
        """Return how many pairs of position columns are given, ``ra`` and ``dec`` or ``x`` and ``y``; None if one is halved."""
        pairs = [(self.ra is not None, self.dec is not None), (self.x is not None, self.y is not None)]
        return sum(first for first, _ in pairs) if all(first == second for first, second in pairs) else None


class ImageFile(Recipe):
    """An image in a FITS file."""

    path: DataPath
    """File, or a template with column names in braces, such as `tiles/{tile}.fits`; CSV columns fill in as written, `0501` as `0501`."""
    hdu: int | str | None = None
    """Number (0 = primary) or name of the HDU; needed where the file holds several images."""


class NoiseMap(Recipe):
    """What is known of the noise."""

    kind: Literal["rms", "variance", "weight", "constant"] = "rms"
    """rms: standard deviation; variance; weight: inverse variance, 0 = no data; constant: one number."""
    path: DataPath | None = None
    """File or template; not for `constant`."""
    hdu: int | str | None = None
    """HDU of the map."""
    value: pydantic.PositiveFloat | None = None
    """The rms, for `constant` without a column."""
    scale: pydantic.PositiveFloat = 1.0
    """The map's rms is this many times the scatter of the pixels (1.47 for Euclid's, which folds correlations in); it is divided out."""
    includes_source: bool = False
    """The map holds the galaxies' own photon noise. With a gain it is taken out, and comes back from the model; without, it stays."""
    correlation: NoiseCorrelation | None = None
    """Correlation of neighbouring pixels' noise; kinds: values, image, power_spectrum, gaussian, cosmos. The bundle's own if left out."""

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "NoiseMap":
        if self.kind == "constant" and (self.path is not None or self.includes_source):
            raise ValueError("kind `constant` takes a `value` or the column `columns.noise`, no `path`, and never includes the source")
        if self.kind != "constant" and (self.path is None or self.value is not None):
            raise ValueError(f"kind `{self.kind}` needs a `path`, and no `value`")
        return self


class MaskMap(ImageFile):
    """An image of pixels to ignore; pixels where it is NaN or BLANK are ignored too."""

    bits: tuple[Annotated[int, pydantic.Field(ge=0, le=62)], ...] | None = None
    """Ignore pixels with any of these bits, counted from 0; by default every pixel that is not 0."""
    values: tuple[int, ...] | None = None
    """Ignore pixels of exactly these values, instead of bits."""

    @pydantic.model_validator(mode="after")
    def _one_rule(self) -> "MaskMap":
        if self.bits is not None and self.values is not None:
            raise ValueError("give `bits` or `values`, not both")
        return self


class PSFImages(ImageFile):
    """Point-spread functions; they include the pixel."""

    oversampling: Annotated[int, pydantic.Field(ge=1, le=64)] = 1
    """PSF pixels per image pixel along one side."""
    index: Literal["plane", "hdu"] = "plane"
    """What `columns.psf_index` counts: planes of a cube from 0, or HDUs of the file."""


class _Source(Recipe):
    description: str = ""
    """One sentence: which data."""
    zero_point: float | Name
    """AB magnitude of one image unit, or the header keyword that holds it."""
    pixel_scale_arcsec: pydantic.PositiveFloat
    """Side of a pixel; checked against the WCS."""
    gain: pydantic.PositiveFloat | Name | None = None
    """Electrons per image unit, or the header keyword that holds it; leave out where galaxies' photon noise is negligible."""
    unit: str = ""
    """What the image counts, for people."""


class _ImagesAndMaps(_Source):
    image: ImageFile
    """The images."""
    noise: NoiseMap
    """Their noise."""
    mask: MaskMap | None = None
    """Pixels to ignore."""
    segmentation: ImageFile | None = None
    """Segmentation map: pixels of other labels than the object's own and 0 are ignored."""
    psf: PSFImages
    """Their PSFs."""

    @pydantic.model_validator(mode="after")
    def _noise_is_somewhere(self) -> "_ImagesAndMaps":
        columns = getattr(self, "columns", None)
        if self.noise.kind == "constant" and (self.noise.value is None) == (columns is None or columns.noise is None):
            raise ValueError("noise of kind `constant` needs either `noise.value` or `columns.noise`")
        return self

    @pydantic.model_validator(mode="after")
    def _every_column_is_used(self) -> "_ImagesAndMaps":
        columns: Columns | None = getattr(self, "columns", None)
        if columns is not None and columns.noise is not None and self.noise.kind != "constant":
            raise ValueError(f"`columns.noise` is for noise of kind `constant`, and kind `{self.noise.kind}` does not use it; remove one")
        if columns is not None and columns.label is not None and self.segmentation is None:
            raise ValueError("`columns.label` names an object's segment; give the `segmentation` map too, or remove it")
        return self


class TilesRecipe(_ImagesAndMaps):
    """A table of positions, and images that hold many objects."""

    kind: Literal["tiles"] = "tiles"
    table: TableFile
    """The objects."""
    columns: Columns
    """What its columns mean."""

    @pydantic.model_validator(mode="after")
    def _positions(self) -> "TilesRecipe":
        if self.columns.position_pairs() != 1:
            raise ValueError("`columns` needs either `ra` and `dec`, or `x` and `y`")
        if ("tile" in template_fields(self.image.path)) != (self.columns.tile is not None):
            raise ValueError("`columns.tile` and `{tile}` in `image.path` go together; give both or neither")
        if set(template_fields(self.image.path)) - {"tile"}:
            raise ValueError("`image.path` of tiles takes only `{tile}`; for one image per object use kind `stamps`")
        for part in (self.noise, self.mask, self.segmentation):
            if part is not None and part.path is not None and set(template_fields(part.path)) - {"tile"}:
                raise ValueError(f"`{part.path}` takes only `{{tile}}`: there is one such image per tile")
        return self


class StampsRecipe(_ImagesAndMaps):
    """One image file per object: named by a table, or every file that matches a pattern."""

    kind: Literal["stamps"] = "stamps"
    table: TableFile | None = None
    """The objects; without it, `image.path` is a pattern such as `stamps/*.fits` and the id is the file's stem, `{id}`."""
    columns: Columns | None = None
    """What the table's columns mean."""

    @pydantic.model_validator(mode="after")
    def _listed(self) -> "StampsRecipe":
        if (self.table is None) != (self.columns is None):
            raise ValueError("`table` and `columns` go together; give both or neither")
        if self.table is not None and not template_fields(self.image.path):
            raise ValueError("`image.path` needs a column in braces, such as `{FILENAME}` or `stamps/{id}.fits`")
        if self.table is None and "*" not in self.image.path:
            raise ValueError("`image.path` needs a `*` where there is no `table`")
        if self.columns is not None and self.columns.position_pairs() not in (0, 1):
            raise ValueError(
                "`columns` takes `ra` and `dec`, or `x` and `y`, or none of them where objects are in the middle of their stamps; "
                "never half a pair, or both"
            )
        parts = (self.image, self.noise, self.mask, self.segmentation, self.psf)
        named = any("tile" in template_fields(part.path) for part in parts if part is not None and part.path is not None)
        if named != (self.columns is not None and self.columns.tile is not None):
            raise ValueError("`columns.tile` and `{tile}` in a path go together; give both or neither")
        return self


class RealGalaxyRecipe(_Source):
    """GalSim's RealGalaxy format: a catalog, and files of galaxy and PSF stamps beside it.

    References
    ----------
    Mandelbaum et al. 2012, https://doi.org/10.1111/j.1365-2966.2011.20138.x; GalSim's ``RealGalaxyCatalog``.
    """

    kind: Literal["realgalaxy"] = "realgalaxy"
    path: DataPath
    """The catalog, such as `real_galaxy_catalog_23.5.fits`."""
    folder: DataPath | None = None
    """Where the stamps are; the catalog's folder if not given."""
    zero_point: float = 25.94
    """AB magnitude of one image unit: 25.94 for ACS F814W in electrons per second."""
    gain: pydantic.PositiveFloat | None = None
    """Electrons per image unit; the exposure time for images in electrons per second."""
    noise_correlation: NoiseCorrelation | None = None
    """Correlation of neighbouring pixels' noise; kinds: values, image, power_spectrum, gaussian, cosmos. The bundle's own if left out."""
    subtract_noise_mean: bool = False
    """Subtract the catalog's NOISE_MEAN, the sky that was left in the stamp."""


CatalogRecipe = TilesRecipe | StampsRecipe | RealGalaxyRecipe
KINDS: dict[str, type[Recipe]] = {"tiles": TilesRecipe, "stamps": StampsRecipe, "realgalaxy": RealGalaxyRecipe}


def parse_catalog(data: dict[str, Any], where: str = "catalog", folder: Path | None = None) -> CatalogRecipe:
    """Fill a catalog recipe from plain data; its paths become absolute.

    Parameters
    ----------
    data : dict
        What the YAML file holds.
    where : str
        How messages call it.
    folder : Path or None
        Where relative paths are looked for before the working folder.

    Raises
    ------
    ConfigError
        With one line for each key that is unknown, missing or out of range.
    """
    return parse_kind(KINDS, data, where, folder)  # type: ignore[no-any-return]


def load_catalog(name: str | Path) -> CatalogRecipe:
    """Load a catalog recipe by path or by name.

    Parameters
    ----------
    name : str or Path
        ``"catalogs/cosmos_f814w.yaml"`` or ``"cosmos_f814w"``.

    Returns
    -------
    TilesRecipe, StampsRecipe or RealGalaxyRecipe
        With absolute paths; `open_source` turns it into images.
    """
    path = find_recipe(name, "catalogs")
    return parse_catalog(read_yaml(path), str(path), path.parent)
