"""The likelihood of parameters: render them, then ask the likelihood of the models."""

__all__ = ["log_likelihood"]


import numpy as np

from astroflow.errors import InputError
from astroflow.sims.likelihood.likelihood import PixelLikelihood
from astroflow.sims.likelihood.nuisances import Nuisances
from astroflow.sims.simulator import Simulator
from astroflow.types import Array, Stamps


def log_likelihood(
    simulator: Simulator,
    theta: Array,
    stamps: Stamps,
    *,
    engine: str = "fourier",
    nuisances: Nuisances | None = None,
    noise_correlation: Array | None = None,
    dtype: str = "float64",
) -> Array:
    """Return log L of parameters: render, then compare.

    Where correlated noise meets photon noise, the models themselves are the reference.

    Parameters
    ----------
    simulator : Simulator
        Draws the models.
    theta : ndarray
        ``(N, S, P)`` physical parameters.
    stamps : Stamps
        N observed stamps.
    engine : str
        Of `Simulator.render`.
    nuisances, noise_correlation, dtype
        As in `PixelLikelihood`.

    Returns
    -------
    ndarray
        ``(N, S)`` float64.

    Raises
    ------
    InputError
        If `theta` and `stamps` disagree, or the stamps have no likelihood (see `PixelLikelihood`).
    ConfigError
        If the engine cannot draw the simulator's galaxies.
    """
    theta = np.asarray(theta)
    if theta.ndim != 3 or len(theta) != len(stamps):
        raise InputError(f"`theta` must be (N, S, P) with N = {len(stamps)} stamps; got shape {theta.shape}")
    n, draws, size = theta.shape
    rows = np.repeat(np.arange(n), draws)
    models = simulator.render(theta.reshape(n * draws, size), stamps.repeated(rows), engine=engine).reshape(n, draws, *stamps.shape[1:])
    likelihood = PixelLikelihood(stamps, models, nuisances, noise_correlation=noise_correlation, dtype=dtype)
    found: Array = likelihood.log_prob(models).numpy()
    return found
