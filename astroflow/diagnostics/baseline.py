"""What a plain regression already knows: the posterior that a network has to beat.

Parameters, mapped to the real line by their prior's bijector, are a linear function of image moments plus Gaussian noise with one
covariance for all images. Its density in physical units is

    log q(theta | image) = log N(u; W f(image) + b, Sigma) - log |d theta / d u|,    u = prior.inverse(theta).

It is honest about its own average error, knows the prior's bounds, and is fitted in a second. It cannot know that bright galaxies
are measured better than faint ones, nor anything beyond linear: what a network gains over it is what the network is for.
"""

__all__ = ["LinearGaussianBaseline"]

from dataclasses import dataclass

import numpy as np

from astroflow.diagnostics.moments import image_features
from astroflow.errors import InputError
from astroflow.sims.parameters import Parameters
from astroflow.types import Array, Simulation, Stamps

CLIP = 6.0
"""Standardised features stop here, so that one odd stamp cannot lever the line."""
RIDGE = 1e-4
"""Penalty per image; apertures are nearly collinear, and this only keeps the solution stable."""


@dataclass(frozen=True, kw_only=True)
class LinearGaussianBaseline:
    """A linear regression on image moments with Gaussian residuals. Make one with `fit`.

    Parameters
    ----------
    parameters : Parameters
        What is inferred; the prior's bijector maps it to the real line.
    centre, scale : ndarray
        ``(F,)`` standardisation of the features.
    weights : ndarray
        ``(F + 1, P)``; the last row is the constant.
    covariance : ndarray
        ``(P, P)`` of the residuals.

    Examples
    --------
    >>> from astroflow.sims import load_simulator
    >>> simulator = load_simulator("demo_survey")
    >>> baseline = LinearGaussianBaseline.fit(simulator.draw(range(200), seed=1), simulator.parameters)
    >>> held_out = simulator.draw(range(20), seed=2)
    >>> baseline.log_prob(held_out.theta, held_out.stamps).shape
    (20,)
    """

    parameters: Parameters
    centre: Array
    scale: Array
    weights: Array
    covariance: Array

    @classmethod
    def fit(cls, simulation: Simulation, parameters: Parameters) -> "LinearGaussianBaseline":
        """Fit on simulations; score on others."""
        features = image_features(simulation.stamps)
        n, n_features = features.shape
        freedom, needed = n - n_features - 1, n_features + 1 + 2 * len(parameters)
        if n < needed:
            raise InputError(f"the baseline has {n_features} features: fit it on at least {needed} images; got {n}")
        centre, scale = _standardisation(features)
        design = _design(features, centre, scale)
        u = parameters.prior.inverse(np.asarray(simulation.theta, np.float64))
        penalty = RIDGE * n * np.diag([1.0] * n_features + [0.0])
        weights = np.linalg.solve(design.T @ design + penalty, design.T @ u)
        left = u - design @ weights
        covariance = left.T @ left / freedom + 1e-12 * np.eye(u.shape[1])
        return cls(parameters=parameters, centre=centre, scale=scale, weights=weights, covariance=covariance)

    def mean(self, stamps: Stamps) -> Array:
        """Return the predicted mean ``(N, P)`` on the real line; ``parameters.prior.forward`` makes it physical."""
        return np.asarray(_design(image_features(stamps), self.centre, self.scale) @ self.weights)

    def log_prob(self, theta: Array, stamps: Stamps) -> Array:
        """Return the log density ``(N,)`` of parameters `theta` ``(N, P)``, one row for each stamp, per physical unit."""
        theta = np.asarray(theta, np.float64)
        if theta.shape != (len(stamps), len(self.parameters)):
            raise InputError(f"`theta` must have shape {(len(stamps), len(self.parameters))}; got {theta.shape}")
        u = self.parameters.prior.inverse(theta)
        factor = np.linalg.cholesky(self.covariance)
        white = np.linalg.solve(factor, (u - self.mean(stamps)).T)
        log_normal = -0.5 * (white**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * u.shape[1] * np.log(2 * np.pi)
        return np.asarray(log_normal - self.parameters.prior.log_det_forward(u, theta))


def _standardisation(features: Array) -> tuple[Array, Array]:
    """Return a robust centre and spread of each feature; the spread of a constant is one."""
    low, centre, high = np.percentile(features, [16, 50, 84], axis=0)
    spread = np.where(high > low, (high - low) / 2, features.std(0))
    return centre, np.where(spread > 1e-12, spread, 1.0)


def _design(features: Array, centre: Array, scale: Array) -> Array:
    """Return the standardised, clipped features with a constant column."""
    standard = np.clip((features - centre) / scale, -CLIP, CLIP)
    return np.concatenate([standard, np.ones((len(features), 1))], axis=1)
