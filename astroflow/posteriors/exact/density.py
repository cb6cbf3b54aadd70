"""The exact posterior of encoded stamps, pixel likelihood times prior, on the prior's own scale.

There the prior is standard normal and has no bounds (`JointPrior.forward`), so any proposal may be weighed and any sampler may walk.
Offsets count from the frame's centre.
"""

__all__ = ["ExactPosterior", "candidates", "log_normal", "log_prior", "on_prior_scale"]

import math
from typing import TYPE_CHECKING

import numpy as np

from astroflow.randomness import standard_normals
from astroflow.sims.likelihood import PixelLikelihood
from astroflow.sims.priors import JointPrior
from astroflow.types import Array, Stamps

if TYPE_CHECKING:
    from astroflow.posteriors.encoded import Encoded
    from astroflow.posteriors.posterior import Posterior

AT_ONCE = 1024
"""Models in memory together."""


def log_prior(posterior: "Posterior", theta: Array, stamps: Stamps) -> Array:
    """Log density ``(N, S)`` of the prior at draws of the frame ``(N, S, P)``, up to the constant that a binning's cut leaves out."""
    prior = posterior.parameters.prior
    named = dict(zip(posterior.parameters.names, np.moveaxis(theta, -1, 0), strict=True))
    served = posterior.stamp.serves(named, np.broadcast_to(stamps.binning[:, None], theta.shape[:2]))
    inside = prior.contains(theta) & served
    middle = prior.forward(np.zeros(theta.shape[-1]))
    return np.where(inside, prior.log_prob(np.where(inside[..., None], theta, middle)), -np.inf)


def candidates(posterior: "Posterior", encoded: "Encoded", n_draws: int, n_prior: int, seed: int) -> tuple[Array, Array]:
    """Return draws of posteriors and then some of the prior, ``(N, S + M, P)`` in the frame, and the posteriors' log density there."""
    draws = posterior.frame_draws(encoded, n_draws, seed)
    normals = standard_normals(seed, "certificate", encoded.framed.stamps.ids, (n_prior, draws.shape[-1]))
    anywhere = posterior.parameters.prior.forward(normals.astype(np.float64)).astype(np.float32)
    theta = np.concatenate([draws, anywhere], 1)
    return theta, posterior.frame_log_prob(theta, encoded).astype(np.float64)


def on_prior_scale(prior: JointPrior, theta: Array, density: Array) -> tuple[Array, Array]:
    """Map parameters ``(..., P)`` and a log density there, per physical unit, to the prior's scale."""
    theta = theta.astype(np.float64)
    u = prior.inverse(theta)
    return u, density + prior.log_det_forward(u, theta)


def log_normal(u: Array) -> Array:
    """Log density of the prior on its own scale, ``(...)`` at ``(..., P)``."""
    return np.asarray(-0.5 * (u**2).sum(-1) - 0.5 * u.shape[-1] * math.log(2 * math.pi))


class ExactPosterior:
    """Of one encoded row, prepared once and asked for many points; the row must be one that certificates apply to.

    Parameters
    ----------
    posterior : Posterior
        Its forward model's engine and prior.
    encoded : Encoded
        One row.
    reference : ndarray
        ``(S, P)`` parameters, in the frame, of a few likely models, about which correlated noise with photon noise is expanded.

    Attributes
    ----------
    evaluations : int
        Models drawn so far.
    is_exact : bool
        Whether the likelihood is, or expanded about reference models.
    best : ndarray
        ``(P,)`` parameters of the most probable point so far, in the frame.
    """

    def __init__(self, posterior: "Posterior", encoded: "Encoded", reference: Array) -> None:
        self._posterior = posterior
        self._stamps = encoded.framed.fine_stamps()
        self.evaluations = 0
        self._expand(reference)

    def _expand(self, theta: Array) -> None:
        self._likelihood = PixelLikelihood(self._stamps, self._models(theta), dtype="float32")
        self.is_exact = self._likelihood.exact
        self.best, self._height = theta[0].astype(np.float64), -np.inf

    def expand_about(self, u: Array) -> None:
        """Expand a likelihood that is not exact about models at `u` ``(S, P)``; values so far are no longer comparable."""
        self._expand(self.to_theta(u))

    def _models(self, theta: Array) -> Array:
        return self._posterior.engine.render_draws(theta[None].astype(np.float32), self._stamps)

    def to_theta(self, u: Array) -> Array:
        """Map the prior's scale ``(S, P)`` to parameters in the frame."""
        return np.asarray(self._posterior.parameters.prior.forward(u))

    def log_prob(self, u: Array) -> Array:
        """Log of the unnormalised density at `u` ``(S, P)``, per unit of u; ``(S,)``. Its integral is the evidence."""
        theta = self.to_theta(u)
        self.evaluations += len(u)
        parts = [theta[start : start + AT_ONCE] for start in range(0, len(theta), AT_ONCE)]
        value = np.concatenate([self._likelihood.log_prob(self._models(part)).numpy()[0] for part in parts])
        # rounding to float32 may carry a point over a bound by its last bit
        inside = np.isfinite(log_prior(self._posterior, theta[None], self._stamps)[0]) & np.isfinite(value)
        value = np.where(inside, value + log_normal(u), -np.inf)
        highest = int(np.argmax(value))
        if value[highest] > self._height:
            self.best, self._height = theta[highest], float(value[highest])
        return value
