r"""Variational Bayes over weights of the flow: training finds a distribution of them, not one value each.

Each weight w has a normal distribution q of its own, independent of all others, and a normal prior p about nought. What is maximised is
the evidence lower bound of N simulations (ELBO), here per simulation,

.. math:: \mathrm{ELBO} = \frac{1}{N} \left( \mathrm{E}_{q(w)} \sum_i \log q(\theta_i \mid x_i, w) - \mathrm{KL}(q \,\|\, p) \right).

Each step draws the weights once, puts them into the network, and takes the gradient there; with :math:`w = \mu + \sigma \epsilon` it is
that of the mean, and times :math:`\sigma \epsilon` that of the standard deviation's logarithm. So no layer need know that its weights have
a distribution. Where the bound is highest, weights of which the simulations say nothing are as the prior has them: draws of the flow
differ, and so do their answers.

References
----------
Blundell et al. 2015, https://arxiv.org/abs/1505.05424; Kingma & Welling 2014, https://arxiv.org/abs/1312.6114
"""

__all__ = ["PointWeights", "VariationalWeights"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from astroflow.networks.conditioner import Conditioner
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import VariationalRecipe
from astroflow.types import Array

FIRST_SD = 0.1
"""Standard deviation that training begins with, in those of the prior."""
PACE = 5.0
"""Logarithms of standard deviations move so many times as fast as means: they have further to go, and every step is of the same size."""


class PointWeights:
    """Weights as usual, one value each."""

    size = 0

    def __init__(self, network: Sequence[Any]) -> None:
        self.network = list(network)
        self.variables = self.network

    def place(self, noise: Any) -> None:
        """Leave the network as it is."""

    def gradients(self, network: Sequence[Any], noise: Any) -> list[Any]:
        """Return the gradients of the loss by `variables`, given those by the network's."""
        return list(network)

    def divergence(self) -> float:
        """Return what the weights cost, nats per simulation: nothing."""
        return 0.0


class VariationalWeights:
    """Independent normal distributions of some weights of an estimator; the others are as usual.

    Parameters
    ----------
    network : sequence of tf.Variable
        All trainable weights of the network.
    uncertain : sequence of (tf.Variable, ndarray)
        Those that have a distribution, which begins about their values, and the standard deviation of each one's prior; nought where
        a weight has no effect and is left out.
    simulations : int
        How many simulations training sees, N.
    """

    def __init__(self, network: Sequence[Any], uncertain: Sequence[tuple[Any, Array]], simulations: int) -> None:
        self.network = list(network)
        self.simulations = simulations
        self._uncertain = [variable for variable, _ in uncertain]
        prior = np.concatenate([np.broadcast_to(sd, variable.shape).ravel() for variable, sd in uncertain]).astype(np.float32)
        self.size = len(prior)
        self._used = tf.constant(prior > 0, tf.float32)
        self._prior = tfd.Normal(0.0, np.where(prior > 0, prior, np.float32(1)))
        mean = np.concatenate([np.asarray(variable).ravel() for variable in self._uncertain])
        self.mean = tf.Variable(mean, name="mean")
        self._spread = tf.Variable(np.log(FIRST_SD * self._prior.scale.numpy()) / PACE, dtype=tf.float32, name="spread")
        place = {id(variable): k for k, variable in enumerate(self.network)}
        self._places = [place[id(variable)] for variable in self._uncertain]
        self._certain = [k for k in range(len(self.network)) if k not in self._places]
        self.variables = [*(self.network[k] for k in self._certain), self.mean, self._spread]

    @property
    def sd(self) -> Any:
        """Standard deviations of the weights ``(size,)``."""
        return tf.exp(PACE * self._spread)

    @classmethod
    def of_flow(cls, estimator: Estimator, recipe: VariationalRecipe, simulations: int) -> "VariationalWeights":
        """Give weights of an estimator's flow a distribution, those of its conditioners' last layers or all."""
        uncertain = []
        for conditioner in estimator.flow.conditioners:
            layers = range(len(conditioner.biases)) if recipe.layers == "all" else [len(conditioner.biases) - 1]
            for k in layers:
                uncertain += [(variable, recipe.prior_sd * sd) for variable, sd in _scales(conditioner, k)]
        return cls(estimator.trainable_variables, uncertain, simulations)

    def place(self, noise: Any) -> None:
        """Put the draw of the weights that belongs to `noise` ``(size,)``, standard normals, into the network; the means for nought."""
        weights = self.mean + self.sd * noise
        start = 0
        for variable in self._uncertain:
            count = int(np.prod(variable.shape))
            variable.assign(tf.reshape(weights[start : start + count], variable.shape))
            start += count

    def gradients(self, network: Sequence[Any], noise: Any) -> list[Any]:
        """Return the gradients of the loss, the negative ELBO, by `variables`, given those of its first part by the network's."""
        with tf.GradientTape() as tape:
            divergence = self._divergence() / self.simulations
        by_mean, by_spread = tape.gradient(divergence, [self.mean, self._spread])
        by_weight = tf.concat([tf.reshape(network[k], [-1]) for k in self._places], 0)
        by_spread += PACE * by_weight * noise * self.sd
        return [*(network[k] for k in self._certain), by_mean + by_weight, by_spread]

    def divergence(self) -> float:
        """Return the divergence of the weights' distribution from their prior, nats per simulation."""
        return float(self._divergence()) / self.simulations

    def _divergence(self) -> Any:
        return tf.reduce_sum(self._used * tfd.kl_divergence(tfd.Normal(self.mean, self.sd), self._prior))


def _scales(conditioner: Conditioner, k: int) -> list[tuple[Any, Array]]:
    """Return the variables of a layer with the standard deviations of a prior that gives outputs of order one; nought where masked away."""
    context = conditioner.weights_c[k]
    found = [
        (context, np.full(context.shape, 1 / np.sqrt(context.shape[0]))),
        (conditioner.biases[k], np.ones(conditioner.biases[k].shape)),
    ]
    kernel, mask = conditioner.weights_x[k], conditioner.masks[k]
    if kernel is None:
        return found
    seen = np.ones(kernel.shape) if mask is None else np.asarray(mask)
    return [(kernel, seen / np.sqrt(np.maximum(seen.sum(0, keepdims=True), 1))), *found]
