"""How images of galaxies are shown: one grey scale for data and model, one fixed scale for residuals, grey for masked pixels.

Galaxies span decades of brightness, so the grey scale is an inverse hyperbolic sine: linear within a few times the noise, logarithmic
above. Residuals are in units of the noise, always from -5 to 5, so that pictures of different galaxies can be compared.
"""

__all__ = ["RESIDUAL_LIMIT", "Stretch", "masked_colours"]

from typing import Any, NamedTuple

import numpy as np

from astroflow.types import Array

RESIDUAL_LIMIT = 5.0
MASK_COLOUR = "#9C8F70"
"""A colour that neither the grey scale nor the red-blue one holds."""


class Stretch(NamedTuple):
    """An asinh grey scale of one image."""

    knee: float
    """Brightness where linear turns to logarithmic: the noise."""
    low: float
    """Brightness of the darkest colour."""
    high: float
    """Brightness of the brightest one."""

    @classmethod
    def of(cls, image: Array, model: Array, noise: float) -> "Stretch":
        """Choose a scale that shows sky noise and peak alike; arrays may hold NaN where masked."""
        finite = np.concatenate([np.ravel(image), np.ravel(model)])
        finite = finite[np.isfinite(finite)]
        knee = noise if np.isfinite(noise) and noise > 0 else 1.0
        peak = float(np.percentile(finite, 99.9)) if len(finite) else knee
        return cls(knee, -2.5 * knee, max(peak, 5 * knee))

    def norm(self) -> Any:
        """Return it as a matplotlib normalisation."""
        from matplotlib.colors import AsinhNorm

        return AsinhNorm(linear_width=self.knee, vmin=self.low, vmax=self.high)


def masked_colours(name: str) -> Any:
    """Return a matplotlib colour map that shows masked pixels in `MASK_COLOUR`."""
    import matplotlib

    return matplotlib.colormaps[name].with_extremes(bad=MASK_COLOUR)
