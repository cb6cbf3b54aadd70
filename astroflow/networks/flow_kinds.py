"""Every kind of flow by the name that recipes give it; a bundle's flow can only be one of these."""

__all__ = ["FLOWS", "build_flow"]

from collections.abc import Callable, Mapping
from typing import Any

from astroflow.networks.coupling import ConditionalCoupling
from astroflow.networks.flow import ConditionalFlow
from astroflow.networks.maf import ConditionalMAF
from astroflow.networks.mixture_density import ConditionalMixture
from astroflow.networks.spline import SplineTransform


def _spline_maf(*, bins: int, bound: float, **common: Any) -> ConditionalFlow:
    return ConditionalMAF(**common, transform=SplineTransform(bins, bound))


def _spline_coupling(*, bins: int, bound: float, **common: Any) -> ConditionalFlow:
    return ConditionalCoupling(**common, transform=SplineTransform(bins, bound))


FLOWS: Mapping[str, Callable[..., ConditionalFlow]] = {
    "maf": ConditionalMAF,
    "spline_maf": _spline_maf,
    "spline_coupling": _spline_coupling,
    "mixture": ConditionalMixture,
}


def build_flow(kind: str, *, dimensions: int, context: int, seed: int, **options: Any) -> ConditionalFlow:
    """Build an untrained flow.

    Parameters
    ----------
    kind : str
        A key of `FLOWS`.
    dimensions, context : int
        Length of the target and of the context vector.
    seed : int
        Seeds the initial weights.
    **options
        The rest of the recipe: `hidden`; `layers`, but `components` for mixtures; and for splines `bins` and `bound`.

    Raises
    ------
    ConfigError
        If the options cannot be built, e.g. hidden layers narrower than the number of dimensions.
    """
    return FLOWS[kind](dimensions=dimensions, context=context, seed=seed, **options)
