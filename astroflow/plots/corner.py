"""A corner plot of one posterior, with the prior behind it.

The prior shows what the image added: where posterior and prior agree, nothing was learned. Posteriors may be a thousand times narrower
than the prior, or lean on a bound, or be a single point where something went wrong; all of them must give a picture.
"""

__all__ = ["plot_corner"]

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from astroflow.errors import InputError
from astroflow.plots.badges import add_badges
from astroflow.plots.style import BLUE, GREY, RED, drawable, literal, style
from astroflow.posteriors.flags import flag_names
from astroflow.sims.parameters import Parameters
from astroflow.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PRIOR_DRAWS = 100_000
PANEL_INCHES = 1.45
ENOUGH_DRAWS = 200  # fewer make ragged contours; they are drawn as points


def plot_corner(
    draws: Array,
    parameters: Parameters,
    *,
    truth: Array | None = None,
    identity: int | str = "",
    flags: int = 0,
    verdicts: Mapping[str, int] | None = None,
) -> "Figure":
    """Draw one posterior: 1-D and 2-D marginals with 39 and 86 % contours, medians with their 68 % intervals, and the prior.

    Parameters
    ----------
    draws : ndarray
        ``(S, P)`` posterior draws of one image.
    parameters : Parameters
        Labels, units and the prior.
    truth : ndarray, optional
        ``(P,)`` values to mark, in red.
    identity : int or str
        The object's id, for the title.
    flags : int
        Bits of `astroflow.posteriors.Flag`, named in the title.
    verdicts : mapping of str to int, optional
        Of a certificate, by question; shown as badges.
    """
    import corner
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    draws = np.asarray(draws, np.float64)
    p = len(parameters)
    if draws.ndim != 2 or draws.shape[1] != p or len(draws) <= p or not np.isfinite(draws).all():
        raise InputError(f"`draws` must be finite, of one image and more than {p}: (draws, {p}); got shape {draws.shape}")
    prior = parameters.prior.forward(np.random.default_rng(0).normal(size=(PRIOR_DRAWS, p)))
    limits = [_limits(draws[:, i], prior[:, i].std()) for i in range(p)]
    smooth = len(draws) >= ENOUGH_DRAWS and all(len(np.unique(column)) > ENOUGH_DRAWS // 4 for column in draws.T)
    # A narrow range far from zero needs long numbers at the ticks.
    crowded = any(high - low < 2e-3 * max(abs(low), abs(high)) for low, high in limits)
    with style():
        side = PANEL_INCHES * p + 1.2
        fig = Figure(figsize=(side, side))
        corner.corner(
            draws, fig=fig, range=limits, bins=31 if len(draws) > 2000 else 21, color=BLUE, truth_color=RED,
            labels=[drawable(label) for label in parameters.labels],
            truths=None if truth is None else [float(value) for value in truth], levels=(0.393, 0.865),
            plot_contours=smooth, plot_density=smooth, fill_contours=smooth, smooth=1.2 if smooth else None,
            plot_datapoints=not smooth, data_kwargs={"alpha": 0.5, "ms": 2},
            hist_kwargs={"density": True}, max_n_ticks=3, labelpad=0.24 if crowded else 0.0,
        )  # fmt: skip
        axes = np.reshape(np.asarray(fig.axes), (p, p))
        fig.subplots_adjust(left=0.09, bottom=0.09, right=0.98, top=0.97)
        for i in range(p):
            # Plain numbers: an offset such as 1e-5+2.24e1 would be printed over the neighbouring panel.
            axes[p - 1, i].xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
            axes[i, 0].yaxis.set_major_formatter(ScalarFormatter(useOffset=False) if i else NullFormatter())
            _add_prior(axes[i, i], prior[:, i])
            axes[i, i].set_title(_summary(draws[:, i], parameters.units[i]), fontsize=8)
        _add_legend(fig, truth is not None)
        if verdicts:
            add_badges(fig, verdicts, loc="upper right", bbox_to_anchor=(0.95, 0.8))
        names = textwrap.fill(", ".join(flag_names(flags)) or "none", 12 * p)
        fig.suptitle(
            f"{f'Posterior of {literal(identity)}' if str(identity) else 'Posterior'}\nflags: {names}", x=0.62, y=0.97, fontsize=11
        )
    return fig


def _limits(column: Array, prior_sd: float) -> tuple[float, float]:
    """Return what to show of one parameter: nearly all draws and a margin, however narrow they are."""
    low, high = np.percentile(column, [0.2, 99.8])
    middle = 0.5 * (low + high)
    # Not narrower than what float32 and an axis can tell apart.
    least = max(1e-6 * abs(middle), 1e-5 * prior_sd)
    half = max(0.6 * (high - low), least)
    return float(middle - half), float(middle + half)


def _add_prior(ax: "Axes", values: Array) -> None:
    """Draw the prior's own density, to the same scale as the posterior's histogram."""
    limits, top = ax.get_xlim(), ax.get_ylim()
    density, edges = np.histogram(values, bins=80, density=True)
    ax.stairs(density, edges, color=GREY, ls="--", lw=1.1, baseline=None)
    ax.set(xlim=limits, ylim=(0, max(top[1], 1.1 * density[(edges[1:] > limits[0]) & (edges[:-1] < limits[1])].max(initial=0))))


def _summary(column: Array, unit: str) -> str:
    """Write the median with its 68 % interval, to two digits of the smaller error."""
    low, middle, high = np.percentile(column, [16, 50, 84])
    error = min(middle - low, high - middle)
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 7)) if error > 0 else 4
    text = f"${middle:.{digits}f}_{{-{middle - low:.{digits}f}}}^{{+{high - middle:.{digits}f}}}$"
    return f"{text} {literal(unit)}".strip()


def _add_legend(fig: "Figure", marked: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=BLUE, label="posterior"), Line2D([], [], color=GREY, ls="--", label="prior")]
    handles += [Line2D([], [], color=RED, label="truth")] if marked else []
    fig.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.95, 0.9), fontsize=9)
