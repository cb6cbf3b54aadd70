"""Badges: the two verdicts of a certificate as coloured labels, so that a picture by itself says what can be trusted."""

__all__ = ["add_badges"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astroflow.plots.style import GREEN, GREY, RED
from astroflow.posteriors.exact.certificate import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {Verdict.OK: ("passed", GREEN, ""), Verdict.FAILED: ("FAILED", RED, "////"), Verdict.NOT_APPLICABLE: ("not applicable", GREY, "")}
"""What a verdict is called, its colour, and a hatch that shows without colour."""


def add_badges(fig: "Figure", verdicts: Mapping[str, int], **place: Any) -> None:
    """Add one badge for each verdict to a figure.

    Parameters
    ----------
    fig : Figure
        The picture.
    verdicts : mapping of str to int
        Values of `astroflow.posteriors.exact.certificate.Verdict` by the name of the question.
    **place
        Where, as `matplotlib.figure.Figure.legend` takes it.
    """
    from matplotlib.patches import Patch

    handles = []
    for question, verdict in verdicts.items():
        word, colour, hatch = LOOKS[Verdict(int(verdict))]
        handles.append(Patch(facecolor=colour, edgecolor="white", hatch=hatch, label=f"{question} {word}"))
    legend = fig.legend(handles=handles, ncols=len(handles), fontsize=9, **place)
    legend.set_gid("badges")
