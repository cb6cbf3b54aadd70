r"""Ensembles: several estimators of one posterior, whose mixture holds what training leaves open.

A network that has seen few simulations could have become another one, with other answers. Members of a deep ensemble are
such others: trained apart, from other initial weights and in another order. Members of a variational posterior are draws of the
weights of one flow, behind one summary network. Either way the posterior is the mixture in equal parts,

.. math:: q(\theta \mid x) = \frac{1}{M} \sum_m q_m(\theta \mid x),

which is wide where members contradict each other. How much they do is the mutual information of a draw and the member it
comes from (`Ensemble.disagreement`): nothing where all say the same, log M nats where no two have anything in common.

To everything else an ensemble looks like an `Estimator`. Its context vector is that of all members, one after the other, unless they
share it.

References
----------
Lakshminarayanan, Pritzel & Blundell 2017, https://arxiv.org/abs/1612.01474; Hermans et al. 2022, https://arxiv.org/abs/2110.06581;
Houlsby et al. 2011, https://arxiv.org/abs/1112.5745 (mutual information)
"""

__all__ = ["AnyEstimator", "Ensemble", "build_any_estimator"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import special
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from astroflow.errors import ConfigError
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import Architecture, VariationalRecipe
from astroflow.types import Array

SEEDS = 1000
"""Seeds of members: so many times the ensemble's, plus the member's number."""


class Ensemble:
    """The mixture of several estimators, in equal parts.

    One network is compiled, and works with the weights of each member in turn.

    Parameters
    ----------
    architecture, shapes, target, dimensions, auxiliary, seed
        As of `Estimator`; the architecture's `epistemic` says how many members there are, and whether they share a summary network.

    Raises
    ------
    ConfigError
        If the architecture has no `epistemic`.
    """

    def __init__(
        self,
        architecture: Architecture,
        shapes: Mapping[str, Sequence[int]],
        target: tfb.Bijector,
        dimensions: int,
        auxiliary: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        if architecture.epistemic is None:
            raise ConfigError("an ensemble needs `epistemic` in its architecture, which says what its members are")
        self.architecture = architecture
        self.size = architecture.epistemic.members
        self.shared = isinstance(architecture.epistemic, VariationalRecipe)
        self._seed = seed
        self._network = Estimator(architecture, shapes, target, dimensions, auxiliary, seed)
        self.shapes, self.target, self.dimensions, self.auxiliary = self._network.shapes, target, dimensions, self._network.auxiliary
        apart = self._network.flow_variables if self.shared else self._network.variables
        self._weights = [{name: tf.Variable(v, trainable=False) for name, v in apart.items()} for _ in range(self.size)]

    # -- members -------------------------------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, Any]:
        """Every variable by a name that depends on the architecture alone."""
        shared = {f"shared/{name}": v for name, v in self._network.variables.items() if name not in self._weights[0]}
        return shared | {f"member{k}/{name}": v for k, weights in enumerate(self._weights) for name, v in weights.items()}

    def untrained(self, member: int) -> Estimator:
        """Return a new estimator to be trained as a member: its initial weights are its own, its standardisation is that of all."""
        made = self._new(SEEDS * self._seed + member)
        trainable = {id(v) for v in made.trainable_variables}
        for name, variable in made.variables.items():
            if id(variable) not in trainable:
                variable.assign(self._network.variables[name])
        return made

    def keep(self, member: int, estimator: Estimator) -> None:
        """Take an estimator's weights as a member's; those that members share as everyone's."""
        for name, variable in estimator.variables.items():
            self._weights[member].get(name, self._network.variables[name]).assign(variable)

    def member(self, member: int) -> Estimator:
        """Return a member as an estimator of its own."""
        made = self._new(0)
        for name, variable in made.variables.items():
            variable.assign(self._weights[member].get(name, self._network.variables[name]))
        return made

    def _new(self, seed: int) -> Estimator:
        return Estimator(self.architecture, self.shapes, self.target, self.dimensions, self.auxiliary, seed)

    def _members(self, context: Array) -> Iterator[tuple[int, Estimator, Array]]:
        """Yield number, network with its weights in place, and context ``(N, C)`` of each member, given that of all."""
        length = self.architecture.summary.context
        for k in range(self.size):
            self._place(k)
            yield k, self._network, context if self.shared else context[:, k * length : (k + 1) * length]

    def _place(self, member: int) -> None:
        variables = self._network.variables
        for name, value in self._weights[member].items():
            variables[name].assign(value)

    # -- what an estimator does ----------------------------------------------------------------------------------

    @property
    def context_length(self) -> int:
        """Length of the context vector of all members together."""
        return self.architecture.context_length

    def adapt(self, inputs: Mapping[str, Array], theta: Array, auxiliary: Array | None = None) -> None:
        """Measure the standardisation of inputs, target and auxiliary scalars ``(N, A)`` on training data, before training."""
        self._network.adapt(inputs, theta, auxiliary)

    def distribution(self, context: Any) -> tfd.Distribution:
        """Return ``q(theta | context)`` as a TFP distribution of batch shape ``context.shape[:-1]``."""
        context = tf.convert_to_tensor(context, tf.float32)
        parts = [context] * self.size if self.shared else tf.split(context, self.size, axis=-1)
        components = [self.member(k).distribution(part) for k, part in enumerate(parts)]
        return tfd.Mixture(tfd.Categorical(logits=tf.zeros([*context.shape[:-1], self.size])), components)

    def encode(self, inputs: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Compress inputs once, to draw or evaluate many times.

        Returns
        -------
        context : ndarray
            ``(N, C)`` float32, C of all members.
        auxiliary : dict of ndarray
            ``(N,)`` each, the members' mean.
        """
        contexts, extras = [], []
        for k in range(1 if self.shared else self.size):
            self._place(k)
            context, extra = self._network.encode(inputs)
            contexts.append(context)
            extras.append(extra)
        return np.concatenate(contexts, 1), {name: np.mean([extra[name] for extra in extras], 0) for name in self.auxiliary}

    def guess(self, context: Array) -> Array:
        """Return one typical point ``(N, D)`` on the target's real line: the mean of the members' own."""
        return np.asarray(np.mean([network.guess(own) for _, network, own in self._members(context)], 0, dtype=np.float64), np.float32)

    def sample(self, context: Array, noise: Array) -> Array:
        """Map base normals ``(N, S, D)`` to draws ``(N, S, D)`` in physical units, in turn by each member: a stratified sample."""
        draws = np.empty(noise.shape, np.float32)
        for k, network, own in self._members(context):
            draws[:, k :: self.size] = network.sample(own, noise[:, k :: self.size])
        return draws

    def log_prob(self, theta: Array, context: Array) -> Array:
        """Log density ``(N, S)`` of `theta` ``(N, S, D)`` in physical units; minus infinity outside the bounds."""
        return _mixed(self._log_probs(theta, context))

    def _log_probs(self, theta: Array, context: Array) -> Array:
        """Return each member's log density ``(M, N, S)``."""
        return np.stack([network.log_prob(theta, own) for _, network, own in self._members(context)])

    def disagreement(self, context: Array, noise: Array) -> Array:
        """Return how much the members contradict each other ``(N,)``, in nats.

        It is the mutual information of a draw and of the member it comes from, from 0 to the logarithm of the number of members: the mean
        over draws of what a draw tells of its member, log M less the entropy of the members' shares in the density there.

        Parameters
        ----------
        context : ndarray
            ``(N, C)``.
        noise : ndarray
            ``(N, S, D)`` base normals of the draws over which the mean is taken.
        """
        densities = self._log_probs(self.sample(context, noise), context).astype(np.float64)
        shares = special.softmax(densities, axis=0)
        return np.asarray((np.log(self.size) - special.entr(shares).sum(0)).mean(1))


def _mixed(densities: Array) -> Array:
    """Return the log of the mean ``(N, S)`` of densities ``(M, N, S)``."""
    with np.errstate(divide="ignore"):  # outside the bounds there are none
        return np.asarray(special.logsumexp(densities, axis=0) - np.log(len(densities)), np.float32)


AnyEstimator = Estimator | Ensemble
"""One network, or several."""


def build_any_estimator(
    architecture: Architecture,
    shapes: Mapping[str, Sequence[int]],
    target: tfb.Bijector,
    dimensions: int,
    auxiliary: Sequence[str] = (),
    seed: int = 0,
) -> AnyEstimator:
    """Build what the architecture describes, untrained: one estimator, or an ensemble; parameters as of `Estimator`."""
    kind = Estimator if architecture.epistemic is None else Ensemble
    return kind(architecture, shapes, target, dimensions, auxiliary, seed)
