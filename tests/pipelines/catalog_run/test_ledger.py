import json

import pytest

from astroflow.errors import InputError
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import Flag

RUN = "f" * 64
TALLY = Tally(5, 2, 1, {Flag.LOW_SNR: 2}, {Flag.NO_DATA: 1}, {"inference": {Verdict.OK: 5, Verdict.FAILED: 1, Verdict.NOT_APPLICABLE: 1}})
PART = "dataset/Norder=1/Dir=0/Npix=7.parquet"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path, RUN)


def test_a_receipt_is_what_was_kept(ledger):
    receipt = ledger.keep(PART, b"rows", TALLY)
    assert (ledger.catalog / PART).read_bytes() == b"rows"
    assert ledger.finished(PART) == ledger.receipt(PART) == receipt
    assert receipt.tally == TALLY


def test_a_part_that_is_not_what_its_receipt_says_is_not_finished(ledger):
    ledger.keep(PART, b"rows", TALLY)
    for content in (b"row", b"rowz", b""):
        (ledger.catalog / PART).write_bytes(content)
        assert ledger.finished(PART) is None
    (ledger.catalog / PART).unlink()
    assert ledger.finished(PART) is None
    assert ledger.finished("another.parquet") is None


def test_a_receipt_of_another_run_or_part_or_of_nothing_does_not_count(ledger, tmp_path):
    ledger.keep(PART, b"rows", TALLY)
    assert Ledger(tmp_path, "e" * 64).finished(PART) is None
    (file,) = (tmp_path / "ledger").iterdir()
    good = json.loads(file.read_text())
    spoilt = [good | {"part": "x.parquet"}, good | {"tally": {}}, {k: v for k, v in good.items() if k != "sha256"}, [], "text"]
    for content in [json.dumps(one) for one in spoilt] + ["", "{", "\x00"]:
        file.write_text(content)
        assert ledger.finished(PART) is None
    file.write_text(json.dumps(good))
    assert ledger.finished(PART) is not None


def test_a_run_that_is_opened_again_is_not_complete(ledger, tmp_path):
    receipt = ledger.keep(PART, b"rows", TALLY)
    ledger.conclude([receipt], {})
    for name in ("hats.properties", "properties", "partition_info.csv"):
        (ledger.catalog / name).write_text("complete")
    ledger.reopen()
    assert ledger.concluded() is None
    assert [file.name for file in ledger.catalog.iterdir()] == ["dataset"]
    assert ledger.finished(PART) == receipt
    ledger.reopen()


def test_a_part_stands_while_it_and_its_receipt_are_what_they_were(ledger):
    receipt = ledger.keep(PART, b"rows", TALLY)
    assert ledger.stands(receipt)
    later = ledger.keep(PART, b"others", TALLY)
    assert ledger.stands(later)
    assert not ledger.stands(receipt)
    (ledger.catalog / PART).unlink()
    assert not ledger.stands(later)


def test_a_manifest_is_of_its_parts_and_run(ledger, tmp_path):
    assert ledger.concluded() is None
    receipts = [ledger.keep(name, name.encode(), TALLY) for name in ("b.parquet", "a.parquet")]
    ledger.pieces("a.parquet").mkdir(parents=True)
    ledger.conclude(receipts, {"rows": 16})
    assert not (tmp_path / "stage").exists()
    manifest = ledger.concluded()
    assert manifest["rows"] == 16
    assert ledger.agrees(manifest, receipts[::-1])
    assert not ledger.agrees(manifest, receipts[:1])
    assert not ledger.agrees(manifest, [receipts[0], ledger.keep("a.parquet", b"other", TALLY)])
    with pytest.raises(InputError, match="is not the manifest of this run"):
        Ledger(tmp_path, "e" * 64).concluded()
    for content in ("", "[]", "{}"):
        ledger.manifest.write_text(content)
        with pytest.raises(InputError, match="is not the manifest of this run"):
            ledger.concluded()
