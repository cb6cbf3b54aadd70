"""The two models that are differential equations: an epidemic, and predators with their prey.

Thousands of initial value problems are solved at once, by the classical Runge-Kutta method of fixed step. The step is halved until the
answers of two steps agree, for those rows alone that do not agree yet. Both systems are solved for logarithms, which stay finite and
positive whatever the parameters.
"""

from collections.abc import Callable

import numpy as np

TOLERANCE = 1e-4
"""Largest difference between the answers of two steps, in the logarithm; the noise of the data is a hundred times more."""
HALVINGS = 9
LARGEST_LOG = 60.0
"""Logarithms stop here, so that a step far too long overflows into nothing worse than disagreement."""

POPULATION = 1e6
SIR_DAYS = 17 * np.arange(10)
PREY_TIMES = 2.1 * np.arange(10)

Slope = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From states ``(2, N)`` and parameters ``(P, N)`` to their time derivatives ``(2, N)``."""


def solve(slope: Slope, start: np.ndarray, parameters: np.ndarray, times: np.ndarray, steps: int) -> np.ndarray:
    """Solve one problem per column of parameters.

    Parameters
    ----------
    slope : callable
        The system.
    start : ndarray
        ``(2,)`` initial state.
    parameters : ndarray
        ``(P, N)``.
    times : ndarray
        ``(T,)``, evenly spaced from 0.
    steps : int
        Steps from one time to the next to begin with.

    Returns
    -------
    ndarray
        ``(T, 2, N)``.
    """
    answer = _runge_kutta(slope, start, parameters, times, steps)
    open_rows = np.arange(parameters.shape[1])
    for halving in range(1, HALVINGS + 1):
        finer = _runge_kutta(slope, start, parameters[:, open_rows], times, steps << halving)
        change = np.abs(finer - answer[..., open_rows]).max((0, 1))
        answer[..., open_rows] = finer
        open_rows = open_rows[~(change < TOLERANCE)]
        if not open_rows.size:
            return answer
    raise RuntimeError(f"{open_rows.size} problems still change with {steps << HALVINGS} steps per interval: {parameters[:, open_rows[0]]}")


def _runge_kutta(slope: Slope, start: np.ndarray, parameters: np.ndarray, times: np.ndarray, steps: int) -> np.ndarray:
    y = np.repeat(start[:, None], parameters.shape[1], 1)
    h = (times[1] - times[0]) / steps
    answer = [y]
    for _ in times[1:]:
        for _ in range(steps):
            a = slope(y, parameters)
            b = slope(y + h / 2 * a, parameters)
            c = slope(y + h / 2 * b, parameters)
            d = slope(y + h * c, parameters)
            y = np.minimum(y + h / 6 * (a + 2 * (b + c) + d), LARGEST_LOG)
        answer.append(y)
    return np.array(answer)


def sir_slope(y: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Logarithms of the shares that can fall ill, and that are ill; contact and recovery rate per day."""
    beta, gamma = parameters
    well, ill = np.exp(np.minimum(y, LARGEST_LOG))
    return np.stack([-beta * ill, beta * well - gamma])


def prey_slope(y: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Logarithms of the numbers of prey and predators."""
    alpha, beta, gamma, delta = parameters
    prey, predators = np.exp(np.minimum(y, LARGEST_LOG))
    return np.stack([alpha - beta * predators, delta * prey - gamma])


def share_ill(theta: np.ndarray) -> np.ndarray:
    """Return the share of people who are ill every 17th day, ``(N, 10)``, for `theta` ``(N, 2)``."""
    start = np.log([(POPULATION - 1) / POPULATION, 1 / POPULATION])
    return np.exp(solve(sir_slope, start, theta.T, SIR_DAYS, 24)[:, 1].T)


def populations(theta: np.ndarray) -> np.ndarray:
    """Return ten numbers of prey and then ten of predators, ``(N, 20)``, for `theta` ``(N, 4)``."""
    answer = np.exp(solve(prey_slope, np.log([30.0, 1.0]), theta.T, PREY_TIMES, 64))
    return answer.transpose(2, 1, 0).reshape(len(theta), 20)
