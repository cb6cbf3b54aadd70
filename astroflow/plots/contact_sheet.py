"""Many galaxies on one page: small data / model / residual triplets, to find the few that need a closer look."""

__all__ = ["plot_contact_sheet"]

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from astroflow.diagnostics.residuals import residuals
from astroflow.errors import InputError
from astroflow.plots.pixels import RESIDUAL_LIMIT, Stretch, masked_colours
from astroflow.plots.style import RED, drawable, style
from astroflow.types import Array, Stamps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL_INCHES = 0.72
GAP = 0.06  # of a panel
CAPTION_INCHES = 0.2


def plot_contact_sheet(
    stamps: Stamps,
    model: Array,
    captions: Sequence[str],
    *,
    flagged: Array | None = None,
    columns: int = 5,
    band: int = 0,
    title: str = "",
) -> "Figure":
    """Draw a grid of data / model / residual triplets.

    Each triplet has its own asinh grey scale; residuals go from -5 (blue) to 5 sigma (red); masked pixels are brown.

    Parameters
    ----------
    stamps : Stamps
        N stamps.
    model : ndarray
        ``(N, B, H, W)`` noiseless models, image unit; NaN where there is none.
    captions : sequence of str
        One or a few short lines for each; may hold mathtext, and are printed literally where they are none.
    flagged : ndarray of bool, optional
        ``(N,)`` captions to print in red with an asterisk.
    columns : int
        Triplets side by side.
    band : int
        Which band is shown.
    title : str
        Printed above.
    """
    from matplotlib.figure import Figure

    n = len(stamps)
    if len(captions) != n:
        raise InputError(f"`captions` must be one per stamp, {n}; got {len(captions)}")
    marked = np.zeros(n, bool) if flagged is None else np.asarray(flagged, bool)
    sigma = residuals(stamps, np.asarray(model)).sigma[:, band]
    columns = min(columns, n)
    rows = -(-n // columns)
    caption_inches = CAPTION_INCHES * (1 + 0.7 * max(caption.count("\n") for caption in captions))
    cell_w, cell_h = 3 * (1 + GAP) * PANEL_INCHES + 0.12, PANEL_INCHES * stamps.shape[2] / stamps.shape[3] + caption_inches
    head = 0.35 if title else 0.08
    with style():
        fig = Figure(figsize=(columns * cell_w + 0.12, rows * cell_h + head + 0.08))
        width, height = fig.get_size_inches()
        for k in range(n):
            left = 0.12 + (k % columns) * cell_w
            bottom = height - head - (k // columns + 1) * cell_h
            ax = fig.add_axes((left / width, bottom / height, (cell_w - 0.12) / width, (cell_h - caption_inches) / height))
            ax.imshow(_triplet(stamps, np.asarray(model), sigma, k, band), origin="lower", interpolation="nearest", aspect="auto")
            ax.axis("off")
            ax.set_title(drawable(captions[k]) + " *" * bool(marked[k]), fontsize=6, pad=2, loc="left", color=RED if marked[k] else "black")
        if title:
            fig.text(0.5, 1 - 0.5 * head / height, drawable(title), ha="center", va="center", fontsize=11)
    return fig


def _triplet(stamps: Stamps, model: Array, sigma: Array, k: int, band: int) -> Array:
    """Return data, model and residual of one stamp side by side, as colours ``(H, 3 W + gaps, 4)``."""
    from matplotlib.colors import Normalize

    bad = np.asarray(stamps.mask)[k, band] | ~np.isfinite(stamps.images[k, band])
    data = np.where(bad, np.nan, stamps.images[k, band])
    noise = np.asarray(stamps.rms)[k, band][~bad]
    clean = np.asarray(model[k, band], np.float64)
    stretch = Stretch.of(data, clean, float(np.median(noise)) if len(noise) else np.nan)
    norm, grey = stretch.norm(), masked_colours("gray")
    scaled = Normalize(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)(np.ma.masked_invalid(np.clip(sigma[k], -RESIDUAL_LIMIT, RESIDUAL_LIMIT)))
    panels = [grey(norm(np.ma.masked_invalid(data))), grey(norm(np.ma.masked_invalid(clean))), masked_colours("RdBu_r")(scaled)]
    gap = np.ones((data.shape[0], max(1, round(GAP * data.shape[1])), 4))
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
