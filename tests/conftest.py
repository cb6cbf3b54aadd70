"""What every test shares: repeatable examples, quiet TensorFlow, and a small forward model."""

import os
from pathlib import Path

import hypothesis
import pytest

# TensorFlow reads this when it is first imported; its start-up lines hide what a test prints.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def small_simulator():
    """A simulator whose profiles are tabulated at few indices, so that it starts fast."""
    from astroflow.sims.distributions import Fixed, LogUniform, Normal
    from astroflow.sims.galaxies import SersicGalaxy
    from astroflow.sims.noise import CCDNoise
    from astroflow.sims.priors import SizeMagnitudeBlock
    from astroflow.sims.psfs import MoffatPSF
    from astroflow.sims.simulator import Simulator
    from astroflow.sims.stamp import StampSpec

    return Simulator(
        galaxy=SersicGalaxy(n=LogUniform(low=0.7, high=2.5), n_table=8, re_arcsec=SizeMagnitudeBlock(low=0.15, high=2.0)),
        psf=MoffatPSF(fwhm_arcsec=Normal(mean=0.7, sd=0.1, low=0.5, high=0.9), beta=Fixed(value=3.0)),
        noise=CCDNoise(sky=LogUniform(low=1.0, high=4.0), gain=LogUniform(low=150, high=400), read_noise_electrons=Fixed(value=8.0)),
        stamp=StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=17, binning=(1, 2), re_pixels=(1.5, 5.0)),
        name="small",
    )
