"""Estimator architecture recipes: the `summary` and `flow` parts of the files in ``configs/``.

A bundle's architecture is one of these models too, so only architectures that are written here can ever be built from a file.
"""

__all__ = ["Architecture", "FlowRecipe", "SummaryRecipe"]

from typing import Annotated, Literal

import pydantic

from astroflow.config import Recipe

Width = Annotated[int, pydantic.Field(ge=1, le=4096)]


class SummaryRecipe(Recipe):
    """The summary network."""

    kind: Literal["residual"] = "residual"
    channels: dict[str, tuple[Width, ...]] = {"image": (16, 32, 64), "psf": (8, 16)}
    """Channels of each stage, per image input; a stage halves the side."""
    blocks: Annotated[int, pydantic.Field(ge=0, le=8)] = 1
    """Residual blocks per stage."""
    dense: tuple[Width, ...] = (192, 192)
    """Units of the dense layers that join all inputs."""
    context: Width = 32
    """Length of the context vector."""


class FlowRecipe(Recipe):
    """The conditional distribution."""

    kind: Literal["maf"] = "maf"
    layers: Annotated[int, pydantic.Field(ge=1, le=16)] = 5
    """Autoregressive layers."""
    hidden: Annotated[tuple[Width, ...], pydantic.Field(min_length=1)] = (64, 64)
    """Hidden units of each layer's conditioner; each at least the number of parameters."""


class Architecture(Recipe):
    """Summary network and flow."""

    summary: SummaryRecipe = SummaryRecipe()
    """The summary network."""
    flow: FlowRecipe = FlowRecipe()
    """The conditional distribution."""
