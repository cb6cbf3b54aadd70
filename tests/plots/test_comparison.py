import numpy as np
import pytest

from astroflow.diagnostics import compare
from astroflow.plots import plot_comparison, save_figure


@pytest.fixture
def comparison():
    rng = np.random.default_rng(4)
    published = {"mag": rng.uniform(20, 24, 60), "q": rng.uniform(0.2, 1, 60)}
    inferred = {name: column + rng.normal(0.02, 0.05, 60) for name, column in published.items()}
    inferred["q"][5] = np.nan
    return compare(published, inferred, error={"mag": np.full(60, 0.05)}, flagged=np.arange(60) < 10)


def test_it_shows_one_to_one_line_numbers_and_flagged_rows_open(comparison, tmp_path):
    fig = plot_comparison(comparison, labels={"mag": "F814W [mag]"})
    axes = np.reshape(fig.axes, (2, 2))
    assert [ax.get_title() for ax in axes[0]] == ["F814W [mag]", "q"]
    assert axes[0, 0].get_ylabel() == "inferred"
    assert axes[1, 1].get_xlabel() == "published"
    assert axes[0, 0].texts[0].get_text() == f"offset {comparison.offset[0]:+.3f}\n1.48 MAD {comparison.scatter[0]:.3f}"
    assert [text.get_text() for text in axes[0, 0].get_legend().get_texts()] == ["unflagged (50)", "flagged (10)"]
    solid, open_ = (container.lines[0] for container in axes[0, 0].containers)
    assert solid.get_markerfacecolor() != "none"
    assert open_.get_markerfacecolor() == "none"
    assert (len(solid.get_xdata()), len(open_.get_xdata())) == (50, 10)
    diagonal = axes[0, 0].lines[-1]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert any(list(line.get_ydata()) == [0, 0] for line in axes[1, 0].lines)
    assert save_figure(fig, tmp_path / "comparison.png").stat().st_size > 10_000


def test_rows_without_a_value_are_left_out(comparison):
    axes = np.reshape(plot_comparison(comparison).axes, (2, 2))
    assert sum(len(container.lines[0].get_xdata()) for container in axes[0, 1].containers) == 59


def test_nothing_to_compare_is_drawn_as_nothing(tmp_path):
    empty = compare({"mag": np.full(3, np.nan)}, {"mag": np.ones(3)})
    fig = plot_comparison(empty)
    assert fig.axes[0].texts[0].get_text() == "no rows"
    assert save_figure(fig, tmp_path / "empty.png").exists()
