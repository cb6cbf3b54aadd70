"""Galaxy profiles: what a galaxy looks like before PSF, pixel and noise.

A galaxy model owns its parameters (names, units, prior) and turns one theta into a GalSim profile of unit zero point.
`SersicGalaxy` is the simplest that ships; your own is any class with the two members of `Galaxy`, see ``docs/extending.md``.
"""

__all__ = ["Galaxy", "SersicGalaxy"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import pydantic

from astroflow.sims.distributions import Counts, LogUniform, Normal, Spread
from astroflow.sims.parameters import Parameter, Parameters
from astroflow.sims.priors import DiscBlock, JointPrior, ScalarBlock, SizeMagnitudeBlock
from astroflow.sims.sersics import GALSIM_SERSIC_RANGE, Sersic, SersicSum

if TYPE_CHECKING:
    import galsim


@runtime_checkable
class Galaxy(Protocol):
    """What a galaxy model owes."""

    @property
    def parameters(self) -> Parameters:
        """Names, units and the joint prior. Sizes are called `re_arcsec`, or end so."""

    def profile(self, theta: Mapping[str, float], zero_point: float, *, exact: bool = False) -> "galsim.GSObject":
        """Return the profile centred on the stamp's centre, in image units and arcsec.

        With `exact`, approximations made for speed are left out.
        """


class SersicGalaxy(SersicSum):
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

    @property
    def index_range(self) -> tuple[float, float]:
        return self.n.low, self.n.high

    def components(self, theta: Mapping[str, Any], zero_point: Any) -> Sequence[Sersic]:
        flux = 10 ** (0.4 * (zero_point - theta["mag"]))
        shape = (theta[name] for name in ("re_arcsec", "n", "e1", "e2", "dx_arcsec", "dy_arcsec"))
        return (Sersic(flux, *shape),)


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
