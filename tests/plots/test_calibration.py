import numpy as np
from matplotlib.colors import to_hex

from astroflow.plots import plot_accuracy, plot_calibration, save_figure
from astroflow.plots.style import RED


def test_every_parameter_has_ranks_ecdf_and_coverage_with_references(report):
    fig = plot_calibration(report)
    axes = np.reshape(fig.axes, (3, 8))
    assert [ax.get_title().split("\n")[0] for ax in axes[0]] == [
        "magnitude", "$R_e$", "Sersic $n$", "$e_1$", "$e_2$", r"$\Delta x$", r"$\Delta y$", "joint distance",
    ]  # fmt: skip
    assert axes[0, 0].get_ylabel() == "images per rank bin"
    for ranks, ecdf, coverage in axes.T[:-1]:
        # A band, a reference line, and the data.
        band, curve = ranks.patches
        assert (band.get_y(), band.get_y() + band.get_height()) == (report.ranks.low, report.ranks.high)
        assert curve.get_data().values.sum() == 300
        assert list(ranks.lines[0].get_ydata()) == [report.ranks.expected] * 2
        assert len(ecdf.collections) == 1
        assert list(ecdf.lines[0].get_ydata()) == [0, 0]
        assert list(coverage.lines[0].get_ydata()) == [0, 1]
        assert len(coverage.collections) == 1
    np.testing.assert_array_equal(axes[1, 2].lines[1].get_ydata(), report.ecdf.difference[:, 2])
    np.testing.assert_array_equal(axes[2, 2].lines[1].get_ydata(), report.curve.fraction[:, 2])
    assert "calibrated: 300 held-out simulations, 50 draws each" in fig.get_suptitle()


def test_bars_and_curves_are_inside_the_axes(make_report):
    report = make_report(width=0.3)
    axes = np.reshape(plot_calibration(report).axes, (3, 8))
    for i, ax in enumerate(axes[0]):
        assert ax.get_ylim()[1] > report.ranks.counts[:, i].max()
    for i, ax in enumerate(axes[1]):
        low, high = ax.get_ylim()
        assert low < report.ecdf.difference[:, i].min()
        assert high > report.ecdf.difference[:, i].max()


def test_a_failing_parameter_has_a_red_title_and_a_failing_report_says_so(make_report, report):
    wrong = plot_calibration(make_report(width=0.5))
    assert wrong.get_suptitle().startswith("NOT calibrated")
    assert to_hex(wrong.axes[0].title.get_color()).upper() == RED
    assert report.problems[0] == ()
    assert to_hex(plot_calibration(report).axes[0].title.get_color()) == "#000000"


def test_accuracy_has_units_references_and_counts(report, tmp_path):
    fig = plot_accuracy(report)
    axes = np.reshape(fig.axes, (7, 4)).T
    assert axes[0, 0].get_ylabel() == "magnitude [mag]"
    assert [ax.get_title() for ax in axes[:, 0]] == ["bias ± 1.48 MAD", "posterior sd / prior sd", "rms of (mean - truth) / sd", "coverage"]
    assert axes[0, 1].get_ylabel() == "$R_e$ [arcsec]"
    assert "estimated S/N" in fig.get_supxlabel()
    filled = report.accuracy.n_images > 0
    assert filled.sum() == 4
    shown = [label.get_text().split("\n") for label in axes[3, -1].get_xticklabels()]
    assert shown == [[a, str(b)] for a, b in zip(np.array(report.accuracy.labels)[filled], report.accuracy.n_images[filled], strict=True)]
    assert list(axes[0, 3].lines[0].get_ydata()) == [0, 0]
    for row in (1, 2):
        assert list(axes[row, 3].lines[0].get_ydata()) == [1, 1]
    np.testing.assert_array_equal(axes[1, 3].lines[1].get_ydata(), report.accuracy.contraction[filled, 3])
    assert {line.get_ydata()[0] for line in axes[3, 3].lines} >= {0.68, 0.95}
    assert save_figure(fig, tmp_path / "accuracy.png").stat().st_size > 10_000


def test_the_type_of_the_accuracy_figure_is_no_smaller_than_seven_points_on_a_page(report):
    """A page is 75 rem of 16 pixels wide, less its margins; a figure that is wider is made smaller, its type with it."""
    from matplotlib.text import Text

    fig = plot_accuracy(report)
    shrunk = min(1.0, (75 - 3) * 16 / (110 * fig.get_figwidth()))
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) * shrunk >= 6.99


def test_calibration_figure_can_be_written(report, tmp_path):
    assert save_figure(plot_calibration(report), tmp_path / "calibration.png").stat().st_size > 10_000
