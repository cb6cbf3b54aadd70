"""astroflow: calibrated posteriors of galaxy parameters from survey images.

Simulate galaxies with GalSim, learn their posterior once, then read it off any image in about a millisecond::

    import astroflow as af

    simulator = af.load_simulator("sims/cosmos_acs.yaml")
    posterior = af.load_posterior("runs/demo/bundle")
    draws = posterior.sample(stamps, n_draws=1000, seed=0)  # (images, draws, parameters)

Everything here loads on first use, so that importing astroflow is fast.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from astroflow.errors import AstroflowError as AstroflowError

if TYPE_CHECKING:
    from astroflow.posteriors.bundle import load_posterior as load_posterior
    from astroflow.posteriors.flags import Flag as Flag
    from astroflow.posteriors.posterior import Posterior as Posterior
    from astroflow.sims import Parameters as Parameters
    from astroflow.sims import Simulator as Simulator
    from astroflow.sims import load_simulator as load_simulator
    from astroflow.sims.blank_sky import measure_noise_correlation as measure_noise_correlation
    from astroflow.training.general import train_estimator as train_estimator
    from astroflow.types import Simulation as Simulation
    from astroflow.types import Stamps as Stamps

__version__ = "0.1.0"

# Read when TensorFlow is first imported. Left to itself it takes oneDNN's convolutions on newer processors only. Its others round by
# the number of threads and a row's place in the batch, and take half as long again.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOMES = {
    "Flag": "astroflow.posteriors.flags",
    "Parameters": "astroflow.sims",
    "Posterior": "astroflow.posteriors.posterior",
    "Simulation": "astroflow.types",
    "Simulator": "astroflow.sims",
    "Stamps": "astroflow.types",
    "load_posterior": "astroflow.posteriors.bundle",
    "load_simulator": "astroflow.sims",
    "measure_noise_correlation": "astroflow.sims.blank_sky",
    "train_estimator": "astroflow.training.general",
}

__all__ = ["AstroflowError", "__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'astroflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
