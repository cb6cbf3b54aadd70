"""Sums of Sersic profiles: one description for both engines, and how GalSim draws it.

A galaxy that is a sum of Sersic components says so once, in `SersicSum.components`, with arithmetic that suits numbers and
tensors alike. The Fourier engine draws the components themselves; here they become a GalSim profile.

The cost of GalSim's Sersic
---------------------------
GalSim tabulates a Hankel transform for every new Sersic index, 0.05 to 0.6 s each. So GalSim is given
a fixed table of indices, spaced evenly in log n, and the two neighbours of the wanted n are mixed with linear weights in log n.
Both have the same half-light radius and flux, so the mixture has them too, exactly. The error is of second order in the
spacing: for the default 64 values below 1e-4 of the peak where re is a few PSF widths, below 1e-3 at seventeen (tested,
and measured by ``benchmarks/rendering.py``).
GalSim keeps 100 tables, so the cost is paid once per process.
"""

__all__ = ["GALSIM_SERSIC_RANGE", "Sersic", "SersicSum", "axis_ratio"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic

from astroflow.config import Recipe

if TYPE_CHECKING:
    import galsim

GALSIM_SERSIC_RANGE = (0.3, 6.2)


@dataclass(frozen=True)
class Sersic:
    """One Sersic component, of one galaxy (floats) or of N (tensors ``(N,)``).

    `re` is the half-light radius along the semi-major axis, `e1` and `e2` the ellipticity of modulus (1-q)/(1+q), `x` and `y` the
    centre from the stamp's centre; lengths are arcsec. Components that share a centre share the very same `x` and `y`.
    """

    flux: Any
    re: Any
    n: Any
    e1: Any
    e2: Any
    x: Any
    y: Any


def axis_ratio(e1: Any, e2: Any) -> Any:
    """Return q = b/a of a reduced-shear type ellipticity, |e| = (1 - q) / (1 + q)."""
    modulus = np.hypot(e1, e2)
    return (1 - modulus) / (1 + modulus)


class SersicSum(Recipe):
    """What galaxies made of Sersic components share: how GalSim draws them."""

    n_table: Annotated[int, pydantic.Field(ge=8, le=96)] = 64
    """How many Sersic indices are tabulated; GalSim keeps at most 100."""
    folding_threshold: Annotated[float, pydantic.Field(gt=0, le=0.05)] = 0.01
    """GalSim's folding_threshold: flux allowed to alias in the FFT. Smaller is slower."""

    @property
    def index_range(self) -> tuple[float, float]:
        """Smallest and largest Sersic index of any component."""
        raise NotImplementedError

    def components(self, theta: Mapping[str, Any], zero_point: Any) -> Sequence[Sersic]:
        """Return the components of given parameters, numbers or tensors ``(N,)``, in image units and arcsec."""
        raise NotImplementedError

    @cached_property
    def nodes(self) -> np.ndarray:
        """The Sersic indices that GalSim tabulates."""
        low, high = self.index_range
        return np.geomspace(low, high, self.n_table) if high > low else np.array([low])

    def gsparams(self) -> "galsim.GSParams":
        """Return GalSim's accuracy settings for this galaxy."""
        import galsim

        return galsim.GSParams(folding_threshold=self.folding_threshold, maximum_fft_size=16384)

    def profile(self, theta: Mapping[str, float], zero_point: float, *, exact: bool = False) -> "galsim.GSObject":
        """Return the GalSim profile centred on the stamp's centre, in image units and arcsec; `exact` draws any index itself."""
        import galsim

        params = self.gsparams()
        parts = []
        for c in self.components(theta, zero_point):
            # GalSim's shear keeps the area, so its radius is the circularised one.
            radius = c.re * math.sqrt(float(axis_ratio(c.e1, c.e2)))
            shares = {float(np.clip(c.n, *GALSIM_SERSIC_RANGE)): 1.0} if exact else self._mixture(c.n)
            drawn = [galsim.Sersic(n, half_light_radius=radius, flux=c.flux * share, gsparams=params) for n, share in shares.items()]
            part = drawn[0] if len(drawn) == 1 else galsim.Sum(drawn)
            parts.append(part.shear(g1=c.e1, g2=c.e2).shift(c.x, c.y))
        return parts[0] if len(parts) == 1 else galsim.Sum(parts)

    def _mixture(self, n: float) -> dict[float, float]:
        """Return the two tabulated indices around n and their shares of the flux."""
        nodes = self.nodes
        if len(nodes) == 1:
            return {float(nodes[0]): 1.0}
        step = math.log(nodes[1] / nodes[0])
        position = min(max(math.log(n / nodes[0]) / step, 0.0), len(nodes) - 1.0)
        lower = min(int(position), len(nodes) - 2)
        weight = position - lower
        return {float(nodes[lower]): 1 - weight, float(nodes[lower + 1]): weight}
