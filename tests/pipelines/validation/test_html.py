"""Pages for people: what is written on them is text, never markup of its own."""

from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from astroflow.pipelines.validation.html import badge, bullets, document, explained, listing, paragraph, picture, section, table

NASTY = '<b>&"</b>'


def parsed(fragment):
    return ElementTree.fromstring(f"<div>{fragment}</div>")


@pytest.mark.parametrize(
    "fragment",
    [
        paragraph(NASTY, NASTY), bullets([NASTY]), listing(NASTY), badge("bad", NASTY, NASTY), section(NASTY, paragraph("text")),
        table(NASTY, (NASTY, "b"), [(NASTY, ("good", NASTY))]), table(NASTY, ("", ""), [(NASTY, "1")], words=True),
    ],
)  # fmt: skip
def test_text_is_text(fragment):
    assert NASTY in "".join(parsed(fragment).itertext())


def test_an_explained_section_says_what_it_shows_how_to_read_it_what_was_found_and_what_to_do():
    text = explained("title", listing("numbers"), shows="a", reading="b", found="c", do="d")
    leads = [lead.text for lead in parsed(text).iter("b")]
    assert leads == ["What it shows.", "How to read it.", "This run.", "What to do."]
    assert text.index("This run.") < text.index("numbers") < text.index("What to do.")


def test_cells_say_what_they_are():
    cells = parsed(table("widths", ("", "mag"), [("a", ("bad", "7"))])).findall(".//td")
    assert [(cell.get("class"), cell.text) for cell in cells] == [(None, "a"), ("bad", "7")]


def test_a_page_holds_its_pictures(tmp_path):
    page = document("a <title>", [picture(Figure(figsize=(1, 1)), 'of "nothing"')])
    assert "<title>a &lt;title&gt;</title>" in page
    assert 'alt="of &quot;nothing&quot;" src="data:image/png;base64,' in page
    assert "http" not in page
    assert "img:not(.photograph) { filter: invert" in page, "plots turn dark with the page, photographs do not"
    assert picture(Figure(figsize=(1, 1)), "galaxies", photograph=True).startswith('<img class="photograph" alt="galaxies"')
