"""The pixel likelihood: how probable an image is, given what it would be without noise.

`PixelLikelihood` is prepared once per batch of stamps and takes noiseless model images, from any engine. `Nuisances` says what is
marginalised; `log_likelihood` renders parameters first. `docs/likelihood.md` says which cases are exact.
"""

from astroflow.sims.likelihood.likelihood import PixelLikelihood as PixelLikelihood
from astroflow.sims.likelihood.nuisances import Nuisances as Nuisances
from astroflow.sims.likelihood.rendered import log_likelihood as log_likelihood
