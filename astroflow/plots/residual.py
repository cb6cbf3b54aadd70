"""Data, model and residual of one galaxy: the picture that shows what a posterior did not explain."""

__all__ = ["plot_residual"]

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.diagnostics.residuals import residuals
from astroflow.plots.badges import add_badges
from astroflow.plots.pixels import MASK_COLOUR, RESIDUAL_LIMIT, Stretch
from astroflow.plots.style import literal, style
from astroflow.posteriors.flags import flag_names
from astroflow.types import Array, Stamps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_residual(
    stamps: Stamps, model: Array, *, row: int = 0, flags: int = 0, n_parameters: int = 0, verdicts: Mapping[str, int] | None = None
) -> "Figure":
    """Draw one stamp, its noiseless model and their difference over the noise, one line for each band.

    Data and model share an asinh grey scale; residuals go from -5 to 5 sigma. Masked pixels are brown and hatched.

    Parameters
    ----------
    stamps : Stamps
        What was observed.
    model : ndarray
        ``(N, B, H, W)`` noiseless models, image unit.
    row : int
        Which stamp.
    flags : int
        Bits of `astroflow.posteriors.Flag`, named in the title.
    n_parameters : int
        Fitted parameters, taken from the degrees of freedom of chi-squared.
    verdicts : mapping of str to int, optional
        Of a certificate, by question; shown as badges.
    """
    from matplotlib.figure import Figure

    one = stamps[[row]]
    clean = np.asarray(model)[[row]]
    result = residuals(one, clean, n_parameters=n_parameters)
    bands = one.shape[1]
    chi2 = f"{result.reduced_chi2[0]:.2f}" if np.isfinite(result.reduced_chi2[0]) else "none (no usable pixel)"
    with style():
        fig = Figure(figsize=(10.4, 3.6 * bands + (0.9 if verdicts else 0.5)), layout="constrained")
        axes = fig.subplots(bands, 3, squeeze=False, sharex=True, sharey=True)
        for band, line in enumerate(axes):
            _draw_band(fig, line, one, clean[0, band], result.sigma[0, band], band)
        names = textwrap.fill(", ".join(flag_names(flags)) or "none", 90)
        fig.suptitle(f"{literal(one.ids[0])}: reduced chi-squared {chi2}; flags: {names}")
        if verdicts:
            add_badges(fig, verdicts, loc="outside lower center", frameon=False)
    return fig


def _draw_band(fig: "Figure", line: Any, one: Stamps, clean: Array, sigma: Array, band: int) -> None:
    """Draw data, model and residual of one band."""
    bad = ~np.isfinite(sigma)
    data = np.where(bad, np.nan, one.images[0, band])
    noise = np.asarray(one.rms)[0, band][~bad]
    stretch = Stretch.of(data, clean, float(np.median(noise)) if len(noise) else np.nan)
    height, width = clean.shape
    scale = float(one.stamp_scale_arcsec[0])
    half_x, half_y = 0.5 * width * scale, 0.5 * height * scale
    extent = (-half_x, half_x, -half_y, half_y)
    limit = RESIDUAL_LIMIT
    line[0].imshow(data, cmap="gray", norm=stretch.norm(), extent=extent, origin="lower")
    shown = line[1].imshow(clean, cmap="gray", norm=stretch.norm(), extent=extent, origin="lower")
    left = line[2].imshow(sigma, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent, origin="lower")
    for ax in (line[0], line[2]):
        _hatch_background(ax)
    bar = fig.colorbar(shown, ax=line[:2].tolist(), shrink=0.9, aspect=25, pad=0.01, label="image unit per pixel")
    ticks = _asinh_ticks(stretch)
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    bar.minorticks_off()
    fig.colorbar(left, ax=line[2], shrink=0.9, aspect=25, pad=0.02, extend="both", label="residual [sigma]")
    for ax, name in zip(line, ("data", "model", "(data - model) / noise"), strict=True):
        ax.set_title(name if one.shape[1] == 1 else f"{name}, band {band}")
        ax.set_xlabel("x offset [arcsec]")
        _add_pixels(ax, width, scale)
    line[0].set_ylabel("y offset [arcsec]")


def _hatch_background(ax: "Axes") -> None:
    """Hatch what lies behind the image: masked pixels are transparent, and show without colour as well."""
    ax.set_facecolor(MASK_COLOUR)
    ax.patch.set(hatch="////", edgecolor="#6B6048", linewidth=0)


def _add_pixels(ax: "Axes", width: int, scale: float) -> None:
    """Add stamp pixels, counted from zero, along the upper side."""
    middle = (width - 1) / 2
    upper = ax.secondary_xaxis("top", functions=(lambda x: np.asarray(x) / scale + middle, lambda x: (np.asarray(x) - middle) * scale))
    upper.set_xlabel("x [pixel]")


def _asinh_ticks(stretch: Stretch) -> list[float]:
    """Return round brightnesses, evenly spread over an asinh scale."""
    lifted = np.linspace(0, np.arcsinh(stretch.high / stretch.knee), 5)
    return sorted({float(f"{value:.1g}") for value in np.sinh(lifted) * stretch.knee})
