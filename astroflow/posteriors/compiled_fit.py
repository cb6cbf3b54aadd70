"""Fits of stamps as compiled graphs, each compiled once in a process, whichever bundle or sampler asks for it."""

__all__ = ["compiled_fit"]

import functools
from collections.abc import Callable
from typing import Any

from astroflow.posteriors.batches import in_lanes
from astroflow.sims.fitting import gauss_newton
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.priors import JointPrior


@functools.lru_cache(maxsize=16)
def compiled_fit(engine: FourierEngine, prior: JointPrior, steps: int, size: int, zero_point: float) -> Callable[..., list[Any]]:
    """Return `gauss_newton` of the same arguments for batches of `batches.BATCH`, the members of `LinearFit` as a list."""
    return in_lanes(gauss_newton(engine, prior, steps, size, zero_point))
