"""One self-contained HTML page: no script, no request to anywhere, light and dark, readable on paper.

Sections, tables and pictures become strings here; `page` says what stands on one.
"""

__all__ = ["badge", "bullets", "document", "explained", "listing", "paragraph", "picture", "section", "table"]

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from astroflow.plots.style import FIXED_METADATA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root {
  color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d5d9de; --soft: #f4f6f8;
  --good: #00704f; --bad: #b34700; --open: #5b6470
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #15181c; --line: #3a4047; --soft: #1e2227; --good: #3fc79a; --bad: #ff9a5c; --open: #a3acb7 }
  img:not(.photograph) { filter: invert(1) hue-rotate(180deg) }
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 75rem; margin: auto; padding: 1.5rem }
h1 { font-size: 1.6rem; margin: 0 0 .5rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-bottom: 1px solid var(--line) }
p, li { max-width: 55rem } p { margin: .5rem 0 } img { max-width: 100%; height: auto }
.wide { overflow-x: auto; margin: .7rem 0 }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--line) }
td { white-space: nowrap } th { vertical-align: bottom }
th:first-child, td:first-child { text-align: left } caption { text-align: left; font-weight: 600; padding: .3rem 0; white-space: nowrap }
.words :is(th, td) { text-align: left; white-space: normal; overflow-wrap: anywhere }
.good { color: var(--good) } .bad { color: var(--bad); font-weight: 700 } .open { color: var(--open) }
.verdict { border-left: .4rem solid; padding: .6rem 1rem; background: var(--soft); margin: 1rem 0 }
.verdict strong { font-size: 1.25rem }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; font-size: .8rem; white-space: pre-wrap }
@media print { body { max-width: none; font-size: 11pt } h2 { break-after: avoid } table, img { break-inside: avoid } img { filter: none } }
"""
KINDS = ("good", "bad", "open")


def document(title: str, body: Iterable[str]) -> str:
    """Return a page of sections."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    # an empty icon, or browsers ask the server for one
    head += f'<link rel="icon" href="data:,"><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def section(title: str, *parts: str) -> str:
    """Return a section with a heading."""
    return f"<section><h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "</section>"


def explained(title: str, *parts: str, shows: str, reading: str, found: str, do: str) -> str:
    """Return a section that says what a test shows, how good and bad look, what was `found` this time (then `parts`), and what to `do`."""
    before = (paragraph(shows, "What it shows."), paragraph(reading, "How to read it."), paragraph(found, "This run."))
    return section(title, *before, *parts, paragraph(do, "What to do."))


def paragraph(text: str, lead: str = "") -> str:
    """Return a paragraph, which may begin with a few words in bold."""
    start = f"<b>{html.escape(lead)}</b> " if lead else ""
    return f"<p>{start}{html.escape(text)}</p>"


def bullets(lines: Sequence[str]) -> str:
    """Return a list."""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def listing(text: str) -> str:
    """Return text as it stands, to be copied."""
    return f"<pre>{html.escape(text)}</pre>"


def badge(kind: str, word: str, text: str) -> str:
    """Return the verdict's box; `kind` is one of `KINDS`."""
    return f'<div class="verdict {kind}"><strong>{html.escape(word)}</strong> {html.escape(text)}</div>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str | tuple[str, str]]], *, words: bool = False) -> str:
    """Return a table, of numbers or of `words`; a cell is a text, or one of `KINDS` and a text; without names there is no head."""

    def cell(value: str | tuple[str, str]) -> str:
        if isinstance(value, str):
            return f"<td>{html.escape(value)}</td>"
        kind, text = value
        return f'<td class="{kind}">{html.escape(text)}</td>'

    lines = ["<tr>" + "".join(cell(value) for value in row) + "</tr>" for row in rows]
    top = "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>" if any(head) else ""
    opened = '<table class="words">' if words else "<table>"
    return f'<div class="wide">{opened}<caption>{html.escape(caption)}</caption>{top}{"".join(lines)}</table></div>'


def picture(figure: "Figure", description: str, *, dpi: int = 110, photograph: bool = False) -> str:
    """Return a figure as part of the page; on a dark page it is dark, but a `photograph`, where light means light, stays as it is."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata=FIXED_METADATA[".png"])
    data = base64.b64encode(buffer.getvalue()).decode()
    kind = ' class="photograph"' if photograph else ""
    return f'<img{kind} alt="{html.escape(description, quote=True)}" src="data:image/png;base64,{data}">'
