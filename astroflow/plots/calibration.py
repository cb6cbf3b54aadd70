"""Pictures of a `CalibrationReport`: is the posterior honest (`plot_calibration`), and how good is it (`plot_accuracy`).

How to read the first: an exact posterior stays inside every band, once in twenty rows excepted. Ranks in a U, or coverage below the
diagonal: too narrow. A hump, or coverage above it: too wide. A slope, or an ECDF curve above zero: the posterior lies too high.
"""

__all__ = ["plot_accuracy", "plot_calibration"]

from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.diagnostics.calibration_report import CalibrationReport
from astroflow.plots.style import BLUE, GREY, ORANGE, RED, style
from astroflow.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = 1.9
ACCURACY_INCHES = (2.5, 1.45)
"""Width and height of a panel: four side by side are as wide as a page, whose type is then as large as it was set."""


def plot_calibration(report: CalibrationReport) -> "Figure":
    """Draw rank histograms, ECDF differences and coverage curves, one column for each parameter and one for the joint ranks.

    Titles are red where the report finds a problem.
    """
    from matplotlib.figure import Figure

    names = report.names
    labels = (*(p.label or p.name for p in report.parameters.members), "joint distance")
    with style():
        fig = Figure(figsize=(PANEL_INCHES * len(names) + 0.6, 3 * PANEL_INCHES + 0.5), layout="constrained")
        axes = fig.subplots(3, len(names), squeeze=False)
        for i, (label, problems) in enumerate(zip(labels, report.problems, strict=True)):
            _draw_ranks(axes[0, i], report, i)
            _draw_ecdf(axes[1, i], report, i)
            axes[0, i].set_title(f"{label}\nKS p = {report.ks_p[i]:.2g}", color=RED if problems else "black")
            if i < len(report.parameters):
                _draw_coverage(axes[2, i], report, i)
            else:
                _draw_legend(axes[2, i], report)
        _share_scales(axes[:2, :-1])
        for ax in axes[:, 1:-1].flat:
            ax.tick_params(labelleft=False)
        for row, name in zip(axes, ("images per rank bin", "ECDF - uniform", "empirical coverage"), strict=True):
            row[0].set_ylabel(name)
        verdict = ("calibrated" if report.complete else "calibrated, as far as so few images tell") if report.passed else "NOT calibrated"
        fig.suptitle(f"{verdict}: {len(report.pit)} held-out simulations, {report.n_draws} draws each")
    return fig


def _share_scales(axes: Array) -> None:
    """Give each row one vertical scale. The joint ranks keep their own: they react far more strongly."""
    for row in axes:
        lows, highs = zip(*(ax.get_ylim() for ax in row), strict=True)
        for ax in row:
            ax.set_ylim(min(lows), max(highs))


def _draw_ranks(ax: "Axes", report: CalibrationReport, i: int) -> None:
    ranks = report.ranks
    ax.axhspan(ranks.low, ranks.high, color=GREY, alpha=0.25, lw=0)
    ax.axhline(ranks.expected, color=GREY, ls="--", lw=0.9)
    ax.stairs(ranks.counts[:, i], ranks.edges, color=BLUE, lw=1.3)
    ax.set(xlim=(0, 1), ylim=(0, 1.12 * max(ranks.counts[:, i].max(), ranks.high)), xlabel="rank of the truth")


def _draw_ecdf(ax: "Axes", report: CalibrationReport, i: int) -> None:
    ecdf = report.ecdf
    ax.fill_between(ecdf.at, ecdf.low, ecdf.high, color=GREY, alpha=0.25, lw=0)
    ax.axhline(0, color=GREY, ls="--", lw=0.9)
    ax.plot(ecdf.at, ecdf.difference[:, i], color=BLUE)
    ax.set(xlim=(0, 1), xlabel="rank of the truth")


def _draw_coverage(ax: "Axes", report: CalibrationReport, i: int) -> None:
    curve, marked = report.curve, report.coverage
    ax.fill_between(curve.levels, curve.levels - 2 * curve.error, curve.levels + 2 * curve.error, color=GREY, alpha=0.25, lw=0)
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", lw=0.9)
    ax.plot(curve.levels, curve.fraction[:, i], color=BLUE)
    ax.plot(marked.levels, marked.fraction[:, i], "o", color=BLUE, ms=3)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="nominal coverage", xticks=[0, 0.5, 1])


def _draw_legend(ax: "Axes", report: CalibrationReport) -> None:
    """Use the empty corner below the joint ranks to say what the lines and bands are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    level = f"{report.ranks.level:.0%}"
    handles = [
        Line2D([], [], color=BLUE, label="this posterior"),
        Line2D([], [], color=GREY, ls="--", label="exact posterior"),
        Patch(color=GREY, alpha=0.25, lw=0, label=f"chance: {level}\nsimultaneous;\n2 sd (coverage)"),
    ]
    ax.axis("off")
    ax.legend(handles=handles, loc="center", handlelength=1.5)


def plot_accuracy(report: CalibrationReport) -> "Figure":
    """Draw bias and scatter, contraction, z-score and coverage per bin of estimated S/N, one row for each parameter."""
    from matplotlib.figure import Figure

    result = report.accuracy
    filled = np.flatnonzero(result.n_images > 0)
    x = np.arange(len(filled))
    ticks: dict[str, Any] = {
        "xticks": x, "xticklabels": [f"{result.labels[k]}\n{result.n_images[k]}" for k in filled], "xlim": (-0.6, len(filled) - 0.4),
    }  # fmt: skip
    with style():
        n = len(report.parameters)
        fig = Figure(figsize=(4 * ACCURACY_INCHES[0] + 0.4, n * ACCURACY_INCHES[1] + 0.8), layout="constrained")
        axes = fig.subplots(n, 4, squeeze=False, sharex=True)
        for i, (row, label) in enumerate(zip(axes, report.parameters.labels, strict=True)):
            bias, shrink, z, cover = row
            bias.axhline(0, color=GREY, ls="--", lw=0.9)
            bias.errorbar(x, result.bias[filled, i], result.scatter[filled, i], fmt="o", color=BLUE, ms=4, capsize=2, lw=1)
            bias.set_ylabel(label)
            shrink.axhline(1, color=GREY, ls="--", lw=0.9)
            shrink.semilogy(x, result.contraction[filled, i], "o-", color=BLUE, ms=4)
            _plain_log_ticks(shrink, result.contraction[filled, i])
            z.axhline(1, color=GREY, ls="--", lw=0.9)
            error = 1 / np.sqrt(2 * result.n_images[filled])
            z.fill_between(x, 1 - 2 * error, 1 + 2 * error, color=GREY, alpha=0.25, lw=0)
            z.plot(x, result.rms_z[filled, i], "o-", color=BLUE, ms=4)
            for level, values, colour, marker in ((0.68, result.coverage_68, BLUE, "o"), (0.95, result.coverage_95, ORANGE, "s")):
                half = 2 * np.sqrt(level * (1 - level) / result.n_images[filled])
                cover.fill_between(x, level - half, np.minimum(level + half, 1), color=colour, alpha=0.2, lw=0)
                cover.axhline(level, color=colour, ls="--", lw=0.9)
                cover.plot(x, values[filled, i], marker=marker, ls="-", color=colour, ms=4, label=f"{level:.0%}")
        for ax, title in zip(
            axes[0], ("bias ± 1.48 MAD", "posterior sd / prior sd", "rms of (mean - truth) / sd", "coverage"), strict=True
        ):
            ax.set_title(title)
        for ax in axes[-1]:
            ax.set(**ticks)
        lowest = np.nanmin(result.coverage_68)
        for ax in axes[:, 3]:
            ax.set_ylim(min(0.5, lowest) - 0.12, 1.02)
        for ax in axes[:, 2]:
            ax.set_ylim(*_around_one(result.rms_z))
        axes[0, 3].legend(loc="lower right", ncols=2)
        fig.supxlabel("estimated S/N (number of images below)", fontsize=8)
    return fig


def _around_one(values: Array) -> tuple[float, float]:
    """Return limits that hold all values and show the distance from one."""
    finite = values[np.isfinite(values)]
    return min(0.7, float(finite.min()) - 0.1), max(1.3, float(finite.max()) + 0.1)


def _plain_log_ticks(ax: "Axes", values: Array) -> None:
    """Label a logarithmic axis of shares with plain numbers, at 1-2-5 steps."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    positive = values[values > 0]
    ax.set_ylim(0.7 * min(positive.min(), 0.5) if len(positive) else 0.1, 1.5)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
