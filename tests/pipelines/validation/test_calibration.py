"""Sections of the page, of posteriors that are known: what a good one reads, and what one with a planted fault."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from astroflow.diagnostics import calibrate, quantile_bins
from astroflow.diagnostics.known import FAULTS, known_posterior
from astroflow.pipelines.validation import calibration as sections

LEADS = ["What it shows.", "How to read it.", "This run.", "What to do."]


def report_of(fault="exact", n=600, **changes):
    problem = known_posterior(n, seed=5)
    claim = FAULTS[fault](problem)
    draws = claim.draws(60)
    log_prob = claim.log_prob(problem.truth[:, None])[:, 0]
    return calibrate(
        changes.get("draws", lambda draws: draws)(draws), log_prob, problem.truth, problem.snr, problem.parameters, np.ones(3),
        features={"S/N": problem.snr, "estimate": problem.estimate[:, 0]}, binnings=[quantile_bins("S/N", problem.snr)],
        estimate=problem.estimate, log_prob_draws=claim.log_prob(draws), snr_edges=(10.0, 30.0, 100.0),
    )  # fmt: skip


def flat(draws):
    draws[:, :, 1] = draws[:, :1, 1]
    return draws


@pytest.fixture(scope="module")
def good():
    return report_of()


@pytest.fixture(scope="module")
def narrow():
    return report_of("width x 0.8", n=1200)


@pytest.fixture(scope="module")
def reports(good, narrow):
    return {"exact": good, "width x 0.8": narrow, "few": report_of(n=105), "no spread": report_of(n=300, draws=flat)}


def parsed(fragment):
    closed = re.sub("(<img[^>]*)>", r"\1/>", fragment)
    return ElementTree.fromstring(f"<div>{closed}</div>")


def found(fragment):
    """What the section says of this run."""
    (paragraph,) = [p for p in parsed(fragment).iter("p") if p.find("b") is not None and p.find("b").text == "This run."]
    return "".join(paragraph.itertext()).removeprefix("This run. ")


def kinds(fragment):
    return {cell.get("class") for cell in parsed(fragment).iter("td")}


@pytest.mark.parametrize("which", ["exact", "width x 0.8", "few", "no spread"])
def test_every_section_says_what_it_shows_how_to_read_it_what_was_found_and_what_to_do(reports, which):
    report = reports[which]
    made = [
        sections.ranks(report, Figure()),
        *(getattr(sections, name)(report) for name in sections.__all__ if name not in ("ranks", "is_judged")),
    ]
    assert len(made) == 6
    for section in made:
        leads = [lead.text for lead in parsed(section).iter("b")]
        assert leads == LEADS
        text = "".join(parsed(section).itertext())
        assert "Good:" in text
        assert "Bad:" in text
        assert "nan" not in text


def test_an_exact_posterior_is_found_nothing_wrong_with(good):
    made = [getattr(sections, name)(good) for name in ("coverage", "joint", "local", "image_by_image", "conformal")]
    assert not any("bad" in kinds(section) for section in made)
    assert found(made[1]).startswith("None failed; the smallest p-value of 4")
    assert found(made[2]).startswith("No bins failed")
    assert found(made[3]).startswith(
        "Passed: of 120 held-out simulations, truths can be told from draws at none. The classifier learned from 480"
    )
    low, high = (float(number.strip(".")) for number in found(made[4]).replace("Factors lie between ", "").split(" and "))
    assert 0.6 < low < 1 < high < 1.6


def test_error_bars_that_are_too_small_show_in_every_section(narrow):
    assert "bad" in kinds(sections.coverage(narrow))
    images = sections.image_by_image(narrow)
    assert found(images).startswith("Failed: of 200 held-out simulations, truths can be told from draws at ")
    assert "bad" in kinds(images)
    factors = np.concatenate([made.factor.ravel() for made in narrow.conformal])
    assert 1.2 < np.median(factors) < 1.45, "1 / 0.8, and what quantiles of 60 draws lack in width"


def test_the_worst_images_come_with_what_the_data_say_of_them(good):
    local = good.local_c2st
    rows = [[cell.text or "" for cell in row.iter("td")] for row in parsed(sections.image_by_image(good)).iter("tr")][2:]
    assert len(rows) == 5
    worst = np.lexsort((-local.result.statistic, local.result.adjusted))[:5]
    assert [row[0] for row in rows] == [f"image {local.rows[k]}" for k in worst]
    assert [row[1] for row in rows] == [f"{local.values[k, 0]:.3g}" for k in worst]


def test_what_failing_images_have_in_common_is_said():
    """A fault of the bright half alone: those told apart are brighter."""
    problem = known_posterior(1200, seed=5)
    draws = problem.claim(width=np.where(problem.faint, 1.0, 0.6)).draws(60)
    report = calibrate(
        draws, np.zeros(1200), problem.truth, problem.snr, problem.parameters, np.ones(3), features={"S/N": problem.snr}
    )  # fmt: skip
    rows = [[cell.text or "" for cell in row.iter("td")] for row in parsed(sections.image_by_image(report)).iter("tr")][1:]
    told, elsewhere = rows[1:3]
    assert told[0] == f"median of {report.local_c2st.suspicious.sum()} where truths can be told"
    assert float(told[1]) > 3 * float(elsewhere[1])
    assert [row[-1] for row in (rows[0], *rows[3:])] == ["FAIL"] * 6


def test_the_guarantee_of_the_factors_is_said(good):
    section = sections.conformal(good)
    text = "".join(parsed(section).itertext())
    for words in (
        "at least the probability it claims and, where no two factors agree, at most 1 / (n + 1) more",
        "of a bin that have a posterior", "not of single galaxies, of other surveys", "edges are fixed beforehand",
        "of 60 draws", "sharpened, refined, reweighted or another number have no guarantee", "--draws 60",
    ):  # fmt: skip
        assert words in text
    assert "below 10" in text
    assert "100 and more" in text
    assert f"68% to {0.68 + 1 / (good.conformal[0].n_images[0] + 1):.1%}" in text
    tables = [table.find("caption").text for table in parsed(section).iter("table")]
    assert tables == ["Factors for 68% intervals by estimated S/N", "Factors for 95% intervals by estimated S/N"]


def test_joint_regions_stand_beside_intervals_over_all_and_in_bins(good):
    report, local = sections.coverage(good), sections.local(good)
    captions = [table.find("caption").text for table in parsed(report).iter("table")]
    assert captions == ["Share of truths in central intervals", "Share of truths in joint regions"]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in parsed(report).iter("tr") if row[0].text}
    assert rows["highest density"] == [f"{share:.1%}" for share in good.joint_coverage.fraction[:, 1]]
    assert "ellipsoids (Mahalanobis)" in rows
    assert "regions of highest density, by" in found(report)
    (first,) = [table for table in parsed(local).iter("table") if table.find("caption").text.startswith("Coverage minus level")]
    cells = [[cell.text for cell in row.iter("td")] for row in first.iter("tr")][1:]
    assert len(cells) == 4
    calibration = good.local[0]
    for b, row in enumerate(cells):
        off = calibration.coverage[b, 1, :3] - 0.68
        worst = int(np.argmax(np.abs(off)))
        assert row[3] == f"{off[worst]:+.1%} {'abc'[worst]}", "of 68 % intervals"
        assert row[6:] == [f"{value:+.1%}" for value in calibration.coverage[b, :, 4] - calibration.levels]


def test_too_few_simulations_are_no_pass(reports):
    few = reports["few"]
    assert found(sections.image_by_image(few)).startswith("No test, which is no pass: not enough data: 84 simulations")
    assert found(sections.local(few)) == "Not enough data in any bin."
    assert "good" not in kinds(sections.image_by_image(few))
    tiny = report_of(n=40)
    cells = [cell.text for cell in parsed(sections.conformal(tiny)).iter("td")]
    assert cells.count("not enough data") == 12, "of four bins of some ten images, three parameters: too few for 95 %"


def test_a_parameter_without_spread_is_no_pass(reports):
    flat = reports["no spread"]
    assert not flat.passed
    assert "no spread" in found(sections.image_by_image(flat))
    assert "no factor mends them" in found(sections.conformal(flat))
    assert [cell.get("class") for cell in parsed(sections.conformal(flat)).iter("td") if cell.text == "none: no spread"] == ["bad"] * 8


def test_what_was_not_looked_at_says_so():
    problem = known_posterior(200, seed=5)
    report = calibrate(problem.claim().draws(40), np.zeros(200), problem.truth, problem.snr, problem.parameters, np.ones(3))
    assert "Not looked at." in sections.image_by_image(report)
    assert "Not looked at." in sections.conformal(replace(report, conformal=()))
