r"""Ensembles: several estimators of one posterior, whose mixture holds what training leaves open.

A network that has seen few simulations could have become another one, with other answers. Members of a deep ensemble are
such others: trained apart, from other initial weights and in another order. Members of a variational posterior are draws of the
weights of one flow, behind one summary network. Either way the posterior is the mixture in equal parts,

.. math:: q(\theta \mid x) = \frac{1}{M} \sum_m q_m(\theta \mid x),

which is wide where members contradict each other. How much they do is the mutual information of a draw and the member it
comes from (`Ensemble.disagreement`): nothing where all say the same, log M nats where no two have anything in common.

To everything else an ensemble looks like an `Estimator`. Its context vector is that of all members, one after the other, unless they
share it. Which member makes which draw follows from the base normals (`member_order`).

References
----------
Lakshminarayanan, Pritzel & Blundell 2017, https://arxiv.org/abs/1612.01474; Hermans et al. 2022, https://arxiv.org/abs/2110.06581;
Houlsby et al. 2011, https://arxiv.org/abs/1112.5745 (mutual information)
"""

__all__ = ["AnyEstimator", "Ensemble", "build_any_estimator"]

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import special
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from astroflow.errors import ConfigError, InputError
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.member_order import member_order
from astroflow.posteriors.recipe import Architecture, VariationalRecipe
from astroflow.randomness import derived_seed
from astroflow.types import Array


class Ensemble:
    """The mixture of several estimators, in equal parts.

    One network is compiled, and works with the weights of each member in turn. A lock keeps threads from changing them under each other:
    calls from several threads are answered one after the other.

    Parameters
    ----------
    make : callable
        Builds an untrained estimator from a seed. Its architecture's `epistemic` says how many members there are, and whether they share a
        summary network.
    seed : int
        Seeds the initial weights of all members.

    Raises
    ------
    ConfigError
        If the architecture has no `epistemic`.
    """

    def __init__(self, make: Callable[[int], Estimator], seed: int = 0) -> None:
        self._make, self._seed, self._network = make, seed, make(seed)
        self.architecture = self._network.architecture
        epistemic = self.architecture.epistemic
        if epistemic is None:
            raise ConfigError("an ensemble needs `epistemic` in its architecture, which says what its members are")
        self.size = epistemic.members
        self.shared = isinstance(epistemic, VariationalRecipe)
        self.shapes, self.target, self.auxiliary = self._network.shapes, self._network.target, self._network.auxiliary
        self.dimensions = self._network.dimensions
        apart = self._network.flow_variables if self.shared else self._network.variables
        self._weights = [{name: tf.Variable(v, trainable=False) for name, v in apart.items()} for _ in range(self.size)]
        self._lone: dict[int, Estimator] = {}
        self._lock = threading.RLock()

    # -- members -------------------------------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, Any]:
        """Every variable by a name that depends on the architecture alone."""
        shared = {f"shared/{name}": v for name, v in self._network.variables.items() if name not in self._weights[0]}
        return shared | {f"member{k}/{name}": v for k, weights in enumerate(self._weights) for name, v in weights.items()}

    def untrained(self, member: int) -> Estimator:
        """Return a new estimator to be trained as a member: its initial weights are its own, its standardisation is that of all."""
        made = self._make(derived_seed(self._seed, "member", member))
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
        """Return a member as an estimator of its own: the same one whenever it is asked for, with the weights that it has now."""
        with self._lock:
            if member not in self._lone:
                self._lone[member] = self._make(0)
            made = self._lone[member]
            for name, variable in made.variables.items():
                variable.assign(self._weights[member].get(name, self._network.variables[name]))
        return made

    def _members(self, context: Array) -> Iterator[tuple[int, Estimator, Array]]:
        """Yield number, network with its weights in place, and context ``(N, C)`` of each member, given that of all; under the lock."""
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
        with self._lock:
            for k in range(1 if self.shared else self.size):
                self._place(k)
                context, extra = self._network.encode(inputs)
                contexts.append(context)
                extras.append(extra)
        return np.concatenate(contexts, 1), {name: np.mean([extra[name] for extra in extras], 0) for name in self.auxiliary}

    def guess(self, context: Array) -> Array:
        """Return one typical point ``(N, D)`` on the target's real line: the mean of the members' own."""
        with self._lock:
            guesses = [network.guess(own) for _, network, own in self._members(context)]
        return np.asarray(np.mean(guesses, 0, dtype=np.float64), np.float32)

    def drawn_by(self, noise: Array) -> Array:
        """Return which member makes each draw ``(N, S)`` of base normals ``(N, S, D)``."""
        return member_order(noise, self.size).reshape(len(noise), -1)[:, : noise.shape[1]]

    def sample(self, context: Array, noise: Array) -> Array:
        """Map base normals ``(N, S, D)`` to draws ``(N, S, D)`` in physical units.

        The first M draws of a row are one of each member, in an order that chance gives them, and so are the next M: a sample of the
        mixture however few are taken, stratified where they are many. The order follows from the row's first base normals, so rows have to
        have their own.
        """
        if not noise.size:
            return np.empty(noise.shape, np.float32)
        order = member_order(noise, self.size)
        n, blocks, _ = order.shape
        # the last block is drawn whole, and cut
        whole = np.pad(noise, [(0, 0), (0, blocks * self.size - noise.shape[1]), (0, 0)], mode="edge")
        places = np.argsort(order, axis=2) + self.size * np.arange(blocks)[:, None]
        draws = np.empty(whole.shape, np.float32)
        rows = np.arange(n)[:, None]
        with self._lock:
            for k, network, own in self._members(context):
                draws[rows, places[..., k]] = network.sample(own, whole[rows, places[..., k]])
        return np.ascontiguousarray(draws[:, : noise.shape[1]])

    def log_prob(self, theta: Array, context: Array) -> Array:
        """Log density ``(N, S)`` of `theta` ``(N, S, D)`` in physical units; minus infinity outside the bounds."""
        return _mixed(self._log_probs(theta, context))

    def _log_probs(self, theta: Array, context: Array) -> Array:
        """Return each member's log density ``(M, N, S)``."""
        with self._lock:
            return np.stack([network.log_prob(theta, own) for _, network, own in self._members(context)])

    def disagreement(self, context: Array, noise: Array) -> Array:
        """Return how much the members contradict each other ``(N,)``, in nats.

        It is the mutual information of a draw and of the member it comes from, from 0 to the logarithm of the number of members: the mean
        over draws of what a draw tells of its member, log M less the entropy of the members' shares in the density there. Every member
        counts the same, however many draws it has. A draw that is too far out for any member to have a density there tells nothing.

        Parameters
        ----------
        context : ndarray
            ``(N, C)``.
        noise : ndarray
            ``(N, S, D)`` base normals of the draws over which the mean is taken, S of at least M.

        Raises
        ------
        InputError
            If there are fewer draws than members.
        """
        if noise.shape[1] < self.size:
            raise InputError(f"comparing {self.size} members takes at least as many draws; got {noise.shape[1]}")
        densities = self._log_probs(self.sample(context, noise), context).astype(np.float64)
        known = (densities > -np.inf).any(0)
        shares = special.softmax(np.where(known, densities, 0), axis=0)
        told = np.log(self.size) - special.entr(shares).sum(0)
        own = self.drawn_by(noise) == np.arange(self.size)[:, None, None]
        return np.asarray(((own * told).sum(2) / own.sum(2)).mean(0))


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
    make = functools.partial(Estimator, architecture, shapes, target, dimensions, auxiliary)
    return make(seed) if architecture.epistemic is None else Ensemble(make, seed)
