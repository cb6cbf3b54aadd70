import numpy as np
import pytest

from astroflow.errors import InputError
from astroflow.sims.likelihood import PixelLikelihood, log_likelihood


@pytest.mark.parametrize("engine", ["galsim", "fourier"])
def test_parameters_are_rendered_first(small_simulator, engine):
    theta = small_simulator.draw([1, 2], seed=3).theta
    theta[:, small_simulator.parameters.names.index("n")] = 1.0
    stamps = small_simulator.draw([1, 2], seed=3).stamps
    draws = np.repeat(theta[:, None], 2, 1)
    draws[:, 1, 0] += 0.1
    found = log_likelihood(small_simulator, draws, stamps, engine=engine)
    models = np.stack([small_simulator.render(draws[:, s], stamps, engine=engine) for s in range(2)], 1)
    np.testing.assert_array_equal(found, PixelLikelihood(stamps).log_prob(models))
    with pytest.raises(InputError, match=r"\(N, S, P\)"):
        log_likelihood(small_simulator, theta, stamps)
