"""PSFs of many stamps, sorted into groups that one compiled graph can draw.

Rows share a graph when their PSFs are transformed in the same way (their family) on the same modes. A row's group depends on the row
alone, so its pixels do too. Populations that are plain numbers are sorted whole, without a Python object for each row.
"""

__all__ = ["PSFGroup", "group_described", "group_images", "group_profiles", "group_sets"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from astroflow.sims.fourier.grid import ModeGrid
from astroflow.sims.fourier.psf import (
    MOFFAT_BINS,
    PSFFamily,
    describe_profile,
    grids_of_family,
    grids_of_images,
    kolmogorov_scale,
    moffat_family,
)
from astroflow.sims.psfs import ShearedProfiles
from astroflow.types import Array


@dataclass(frozen=True)
class PSFGroup:
    """Rows of one family and one set of modes, and the arrays ``(len(rows), ...)`` that describe their PSFs."""

    rows: Array
    family: PSFFamily
    grid: ModeGrid
    arrays: Mapping[str, Array]


def group_described(described: Sequence[tuple[PSFFamily, ModeGrid, Mapping[str, Array]]]) -> list[PSFGroup]:
    """Sort PSFs that were described one by one."""
    members: dict[tuple[PSFFamily, ModeGrid], list[int]] = {}
    for row, (family, grid, _) in enumerate(described):
        members.setdefault((family, grid), []).append(row)
    groups = []
    for (family, grid), rows in members.items():
        given = [described[row][2] for row in rows]
        groups.append(PSFGroup(np.array(rows), family, grid, {name: np.stack([one[name] for one in given]) for name in given[0]}))
    return groups


def group_images(images: Array, oversampling: Array, size: int) -> list[PSFGroup]:
    """Sort PSF images ``(N, h, w)`` of unit sum that include the stamp's pixel, for stamps of side `size`.

    `oversampling` ``(N,)`` counts their samples per stamp pixel.
    """
    groups = []
    for b in np.unique(oversampling).tolist():
        members = np.flatnonzero(oversampling == b)
        family = PSFFamily("image", (b, *images.shape[1:]))
        for grid, some in _members(grids_of_images(images[members], b, size)):
            rows = members[some]
            groups.append(PSFGroup(rows, family, grid, {"image": images[rows], "offset": np.zeros((len(rows), 2))}))
    return groups


def group_sets(images: Array, oversampling: int, size: int, count: int) -> list[PSFGroup]:
    """Sort sets of PSF images ``(N, count or 1, h, w)``, see `group_images`; rows number N times `count`, a set's on the same modes."""
    n, members, *sides = images.shape
    grids = np.array(grids_of_images(images.reshape(-1, *sides), oversampling, size), object).reshape(n, members)
    needed = [ModeGrid(size, max(grid.band for grid in row), any(grid.wide for grid in row)) for row in grids]
    family = PSFFamily("image", (oversampling, *sides))
    every = np.broadcast_to(images, (n, count, *sides))
    groups = []
    for grid, some in _members(needed):
        rows = (some[:, None] * count + np.arange(count)).ravel()
        groups.append(PSFGroup(rows, family, grid, {"image": every[some].reshape(-1, *sides), "offset": np.zeros((len(rows), 2))}))
    return groups


def group_profiles(profiles: ShearedProfiles, step: Array, size: int) -> list[PSFGroup]:
    """Sort sheared profiles, for stamps of ``size x size`` pixels of `step` ``(N,)`` arcsec."""
    if profiles.kind == "kolmogorov":
        return _grouped(PSFFamily("kolmogorov"), profiles, step, np.arange(len(profiles)), profiles.fwhm_arcsec * kolmogorov_scale(), size)
    radius = profiles.fwhm_arcsec / (2 * np.sqrt(2 ** (1 / profiles.beta) - 1))
    place = np.searchsorted(MOFFAT_BINS, profiles.beta, side="right")
    tabulated = (place > 0) & (place < len(MOFFAT_BINS))
    groups = []
    for one in np.unique(place[tabulated]):
        rows = np.flatnonzero(place == one)
        groups += _grouped(moffat_family(profiles.beta[rows[0]]), profiles, step, rows, radius, size)
    others = np.flatnonzero(~tabulated)
    sampled = group_described(
        [describe_profile(replace(profiles, image_size=None).one(i, 1.0).profile, float(step[i]), size) for i in others.tolist()]
    )
    return groups + [replace(group, rows=others[group.rows]) for group in sampled]


def _grouped(family: PSFFamily, profiles: ShearedProfiles, step: Array, rows: Array, radius: Array, size: int) -> list[PSFGroup]:
    """Sort rows of one family by their modes; `radius` ``(N,)`` is the scale radius, arcsec."""
    g1, g2 = profiles.g1[rows], profiles.g2[rows]
    # the square of a shear of unit determinant, [[1 + g1, g2], [g2, 1 - g1]] / sqrt(1 - g^2)
    norm, square = 1 - g1**2 - g2**2, 1 + g1**2 + g2**2
    shape = np.array([[square + 2 * g1, 2 * g2], [2 * g2, square - 2 * g1]]) / norm
    metric = np.moveaxis(shape * (radius[rows] / step[rows]) ** 2, -1, 0)
    arrays = {"metric": metric, "shape": profiles.beta[rows], "offset": np.zeros((len(rows), 2))}
    sorted_rows = _members(grids_of_family(family, arrays, size))
    return [PSFGroup(rows[some], family, grid, {name: values[some] for name, values in arrays.items()}) for grid, some in sorted_rows]


def _members(grids: Sequence[ModeGrid]) -> list[tuple[ModeGrid, Array]]:
    """Return each of some grids and the positions that have it."""
    members: dict[ModeGrid, list[int]] = {}
    for row, grid in enumerate(grids):
        members.setdefault(grid, []).append(row)
    return [(grid, np.array(rows)) for grid, rows in members.items()]
