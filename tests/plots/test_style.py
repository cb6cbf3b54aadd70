import os
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from astroflow.errors import InputError
from astroflow.plots import save_figure, style
from astroflow.plots.style import drawable, literal


def drawn(title="a title"):
    with style():
        fig = Figure(figsize=(2, 2))
        ax = fig.subplots()
        ax.plot([0, 1], [0, 1])
        ax.set_title(title)
    return fig


def test_style_ends_with_its_context():
    import matplotlib

    before = matplotlib.rcParams["font.size"]
    with style():
        assert matplotlib.rcParams["font.size"] == 8
        assert matplotlib.rcParams["image.origin"] == "lower"
    assert matplotlib.rcParams["font.size"] == before


def test_style_does_not_depend_on_the_users_settings(tmp_path):
    import matplotlib

    plain = save_figure(drawn(), tmp_path / "plain.png").read_bytes()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.facecolor": "red"}):
        assert save_figure(drawn(), tmp_path / "odd.png").read_bytes() == plain


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, suffix):
    first = save_figure(drawn(), tmp_path / f"first.{suffix}").read_bytes()
    assert save_figure(drawn(), tmp_path / f"second.{suffix}").read_bytes() == first
    assert save_figure(drawn("another"), tmp_path / f"third.{suffix}").read_bytes() != first


def test_saving_makes_folders_replaces_files_and_leaves_no_scraps(tmp_path):
    path = tmp_path / "deep" / "figure.png"
    assert save_figure(drawn("old"), path) == path
    old = path.read_bytes()
    save_figure(drawn("new"), path)
    assert path.read_bytes() != old
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_figure(drawn("old"), tmp_path / "figure.png")
    old = path.read_bytes()

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        save_figure(drawn("new"), path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match="use one of .png, .pdf, .svg"):
        save_figure(drawn(), tmp_path / "figure.docx")


def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, astroflow.plots; sys.exit('matplotlib' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["gal$_$1.fits", "a$1", "$", "$$", "gal\\$_$x$y", "plain"])
def test_a_name_is_drawn_as_it_is_written(tmp_path, name):
    fig = drawn(literal(name))
    _, is_math = fig.axes[0].title._preprocess_math(fig.axes[0].get_title())
    assert not is_math
    assert fig.axes[0].title._preprocess_math(fig.axes[0].get_title())[0] == name
    assert save_figure(fig, tmp_path / "figure.png").exists()


def test_formulas_stay_and_what_is_none_is_drawn_literally(tmp_path):
    assert drawable("galaxy 7 $\\chi^2_r$=1.2") == "galaxy 7 $\\chi^2_r$=1.2"
    assert drawable("$R_e$ [arcsec]\n$n$") == "$R_e$ [arcsec]\n$n$"
    assert drawable("gal$_$1 $\\chi^2$") == "gal\\$_\\$1 \\$\\chi^2\\$"
    assert save_figure(drawn(drawable("gal$_$1 $\\chi^2$")), tmp_path / "figure.png").exists()
