"""What the badges of a picture say."""

import numpy as np
import pytest

from astroflow.plots import plot_corner, plot_residual, save_figure
from astroflow.posteriors.exact.certificate import Verdict


def badges(fig):
    (legend,) = [found for found in fig.legends if found.get_gid() == "badges"]
    return {text.get_text(): patch for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)}


@pytest.mark.parametrize("kind", ["residual", "corner"])
def test_each_verdict_has_its_words_and_colour(kind, galaxies, parameters, tmp_path):
    verdicts = {"inference": Verdict.OK, "model": Verdict.FAILED}
    if kind == "residual":
        fig = plot_residual(*galaxies, verdicts=verdicts)
    else:
        u = np.random.default_rng(1).normal(0.3, 0.02, size=(300, len(parameters)))
        fig = plot_corner(parameters.prior.forward(u), parameters, verdicts=verdicts)
    found = badges(fig)
    assert list(found) == ["inference passed", "model FAILED"]
    assert found["inference passed"].get_facecolor() != found["model FAILED"].get_facecolor()
    assert found["model FAILED"].get_hatch()
    assert not found["inference passed"].get_hatch()
    assert save_figure(fig, tmp_path / "badges.png").exists()


def test_a_certificate_that_does_not_apply_says_so(galaxies):
    assert list(badges(plot_residual(*galaxies, verdicts={"inference": -1, "model": -1}))) == [
        "inference not applicable",
        "model not applicable",
    ]


def test_without_a_certificate_there_are_none(galaxies):
    assert not plot_residual(*galaxies).legends
