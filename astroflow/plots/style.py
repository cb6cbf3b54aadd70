"""How figures look, and how they reach a file.

Colours are those of Okabe & Ito, which people with any colour vision can tell apart; what matters is also told by line style or
filling. Settings live in the context `style`, so that importing or calling astroflow changes nothing in anybody's notebook.
"""

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "RED", "drawable", "literal", "save_figure", "style"]

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astroflow.errors import InputError
from astroflow.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#7F7F7F"

# Dates and versions of libraries would make the same picture differ from run to run.
FIXED_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    ".svg": {"Date": None, "Creator": None},
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in astroflow's style inside this context; settings are as before afterwards."""
    import matplotlib.style
    from cycler import cycler

    settings: Any = {
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.labelsize": 8,
        "axes.linewidth": 0.7,
        "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, GREY]),
        "figure.titlesize": 10,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "lines.linewidth": 1.3,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "image.origin": "lower",
        "image.interpolation": "nearest",
        "svg.hashsalt": "astroflow",
    }
    with matplotlib.style.context(["default", settings]):
        yield


def literal(text: object) -> str:
    """Return a name as matplotlib has to be given it, so that a dollar sign in it is one and begins no formula."""
    return str(text).replace("$", r"\$")


def drawable(text: str) -> str:
    """Return a text that may hold formulas, literally where matplotlib cannot read them."""
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser

    try:
        for line in text.split("\n"):
            if is_math_text(line):
                MathTextParser("path").parse(line)
    except ValueError:
        return literal(text)
    return text


def save_figure(fig: "Figure", path: str | Path, *, dpi: int = 120) -> Path:
    """Write a figure to a PNG, PDF or SVG file, whole or not at all; the same figure gives the same bytes.

    Parameters
    ----------
    fig : Figure
        What to write.
    path : str or Path
        Where; the suffix tells the format. Folders are made, a file that is there is replaced.
    dpi : int
        Pixels per inch.
    """
    path = Path(path)
    if path.suffix not in FIXED_METADATA:
        raise InputError(f"cannot write a figure as {path.name!r}: use one of {', '.join(FIXED_METADATA)}")
    buffer = io.BytesIO()
    with style():
        fig.savefig(buffer, format=path.suffix[1:], dpi=dpi, metadata=FIXED_METADATA[path.suffix])
    atomic_write(path, buffer.getvalue())
    return path
