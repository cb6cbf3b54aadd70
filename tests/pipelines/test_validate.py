import json
import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import astroflow.pipelines.validate as module
import astroflow.pipelines.validation.material as material
from astroflow.diagnostics import calibrate_locally, pit, quantile_bins
from astroflow.diagnostics.local import Outcome
from astroflow.diagnostics.local_c2st import LocalC2ST
from astroflow.diagnostics.local_verdict import LocalVerdict
from astroflow.errors import ConfigError, InputError
from astroflow.pipelines.validate import summary, validate
from astroflow.pipelines.validation.page import _verdict
from astroflow.pipelines.validation.reference import NO_REFERENCE, NOT_COMPARED
from astroflow.posteriors.bundle import load_posterior
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.validated import read_validation

REFERENCE = Path(__file__).parents[2] / "benchmarks" / "reference_posteriors" / "sersic_v1.npz"


@pytest.fixture(scope="module")
def bundle(small_bundle, tmp_path_factory):
    """A copy, as a validation leaves something with the bundle."""
    return shutil.copytree(small_bundle, tmp_path_factory.mktemp("validated") / "bundle")


@pytest.fixture(scope="module")
def validated(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("validation")
    return out, validate(bundle, out=out, n=200, n_draws=64, seed=77)


def test_a_report_of_numbers_and_pictures(validated, small_posterior):
    out, report = validated
    assert sorted(file.name for file in out.iterdir()) == ["accuracy.png", "calibration.png", "report.html", "validation.json"]
    assert all((out / name).stat().st_size > 20_000 for name in ("accuracy.png", "calibration.png"))
    record = json.loads((out / "validation.json").read_text())
    assert record["bundle"] == small_posterior.digest
    assert (record["simulations"], record["draws"], record["provenance"]["seed"], record["simulator"]) == (200, 64, 77, None)
    assert record["passed"] == report.passed
    assert record["summary"] == summary(report)
    assert record["names"] == [*small_posterior.parameters.names, "joint"]
    assert record["unusable"] + len(report.pit) == 200
    assert record["unusable"] <= 10
    assert np.isfinite(record["gain_over_baseline"]["mean"])
    fraction = np.array(record["coverage"]["fraction"])
    assert ((fraction >= 0) & (fraction <= 1)).all()
    assert (np.diff(fraction, axis=0) >= 0).all()


def test_the_page_asks_nobody_for_anything(validated):
    page = (validated[0] / "report.html").read_text()
    assert len(page) < 5e6
    assert not re.findall(r"<script|@import|url\(|<link(?! rel=\"icon\" href=\"data:)", page)
    assert set(re.findall(r"(?:src|href)=\"([^\"]{5})", page)) == {"data:"}
    assert page.count("<img") == 3
    titles = re.findall("<h2>(.*)</h2>", page)
    assert titles == [
        "Ranks of the truth", "Coverage", "All parameters together", "Right everywhere, or on average only?", "Image by image",
        "By what factor error bars are off", "Accuracy by signal-to-noise ratio", "How much was learned", "A catalog of best values",
        "Log score", "Least and most surprising galaxies", "Against exact posteriors", "Errors and warnings",
        "Methods, versions and references",
    ]  # fmt: skip
    explained = len(titles) - 3
    assert [page.count(f"<b>{lead}</b>") for lead in ("What it shows.", "How to read it.", "This run.", "What to do.")] == [explained] * 4


def test_so_few_simulations_say_nothing_of_single_images(validated):
    """Seven parameters and one feature need 360 pairs; it says so, and is no pass."""
    out, report = validated
    assert report.local_c2st.startswith("not enough data: ")
    assert not report.complete
    assert "No test, which is no pass: not enough data" in (out / "report.html").read_text()
    assert json.loads((out / "validation.json").read_text())["local_c2st"]["outcome"] == "not enough data"


def test_medians_and_factors_are_in_bins_of_the_data(validated):
    out, report = validated
    record = json.loads((out / "validation.json").read_text())
    points = record["point_accuracy"]
    assert points["by"] == "median mag"
    assert sum(points["images"]) == len(report.pit)
    assert set(points["scores"]) == {"flux", "re_arcsec", "n", "e1", "e2", "q"}
    assert [(made["by"], made["level"]) for made in record["conformal"]] == [("estimated S/N", 0.68), ("estimated S/N", 0.95)]
    assert record["conformal"][0]["edges"] == [None, 10, 30, 100, 300, None], "fixed, whatever galaxies were drawn"
    assert np.array(record["conformal"][0]["factor"]).shape == (5, len(report.parameters))
    assert record["joint_coverage"]["regions"][:2] == ["joint", "highest density"]
    assert record["local"][0]["columns"] == [*report.parameters.names, *record["joint_coverage"]["regions"]]


def test_a_comparison_that_breaks_off_and_a_bundle_that_cannot_be_written_lose_nothing_else(bundle, tmp_path, monkeypatch):
    """The rest is there while it runs, and after an error; neither says that it passed."""
    pages = []

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    def broken(*_):
        pages.append(((tmp_path / "report.html").read_text(), json.loads((tmp_path / "validation.json").read_text())))
        raise InputError("a galaxy of theirs is too large")

    monkeypatch.setattr(module, "exact_posteriors", lambda file, posterior: object())
    monkeypatch.setattr(module, "_compared", broken)
    monkeypatch.setattr(module, "attach_validation", refuse)
    with (
        pytest.warns(RuntimeWarning, match="could not be compared with: a galaxy of theirs is too large"),
        pytest.warns(RuntimeWarning, match="will not know of this validation"),
    ):
        report = validate(bundle, out=tmp_path, n=100, n_draws=32, seed=78, reference=REFERENCE)
    pages.append(((tmp_path / "report.html").read_text(), json.loads((tmp_path / "validation.json").read_text())))
    reasons = ["the comparison has not ended", "a galaxy of theirs is too large"]
    for (page, record), reason in zip(pages, reasons, strict=True):
        assert page.count(f"Not compared, which is no pass: {reason}") == 2, "in the verdict and in its section"
        assert "<strong>Calibrated.</strong>" not in page
        assert record["reference"] is None
        assert reason in record["why_no_reference"]
        assert record["passed"] == report.passed
    assert "RuntimeWarning: exact posteriors could not be compared with" in pages[1][0]
    assert "Permission denied" in pages[0][0]


@pytest.mark.parametrize(
    ("reference", "kind", "words"),
    [
        (NO_REFERENCE, "good", "Calibrated."),
        (f"{NOT_COMPARED}a galaxy is too large", "open", "Calibrated, but not compared with exact posteriors."),
    ],
)
def test_a_comparison_that_was_asked_for_and_not_made_is_no_full_pass(reference, kind, words):
    report = SimpleNamespace(passed=True, complete=True, verdict=["ok   mag"], pit=np.zeros((300, 8)), false_alarm=0.03)
    text = _verdict(report, reference)
    assert f'<div class="verdict {kind}"><strong>{words}</strong>' in text
    assert ("a galaxy is too large" in text) == (kind == "open")


def test_warnings_are_counted_and_come_up_once():
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        warnings.filterwarnings("ignore", message="of no interest")
        with module._noted() as texts:
            for word in ("again", "again", "of no interest", "again", "once"):
                warnings.warn(word, stacklevel=1)
    assert texts == ["UserWarning: again (3 times)", "UserWarning: once"]
    assert [str(one.message) for one in seen] == ["again", "once"]


def test_examples_are_chosen_among_the_images_that_were_asked_about(small_posterior, small_simulator):
    """The statistics of the classifier are made up; what is chosen by them is not."""
    stamps = small_simulator.draw(np.arange(60), seed=3)
    encoded = small_posterior.encode(stamps.stamps)
    draws = small_posterior.sample(encoded, 32, 1)
    features = material.data_features(encoded, draws, small_posterior.parameters)
    assert list(features)[:3] == ["estimated S/N", "median re_arcsec", "median n"]
    name, values = material.brightness(encoded, draws, small_posterior.parameters)
    assert name == "median mag"
    np.testing.assert_array_equal(values, np.median(draws[..., 0], 1))
    asked = np.arange(0, 60, 2)
    adjusted = np.linspace(0.1, 1, 30)
    local = LocalVerdict(asked, ("estimated S/N",), encoded.snr[asked, None], 30, LocalC2ST(adjusted, adjusted, adjusted, 0.5, 19))
    report = SimpleNamespace(pit=np.random.default_rng(1).random((60, 8)), local_c2st=local)
    shown = material.example_galaxies(small_posterior, encoded, draws, report)
    rows = shown.stamps.ids.astype(int)
    assert set(rows) <= set(asked)
    assert [caption.split("local p ")[1] for caption in shown.captions] == [f"{adjusted[row // 2]:.2g}" for row in rows]


def test_what_was_measured_is_attached_to_the_bundle(bundle, validated, small_posterior):
    attached = read_validation(bundle, small_posterior.digest)
    report = validated[1]
    assert attached.passed == report.passed
    np.testing.assert_array_equal(attached.coverage, report.local[0].coverage[..., : len(report.parameters)])
    np.testing.assert_array_equal(attached.together, report.local[0].coverage[..., report.local[0].names.index("highest density")])
    assert attached.attempts[0] == {"seed": 77, "images": len(report.pit), "draws": 64, "passed": report.passed}
    assert load_posterior(bundle).digest == small_posterior.digest, "it is no part of the identity"
    assert "never validated" in read_validation(bundle, "another")


def test_bins_are_of_the_data(validated):
    names = [found.bins.name for found in validated[1].local]
    assert names[:3] == ["estimated S/N", "median re_arcsec", "median n"]
    assert all((found.n_images.sum() == len(validated[1].pit)) for found in validated[1].local)


def test_bins_of_medians_raise_no_alarm_where_nothing_was_learned():
    """A posterior that is the prior is exact where images say nothing; medians of the ranked draws themselves would fail it."""
    rng = np.random.default_rng(4)
    truth, draws, others = rng.normal(size=2000), rng.normal(size=(2000, 32)), rng.normal(size=(2000, 32))
    values = pit(draws[..., None], truth[:, None])
    outcomes = [calibrate_locally(values, ["a"], [quantile_bins("median", np.median(d, 1))])[0].outcome for d in (others, draws)]
    assert (outcomes[0] == Outcome.PASSED).all()
    assert (outcomes[1] == Outcome.FAILED).any()


def test_a_spoilt_bundle_does_not_pass(other_bundle, validated, tmp_path):
    other = shutil.copytree(other_bundle, tmp_path / "bundle")
    report = validate(other, out=tmp_path, n=200, n_draws=64, seed=77)
    assert not report.passed
    assert any(line.startswith("FAIL") for line in report.verdict)
    factors = np.concatenate([made.factor.ravel() for made in report.conformal])
    fine = np.concatenate([made.factor.ravel() for made in validated[1].conformal])
    assert np.nanmax(factors) > np.nanmax(fine)
    assert np.abs(report.sharpness.z).mean() > np.abs(validated[1].sharpness.z).mean()
    assert report.log_score.mean < validated[1].log_score.mean
    assert json.loads((tmp_path / "validation.json").read_text())["passed"] is False


def test_workers_draw_the_same_simulations(small_forward_model, scheduler, monkeypatch):
    alone = module._drawn(small_forward_model, 50, 77, None, None)
    monkeypatch.setattr(module, "BLOCK", 30)
    shared = module._drawn(small_forward_model, 50, 77, scheduler, None)
    np.testing.assert_array_equal(shared.theta, alone.theta)
    for name in ("images", "psf", "rms", "mask", "ids"):
        np.testing.assert_array_equal(getattr(shared.stamps, name), getattr(alone.stamps, name))


def test_draws_that_are_not_finite_are_an_error_and_no_pass(bundle, tmp_path, monkeypatch):
    """A galaxy that is called usable and has a NaN among its draws is a bug of the posterior, which no page may hide."""
    sample = Posterior.sample

    def spoilt(self, *arguments):
        draws = sample(self, *arguments)
        draws[3, 5, 1] = np.nan
        return draws

    monkeypatch.setattr(Posterior, "sample", spoilt)
    with pytest.raises(InputError, match="images have draws or truths that are not finite"):
        validate(bundle, out=tmp_path, n=100, n_draws=32, seed=78)
    assert not list(tmp_path.iterdir())


def test_the_training_simulations_are_no_test(small_bundle, tmp_path):
    with pytest.raises(ConfigError, match="--seed 5 is the seed of the training simulations"):
        validate(small_bundle, out=tmp_path, n=200, seed=5)
    assert not list(tmp_path.iterdir())


def test_too_few_simulations_say_nothing(small_bundle, tmp_path):
    with pytest.raises(ConfigError, match="at least 100"):
        validate(small_bundle, out=tmp_path, n=20, seed=77)
    with pytest.raises(ConfigError, match="at least 32"):
        validate(small_bundle, out=tmp_path, n=200, n_draws=8, seed=77)
