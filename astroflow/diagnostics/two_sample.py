"""Two sets of draws of what should be one posterior: how well can they be told apart?

`c2st` trains a classifier: 0.5 where it can do no better than guess, 1 where it is never wrong. Its definition is that of the sbibm
benchmark, so figures can be compared with published ones. `sliced_wasserstein` is a distance: draws are projected on random directions,
where distances are exact and cheap; it sees how far apart they are, not only whether they differ.

References
----------
Lopez-Paz & Oquab 2017, https://arxiv.org/abs/1610.06545; Lueckmann et al. 2021, https://arxiv.org/abs/2101.04653; Bonneel et al. 2015,
https://doi.org/10.1007/s10851-014-0506-3
"""

__all__ = ["c2st", "sliced_wasserstein"]

import numpy as np
from scipy import stats

from astroflow.errors import InputError
from astroflow.randomness import generator
from astroflow.types import Array

FOLDS = 5
WIDTH = 10
"""Hidden units of each of the classifier's two layers, per parameter."""
DIRECTIONS = 128


def c2st(draws: Array, reference: Array, *, seed: int = 1) -> float:
    """Return the accuracy with which a neural network tells draws from reference draws, cross-validated.

    Both are scaled by the reference's mean and standard deviation; the network has two hidden layers of ten units a parameter and is
    trained until its loss stands still, on four fifths at a time.

    Parameters
    ----------
    draws, reference : ndarray
        ``(S, P)`` and ``(R, P)``, as many of each as possible: chance favours the larger set.
    seed : int
        Seeds folds and weights.

    Returns
    -------
    float
        0.5 for draws of the same distribution, 1 for what never overlaps; a little below 0.5 by chance.

    Raises
    ------
    InputError
        If the two have other parameters, are too few or not finite, or a parameter of the reference has no spread.
    """
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    draws, reference = _comparable(draws, reference)
    parameters = reference.shape[1]
    features = np.concatenate([draws, reference])
    labels = np.repeat([0, 1], [len(draws), len(reference)])
    classifier = MLPClassifier(hidden_layer_sizes=(WIDTH * parameters,) * 2, max_iter=10_000, random_state=seed)
    folds = KFold(n_splits=FOLDS, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # its matrices are so small that threads wait for each other more than they compute
        return float(np.mean(cross_val_score(classifier, features, labels, cv=folds, scoring="accuracy")))


def sliced_wasserstein(draws: Array, reference: Array, *, directions: int = DIRECTIONS, seed: int = 0) -> float:
    """Return the root mean square over random directions of the distance between projections.

    Each distance is the one-dimensional Wasserstein distance in standard deviations of the reference along the direction, once all
    parameters are scaled to the reference.

    Parameters
    ----------
    draws, reference : ndarray
        ``(S, P)`` and ``(R, P)``.
    directions : int
        Random directions, uniform on the sphere.
    seed : int
        Seeds them.

    Raises
    ------
    InputError
        As `c2st`.
    """
    draws, reference = _comparable(draws, reference)
    ways = generator(seed, "directions").normal(size=(directions, reference.shape[1]))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    distances = []
    for way in ways:
        along, by = draws @ way, reference @ way
        distances.append(stats.wasserstein_distance(along, by) / by.std())
    return float(np.sqrt(np.mean(np.square(distances))))


def _comparable(draws: Array, reference: Array) -> tuple[Array, Array]:
    """Return both as float64, scaled by the reference's moments."""
    draws, reference = np.asarray(draws, np.float64), np.asarray(reference, np.float64)
    if draws.ndim != 2 or reference.ndim != 2 or draws.shape[1] != reference.shape[1]:
        raise InputError(f"draws and reference must be (draws, parameters) of the same parameters; got {draws.shape} and {reference.shape}")
    if not draws.shape[1]:
        raise InputError("draws and reference have no parameters to compare")
    if min(len(draws), len(reference)) < FOLDS * 2:
        raise InputError(f"{len(draws)} and {len(reference)} draws are too few to compare; give at least {FOLDS * 2} of each")
    for name, values in (("draws", draws), ("reference", reference)):
        if not np.isfinite(values).all():
            raise InputError(f"`{name}` holds numbers that are not finite: leave such rows out first")
    sd = reference.std(0)
    if not (sd > 0).all():
        raise InputError(f"parameter {int(np.argmin(sd))} of the reference is the same in all draws; leave it out")
    return (draws - reference.mean(0)) / sd, (reference - reference.mean(0)) / sd
