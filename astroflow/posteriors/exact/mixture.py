r"""Mixtures of Student's t distributions, fitted to weighed draws: proposals that learn the posterior of one galaxy.

They live on the prior's scale, where the prior is standard normal; the prior itself is always one of the components, so no region is ever
given up. The fit is expectation-maximisation on weighed draws, which lowers the Kullback-Leibler divergence from the target
to the mixture (population Monte Carlo: Cappé et al. 2008, https://arxiv.org/abs/0710.4242).
"""

__all__ = ["StudentMixture", "fit_mixture"]

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from astroflow.posteriors.exact.density import log_normal
from astroflow.types import Array

FREEDOM = 8.0
"""Degrees of freedom: tails heavier than a posterior's, at a cost of a tenth of the draws."""
PRIOR_SHARE = 0.05
"""Of the prior in every mixture."""
ITERATIONS = 12
SHRINKAGE = 12.0
"""A component's covariance is that of its draws and of so many of the whole's."""


@dataclass(frozen=True)
class StudentMixture:
    """Components beside the prior: `share` ``(K,)`` of unit sum, `mean` ``(K, P)``, `factor` ``(K, P, P)``, the lower Cholesky factor."""

    share: Array
    mean: Array
    factor: Array

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """Draw ``(n, P)``."""
        components, dimensions = self.mean.shape
        normal = rng.standard_normal((n, dimensions))
        which = rng.choice(components + 1, n, p=np.append((1 - PRIOR_SHARE) * self.share, PRIOR_SHARE))
        stretch = np.sqrt(FREEDOM / rng.chisquare(FREEDOM, n))
        own = np.minimum(which, components - 1)
        student = self.mean[own] + stretch[:, None] * np.einsum("nij,nj->ni", self.factor[own], normal)
        return np.where((which < components)[:, None], student, normal)

    def log_prob(self, u: Array) -> Array:
        """Log density at `u` ``(n, P)``; ``(n,)``."""
        parts = self.log_shares(self.distances(u)) + math.log1p(-PRIOR_SHARE)
        return np.asarray(special.logsumexp(np.vstack([parts, log_normal(u) + math.log(PRIOR_SHARE)]), axis=0))

    def distances(self, u: Array) -> Array:
        """Squared Mahalanobis distances from the components, ``(K, n)``."""
        # einsum, because a threaded product of matrices this small costs more than it saves
        white = np.einsum("kij,knj->kni", np.linalg.inv(self.factor), u - self.mean[:, None])
        return np.asarray((white**2).sum(-1))

    def log_shares(self, distances: Array) -> Array:
        """Log of share times density of each component, ``(K, n)``, at given distances."""
        dimensions = self.mean.shape[1]
        constant = special.gammaln((FREEDOM + dimensions) / 2) - special.gammaln(FREEDOM / 2)
        volume = np.log(np.diagonal(self.factor, axis1=1, axis2=2)).sum(1) + 0.5 * dimensions * math.log(FREEDOM * math.pi)
        heights = np.log(self.share) + constant - volume
        return np.asarray(heights[:, None] - 0.5 * (FREEDOM + dimensions) * np.log1p(distances / FREEDOM))


def fit_mixture(u: Array, weights: Array, components: int, rng: np.random.Generator) -> StudentMixture:
    """Fit a mixture to weighed draws.

    Parameters
    ----------
    u : ndarray
        ``(n, P)`` draws.
    weights : ndarray
        ``(n,)``, of unit sum.
    components : int
        How many beside the prior, K.
    rng : numpy.random.Generator
        Chooses where components start.
    """
    kept = weights > 1e-12 * weights.max()
    u, weights = u[kept], weights[kept] / weights[kept].sum()
    dimensions = u.shape[1]
    effective = 1 / (weights**2).sum()
    centre = weights @ u
    # few draws underestimate the width of what they come from
    whole = (1 + dimensions / effective) * _spread(weights, u - centre) + 1e-10 * np.eye(dimensions)
    components = min(components, len(u))
    start = centre[None] if components == 1 else u[rng.choice(len(u), components, replace=False, p=weights)]
    mixture = StudentMixture(np.full(components, 1 / components), start, np.repeat(np.linalg.cholesky(whole)[None], components, 0))
    strength, log_prior = SHRINKAGE / effective, log_normal(u)
    for _ in range(ITERATIONS):
        distances = mixture.distances(u)
        logs = mixture.log_shares(distances)
        everywhere = special.logsumexp(np.vstack([logs + math.log1p(-PRIOR_SHARE), log_prior + math.log(PRIOR_SHARE)]), axis=0)
        belongs = np.exp(logs + math.log1p(-PRIOR_SHARE) - everywhere) * weights
        share = np.maximum(belongs.sum(1), 1e-6)
        # outlying draws of a t distribution say less of its centre and width
        pull = belongs * (FREEDOM + dimensions) / (FREEDOM + distances)
        mean = np.einsum("kn,ni->ki", pull, u) / np.maximum(pull.sum(1), 1e-12)[:, None]
        spread = np.array([_spread(one, u - m) for one, m in zip(pull, mean, strict=True)])
        covariance = (spread + strength * whole) / (share + strength)[:, None, None]
        mixture = StudentMixture(share / share.sum(), mean, np.linalg.cholesky(covariance))
    return mixture


def _spread(weights: Array, away: Array) -> Array:
    """Return the sum of weighed outer products of ``(n, P)``."""
    return np.asarray(np.einsum("ni,nj->ij", away * weights[:, None], away))
