"""Stamps after the network has looked at them: what draws, densities and certificates start from."""

__all__ = ["Encoded"]

from dataclasses import dataclass, replace

import numpy as np

from astroflow.posteriors.framing import Framed
from astroflow.posteriors.linearized import Linearization
from astroflow.types import Array


@dataclass(frozen=True)
class Encoded:
    """Stamps after the network has looked at them once: draw from it as often as you like.

    `context` ``(N, C)``, `snr` ``(N,)`` estimated signal-to-noise ratio, `flags` ``(N,)``, and the `framed` stamps. `fitted` ``(N,)`` says
    which rows have a linearised posterior, and `fits` holds those rows' fits; None if there are none. `disagreement` ``(N,)`` of the
    members of an ensemble, nats; None where there is one network.
    """

    framed: Framed
    context: Array
    snr: Array
    flags: Array
    fitted: Array
    fits: Linearization | None = None
    disagreement: Array | None = None

    def __len__(self) -> int:
        return len(self.context)

    @property
    def ids(self) -> Array:
        """The objects' ids ``(N,)``."""
        return self.framed.stamps.ids

    @property
    def usable(self) -> Array:
        """Which rows have a posterior ``(N,)``."""
        return self.framed.usable

    @property
    def shift_arcsec(self) -> Array:
        """The frame's centre less the asked position ``(N, 2)``."""
        return self.framed.shift_arcsec

    def __getitem__(self, rows: Array) -> "Encoded":
        """Select rows by an array of positions."""
        framed = self.framed[rows]
        fits = None
        if self.fits is not None and self.fitted[rows].any():
            place = np.cumsum(self.fitted) - 1
            fits = self.fits[place[rows[self.fitted[rows]]]]
        apart = None if self.disagreement is None else self.disagreement[rows]
        return Encoded(framed, self.context[rows], self.snr[rows], self.flags[rows], self.fitted[rows], fits, apart)

    def with_fits(self, rows: Array, fits: Linearization | None) -> "Encoded":
        """Return this with fits for rows, given by their positions, that have had none."""
        if fits is None or not len(rows):
            return self
        fitted = self.fitted.copy()
        fitted[rows] = True
        before = np.flatnonzero(self.fitted)
        everything = fits if self.fits is None else self.fits.joined(fits)
        places = rows if self.fits is None else np.concatenate([before, rows])
        return replace(self, fitted=fitted, fits=everything[np.argsort(places)])
