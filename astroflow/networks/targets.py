"""Targets: the bijector between a flow's real line and the parameters, so that no draw ever leaves the bounds.

`box_bijector` serves general problems: each dimension is free, or bounded on both sides by a sigmoid.
`standardised` puts a shift and scale in front, so that the flow always works at unit scale.
"""

__all__ = ["box_bijector", "standardised"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow_probability import bijectors as tfb


def box_bijector(bounds: Sequence[tuple[float, float] | None]) -> tfb.Bijector:
    """Return the bijector from the real line to a box; None leaves a dimension free.

    Parameters
    ----------
    bounds : sequence of (low, high) or None
        One entry per dimension.
    """
    parts = [tfb.Identity() if pair is None else tfb.Sigmoid(low=float(pair[0]), high=float(pair[1])) for pair in bounds]
    return tfb.Blockwise(parts, block_sizes=[1] * len(parts))


def standardised(target: tfb.Bijector, mean: Any, scale: Any) -> tfb.Bijector:
    """Return ``target(mean + scale * z)``."""
    mean, scale = np.asarray(mean, np.float32), np.asarray(scale, np.float32)
    return tfb.Chain([target, tfb.Shift(mean), tfb.Scale(scale)])
