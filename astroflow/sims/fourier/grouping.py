"""PSFs of many stamps, sorted into groups that one compiled graph can draw.

Rows share a graph when their PSFs are transformed in the same way (their family) and reach equally far beyond the pixels' Nyquist frequency
(their band). A row's group depends on the row alone, so its pixels do too. Populations that are plain numbers are sorted whole, without a
Python object for each row.
"""

__all__ = ["PSFGroup", "group_described", "group_images", "group_profiles"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from astroflow.sims.fourier.psf import (
    MOFFAT_BINS,
    PSFFamily,
    band_of_family,
    bands_of_images,
    describe_profile,
    kolmogorov_scale,
    moffat_family,
)
from astroflow.sims.psfs import ShearedProfiles
from astroflow.types import Array


@dataclass(frozen=True)
class PSFGroup:
    """Rows of one family and band, and the arrays ``(len(rows), ...)`` that describe their PSFs."""

    rows: Array
    family: PSFFamily
    band: float
    arrays: Mapping[str, Array]


def group_described(described: Sequence[tuple[PSFFamily, float, Mapping[str, Array]]]) -> list[PSFGroup]:
    """Sort PSFs that were described one by one."""
    members: dict[tuple[PSFFamily, float], list[int]] = {}
    for row, (family, band, _) in enumerate(described):
        members.setdefault((family, band), []).append(row)
    groups = []
    for (family, band), rows in members.items():
        given = [described[row][2] for row in rows]
        groups.append(PSFGroup(np.array(rows), family, band, {name: np.stack([one[name] for one in given]) for name in given[0]}))
    return groups


def group_images(images: Array, oversampling: Array) -> list[PSFGroup]:
    """Sort PSF images ``(N, h, w)`` of unit sum that include the stamp's pixel, of `oversampling` ``(N,)`` samples per stamp pixel."""
    groups = []
    for b in np.unique(oversampling).tolist():
        members = np.flatnonzero(oversampling == b)
        bands = bands_of_images(images[members], b)
        for band in np.unique(bands):
            rows = members[bands == band]
            family = PSFFamily("image", (b, *images.shape[1:]))
            groups.append(PSFGroup(rows, family, float(band), {"image": images[rows], "offset": np.zeros((len(rows), 2))}))
    return groups


def group_profiles(profiles: ShearedProfiles, step: Array, size: int) -> list[PSFGroup]:
    """Sort sheared profiles, for stamps of ``size x size`` pixels of `step` ``(N,)`` arcsec."""
    if profiles.kind == "kolmogorov":
        return _grouped(PSFFamily("kolmogorov"), profiles, step, np.arange(len(profiles)), profiles.fwhm_arcsec * kolmogorov_scale())
    radius = profiles.fwhm_arcsec / (2 * np.sqrt(2 ** (1 / profiles.beta) - 1))
    place = np.searchsorted(MOFFAT_BINS, profiles.beta, side="right")
    tabulated = (place > 0) & (place < len(MOFFAT_BINS))
    groups = []
    for one in np.unique(place[tabulated]):
        rows = np.flatnonzero(place == one)
        groups += _grouped(moffat_family(profiles.beta[rows[0]]), profiles, step, rows, radius)
    others = np.flatnonzero(~tabulated)
    sampled = group_described(
        [describe_profile(replace(profiles, image_size=None).one(i, 1.0).profile, float(step[i]), size) for i in others.tolist()]
    )
    return groups + [replace(group, rows=others[group.rows]) for group in sampled]


def _grouped(family: PSFFamily, profiles: ShearedProfiles, step: Array, rows: Array, radius: Array) -> list[PSFGroup]:
    """Sort rows of one family by their bands; `radius` ``(N,)`` is the scale radius, arcsec."""
    g1, g2 = profiles.g1[rows], profiles.g2[rows]
    # the square of a shear of unit determinant, [[1 + g1, g2], [g2, 1 - g1]] / sqrt(1 - g^2)
    norm, square = 1 - g1**2 - g2**2, 1 + g1**2 + g2**2
    shape = np.array([[square + 2 * g1, 2 * g2], [2 * g2, square - 2 * g1]]) / norm
    metric = np.moveaxis(shape * (radius[rows] / step[rows]) ** 2, -1, 0)
    arrays = {"metric": metric, "shape": profiles.beta[rows], "offset": np.zeros((len(rows), 2))}
    bands = band_of_family(family, arrays)
    inside = [(float(band), bands == band) for band in np.unique(bands)]
    return [PSFGroup(rows[some], family, band, {name: values[some] for name, values in arrays.items()}) for band, some in inside]
