"""The bundle that the checkout carries: it loads, and its posteriors are those of the reference galaxies."""

import numpy as np
import pytest

from astroflow.diagnostics.reference import load_reference, wasserstein
from astroflow.posteriors.bundle import load_posterior

CHANCE = 0.05
"""Between 1000 and 2000 draws of one posterior, in standard deviations."""


@pytest.fixture(scope="module")
def posterior(root):
    return load_posterior(root / "benchmarks" / "reference_bundle")


def test_linearised_posteriors_are_nearly_exact_and_the_networks_own_are_not(root, posterior):
    reference = load_reference(root / "benchmarks" / "reference_posteriors" / "sersic_v1.npz")
    assert posterior.parameters.names == reference.names
    linearised, own = (
        wasserstein(posterior.sample(posterior.encode(reference.stamps, least_snr=least), 1000, seed=1), reference.theta)
        for least in (0.0, np.inf)
    )
    assert np.median(linearised) < CHANCE + 0.03
    assert np.quantile(linearised, 0.95) < 0.3
    assert np.median(own) > 2 * np.median(linearised)


def test_it_is_the_problem_of_the_recipe(posterior):
    """A changed recipe needs a new training: `astroflow train reference`."""
    from astroflow.sims.recipe import simulator_data

    assert simulator_data("reference") == posterior.forward_model
