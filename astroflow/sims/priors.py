"""Joint priors, built of blocks that each carry a bijector from standard normals.

A prior *is* its bijector: ``theta = forward(u)`` with ``u`` standard normal. Drawing from it is one forward call, and a
flow that works in ``u`` starts from the prior, can never leave the bounds, and sees every parameter at unit scale.

Blocks: `ScalarBlock` (one parameter), `SizeMagnitudeBlock` (a size whose typical value follows the magnitude) and
`DiscBlock` (two ellipticity components on an open disc, without a preferred direction).
"""

__all__ = ["DiscBlock", "JointPrior", "ScalarBlock", "SizeMagnitudeBlock"]

import math
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from astroflow.config import Recipe
from astroflow.sims.distributions import (
    EDGE,
    Ops,
    Spread,
    check_mass,
    numpy_ops,
    truncated_cdf,
    truncated_log_density,
    truncated_quantile,
)

LOG_2PI = math.log(2 * math.pi)
Columns = dict[str, Any]  # parameter name -> array or tensor


def _log_phi(u: Any) -> Any:
    return -0.5 * u**2 - 0.5 * LOG_2PI


class ScalarBlock(Recipe):
    """One parameter with a distribution of its own."""

    kind: Literal["scalar"] = "scalar"
    name: str
    distribution: Spread

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        return {self.name: (self.distribution.low, self.distribution.high)}

    def forward(self, u: list[Any], given: Columns, ops: Ops) -> list[Any]:
        return [self.distribution.quantile(ops.clip(ops.ndtr(u[0]), EDGE, 1 - EDGE), ops)]

    def inverse(self, given: Columns, ops: Ops) -> list[Any]:
        return [ops.ndtri(ops.clip(self.distribution.cdf(given[self.name], ops), EDGE, 1 - EDGE))]

    def log_density(self, given: Columns, ops: Ops) -> Any:
        return self.distribution.log_density(given[self.name], ops)

    def contains(self, given: Columns) -> Any:
        return (given[self.name] >= self.distribution.low) & (given[self.name] <= self.distribution.high)


class SizeMagnitudeBlock(Recipe):
    """A size whose log10 is normal about a straight line in magnitude, truncated to `low` .. `high`.

    ``log10 size = log10_at_pivot + slope * (mag - pivot_mag)``, with a scatter of `scatter_dex`.
    """

    kind: Literal["size_magnitude"] = "size_magnitude"
    name: str = "re_arcsec"
    """The size parameter."""
    magnitude: str = "mag"
    """The magnitude parameter it follows."""
    pivot_mag: float = 24.0
    """Magnitude where the line is anchored."""
    log10_at_pivot: float = -0.534
    """log10 of the typical size there; -0.534 (arcsec, semi-major) is measured on COSMOS F814W."""
    slope: float = -0.117
    """dex per magnitude; -0.117 is measured on COSMOS F814W."""
    scatter_dex: pydantic.PositiveFloat = 0.23
    """Scatter about the line, dex."""
    low: pydantic.PositiveFloat
    """Smallest size."""
    high: pydantic.PositiveFloat
    """Largest size."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        return {self.name: (self.low, self.high)}

    def log_line(self, magnitude: Any) -> tuple[Any, float, float, float]:
        """Return mean, scatter, lower and upper bound of the size's natural logarithm at a magnitude."""
        typical = self.log10_at_pivot + self.slope * (magnitude - self.pivot_mag)
        ln10 = math.log(10)
        return typical * ln10, self.scatter_dex * ln10, math.log(self.low), math.log(self.high)

    def forward(self, u: list[Any], given: Columns, ops: Ops) -> list[Any]:
        p = ops.clip(ops.ndtr(u[0]), EDGE, 1 - EDGE)
        return [ops.clip(ops.exp(truncated_quantile(p, *self.log_line(given[self.magnitude]), ops)), self.low, self.high)]

    def inverse(self, given: Columns, ops: Ops) -> list[Any]:
        cdf = truncated_cdf(ops.log(given[self.name]), *self.log_line(given[self.magnitude]), ops)
        return [ops.ndtri(ops.clip(cdf, EDGE, 1 - EDGE))]

    def log_density(self, given: Columns, ops: Ops) -> Any:
        log_size = ops.log(given[self.name])
        return truncated_log_density(log_size, *self.log_line(given[self.magnitude]), ops) - log_size

    def contains(self, given: Columns) -> Any:
        return (given[self.name] >= self.low) & (given[self.name] <= self.high)


class DiscBlock(Recipe):
    """Two ellipticity components: a round Gaussian of `sigma` per component, cut at radius `high`.

    The map is radial. With ``rho = |u|`` (Rayleigh) and ``Z = 1 - exp(-high**2 / 2 sigma**2)``,
    ``|e|**2 = -2 sigma**2 log(1 - Z (1 - exp(-rho**2 / 2)))``, which is smooth through the origin.
    """

    kind: Literal["disc"] = "disc"
    names: tuple[str, str] = ("e1", "e2")
    """The two components."""
    sigma: pydantic.PositiveFloat = 0.25
    """Spread of each component; about 0.24 to 0.26 for COSMOS galaxies brighter than 23.5."""
    high: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.85
    """Largest modulus."""

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        return {name: (-self.high, self.high) for name in self.names}

    @property
    def _mass(self) -> float:
        return -math.expm1(-0.5 * (self.high / self.sigma) ** 2)

    def forward(self, u: list[Any], given: Columns, ops: Ops) -> list[Any]:
        rho2 = u[0] ** 2 + u[1] ** 2 + 1e-12
        inside = -self._mass * ops.clip(-ops.expm1(-0.5 * rho2), 0.0, 1 - EDGE)
        e2 = -2 * self.sigma**2 * ops.log1p(inside)
        ratio = ops.sqrt(ops.clip(e2, 0.0, self.high**2) / rho2)
        return [u[0] * ratio, u[1] * ratio]

    def inverse(self, given: Columns, ops: Ops) -> list[Any]:
        a, b = (given[name] for name in self.names)
        e2 = a**2 + b**2 + 1e-12
        p = -ops.expm1(-0.5 * e2 / self.sigma**2) / self._mass
        rho2 = -2 * ops.log1p(-ops.clip(p, 0.0, 1 - EDGE))
        ratio = ops.sqrt(rho2 / e2)
        return [a * ratio, b * ratio]

    def log_density(self, given: Columns, ops: Ops) -> Any:
        a, b = (given[name] for name in self.names)
        return -0.5 * (a**2 + b**2) / self.sigma**2 - math.log(2 * math.pi * self.sigma**2 * self._mass)

    def contains(self, given: Columns) -> Any:
        return np.hypot(*(given[name] for name in self.names)) <= self.high


Block = Annotated[ScalarBlock | SizeMagnitudeBlock | DiscBlock, pydantic.Field(discriminator="kind")]


class JointPrior(Recipe):
    """A prior over named parameters: blocks in an order in which each only needs the earlier ones."""

    blocks: tuple[Block, ...]

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "JointPrior":
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"parameter names must be unique; got {list(self.names)}")
        for i, block in enumerate(self.blocks):
            if isinstance(block, SizeMagnitudeBlock):
                earlier = {name: pair for b in self.blocks[:i] for name, pair in b.bounds.items()}
                if block.magnitude not in earlier:
                    raise ValueError(
                        f"`{block.name}` follows `{block.magnitude}`, which must come in an earlier block; got {list(earlier)}"
                    )
                for magnitude in earlier[block.magnitude]:
                    check_mass(*block.log_line(magnitude), where=f" of `{block.name}` at {block.magnitude} {magnitude}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of theta's last axis."""
        return tuple(name for block in self.blocks for name in block.names)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each parameter."""
        return {name: pair for block in self.blocks for name, pair in block.bounds.items()}

    def forward(self, u: Any, ops: Ops | None = None) -> Any:
        """Map standard normals ``(..., P)`` to parameters ``(..., P)``."""
        ops = ops or numpy_ops()
        columns: Columns = {}
        start = 0
        for block in self.blocks:
            inputs = [u[..., start + i] for i in range(len(block.names))]
            columns |= dict(zip(block.names, block.forward(inputs, columns, ops), strict=True))
            start += len(block.names)
        return ops.stack(list(columns.values()), -1)

    def inverse(self, theta: Any, ops: Ops | None = None) -> Any:
        """Map parameters ``(..., P)`` to standard normals ``(..., P)``."""
        ops = ops or numpy_ops()
        columns = {name: theta[..., i] for i, name in enumerate(self.names)}
        return ops.stack([u for block in self.blocks for u in block.inverse(columns, ops)], -1)

    def log_prob(self, theta: Any, ops: Ops | None = None) -> Any:
        """Log density of the prior at `theta` ``(..., P)``, per physical unit; ``(...)``.

        `theta` has to lie inside the bounds, which is not checked here (see `contains`).
        """
        ops = ops or numpy_ops()
        columns = {name: theta[..., i] for i, name in enumerate(self.names)}
        return sum(block.log_density(columns, ops) for block in self.blocks)

    def log_det_forward(self, u: Any, theta: Any, ops: Ops | None = None) -> Any:
        """Return ``log |d theta / d u|``, from both sides of the map; ``(...)``."""
        total = sum(_log_phi(u[..., i]) for i in range(len(self.names)))
        return total - self.log_prob(theta, ops)

    def contains(self, theta: np.ndarray) -> np.ndarray:
        """Say which rows of `theta` ``(..., P)`` lie inside the bounds."""
        columns = {name: theta[..., i] for i, name in enumerate(self.names)}
        return np.asarray(np.logical_and.reduce([block.contains(columns) for block in self.blocks]))
