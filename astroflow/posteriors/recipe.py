"""Estimator architecture recipes: the `summary` and `flow` parts of the files in ``configs/``.

A bundle's architecture is one of these models too, so only architectures that are written here can ever be built from a file.
"""

__all__ = ["Architecture", "FlowRecipe", "SummaryRecipe"]

from collections.abc import Iterable
from typing import Annotated, Literal

import pydantic

from astroflow.config import Recipe
from astroflow.errors import ConfigError, nearest

Width = Annotated[int, pydantic.Field(ge=1, le=4096)]

DEFAULT_CHANNELS: dict[str, tuple[int, ...]] = {"image": (16, 32, 64), "psf": (8, 16)}
OTHER_CHANNELS = (16, 32)
"""Channels of an input of any other name."""


class SummaryRecipe(Recipe):
    """The summary network."""

    kind: Literal["residual"] = "residual"
    channels: dict[str, tuple[Width, ...]] = DEFAULT_CHANNELS
    """Channels of each stage, per image input; a stage halves the side. An input that is left out has its default."""
    blocks: Annotated[int, pydantic.Field(ge=0, le=8)] = 1
    """Residual blocks per stage."""
    dense: tuple[Width, ...] = (192, 192)
    """Units of the dense layers that join all inputs."""
    context: Width = 32
    """Length of the context vector."""

    def channels_of(self, images: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the channels of each image input.

        Raises
        ------
        ConfigError
            If `channels` names an input that is none of them.
        """
        known = sorted(images)
        # an input that is absent may be named with its default, which is what a recipe that leaves `channels` out holds
        unknown = [name for name, value in self.channels.items() if name not in known and DEFAULT_CHANNELS.get(name) != value]
        if unknown:
            raise ConfigError(
                f"`summary.channels` names {unknown[0]!r}, which is no image input; the image inputs are {', '.join(known) or 'none'}."
                + nearest(unknown[0], known)
            )
        return {name: self.channels.get(name, DEFAULT_CHANNELS.get(name, OTHER_CHANNELS)) for name in known}


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
