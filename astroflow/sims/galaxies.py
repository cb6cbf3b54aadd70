"""Galaxy profiles: what a galaxy looks like before PSF, pixel and noise.

A galaxy model owns its parameters (names, units, prior) and turns one theta into a GalSim profile of unit zero point.
`SersicGalaxy` is the one that ships; your own is any class with the two members of `Galaxy`, see ``docs/extending.md``.

The cost of GalSim's Sersic
---------------------------
GalSim tabulates a Hankel transform for every new Sersic index, 0.05 to 0.6 s each. `SersicGalaxy` therefore draws from a
fixed table of indices, spaced evenly in log n, and mixes the two neighbours of the wanted n with linear weights in log n.
Both have the same half-light radius and flux, so the mixture has them too, exactly. The error is of second order in the
spacing: for the default 64 values below 1e-4 of the peak where re is a few PSF widths, below 1e-3 at seventeen (tested,
and measured by ``benchmarks/rendering.py``).
GalSim keeps 100 tables, so the cost is paid once per process.
"""

__all__ = ["Galaxy", "SersicGalaxy", "axis_ratio"]

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, runtime_checkable

import numpy as np
import pydantic

from astroflow.config import Recipe
from astroflow.sims.distributions import Counts, LogUniform, Normal, Spread
from astroflow.sims.parameters import Parameter, Parameters
from astroflow.sims.priors import DiscBlock, JointPrior, ScalarBlock, SizeMagnitudeBlock

if TYPE_CHECKING:
    import galsim

GALSIM_SERSIC_RANGE = (0.3, 6.2)


@runtime_checkable
class Galaxy(Protocol):
    """What a galaxy model owes."""

    @property
    def parameters(self) -> Parameters:
        """Names, units and the joint prior. The size is the parameter called `re_arcsec`, if there is one."""

    def profile(self, theta: Mapping[str, float], zero_point: float, *, exact: bool = False) -> "galsim.GSObject":
        """Return the profile centred on the stamp's centre, in image units and arcsec.

        With `exact`, approximations made for speed are left out.
        """


def axis_ratio(e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """Return q = b/a of a reduced-shear type ellipticity, |e| = (1 - q) / (1 + q)."""
    modulus = np.hypot(e1, e2)
    return np.asarray((1 - modulus) / (1 + modulus))


class SersicGalaxy(Recipe):
    """One elliptical Sersic profile: mag, re_arcsec, n, e1, e2, dx_arcsec, dy_arcsec.

    References
    ----------
    Sersic 1963; Graham & Driver 2005, https://doi.org/10.1071/AS05001; drawn by GalSim,
    Rowe et al. 2015, https://arxiv.org/abs/1407.7676
    """

    kind: Literal["sersic"] = "sersic"
    mag: Spread = Counts(low=18.0, high=23.5)
    """Total AB magnitude of the untruncated profile."""
    re_arcsec: Annotated[SizeMagnitudeBlock | Spread, pydantic.Field(discriminator="kind")] = SizeMagnitudeBlock(low=0.1, high=2.0)
    """Half-light radius along the semi-major axis, arcsec (not circularised)."""
    n: Spread = LogUniform(low=0.5, high=6.0)
    """Sersic index, inside GalSim's 0.3 to 6.2."""
    ellipticity: DiscBlock = DiscBlock()
    """(e1, e2), reduced-shear type, |e| = (1-q)/(1+q), image frame."""
    dx_arcsec: Spread = Normal(mean=0.0, sd=0.1, low=-0.5, high=0.5)
    """Offset of the centre along +x from the stamp's centre, arcsec."""
    dy_arcsec: Spread = Normal(mean=0.0, sd=0.1, low=-0.5, high=0.5)
    """Offset of the centre along +y, arcsec."""
    n_table: Annotated[int, pydantic.Field(ge=8, le=96)] = 64
    """How many Sersic indices are tabulated; GalSim keeps at most 100."""
    folding_threshold: Annotated[float, pydantic.Field(gt=0, le=0.05)] = 0.01
    """GalSim's folding_threshold: flux allowed to alias in the FFT. Smaller is slower."""

    @pydantic.model_validator(mode="after")
    def _inside_galsim(self) -> "SersicGalaxy":
        low, high = GALSIM_SERSIC_RANGE
        if self.n.low < low or self.n.high > high:
            raise ValueError(f"`n` spans {self.n.low} to {self.n.high}; GalSim's Sersic takes {low} to {high}")
        return self

    @property
    def parameters(self) -> Parameters:
        follows_mag = isinstance(self.re_arcsec, SizeMagnitudeBlock)
        size = self.re_arcsec if follows_mag else ScalarBlock(name="re_arcsec", distribution=self.re_arcsec)
        blocks = (
            ScalarBlock(name="mag", distribution=self.mag),
            size,
            ScalarBlock(name="n", distribution=self.n),
            self.ellipticity,
            ScalarBlock(name="dx_arcsec", distribution=self.dx_arcsec),
            ScalarBlock(name="dy_arcsec", distribution=self.dy_arcsec),
        )
        return Parameters(members=SERSIC_PARAMETERS, prior=JointPrior(blocks=blocks))

    @cached_property
    def nodes(self) -> np.ndarray:
        """The tabulated Sersic indices."""
        return np.geomspace(self.n.low, self.n.high, self.n_table)

    def gsparams(self) -> "galsim.GSParams":
        """Return GalSim's accuracy settings for this galaxy."""
        import galsim

        return galsim.GSParams(folding_threshold=self.folding_threshold, maximum_fft_size=16384)

    def profile(self, theta: Mapping[str, float], zero_point: float, *, exact: bool = False) -> "galsim.GSObject":
        import galsim

        params = self.gsparams()
        q = float(axis_ratio(theta["e1"], theta["e2"]))  # type: ignore[arg-type]
        # GalSim's shear keeps the area, so its radius is the circularised one.
        radius = float(theta["re_arcsec"]) * math.sqrt(q)
        flux = 10 ** (0.4 * (zero_point - float(theta["mag"])))
        n = min(max(float(theta["n"]), GALSIM_SERSIC_RANGE[0]), GALSIM_SERSIC_RANGE[1])
        if exact:
            galaxy = galsim.Sersic(n, half_light_radius=radius, flux=flux, gsparams=params)
        else:
            nodes = self.nodes
            step = math.log(nodes[1] / nodes[0])
            position = min(max(math.log(n / nodes[0]) / step, 0.0), len(nodes) - 1.0)
            lower = min(int(position), len(nodes) - 2)
            weight = position - lower
            galaxy = galsim.Sum(
                [
                    galsim.Sersic(float(nodes[lower]), half_light_radius=radius, flux=flux * (1 - weight), gsparams=params),
                    galsim.Sersic(float(nodes[lower + 1]), half_light_radius=radius, flux=flux * weight, gsparams=params),
                ]
            )
        return galaxy.shear(g1=float(theta["e1"]), g2=float(theta["e2"])).shift(float(theta["dx_arcsec"]), float(theta["dy_arcsec"]))


SERSIC_PARAMETERS = (
    Parameter(name="mag", unit="mag", label="magnitude", ucd="phot.mag", description="Total AB magnitude of the untruncated profile"),
    Parameter(
        name="re_arcsec",
        unit="arcsec",
        label="$R_e$",
        ucd="phys.angSize.smajAxis",
        description="Half-light radius along the semi-major axis",
    ),
    Parameter(name="n", label="Sersic $n$", description="Sersic index"),
    Parameter(
        name="e1",
        label="$e_1$",
        ucd="src.ellipticity",
        spin=2,
        component=0,
        description="Ellipticity, |e| = (1-q)/(1+q), along the pixel axes",
    ),
    Parameter(
        name="e2",
        label="$e_2$",
        ucd="src.ellipticity",
        spin=2,
        component=1,
        description="Ellipticity, |e| = (1-q)/(1+q), along the diagonals",
    ),
    Parameter(
        name="dx_arcsec",
        unit="arcsec",
        label="$\\Delta x$",
        ucd="pos.cartesian.x",
        spin=1,
        component=0,
        description="Centre's offset along +x from the stamp's centre",
    ),
    Parameter(
        name="dy_arcsec",
        unit="arcsec",
        label="$\\Delta y$",
        ucd="pos.cartesian.y",
        spin=1,
        component=1,
        description="Centre's offset along +y from the stamp's centre",
    ),
)
