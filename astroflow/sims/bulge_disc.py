"""A galaxy of two components: an exponential disc and a de Vaucouleurs bulge about one centre."""

__all__ = ["BulgeDiscGalaxy"]

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic

from astroflow.sims.distributions import Counts, LogUniform, Normal, Spread, Uniform
from astroflow.sims.parameters import Parameter, Parameters
from astroflow.sims.priors import DiscBlock, JointPrior, ScalarBlock, SizeMagnitudeBlock
from astroflow.sims.sersics import GALSIM_SERSIC_RANGE, Sersic, SersicSum

DISC_INDEX = 1.0


class BulgeDiscGalaxy(SersicSum):
    """A disc of index 1 and a bulge of index 4 with their own sizes and shapes.

    Parameters: mag, bulge_to_total, disc_re_arcsec, bulge_re_arcsec, disc_e1, disc_e2, bulge_e1, bulge_e2, dx_arcsec, dy_arcsec.

    References
    ----------
    Freeman 1970, https://doi.org/10.1086/150474; de Vaucouleurs 1948; priors like those of the Euclid morphology challenge,
    Bretonniere et al. 2023, https://arxiv.org/abs/2209.12906
    """

    kind: Literal["bulge_disc"] = "bulge_disc"
    mag: Spread = Counts(low=18.0, high=23.5)
    """Total AB magnitude of both components."""
    bulge_to_total: Spread = Uniform(low=0.0, high=1.0)
    """Bulge's share of the flux."""
    disc_re_arcsec: Annotated[SizeMagnitudeBlock | Spread, pydantic.Field(discriminator="kind")] = SizeMagnitudeBlock(
        name="disc_re_arcsec", low=0.1, high=2.5
    )
    """Half-light radius of the disc along its semi-major axis, arcsec."""
    bulge_re_arcsec: Spread = LogUniform(low=0.05, high=1.5)
    """Half-light radius of the bulge along its semi-major axis, arcsec."""
    disc_ellipticity: DiscBlock = DiscBlock(names=("disc_e1", "disc_e2"))
    """Ellipticity of the disc, |e| = (1-q)/(1+q), image frame."""
    bulge_ellipticity: DiscBlock = DiscBlock(names=("bulge_e1", "bulge_e2"), sigma=0.15, high=0.6)
    """Ellipticity of the bulge."""
    dx_arcsec: Spread = Normal(mean=0.0, sd=0.1, low=-0.5, high=0.5)
    """Offset of the common centre along +x from the stamp's centre, arcsec."""
    dy_arcsec: Spread = Normal(mean=0.0, sd=0.1, low=-0.5, high=0.5)
    """Offset of the centre along +y, arcsec."""
    bulge_index: Annotated[float, pydantic.Field(ge=GALSIM_SERSIC_RANGE[0], le=GALSIM_SERSIC_RANGE[1])] = 4.0
    """Sersic index of the bulge."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        """Put the parameters' names into the blocks: a recipe need not repeat them."""
        if isinstance(data, dict):
            data = dict(data)
            for key, names in (("disc_ellipticity", ("disc_e1", "disc_e2")), ("bulge_ellipticity", ("bulge_e1", "bulge_e2"))):
                if isinstance(data.get(key), dict):
                    data[key] = {"names": names} | data[key]
            size = data.get("disc_re_arcsec")
            if isinstance(size, dict) and size.get("kind") == "size_magnitude":
                data["disc_re_arcsec"] = {"name": "disc_re_arcsec"} | size
        return data

    @property
    def parameters(self) -> Parameters:
        follows_mag = isinstance(self.disc_re_arcsec, SizeMagnitudeBlock)
        size = self.disc_re_arcsec if follows_mag else ScalarBlock(name="disc_re_arcsec", distribution=self.disc_re_arcsec)
        blocks = (
            ScalarBlock(name="mag", distribution=self.mag),
            ScalarBlock(name="bulge_to_total", distribution=self.bulge_to_total),
            size,
            ScalarBlock(name="bulge_re_arcsec", distribution=self.bulge_re_arcsec),
            self.disc_ellipticity,
            self.bulge_ellipticity,
            ScalarBlock(name="dx_arcsec", distribution=self.dx_arcsec),
            ScalarBlock(name="dy_arcsec", distribution=self.dy_arcsec),
        )
        return Parameters(members=_members(), prior=JointPrior(blocks=blocks))

    @property
    def index_range(self) -> tuple[float, float]:
        return min(DISC_INDEX, self.bulge_index), max(DISC_INDEX, self.bulge_index)

    def components(self, theta: Mapping[str, Any], zero_point: Any) -> Sequence[Sersic]:
        flux = 10 ** (0.4 * (zero_point - theta["mag"]))
        share, x, y = theta["bulge_to_total"], theta["dx_arcsec"], theta["dy_arcsec"]
        return tuple(
            Sersic(flux * part, theta[f"{name}_re_arcsec"], 0 * flux + n, theta[f"{name}_e1"], theta[f"{name}_e2"], x, y)
            for name, part, n in (("disc", 1 - share, DISC_INDEX), ("bulge", share, self.bulge_index))
        )

    def _mixture(self, n: float) -> dict[float, float]:
        return {float(n): 1.0}  # two indices in all: GalSim keeps both


def _members() -> tuple[Parameter, ...]:
    members = [
        Parameter(name="mag", unit="mag", label="magnitude", ucd="phot.mag", description="Total AB magnitude of both components"),
        Parameter(name="bulge_to_total", label="B/T", ucd="phot.flux;arith.ratio", description="Bulge's share of the flux"),
    ]
    members += [
        Parameter(
            name=f"{part}_re_arcsec", unit="arcsec", label=f"{part} $R_e$", ucd="phys.angSize.smajAxis",
            description=f"Half-light radius of the {part} along its semi-major axis",
        )
        for part in ("disc", "bulge")
    ]  # fmt: skip
    members += [
        Parameter(
            name=f"{part}_e{k + 1}", label=f"{part} $e_{k + 1}$", ucd="src.ellipticity", spin=2, component=k,
            description=f"Ellipticity of the {part}, |e| = (1-q)/(1+q), along the {('pixel axes', 'diagonals')[k]}",
        )
        for part in ("disc", "bulge") for k in (0, 1)
    ]  # fmt: skip
    members += [
        Parameter(
            name=f"d{axis}_arcsec", unit="arcsec", label=f"$\\Delta {axis}$", ucd=f"pos.cartesian.{axis}", spin=1, component=k,
            description=f"Common centre's offset along +{axis} from the stamp's centre",
        )
        for k, axis in enumerate("xy")
    ]  # fmt: skip
    return tuple(members)
