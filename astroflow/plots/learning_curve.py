"""How training went: loss on fresh noise and on held-out simulations, and the learning rate."""

__all__ = ["plot_learning_curve"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from astroflow.errors import InputError
from astroflow.plots.style import BLUE, GREY, ORANGE, style
from astroflow.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_learning_curve(history: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw training and held-out loss over steps, with the best epoch marked, above the learning rate; a pair of curves for each member.

    Parameters
    ----------
    history : sequence of mapping
        One record per epoch: `step`, `epoch`, `train_loss`, `val_loss`, `learning_rate`, and of ensembles `member`; losses in nats per
        galaxy. A loss that was not measured may be missing, None or NaN.
    """
    from matplotlib.figure import Figure

    if not history:
        raise InputError("the training history is empty: nothing to draw")
    members: dict[Any, list[Mapping[str, Any]]] = {}
    for record in history:
        members.setdefault(record.get("member"), []).append(record)
    of = f", {len(members)} members" if len(members) > 1 else ""
    with style():
        fig = Figure(figsize=(6.4, 4.6), layout="constrained")
        ax, below = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for k, records in enumerate(members.values()):
            _draw_member(ax, records, (f"training{of}", f"held out{of}") if k == 0 else (None, None), of == "")
        ax.set_ylim(*_loss_limits(_column(history, "train_loss"), _column(history, "val_loss")))
        ax.set_ylabel("loss, -log q [nats per galaxy]")
        ax.legend(loc="upper right")
        first = next(iter(members.values()))
        below.plot(_column(first, "step"), _column(first, "learning_rate"), color=GREY)
        below.set(xlabel="step", ylabel="learning rate")
        below.set_ylim(bottom=0)
    return fig


def _draw_member(ax: Any, records: Sequence[Mapping[str, Any]], labels: tuple[str | None, str | None], alone: bool) -> None:
    """Draw both losses of one network; the best epoch is named where there are no others."""
    step, train, val = (_column(records, name) for name in ("step", "train_loss", "val_loss"))
    for values, colour, dash, label in ((train, ORANGE, "--", labels[0]), (val, BLUE, "-", labels[1])):
        there = np.isfinite(values)
        size, width = (4 if there.sum() < 60 else 0, None) if alone else (0, 0.8)
        ax.plot(step[there], values[there], color=colour, ls=dash, marker=".", ms=size, lw=width, label=label)
    if not np.isfinite(val).any():
        return
    best = int(np.nanargmin(val))
    if alone:
        ax.axvline(step[best], color=GREY, ls=":", lw=1)
    name = f"best: epoch {records[best].get('epoch', best)}, {val[best]:.3f} nats" if alone else None
    ax.plot(step[best], val[best], marker="*", ms=11 if alone else 7, color=BLUE, mec="black", mew=0.5, ls="none", label=name)


def _column(history: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Return one column, NaN where it is missing."""
    values = [record.get(name) for record in history]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _loss_limits(train: Array, val: Array) -> tuple[float | None, float | None]:
    """Return limits that show the end of training: the first losses may be a hundred times larger."""
    start = len(train) // 10
    late = np.concatenate([train[start:], val[start:]])
    late = late[np.isfinite(late)]
    if not len(late):
        return None, None
    low, high = float(late.min()), float(late.max())
    margin = 0.08 * max(high - low, 1e-3)
    return low - margin, high + margin
