"""Estimator architecture recipes: the `summary` and `flow` parts of the files in ``configs/``.

A bundle's architecture is one of these models too, so only architectures that are written here can ever be built from a file.
"""

__all__ = [
    "Architecture",
    "EnsembleRecipe",
    "EpistemicRecipe",
    "FlowRecipe",
    "LinearizedRecipe",
    "MAFRecipe",
    "MixtureRecipe",
    "SplineCouplingRecipe",
    "SplineMAFRecipe",
    "SummaryRecipe",
    "VariationalRecipe",
]

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import pydantic

from astroflow.config import Recipe
from astroflow.errors import ConfigError, nearest

Width = Annotated[int, pydantic.Field(ge=1, le=4096)]
Blocks = Annotated[int, pydantic.Field(ge=0, le=8)]

DEFAULT_CHANNELS: dict[str, tuple[int, ...]] = {"image": (16, 32, 64), "psf": (8, 16)}
OTHER_CHANNELS = (16, 32)
"""Channels of an input of any other name."""


def _listed(value: Any) -> Any:
    """Take one number for a list of it."""
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


class SummaryRecipe(Recipe):
    """The summary network."""

    kind: Literal["residual"] = "residual"
    channels: dict[str, tuple[Width, ...]] = DEFAULT_CHANNELS
    """Channels of each stage, per image input; a stage halves the side. An input that is left out has its default."""
    blocks: Annotated[tuple[Blocks, ...], pydantic.BeforeValidator(_listed), pydantic.Field(min_length=1)] = (1,)
    """Residual blocks per stage; a list begins with the finest stage, where a block costs most, and its last holds for the stages left."""
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


class _FlowRecipe(Recipe):
    hidden: Annotated[tuple[Width, ...], pydantic.Field(min_length=1)] = (64, 64)
    """Hidden units of each conditioner; in an autoregressive flow each at least the number of parameters."""


class _LayeredRecipe(_FlowRecipe):
    layers: Annotated[int, pydantic.Field(ge=1, le=16)] = 5
    """Layers. One of a coupling flow moves half of the parameters, then the other half."""


class _SplineRecipe(_LayeredRecipe):
    bins: Annotated[int, pydantic.Field(ge=2, le=64)] = 8
    """Bins of each spline."""
    bound: Annotated[float, pydantic.Field(ge=1, le=50)] = 5.0
    """Splines bend from -bound to bound, in standard deviations; outside they are the identity."""


class MAFRecipe(_LayeredRecipe):
    """The conditional distribution: a masked autoregressive flow of shifts and scales."""

    kind: Literal["maf"] = "maf"


class SplineMAFRecipe(_SplineRecipe):
    """The conditional distribution: a masked autoregressive flow of rational-quadratic splines."""

    kind: Literal["spline_maf"] = "spline_maf"


class SplineCouplingRecipe(_SplineRecipe):
    """The conditional distribution: a coupling flow of rational-quadratic splines."""

    kind: Literal["spline_coupling"] = "spline_coupling"


class MixtureRecipe(_FlowRecipe):
    """The conditional distribution: a mixture of Gaussians of full covariance (a mixture density network)."""

    kind: Literal["mixture"] = "mixture"
    components: Annotated[int, pydantic.Field(ge=1, le=64)] = 8
    """Gaussians in the mixture."""


_OWNERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "bins": ("splines", ("spline_maf", "spline_coupling")),
    "bound": ("splines", ("spline_maf", "spline_coupling")),
    "components": ("mixtures", ("mixture",)),
    "layers": ("flows of layers", ("maf", "spline_maf", "spline_coupling")),
}
"""Keys that not every kind has: what the kinds that do are called, and which they are."""


def _with_kind(flow: Any) -> Any:
    """Fill in the kind that recipes may leave out, and say whose a key is that the kind does not have."""
    if not isinstance(flow, Mapping):
        return flow
    flow = {"kind": "maf", **flow}
    known = {kind for _, kinds in _OWNERS.values() for kind in kinds}
    for key, (name, kinds) in _OWNERS.items():
        if key in flow and flow["kind"] in known and flow["kind"] not in kinds:
            raise ValueError(f"`{key}` belongs to {name}, and `kind: {flow['kind']}` has none; remove it, or write `kind: {kinds[0]}`")
    return flow


FlowRecipe = Annotated[
    MAFRecipe | SplineMAFRecipe | SplineCouplingRecipe | MixtureRecipe,
    pydantic.Field(discriminator="kind"),
    pydantic.BeforeValidator(_with_kind),
]
"""The conditional distribution; a MAF where no kind is given."""


class LinearizedRecipe(Recipe):
    """The linearised stage: a fit from the network's first answer, and a flow over what remains."""

    steps: Annotated[int, pydantic.Field(ge=1, le=5)] = 2
    """Gauss-Newton steps."""
    flow: FlowRecipe = MAFRecipe()
    """The distribution of what remains."""
    least_snr: pydantic.NonNegativeFloat = 0.0
    """Estimated signal-to-noise ratio from which rows get this stage; fainter ones keep the network's own posterior, which costs less."""


class EnsembleRecipe(Recipe):
    """What training leaves open, by networks that are trained apart (a deep ensemble); the posterior is their mixture."""

    kind: Literal["ensemble"] = "ensemble"
    members: Annotated[int, pydantic.Field(ge=2, le=32)] = 5
    """Networks; training, and looking at an image, take as many times as long."""


class VariationalRecipe(Recipe):
    """What training leaves open, by a distribution of the flow's weights (variational Bayes); draws of them are mixed."""

    kind: Literal["variational"] = "variational"
    members: Annotated[int, pydantic.Field(ge=2, le=64)] = 16
    """Draws of the weights, made once, when training ends; they share the summary network."""
    layers: Literal["last", "all"] = "last"
    """Which weights of the flow have a distribution: those of each conditioner's last layer, or all."""
    prior_sd: pydantic.PositiveFloat = 1.0
    """Standard deviation of the prior of the weights, in units of one over the square root of a unit's inputs; of biases as it is."""


EpistemicRecipe = Annotated[EnsembleRecipe | VariationalRecipe, pydantic.Field(discriminator="kind")]
"""How what training leaves open becomes part of the posterior."""


class Architecture(Recipe):
    """Summary network, flow and, for precision, a linearised stage."""

    summary: SummaryRecipe = SummaryRecipe()
    """The summary network."""
    flow: FlowRecipe = MAFRecipe()
    """The conditional distribution."""
    linearized: LinearizedRecipe | None = None
    """The linearised stage; needs a galaxy that the Fourier engine draws."""
    epistemic: EpistemicRecipe | None = None
    """Several networks, or a distribution of weights, instead of one network; see docs/epistemic.md."""

    @property
    def context_length(self) -> int:
        """Length of the context vector of all members together."""
        apart = self.epistemic.members if isinstance(self.epistemic, EnsembleRecipe) else 1
        return apart * self.summary.context
