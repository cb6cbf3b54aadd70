"""Tiers: the cheap posterior for every row, the linearised one where the certificate asks for it."""

__all__ = ["sharpen"]

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from astroflow.posteriors.exact.certificate import Certificate, Verdict
from astroflow.posteriors.exact.certify import certify

if TYPE_CHECKING:
    from astroflow.posteriors.posterior import Encoded, Posterior


def sharpen(posterior: "Posterior", encoded: "Encoded", certificate: Certificate, n_draws: int, seed: int) -> "tuple[Encoded, Certificate]":
    """Give rows whose draws failed the linearised posterior, where it is better than the network's own; see `Posterior.sharpen`."""
    rows = np.flatnonzero((certificate.inference == Verdict.FAILED) & ~encoded.fitted)
    if posterior.linearized is None or not len(rows):
        return encoded, certificate
    fitted = posterior.fitted_rows(encoded, rows)
    sharper = certify(posterior, fitted, n_draws, seed)
    better = fitted.fitted & ((sharper.inference == Verdict.OK) | (sharper.efficiency > certificate.efficiency[rows]))
    if not better.any():
        return encoded, certificate
    figures = {name: np.array(values) for name, values in vars(certificate).items()}
    for name, values in vars(sharper).items():
        figures[name][rows[better]] = values[better]
    return encoded.with_fits(rows[better], fitted[np.flatnonzero(better)].fits), replace(certificate, **figures)
