"""One-dimensional distributions, each a map between a standard normal and a bounded scalar.

Every distribution is described by its quantile function and its inverse. So one description gives the draws of the
simulator (NumPy, float64), the bijector inside the flow (TensorFlow, float32) and the density: with
``p = Phi(u)`` and ``x = quantile(p)``, ``u`` is standard normal when ``x`` follows the distribution, and

    log |dx/du| = log phi(u) - log pdf(x).

`numpy_ops` and `tensorflow_ops` hold the few functions that differ between the two.
"""

__all__ = [
    "Counts",
    "Fixed",
    "LogNormal",
    "LogUniform",
    "Normal",
    "Ops",
    "PositiveScalar",
    "Scalar",
    "Uniform",
    "numpy_ops",
    "quantile",
    "tensorflow_ops",
]

import functools
import math
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from scipy import special

from astroflow.config import Recipe

# Below this share of its mass inside the bounds, a truncated normal's quantiles are lost in float32.
LEAST_MASS = 0.01
# Float32 cannot tell 1 - 6e-8 from 1, so the unit interval stops here at both ends: |u| < 4.9.
EDGE = 5e-7
Ops = SimpleNamespace
Numbers = Any  # a NumPy array or a TensorFlow tensor


@functools.cache
def numpy_ops() -> Ops:
    """Return the functions for NumPy arrays."""
    return Ops(
        log=np.log, exp=np.exp, sqrt=np.sqrt, clip=_numpy_clip, log1p=np.log1p, expm1=np.expm1, ndtr=special.ndtr,
        ndtri=special.ndtri, stack=np.stack, where=np.where,
    )  # fmt: skip


@functools.cache
def tensorflow_ops() -> Ops:
    """Return the functions for TensorFlow tensors."""
    import tensorflow as tf

    return Ops(
        log=tf.math.log, exp=tf.math.exp, sqrt=tf.math.sqrt, clip=tf.clip_by_value, log1p=tf.math.log1p,
        expm1=tf.math.expm1, ndtr=_tf_ndtr, ndtri=tf.math.ndtri, stack=tf.stack, where=tf.where,
    )  # fmt: skip


def _numpy_clip(x: Numbers, low: float, high: float) -> Numbers:
    # a third of np.clip's time for single numbers, which is how galaxies are drawn
    return np.minimum(np.maximum(x, low), high)


def _tf_ndtr(x: Numbers) -> Numbers:
    import tensorflow as tf

    return 0.5 * tf.math.erfc(-x / math.sqrt(2.0))


class _Bounded(Recipe):
    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> "_Bounded":
        if not self.low < self.high:
            raise ValueError(f"`low` (={self.low}) must be smaller than `high` (={self.high})")
        return self


class Fixed(Recipe):
    """Always the same value. A bare number in a recipe means this."""

    kind: Literal["fixed"] = "fixed"
    value: float
    """The value."""

    @property
    def low(self) -> float:
        return self.value

    @property
    def high(self) -> float:
        return self.value

    def quantile(self, p: Numbers, ops: Ops) -> Numbers:
        """Return the value whatever the probability."""
        return 0.0 * p + self.value


class Uniform(_Bounded):
    """Flat between `low` and `high`."""

    kind: Literal["uniform"] = "uniform"

    def quantile(self, p: Numbers, ops: Ops) -> Numbers:
        return self.low + (self.high - self.low) * p

    def cdf(self, x: Numbers, ops: Ops) -> Numbers:
        return (x - self.low) / (self.high - self.low)

    def log_density(self, x: Numbers, ops: Ops) -> Numbers:
        return 0.0 * x - math.log(self.high - self.low)


class LogUniform(_Bounded):
    """Flat in the logarithm between `low` and `high`, both positive."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: pydantic.PositiveFloat
    """Smallest value."""

    @property
    def _span(self) -> float:
        return math.log(self.high / self.low)

    def quantile(self, p: Numbers, ops: Ops) -> Numbers:
        return ops.clip(self.low * ops.exp(self._span * p), self.low, self.high)

    def cdf(self, x: Numbers, ops: Ops) -> Numbers:
        return ops.log(x / self.low) / self._span

    def log_density(self, x: Numbers, ops: Ops) -> Numbers:
        return -ops.log(x) - math.log(self._span)


class Normal(_Bounded):
    """Normal of `mean` and `sd`, truncated to `low` .. `high`."""

    kind: Literal["normal"] = "normal"
    mean: float
    """Mean before truncation."""
    sd: pydantic.PositiveFloat
    """Standard deviation before truncation."""

    @pydantic.model_validator(mode="after")
    def _not_a_tail(self) -> "Normal":
        check_mass(self.mean, self.sd, self.low, self.high)
        return self

    def quantile(self, p: Numbers, ops: Ops) -> Numbers:
        return ops.clip(truncated_quantile(p, self.mean, self.sd, self.low, self.high, ops), self.low, self.high)

    def cdf(self, x: Numbers, ops: Ops) -> Numbers:
        return truncated_cdf(x, self.mean, self.sd, self.low, self.high, ops)

    def log_density(self, x: Numbers, ops: Ops) -> Numbers:
        return truncated_log_density(x, self.mean, self.sd, self.low, self.high, ops)


class LogNormal(_Bounded):
    """Normal in log10, truncated to `low` .. `high`."""

    kind: Literal["log_normal"] = "log_normal"
    low: pydantic.PositiveFloat
    """Smallest value."""
    median: pydantic.PositiveFloat
    """Median before truncation."""
    sd_dex: pydantic.PositiveFloat
    """Standard deviation of log10, dex."""

    @pydantic.model_validator(mode="after")
    def _not_a_tail(self) -> "LogNormal":
        check_mass(*self._logs)
        return self

    @property
    def _logs(self) -> tuple[float, float, float, float]:
        return math.log(self.median), self.sd_dex * math.log(10), math.log(self.low), math.log(self.high)

    def quantile(self, p: Numbers, ops: Ops) -> Numbers:
        return ops.clip(ops.exp(truncated_quantile(p, *self._logs, ops)), self.low, self.high)

    def cdf(self, x: Numbers, ops: Ops) -> Numbers:
        return truncated_cdf(ops.log(x), *self._logs, ops)

    def log_density(self, x: Numbers, ops: Ops) -> Numbers:
        return truncated_log_density(ops.log(x), *self._logs, ops) - ops.log(x)


class Counts(_Bounded):
    """Magnitudes of number counts, ``dN/dm`` proportional to ``10**(slope * m)``, from `low` to `high`."""

    kind: Literal["counts"] = "counts"
    slope: pydantic.PositiveFloat = 0.33
    """dlogN/dm; 0.33 is measured on COSMOS F814W < 25.2."""

    @property
    def _rate(self) -> tuple[float, float]:
        a = self.slope * math.log(10)
        return a, math.expm1(a * (self.high - self.low))

    def quantile(self, p: Numbers, ops: Ops) -> Numbers:
        a, total = self._rate
        return ops.clip(self.low + ops.log1p(p * total) / a, self.low, self.high)

    def cdf(self, x: Numbers, ops: Ops) -> Numbers:
        a, total = self._rate
        return ops.expm1(a * (x - self.low)) / total

    def log_density(self, x: Numbers, ops: Ops) -> Numbers:
        a, total = self._rate
        return math.log(a / total) + a * (x - self.low)


def check_mass(mean: float, sd: float, low: float, high: float, where: str = "") -> None:
    """Refuse a truncated normal of which only a far tail is left: its map to the standard normal is not exact enough."""
    mass = float(special.ndtr((high - mean) / sd) - special.ndtr((low - mean) / sd))
    if mass < LEAST_MASS:
        raise ValueError(f"only {mass:.1e} of the untruncated distribution lies between the bounds{where}; at least {LEAST_MASS} must")


def _mass_below(x: Numbers, ops: Ops) -> Numbers:
    # Constants stay Python floats: exact, and of no dtype, so that they go with tensors of any.
    return float(special.ndtr(x)) if isinstance(x, float) else ops.ndtr(x)


def truncated_quantile(p: Numbers, mean: Numbers, sd: float, low: float, high: float, ops: Ops) -> Numbers:
    """Quantile of a truncated normal."""
    a, b = _mass_below((low - mean) / sd, ops), _mass_below((high - mean) / sd, ops)
    return mean + sd * ops.ndtri(ops.clip(a + p * (b - a), EDGE / 10, 1 - EDGE / 10))


def truncated_cdf(x: Numbers, mean: Numbers, sd: float, low: float, high: float, ops: Ops) -> Numbers:
    """Cumulative distribution of a truncated normal."""
    a, b = _mass_below((low - mean) / sd, ops), _mass_below((high - mean) / sd, ops)
    return (ops.ndtr((x - mean) / sd) - a) / (b - a)


def truncated_log_density(x: Numbers, mean: Numbers, sd: float, low: float, high: float, ops: Ops) -> Numbers:
    """Log density of a truncated normal."""
    mass = _mass_below((high - mean) / sd, ops) - _mass_below((low - mean) / sd, ops)
    log_mass = math.log(mass) if isinstance(mass, float) else ops.log(mass)
    return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd * math.sqrt(2 * math.pi)) - log_mass


def _number_is_fixed(value: Any) -> Any:
    return {"kind": "fixed", "value": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Spread = Annotated[Uniform | LogUniform | Normal | LogNormal | Counts, pydantic.Field(discriminator="kind")]
"""A distribution with some width: what a parameter's prior must be."""
Scalar = Annotated[
    Fixed | Uniform | LogUniform | Normal | LogNormal | Counts,
    pydantic.Field(discriminator="kind"),
    pydantic.BeforeValidator(_number_is_fixed),
]
"""Any distribution, or a bare number."""


def _is_positive(distribution: Any) -> Any:
    if distribution.low <= 0:
        raise ValueError(f"every value must be positive; the smallest is {distribution.low:g}")
    return distribution


PositiveScalar = Annotated[Scalar, pydantic.AfterValidator(_is_positive)]
"""Any distribution of positive values, or a positive number."""


def quantile(distribution: Any, rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw `n` values of a distribution with a NumPy generator."""
    return np.asarray(distribution.quantile(rng.random(n), numpy_ops()), dtype=np.float64)
