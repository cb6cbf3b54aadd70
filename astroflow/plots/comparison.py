"""Ours against published measurements: one column for each quantity, one-to-one above, difference below."""

__all__ = ["plot_comparison"]

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from astroflow.diagnostics.comparison import Comparison
from astroflow.plots.style import BLUE, GREY, ORANGE, style
from astroflow.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_comparison(comparison: Comparison, *, labels: Mapping[str, str] | None = None) -> "Figure":
    """Draw inferred against published values with one-to-one lines, and their differences with median and scatter.

    Flagged rows are open symbols; the numbers leave them out.

    Parameters
    ----------
    comparison : Comparison
        From `astroflow.diagnostics.compare`.
    labels : mapping of str to str, optional
        How to write a quantity, with its unit; its name by default.
    """
    from matplotlib.figure import Figure

    n = len(comparison.names)
    with style():
        fig = Figure(figsize=(2.6 * n + 0.5, 4.3), layout="constrained")
        axes = fig.subplots(2, n, squeeze=False, sharex="col", height_ratios=[2, 1])
        for i, name in enumerate(comparison.names):
            _draw_quantity(axes[0, i], axes[1, i], comparison, i)
            axes[0, i].set_title((labels or {}).get(name, name))
            axes[1, i].set_xlabel("published")
        axes[0, 0].set_ylabel("inferred")
        axes[1, 0].set_ylabel("inferred - published")
        handles, names = axes[0, 0].get_legend_handles_labels()
        axes[0, 0].legend(handles, names, loc="lower right")
    return fig


def _draw_quantity(above: "Axes", below: "Axes", comparison: Comparison, i: int) -> None:
    x, y, error = comparison.published[:, i], comparison.inferred[:, i], comparison.error[:, i]
    there = np.isfinite(x) & np.isfinite(y)
    offset, scatter = comparison.offset[i], comparison.scatter[i]
    bars = np.nan_to_num(error)
    for rows, colour, face, label in (
        (there & ~comparison.flagged, BLUE, BLUE, "unflagged"),
        (there & comparison.flagged, ORANGE, "none", "flagged"),
    ):
        for ax, values in ((above, y), (below, y - x)):
            ax.errorbar(
                x[rows], values[rows], bars[rows], fmt="o", ms=3, lw=0.6, color=colour, mfc=face, mew=0.8, alpha=0.8,
                label=f"{label} ({rows.sum()})", zorder=2,
            )  # fmt: skip
    limits = _limits(np.concatenate([x[there], y[there]]))
    above.plot(limits, limits, color=GREY, ls="--", lw=0.9, zorder=1)
    above.set(xlim=limits, ylim=limits)
    below.axhline(0, color=GREY, ls="--", lw=0.9, zorder=1)
    if np.isfinite(offset):
        below.axhspan(offset - scatter, offset + scatter, color=BLUE, alpha=0.15, lw=0)
        below.axhline(offset, color=BLUE, lw=0.9)
        reach = 1.15 * max(5 * scatter, abs(offset) + 3 * scatter, 1e-9)
        below.set_ylim(-reach, reach)
    text = f"offset {offset:+.3f}\n1.48 MAD {scatter:.3f}" if np.isfinite(offset) else "no rows"
    above.text(0.04, 0.96, text, transform=above.transAxes, va="top", fontsize=7)


def _limits(values: Array) -> tuple[float, float]:
    """Return limits with a margin around finite values."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin
