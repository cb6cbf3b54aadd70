"""What a catalog keeps of a row so that any number of draws can be made again, without its image.

Draws depend on the row's id, the seed, the network's context vector, and the linearised fit where there is one. The context is rounded to
half precision before the first draw is made from it, so those made again later are the same, bit by bit; fits are kept as they are. A row
takes some hundred bytes, where a thousand draws of seven parameters take 28 thousand.
"""

__all__ = ["Kept", "rounded"]

from dataclasses import dataclass

import numpy as np

from astroflow.errors import InputError
from astroflow.posteriors.encoded import Encoded
from astroflow.posteriors.linearized import Linearization
from astroflow.types import Array

LARGEST = float(np.finfo(np.float16).max)


def rounded(context: Array) -> Array:
    """Return context vectors as half precision has them, in single precision."""
    return np.clip(context, -LARGEST, LARGEST).astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Kept:
    """N rows, as far as draws depend on them; give it to `Posterior.sample` in place of stamps.

    `ids` ``(N,)``, `context` ``(N, C)`` float32, `shift_arcsec` ``(N, 2)`` of the frame's centre, `usable` ``(N,)``, `fitted` ``(N,)``, and
    the `fits` of those that are.
    """

    ids: Array
    context: Array
    shift_arcsec: Array
    usable: Array
    fitted: Array
    fits: Linearization | None = None

    def __len__(self) -> int:
        return len(self.context)

    @staticmethod
    def columns(encoded: Encoded) -> dict[str, Array]:
        """Return what is to be kept of encoded stamps.

        Returns
        -------
        dict of str to ndarray
            ``context`` ``(N, C)`` float16, ``frame_dx_arcsec`` and ``frame_dy_arcsec`` ``(N,)`` float32, and ``fit`` ``(N, F)`` float32,
            NaN where there is none: what the fit adds to the context, then the lower triangle of the inverse covariance's factor.
        """
        size = encoded.context.shape[1]
        fit = np.zeros((len(encoded), 0), np.float32)
        if encoded.fits is not None:
            fits = encoded.fits
            lower = np.tril_indices(fits.factor.shape[1])
            known = np.concatenate([fits.features[:, size:], fits.factor[:, lower[0], lower[1]]], 1)
            fit = np.full((len(encoded), known.shape[1]), np.nan, np.float32)
            fit[encoded.fitted] = known
        dx, dy = encoded.shift_arcsec.astype(np.float32).T
        return {"context": encoded.context.astype(np.float16), "frame_dx_arcsec": dx, "frame_dy_arcsec": dy, "fit": fit}

    @classmethod
    def of_columns(cls, ids: Array, usable: Array, columns: dict[str, Array], dimensions: int) -> "Kept":
        """Return rows from what `columns` has kept of them.

        Parameters
        ----------
        ids, usable : ndarray
            ``(N,)``.
        columns : dict of str to ndarray
            As `columns` returns them.
        dimensions : int
            Parameters, P.

        Raises
        ------
        InputError
            If a usable row has no context.
        """
        context = np.nan_to_num(columns["context"].astype(np.float32))
        if not np.isfinite(columns["context"][usable]).all():
            raise InputError("rows that have a posterior have no context: the catalog has been changed")
        fit = columns["fit"]
        fitted = np.isfinite(fit).all(1) & (fit.shape[1] > 0)
        fits = None
        if fitted.any():
            rows, lower = fit[fitted], np.tril_indices(dimensions)
            tail, triangle = rows[:, : -len(lower[0])], rows[:, -len(lower[0]) :]
            factor = np.zeros((len(rows), dimensions, dimensions), np.float32)
            factor[:, lower[0], lower[1]] = triangle
            features = np.concatenate([context[fitted], tail], 1)
            # what the fit adds begins with its point
            fits = Linearization(features, tail[:, :dimensions], factor, np.ones(len(rows), bool))
        shift = np.stack([columns["frame_dx_arcsec"], columns["frame_dy_arcsec"]], 1)
        return cls(ids, context, shift, usable, fitted, fits)
