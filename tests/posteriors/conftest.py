"""Galaxies to ask a posterior about: stamps as the network takes them, and cutouts as a survey has them."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from astroflow.sims.distributions import Fixed, LogUniform, Uniform
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.sims.masks import MaskPopulation
from astroflow.sims.noise import RMSNoise
from astroflow.sims.psfs import MoffatPSF
from astroflow.sims.simulator import Simulator
from astroflow.sims.stamp import StampSpec
from astroflow.types import Cutout, Stamps


@pytest.fixture(scope="session")
def galaxies(small_simulator):
    """Seventy simulations that no posterior was trained on, more than one call of the network."""
    return small_simulator.draw(range(1000, 1070), seed=99)


@pytest.fixture(scope="session")
def followed_simulator(small_simulator):
    """The small simulator with galaxies seen through the PSF image that is handed out, which the likelihood follows."""
    return replace(small_simulator, engine="fourier", psf=small_simulator.psf.model_copy(update={"image_size": 17}))


@pytest.fixture(scope="session")
def followed_posterior(small_posterior, small_forward_model):
    """The small posterior, as of `followed_simulator`: a rough network, to which certificates apply."""
    psf = {"psf": small_forward_model["psf"] | {"image_size": 17}}
    return replace(small_posterior, forward_model=small_forward_model | psf)


@pytest.fixture(scope="session")
def bright_simulator():
    """Galaxies of a few pixels."""
    return Simulator(
        galaxy=SersicGalaxy(n=LogUniform(low=0.7, high=3.0), n_table=8, mag=Uniform(low=17.0, high=23.0)),
        psf=MoffatPSF(fwhm_arcsec=Fixed(value=0.7), image_size=25), noise=RMSNoise(rms=Fixed(value=0.3)),
        stamp=StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=25), engine="fourier",
    )  # fmt: skip


@pytest.fixture(scope="session")
def bright_galaxies(bright_simulator):
    """Parameters and stamps of sixty galaxies of S/N 100, through the Moffat PSF of FWHM 0.7 arcsec and slope 3."""
    rng = np.random.default_rng(11)
    n, psf = 60, galsim.Moffat(beta=3.0, fwhm=0.7).drawImage(nx=25, ny=25, scale=0.2).array
    shape = (n, 1, 32, 32)
    empty = Stamps(
        images=np.zeros(shape, np.float32), psf=np.broadcast_to(psf / psf.sum(), (n, 1, 25, 25)), rms=np.full(shape, 0.3, np.float32),
        mask=np.zeros(shape, bool), zero_point=27.0, pixel_scale_arcsec=0.2, ids=np.arange(n),
    )  # fmt: skip
    theta = bright_simulator.parameters.prior.forward(rng.normal(size=(n, len(bright_simulator.parameters))))
    models = bright_simulator.fourier.render_draws(theta[:, None].astype(np.float32), empty)[:, 0]
    gain = 100 / np.sqrt(((models / 0.3) ** 2).sum((1, 2, 3)))
    theta[:, 0] -= 2.5 * np.log10(gain)
    noise = rng.normal(0, 0.3, size=shape)
    return theta, replace(empty, images=(gain[:, None, None, None] * models + noise).astype(np.float32))


@pytest.fixture(scope="session")
def survey(small_simulator):
    """Twelve simulations on native pixels, 96 on a side, with a wide PSF image and without masks."""
    stamp = StampSpec(size=96, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=25)
    nothing = MaskPopulation(frame_probability=0, edge_probability=0, neighbours_mean=0, column_probability=0, pixel_fraction=0)
    return replace(small_simulator, stamp=stamp, masks=nothing).draw(range(12), seed=99)


@pytest.fixture(scope="session")
def cutouts(survey):
    """The same as cutouts."""
    return [cutout_of(survey.stamps, i) for i in range(len(survey))]


def cutout_of(stamps, i, **changes):
    given = {
        "identity": stamps.ids[i].item(), "image": stamps.images[i], "rms": stamps.rms[i], "mask": stamps.mask[i], "psf": stamps.psf[i],
        "zero_point": stamps.zero_point, "pixel_scale_arcsec": stamps.pixel_scale_arcsec, "gain": float(stamps.gain[i, 0]),
    }  # fmt: skip
    return Cutout(**(given | changes))
