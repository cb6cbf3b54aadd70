"""Tiers: the cheap posterior for every row, the linearised one where the certificate asks for it."""

__all__ = ["sharpen"]

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from astroflow.posteriors.exact.certificate import Certificate, Verdict
from astroflow.posteriors.exact.certify import certify

if TYPE_CHECKING:
    from astroflow.posteriors.encoded import Encoded
    from astroflow.posteriors.posterior import Posterior


def sharpen(posterior: "Posterior", encoded: "Encoded", certificate: Certificate, n_draws: int, seed: int) -> "tuple[Encoded, Certificate]":
    """Give rows whose draws failed the linearised posterior, where it is better than the network's own; see `Posterior.sharpen`."""
    rows = np.flatnonzero((certificate.inference == Verdict.FAILED) & ~encoded.fitted)
    if posterior.linearized is None or not len(rows):
        return encoded, certificate
    fitted = posterior.fitted_rows(encoded, rows)
    if fitted.fits is None:
        return encoded, certificate
    sharper = certify(posterior, fitted, n_draws, seed)
    # more draws count for nothing where their tail or what they miss is worse
    found, before = ((c.efficiency * (1 - np.clip(c.missed, 0, 1)), c.k_hat) for c in (sharper, certificate))
    ahead = (found[0] > before[0][rows]) & (found[1] <= before[1][rows])
    better = fitted.fitted & ((sharper.inference == Verdict.OK) | ahead)
    if not better.any():
        return encoded, certificate
    figures = {name: np.array(values) for name, values in vars(certificate).items()}
    for name, values in vars(sharper).items():
        figures[name][rows[better]] = values[better]
    return encoded.with_fits(rows[better], fitted[np.flatnonzero(better)].fits), replace(certificate, **figures)
