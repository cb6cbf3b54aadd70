"""Masks: which pixels of a simulated stamp are missing.

Survey stamps have masked neighbours, bad columns and pixels, and edges: a small cutout is padded to the network's size with
masked pixels, an object near a tile's border loses a side. A network only copes with what it was trained on, so masks are
drawn from a population that contains all of these. Masked pixels carry no information, whatever they hold.
"""

__all__ = ["MaskPopulation"]

from typing import Annotated

import numpy as np
import pydantic

from astroflow.config import Recipe

Probability = Annotated[float, pydantic.Field(ge=0, le=1)]


class MaskPopulation(Recipe):
    """How often each kind of mask happens. Lengths are fractions of the stamp's side, or stamp pixels where named so."""

    frame_probability: Probability = 0.3
    """Share of stamps that only cover a centred rectangle (small cutouts, padded)."""
    frame_min: Probability = 0.35
    """Smallest side of that rectangle."""
    edge_probability: Probability = 0.1
    """Share of stamps that lose a strip on one side (objects near a tile's border)."""
    edge_max: Annotated[float, pydantic.Field(ge=0, le=0.5)] = 0.35
    """Widest strip."""
    neighbours_mean: Annotated[float, pydantic.Field(ge=0, le=4)] = 0.5
    """Mean number of masked discs (neighbours, stars); at most four. They leave the very centre free."""
    neighbour_radius_max: Annotated[float, pydantic.Field(gt=0, le=0.5)] = 0.2
    """Largest disc radius."""
    column_probability: Probability = 0.05
    """Share of stamps with a bad column or row."""
    pixel_fraction: Annotated[float, pydantic.Field(ge=0, le=0.1)] = 0.002
    """Share of pixels that are bad on their own."""

    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> np.ndarray:
        """Draw masks ``(n, height, width)``; True = ignore."""
        y = np.arange(height)[None, :, None]
        x = np.arange(width)[None, None, :]
        side = min(height, width)
        mask = rng.random((n, height, width), dtype=np.float32) < self.pixel_fraction
        u = rng.random((n, 8))[..., None, None]
        # centred rectangle
        half_y = 0.5 * height * (self.frame_min + (1 - self.frame_min) * u[:, 1])
        half_x = 0.5 * width * (self.frame_min + (1 - self.frame_min) * u[:, 2])
        outside = (np.abs(y - (height - 1) / 2) > half_y) | (np.abs(x - (width - 1) / 2) > half_x)
        mask |= (u[:, 0] < self.frame_probability) & outside
        # a strip on one of the four sides
        strip = u[:, 4] * self.edge_max
        which = np.floor(4 * u[:, 5])
        lost = ((which == 0) & (y < strip * height)) | ((which == 1) & (y >= height * (1 - strip)))
        lost = lost | ((which == 2) & (x < strip * width)) | ((which == 3) & (x >= width * (1 - strip)))
        mask |= (u[:, 3] < self.edge_probability) & lost
        # a bad row or column
        line = np.floor(u[:, 7] * 2 * side)
        bad = np.where(line < side, y == line, x == line - side)
        mask |= (u[:, 6] < self.column_probability) & bad
        # masked neighbours
        count = np.minimum(rng.poisson(self.neighbours_mean, n), 4)
        v = rng.random((n, 4, 3))
        smallest = min(0.04, self.neighbour_radius_max)
        for k in range(4):
            rows = np.flatnonzero(count > k)
            if not len(rows):
                break
            radius = side * (smallest + (self.neighbour_radius_max - smallest) * v[rows, k, 0])
            distance = radius + 2 + v[rows, k, 1] * (0.75 * side - radius)
            angle = 2 * np.pi * v[rows, k, 2]
            cy = (height - 1) / 2 + distance * np.sin(angle)
            cx = (width - 1) / 2 + distance * np.cos(angle)
            mask[rows] |= (y - cy[:, None, None]) ** 2 + (x - cx[:, None, None]) ** 2 < (radius**2)[:, None, None]
        return mask
