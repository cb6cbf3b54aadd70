"""What rows of a finished run are counted as, against what their columns say one by one."""

import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.pipelines.tally import Tally, tally
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import SUSPECT, Flag


def write(folder, index, flags, quality, inference, model):
    int8 = pa.int8()
    columns = {
        "flags": pa.array(flags, pa.int64()), "quality": pa.array(quality, int8), "inference_ok": pa.array(inference, int8),
        "model_ok": pa.array(model, int8),
    }  # fmt: skip
    parquet.write_table(pa.table(columns), folder / f"part-{index:05d}.parquet")


def test_verdicts_and_reasons_are_counted_over_all_parts(tmp_path):
    poor, low = int(Flag.INFERENCE_POOR), int(Flag.LOW_SNR)
    remark = int(Flag.MASKED)
    write(tmp_path, 0, [0, poor | low | remark, low, int(Flag.NO_DATA) | low], [0, 1, 1, 2], [1, 0, 1, None], [1, 1, -1, None])
    write(tmp_path, 1, [poor, remark], [1, 0], [0, -1], [0, -1])
    found = tally(tmp_path, certified=True)
    assert found.suspect == {Flag.LOW_SNR: 2, Flag.INFERENCE_POOR: 2}, "remarks make nothing suspect, unusable rows are not called so"
    assert found.verdicts["inference"] == {Verdict.OK: 2, Verdict.FAILED: 2, Verdict.NOT_APPLICABLE: 1}
    assert found.verdicts["model"] == {Verdict.OK: 2, Verdict.FAILED: 1, Verdict.NOT_APPLICABLE: 2}
    assert found.lines() == [
        "suspect for: LOW_SNR 2, INFERENCE_POOR 2",
        "inference: 2 OK, 2 failed, 1 not applicable",
        "model: 2 OK, 1 failed, 2 not applicable",
    ]
    assert json.loads(json.dumps(found.numbers())) == {
        "suspect_flags": {"LOW_SNR": 2, "INFERENCE_POOR": 2},
        "verdicts": {
            "inference": {"ok": 2, "failed": 2, "not_applicable": 1},
            "model": {"ok": 2, "failed": 1, "not_applicable": 2},
        },
    }


def test_a_run_without_certificates_has_reasons_alone(inferred):
    found = tally(inferred / "catalog", certified=False)
    table = read_posterior_catalog(inferred / "catalog")
    flags = np.asarray(table["flags"])[np.asarray(table["quality"]) == 1]
    assert found.suspect == {flag: n for flag in Flag if flag & SUSPECT and (n := int(((flags & flag) != 0).sum()))}
    assert found.verdicts == {}
    assert "verdicts" not in found.numbers()


def test_nothing_suspect_is_nothing_said(tmp_path):
    assert tally(tmp_path, certified=False) == Tally({}, {})
    assert Tally({}, {}).lines() == []
    assert Tally({}, {}).numbers() == {"suspect_flags": {}}
