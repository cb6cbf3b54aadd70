r"""The linearised stage: a fit with the exact model from the network's first answer, and a small flow over what remains.

At high signal-to-noise the posterior is a thousand times narrower than the prior, more than one network can resolve. So the first answer is
improved by a few Gauss-Newton steps (`astroflow.sims.fitting`), which give a point :math:`\hat u` and the factor L of the inverse
covariance there, and theta is whitened by them: :math:`z = L^T (u - \hat u)`, about standard normal whatever the signal-to-noise. A
conditional flow models z given the context, the point, the factor, the last step and chi-squared. It is trained on the full
simulator, so whatever the fit gets wrong (curved posteriors, fits that have not converged, systematics that the model lacks) is
a matter of widths and shapes of z that it learns. The fit is a summary of the image like any other. A share of the draws stays the
network's own (`gate`).

Far tails are squashed, :math:`y = s\,\mathrm{arsinh}(z / s)`, so that a fit that went astray does not dominate.
"""

__all__ = ["Linearization", "LinearizedStage"]

from dataclasses import dataclass, fields
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from astroflow.networks.flow_kinds import build_flow
from astroflow.posteriors.batches import in_batches, in_blocks, in_lanes
from astroflow.posteriors.compiled_fit import compiled_fit
from astroflow.posteriors.gate import Gate
from astroflow.posteriors.recipe import LinearizedRecipe
from astroflow.sims.fitting import FURTHEST, LinearFit
from astroflow.sims.fourier.engine import FourierEngine
from astroflow.sims.priors import JointPrior
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Stamps

SQUASH = 10.0
"""Standard deviations where the tails begin to be squashed."""
FURTHEST_TAIL = 20.0
"""Squashed tails end at so many times `SQUASH`, 2e9 standard deviations: no draw is infinite, whatever the flow says."""
LARGEST_FEATURE = 10.0


@dataclass(frozen=True)
class Linearization:
    """Fits of N stamps: all that draws and densities need.

    `features` ``(N, F)`` for the flow, `point` ``(N, P)`` on the prior's scale, `factor` ``(N, P, P)`` lower triangular; float32.
    `converged` ``(N,)`` is false where the fit gave nothing finite; there point and factor are the first answer's and the prior's.
    """

    features: Array
    point: Array
    factor: Array
    converged: Array

    def __len__(self) -> int:
        return len(self.point)

    def __getitem__(self, rows: Any) -> "Linearization":
        return Linearization(self.features[rows], self.point[rows], self.factor[rows], self.converged[rows])

    def joined(self, other: "Linearization") -> "Linearization":
        """Return these fits and then others."""
        return Linearization(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


class LinearizedStage:
    """Fits stamps, and models what the fits leave open.

    Parameters
    ----------
    recipe : LinearizedRecipe
        How many steps, which flow.
    engine : FourierEngine
        The model.
    prior : JointPrior
        Of its parameters.
    target : tfb.Bijector
        From the prior's scale to theta.
    stamp : StampSpec
        What stamps look like.
    context : int
        Length of the network's context vector.
    seed : int
        Seeds the initial weights.
    """

    def __init__(
        self,
        recipe: LinearizedRecipe,
        engine: FourierEngine,
        prior: JointPrior,
        target: tfb.Bijector,
        stamp: StampSpec,
        context: int,
        seed: int,
    ) -> None:
        self.recipe = recipe
        self.target = target
        self.stamp = stamp
        self.dimensions = len(prior.names)
        self._lower = np.tril_indices(self.dimensions, -1)
        self.length = context + 3 * self.dimensions + len(self._lower[0]) + 1
        self.flow = build_flow(dimensions=self.dimensions, context=self.length, seed=seed, **recipe.flow.model_dump())
        self.scale = _FeatureScale(self.length)
        self.gate = Gate(self.length, seed)
        self._fit = compiled_fit(engine, prior, recipe.steps, stamp.size, stamp.zero_point)
        self._sample, self._log_prob = in_lanes(self._sample_graph), in_lanes(self.log_prob_graph)
        self._share = in_lanes(lambda features: self.gate(self.scale(features)))

    # -- variables -----------------------------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, Any]:
        """Every variable by a name that depends on the recipe alone."""
        layers: list[Any] = [*self.flow.conditioners, self.scale, self.gate]
        return {f"{layer.name}/{v.path.split('/')[-1]}": v for layer in layers for v in layer.variables}

    @property
    def trainable_variables(self) -> list[Any]:
        """Variables of the flow."""
        return [v for layer in self.flow.conditioners for v in layer.trainable_variables]

    # -- graphs --------------------------------------------------------------------------------------------------

    def _sample_graph(self, noise: Any, features: Any, point: Any, factor: Any) -> Any:
        y = self.flow.draw(noise, self.scale(features))
        z = SQUASH * tf.sinh(tf.clip_by_value(y / SQUASH, -FURTHEST_TAIL, FURTHEST_TAIL))
        return self.target.forward(point[:, None] + _moved(z, factor))

    def log_prob_graph(self, theta: Any, features: Any, point: Any, factor: Any) -> Any:
        """Log density of `theta` ``(N, S, P)``, per physical unit; ``(N, S)``."""
        u = self.target.inverse(theta)
        jacobian = self.target.inverse_log_det_jacobian(theta, event_ndims=1)
        z = tf.matmul(u - point[:, None], factor)
        jacobian += tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), -1)[:, None]
        jacobian -= tf.reduce_sum(0.5 * tf.math.log1p((z / SQUASH) ** 2), -1)
        return self.flow.log_prob(SQUASH * tf.asinh(z / SQUASH), self.scale(features)[:, None]) + jacobian

    # -- arrays --------------------------------------------------------------------------------------------------

    def fit(self, context: Array, guess: Array, stamps: Stamps) -> Linearization:
        """Fit framed stamps.

        Parameters
        ----------
        context : ndarray
            ``(N, C)``, of the network.
        guess : ndarray
            ``(N, P)``, where to start, on the prior's scale.
        stamps : Stamps
            Framed.
        """
        good = ~stamps.mask[:, 0] & np.isfinite(stamps.images[:, 0]) & np.isfinite(stamps.rms[:, 0]) & (stamps.rms[:, 0] > 0)
        guess = np.clip(np.where(np.isfinite(guess), guess, 0), -FURTHEST, FURTHEST).astype(np.float32)
        inputs: tuple[Array, ...] = (
            guess, np.where(good, stamps.images[:, 0], 0), np.where(good, stamps.rms[:, 0], 1), good,
            stamps.gain[:, 0], stamps.psf[:, 0], stamps.stamp_scale_arcsec,
        )  # fmt: skip
        if stamps.noise_correlation is not None:
            inputs = (*inputs, stamps.noise_correlation[:, 0])
        fit = LinearFit(*in_batches(self._fit, *inputs))
        features = np.concatenate([context, *self._features(fit)], 1).astype(np.float32)
        converged = np.isfinite(features).all(1) & np.isfinite(fit.factor).all((1, 2))
        row = (converged[:, None], converged[:, None, None])
        return Linearization(
            features=np.where(row[0], features, np.pad(context, [(0, 0), (0, self.length - context.shape[1])])).astype(np.float32),
            point=np.where(row[0], fit.point, guess).astype(np.float32),
            factor=np.where(row[1], fit.factor, np.eye(self.dimensions)).astype(np.float32),
            converged=converged,
        )

    def _features(self, fit: LinearFit) -> tuple[Array, ...]:
        """Return what the flow learns from beside the context, every part of moderate size."""
        diagonal = np.diagonal(fit.factor, axis1=1, axis2=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            slant = fit.factor[:, self._lower[0], self._lower[1]] / diagonal[:, self._lower[0]]
            surprise = np.log(fit.chi_squared / np.maximum(fit.pixels, 1))
            return fit.point, np.log(diagonal), np.arcsinh(fit.move), np.arcsinh(slant), surprise[:, None]

    def whiten(self, theta: Array, fits: Linearization) -> Array:
        """Map parameters ``(N, P)`` to squashed residuals y ``(N, P)``, which the flow models."""
        u = np.asarray(self.target.inverse(tf.constant(theta, tf.float32)))
        z = np.einsum("nji,nj->ni", fits.factor.astype(np.float64), u - fits.point)
        return np.asarray(SQUASH * np.arcsinh(z / SQUASH), np.float32)

    def sample(self, fits: Linearization, noise: Array) -> Array:
        """Map base normals ``(N, S, P)`` to draws ``(N, S, P)`` in physical units."""
        if not noise.size:
            return np.empty(noise.shape, np.float32)
        return in_blocks(self._sample, noise, fits.features, fits.point, fits.factor, wide=True)

    def log_prob(self, theta: Array, fits: Linearization) -> Array:
        """Log density ``(N, S)`` of `theta` ``(N, S, P)`` in physical units; minus infinity where it is no number."""
        theta = np.asarray(theta, np.float32)
        if not theta.size:
            return np.empty(theta.shape[:2], np.float32)
        value = in_blocks(self._log_prob, theta, fits.features, fits.point, fits.factor)
        return np.where(np.isfinite(value), value, -np.inf)

    def share(self, fits: Linearization) -> Array:
        """Return the share ``(N,)`` of the posterior that is the network's own."""
        (share,) = in_batches(self._share, fits.features)
        return np.asarray(share)


def _moved(z: Any, factor: Any) -> Any:
    """Solve ``z = L^T x`` for `x` ``(N, S, P)``, given `z` of that shape and L ``(N, P, P)``.

    Written out, a draw's bits depend on no other draw, as they do in TensorFlow's own solver, where they hang on how many there are.
    """
    x: dict[int, Any] = {}
    for i in reversed(range(z.shape[-1])):
        rest = z[..., i]
        for j, known in x.items():
            rest = rest - factor[:, j, i, None] * known
        x[i] = rest / factor[:, i, i, None]
    return tf.stack([x[i] for i in sorted(x)], -1)


class _FeatureScale(keras.layers.Layer):
    """Standardises features by what training saw of them; outliers are cut."""

    def __init__(self, length: int) -> None:
        super().__init__(name="features")
        self.mean = self.add_weight(shape=(length,), initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=(length,), initializer="ones", trainable=False, name="scale")

    def adapt(self, features: Array) -> None:
        """Take centre and width from training data, by quantiles: fits that went astray must not set the scale."""
        low, middle, high = np.quantile(features, [0.16, 0.5, 0.84], axis=0)
        self.mean.assign(middle.astype(np.float32))
        self.scale.assign(np.maximum(0.5 * (high - low), 1e-3).astype(np.float32))

    def call(self, features: Any) -> Any:
        return tf.clip_by_value((features - self.mean) / self.scale, -LARGEST_FEATURE, LARGEST_FEATURE)
