"""Galaxies to ask a posterior about: stamps as the network takes them, and cutouts as a survey has them."""

from dataclasses import replace

import pytest

from astroflow.sims.masks import MaskPopulation
from astroflow.sims.stamp import StampSpec
from astroflow.types import Cutout


@pytest.fixture(scope="session")
def galaxies(small_simulator):
    """Seventy simulations that no posterior was trained on, more than one call of the network."""
    return small_simulator.draw(range(1000, 1070), seed=99)


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
