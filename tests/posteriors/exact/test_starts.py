"""Starting points: of high density, apart from each other, and found without the truth."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from astroflow.posteriors.exact import starts as module
from astroflow.posteriors.exact.starts import DISPERSION, dispersed_starts


@pytest.fixture
def eagerly():
    """Operation by operation: the graphs would take longer to compile than to run."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_chains_begin_apart_about_fits_as_good_as_the_truth(small_simulator, galaxies, eagerly, monkeypatch):
    for name, value in (("TRIED", 32), ("FITTED", 3), ("STEPS", 6)):
        monkeypatch.setattr(module, name, value)
    rows = np.argsort(-galaxies.snr)[[5]]
    prior = small_simulator.parameters.prior
    stamps = galaxies.stamps[rows]
    stamps = replace(stamps, psf=1.7 * stamps.psf)  # whatever a PSF image sums to, flux is the parameters'
    starts = dispersed_starts(small_simulator.fourier, prior, stamps, chains=3, seed=1)
    assert starts.u.shape == (1, 3, 7)
    assert starts.density.shape == (1, 3)
    assert (np.diff(starts.density) <= 0).all(), "likeliest first"
    truth = prior.inverse(galaxies.theta[rows].astype(np.float64))
    distance = np.linalg.norm(np.einsum("nji,nj->ni", starts.factor, starts.point - truth), axis=1)
    assert (distance < 6).all(), "of seven parameters, in widths"
    moved = np.einsum("nji,ncj->nci", starts.factor, starts.u - starts.point[:, None])
    assert 0.4 * DISPERSION < moved.std() < 3 * DISPERSION
