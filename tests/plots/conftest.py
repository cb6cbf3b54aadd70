"""Small things to draw, and a check that drawing leaves nothing behind."""

import numpy as np
import pytest

from astroflow.diagnostics import calibrate
from astroflow.sims.galaxies import SersicGalaxy
from astroflow.types import Stamps


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    """No pyplot figure, no changed setting."""
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    yield
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.fixture(scope="session")
def parameters():
    return SersicGalaxy.model_validate({
        "kind": "sersic",
        "mag": {"kind": "uniform", "low": 20, "high": 24},
        "re_arcsec": {"kind": "size_magnitude", "low": 0.1, "high": 2.0},
        "n": {"kind": "log_uniform", "low": 0.5, "high": 6.0},
        "ellipticity": {"sigma": 0.25, "high": 0.8},
        "dx_arcsec": {"kind": "normal", "mean": 0.0, "sd": 0.1, "low": -0.4, "high": 0.4},
        "dy_arcsec": {"kind": "normal", "mean": 0.0, "sd": 0.1, "low": -0.4, "high": 0.4},
    }).parameters  # fmt: skip


@pytest.fixture(scope="session")
def make_report(parameters):
    def make(width=1.0):
        rng = np.random.default_rng(0)
        snr = 10 ** rng.uniform(1.1, 2.9, 300)
        sd = (3 / snr)[:, None]
        u = rng.normal(size=(300, len(parameters)))
        mean = (u + sd * rng.normal(size=u.shape)) / (1 + sd**2)
        sd = sd / np.sqrt(1 + sd**2)
        draws = parameters.prior.forward(mean[:, None] + width * sd[:, None] * rng.normal(size=(300, 50, len(parameters))))
        return calibrate(draws, np.zeros(300), parameters.prior.forward(u), snr, parameters)

    return make


@pytest.fixture(scope="session")
def report(make_report):
    return make_report()


def gaussians(n=4, bands=1, size=24):
    """Round galaxies with noise and a mask, and their noiseless models."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    model = np.broadcast_to(50 * np.exp(-0.5 * (x**2 + y**2) / 3**2), (n, bands, size, size)).astype(np.float32)
    mask = np.zeros(model.shape, bool)
    mask[..., :5, :] = True
    images = np.where(mask, np.nan, model + rng.normal(size=model.shape))
    stamps = Stamps(
        images=images, psf=np.ones((3, 3)), rms=1.0, mask=mask, zero_point=25.0, pixel_scale_arcsec=0.2, ids=[f"g{i}" for i in range(n)]
    )
    return stamps, model


@pytest.fixture
def galaxies():
    return gaussians()


@pytest.fixture
def make_galaxies():
    return gaussians
