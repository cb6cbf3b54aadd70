"""What rows of a finished run are counted as, against what their columns say one by one."""

import json

import numpy as np
import pyarrow as pa
import pytest

from astroflow.catalogs.parts import part_files, read_part
from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import SUSPECT, Flag


def part(flags, quality, inference=None, model=None):
    columns = {"flags": pa.array(flags, pa.int64()), "quality": pa.array(quality, pa.int8())}
    if inference is not None:
        columns |= {"inference_ok": pa.array(inference, pa.int8()), "model_ok": pa.array(model, pa.int8())}
    return pa.table(columns)


@pytest.fixture
def counted():
    """Two parts with certificates, counted."""
    poor, low = int(Flag.INFERENCE_POOR), int(Flag.LOW_SNR)
    remark = int(Flag.MASKED)
    one = part([0, poor | low | remark, low, int(Flag.NO_DATA) | low], [0, 1, 1, 2], [1, 0, 1, None], [1, 1, -1, None])
    other = part([poor, remark], [1, 0], [0, -1], [0, -1])
    return Tally.of(one), Tally.of(other), Tally.of(pa.concat_tables([one, other]))


def test_verdicts_and_reasons_are_counted(counted):
    *_, found = counted
    assert (found.rows, found.good, found.suspect, found.unusable) == (6, 2, 3, 1)
    assert found.suspect_flags == {Flag.LOW_SNR: 2, Flag.INFERENCE_POOR: 2}, "remarks make nothing suspect, unusable rows are not called so"
    assert found.unusable_flags == {Flag.NO_DATA: 1}
    assert found.verdicts["inference"] == {Verdict.OK: 2, Verdict.FAILED: 2, Verdict.NOT_APPLICABLE: 1}
    assert found.verdicts["model"] == {Verdict.OK: 2, Verdict.FAILED: 1, Verdict.NOT_APPLICABLE: 2}
    assert found.lines() == [
        "6 rows: 2 good, 3 suspect, 1 unusable",
        "unusable for: NO_DATA 1",
        "suspect for: LOW_SNR 2, INFERENCE_POOR 2",
        "inference: 2 OK, 2 failed, 1 not applicable",
        "model: 2 OK, 1 failed, 2 not applicable",
    ]


def test_counts_of_parts_add_up_to_those_of_their_catalog(counted):
    one, other, whole = counted
    assert one + other == other + one == whole
    assert sum([one, other], Tally()) == whole
    assert Tally() + Tally() == Tally()


def test_counts_are_plain_numbers_and_back(counted):
    for tally in (*counted, Tally(), Tally.of(part([1], [2]))):
        assert Tally.of_numbers(json.loads(json.dumps(tally.numbers()))) == tally
    assert counted[2].numbers()["verdicts"]["model"] == {"ok": 2, "failed": 1, "not_applicable": 2}


def test_a_run_without_certificates_has_reasons_alone(inferred):
    found = sum((Tally.of(read_part(file)) for file in part_files(inferred / "catalog")), Tally())
    table = read_posterior_catalog(inferred / "catalog")
    flags = np.asarray(table["flags"])[np.asarray(table["quality"]) == 1]
    assert found.suspect_flags == {flag: n for flag in Flag if flag & SUSPECT and (n := int(((flags & flag) != 0).sum()))}
    assert found.verdicts == {}
    assert "verdicts" not in found.numbers()
    assert Tally().lines() == ["0 rows: 0 good, 0 suspect, 0 unusable"]
