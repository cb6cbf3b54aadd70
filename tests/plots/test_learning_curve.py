import numpy as np
import pytest

from astroflow.errors import InputError
from astroflow.plots import plot_learning_curve, save_figure


def history(n=30, best=20):
    return [
        {
            "step": 100 * (i + 1), "epoch": i + 1, "train_loss": -5 - i / 30 + (500 if i == 0 else 0),
            "val_loss": None if i % 2 else -5 + 0.001 * (i - best) ** 2, "learning_rate": 1e-3 * (1 - i / n),
        }
        for i in range(n)
    ]  # fmt: skip


def test_best_epoch_is_marked(tmp_path):
    fig = plot_learning_curve(history())
    losses, rate = fig.axes
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == ["training", "held out", "best: epoch 21, -5.000 nats"]
    star = losses.lines[-1]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (2100, -5.0)
    assert "nats" in losses.get_ylabel()
    assert rate.get_xlabel() == "step"
    assert save_figure(fig, tmp_path / "curve.png").stat().st_size > 5000


def test_members_have_a_curve_each():
    records = [{"member": k, **record} for k, best in enumerate((10, 16, 20)) for record in history(best=best)]
    losses = plot_learning_curve(records).axes[0]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["training, 3 members", "held out, 3 members"]
    assert [line.get_xdata()[0] for line in losses.lines if line.get_marker() == "*"] == [1100, 1700, 2100]
    assert max(len(line.get_xdata()) for line in losses.lines) == 30


def test_epochs_without_validation_leave_no_gap():
    held_out = plot_learning_curve(history()).axes[0].lines[1]
    assert len(held_out.get_xdata()) == 15
    assert np.isfinite(held_out.get_ydata()).all()


def test_a_huge_first_loss_does_not_flatten_the_rest():
    assert plot_learning_curve(history()).axes[0].get_ylim()[1] < 0


@pytest.mark.parametrize(
    "records",
    [
        [{"step": 1, "epoch": 0, "train_loss": 3.0}],
        [{"step": 1, "train_loss": float("nan"), "val_loss": None, "learning_rate": 1e-3}],
        [{"step": i, "train_loss": 1.0, "val_loss": 1.0, "learning_rate": 0.0} for i in range(3)],
    ],
)
def test_short_and_odd_histories_are_drawn(records, tmp_path):
    assert save_figure(plot_learning_curve(records), tmp_path / "short.png").exists()


def test_an_empty_history_is_refused():
    with pytest.raises(InputError, match="empty"):
        plot_learning_curve([])
