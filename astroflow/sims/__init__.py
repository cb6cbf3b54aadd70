"""The forward model: what the sky, the telescope and the detector do to a galaxy.

Start with `load_simulator` and `Simulator.draw`. One concept per file: `priors` (joint priors and their bijectors), `galaxies`,
`psfs`, `noise`, `masks`, `stamp`, put together by `simulator` and described by recipes (`recipe`). This package knows no networks.
"""

from astroflow.sims.galaxies import SersicGalaxy as SersicGalaxy
from astroflow.sims.parameters import Parameters as Parameters
from astroflow.sims.recipe import load_simulator as load_simulator
from astroflow.sims.simulator import Simulator as Simulator
from astroflow.sims.stamp import StampSpec as StampSpec
