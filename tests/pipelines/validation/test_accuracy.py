"""Sections of the page on what a posterior is worth, of one that is known and of some with planted faults."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from astroflow.diagnostics import calibrate
from astroflow.diagnostics.estimated_accuracy import estimated_accuracy
from astroflow.diagnostics.known import FAULTS, known_posterior
from astroflow.pipelines.validation import accuracy as sections

RECORD = {"unusable": 30, "simulations": 630}


def made(fault="exact", spread=True):
    problem = known_posterior(600, seed=5)
    claim = FAULTS[fault](problem)
    draws = claim.draws(60)
    if not spread:
        draws[:, :, 1] = draws[:, :1, 1]
    log_prob = claim.log_prob(problem.truth[:, None])[:, 0]
    prior = -0.5 * (problem.truth**2 + np.log(2 * np.pi)).sum(1)
    report = calibrate(draws, log_prob, problem.truth, problem.snr, problem.parameters, np.ones(3), baseline_log_prob=prior)
    return report, estimated_accuracy(draws, problem.truth, problem.parameters, "S/N", problem.snr)


@pytest.fixture(scope="module")
def exact():
    return made()


def parsed(fragment):
    closed = re.sub("(<img[^>]*)>", r"\1/>", fragment)
    return ElementTree.fromstring(f"<div>{closed}</div>")


def text(fragment):
    return "".join(parsed(fragment).itertext())


def found(fragment):
    (paragraph,) = [p for p in parsed(fragment).iter("p") if p.find("b") is not None and p.find("b").text == "This run."]
    return "".join(paragraph.itertext()).removeprefix("This run. ")


def rows(fragment):
    return {
        (cells := [cell.text or "" for cell in row.iter("td")])[0]: cells[1:]
        for row in parsed(fragment).iter("tr")
        if row.find("td") is not None
    }


@pytest.mark.parametrize("fault", ["exact", "width x 0.8", "shift by 0.3 sd", "the prior", "no spread"])
def test_every_section_says_what_it_shows_how_to_read_it_what_was_found_and_what_to_do(fault):
    report, points = made(spread=False) if fault == "no spread" else made(fault)
    all_of_them = [
        sections.accuracy(report, Figure()), sections.learned(report), sections.points(points, RECORD), sections.score(report),
    ]  # fmt: skip
    for section in all_of_them:
        assert [lead.text for lead in parsed(section).iter("b")] == ["What it shows.", "How to read it.", "This run.", "What to do."]
        assert "Good:" in text(section)
        assert "Bad:" in text(section)
        assert "nan" not in text(section)


def test_what_an_exact_posterior_has_learned(exact):
    report, _ = exact
    shown = rows(sections.learned(report))
    for i, name in enumerate("abc"):
        median, _, mean, mean_z, sd_z = shown[name]
        assert median == f"{np.median(report.sharpness.contraction[:, i]):.3f}"
        assert 0.3 < float(mean) < 1
        assert abs(float(mean_z)) < 4 * float(shown["chance (1 sd)"][3])
        assert abs(float(sd_z) - float(shown["exact, if normal"][4])) < 4 * float(shown["chance (1 sd)"][4])


def test_faults_show_in_contraction_and_z():
    shown = {fault: rows(sections.learned(made(fault)[0])) for fault in ("width x 0.8", "shift by 0.3 sd", "the prior")}
    chance = float(shown["width x 0.8"]["chance (1 sd)"][4])
    assert float(shown["width x 0.8"]["b"][4]) - 1 > 5 * chance
    assert float(shown["shift by 0.3 sd"]["a"][3]) > 4 * chance
    assert abs(float(shown["the prior"]["c"][2])) < 0.1, "nothing learned, though its ranks are uniform"
    flat = rows(sections.learned(made(spread=False)[0]))
    assert float(flat["b"][4]) > 1e6, "certain, and wrong"


def test_medians_are_scored_in_bins_of_the_data_and_say_so(exact):
    section = sections.points(exact[1], RECORD)
    captions = [table.find("caption").text for table in parsed(section).iter("table")]
    assert captions == [f"{word} of posterior medians by S/N" for word in ("Bias", "Scatter", "Outliers")]
    assert "The challenge bins by true magnitude; here bins are of an estimated one" in text(section)
    assert "Completeness: 95.2% of 630 galaxies have a posterior" in text(section)
    assert rows(section)["galaxies"] == ["", *["120"] * 5]


def test_a_shift_shows_as_bias_against_scatter(exact):
    def ratio(points):
        return float(found(sections.points(points, RECORD)).split(" in one bin ")[1].split(" ")[0])

    assert ratio(exact[1]) < 4 * 0.12
    assert found(sections.points(made("shift by 0.3 sd")[1], RECORD)).startswith("Bias is largest against its scatter for a")
    assert ratio(made("the prior")[1]) < 0.6, "unbiased, though it has learned nothing"


def test_the_log_score_has_its_gain_and_its_zero_densities(exact):
    report = exact[0]
    assert f"{report.gain.mean:+.2f} +- {report.gain.error:.2f} nats against" in found(sections.score(report))
    assert "; 0 truths have density zero" in found(sections.score(report))
    assert made("the prior")[0].gain.mean == pytest.approx(0, abs=1e-9)


def test_what_is_missing_is_a_sentence(exact):
    assert "None could be drawn" in text(sections.examples("None could be drawn.", exact[0]))
