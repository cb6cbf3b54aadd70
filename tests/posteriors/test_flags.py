import re

import numpy as np
import pytest

from astroflow.posteriors.flags import SUSPECT, UNUSABLE, Flag, flag_names, quality

FROZEN = {
    "NO_DATA": 0, "BAD_POSITION": 1, "NO_SIGNAL": 2, "BAD_PSF": 3, "BAD_RMS": 4, "READ_ERROR": 5, "CENTRE_MASKED": 6, "CRASHED": 7,
    "PSF_NORMALISED": 8, "PSF_RECENTRED": 9, "MASKED": 10, "CROPPED": 11, "PIXELS_REPAIRED": 12,
    "OOD_PSF": 16, "OOD_RMS": 17, "OOD_IMAGE": 18, "LOW_SNR": 19, "AT_BOUND": 20, "OOD_GAIN": 21,
    "OOD_CORRELATION": 22, "INFERENCE_POOR": 23, "MODEL_POOR": 24,
}  # fmt: skip


def table(root):
    """Rows of the tables in docs/flags.md: name -> (bit, value, effect)."""
    text = (root / "docs" / "flags.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {name: (int(bit), int(value), meaning, advice) for name, bit, value, meaning, advice in rows}, text


def test_bits_are_frozen():
    """Catalogs that exist hold these numbers: a bit is never changed and never used again."""
    assert {flag.name: int(flag).bit_length() - 1 for flag in Flag} == FROZEN
    assert all(int(flag) == 1 << FROZEN[flag.name] for flag in Flag)


def test_the_page_names_every_bit_and_no_other(root):
    rows, text = table(root)
    assert {name: row[0] for name, row in rows.items()} == FROZEN
    for name, (bit, value, meaning, advice) in rows.items():
        assert value == 1 << bit, name
        assert len(meaning) > 15, name
        assert len(advice) > 15, name
    unusable, suspect, remarks = (text.split(f"\n## {head}")[1].split("\n## ")[0] for head in ("Unusable", "Suspect", "Remarks"))
    for flag in Flag:
        section = unusable if flag & UNUSABLE else suspect if flag & SUSPECT else remarks
        assert f"| `{flag.name}` |" in section, flag.name


def test_unusable_and_suspect_do_not_overlap():
    assert UNUSABLE & SUSPECT == 0
    assert flag_names(UNUSABLE) == list(FROZEN)[:8]


def test_names_are_those_of_the_bits_that_are_set():
    assert flag_names(0) == []
    assert flag_names(int(Flag.AT_BOUND | Flag.MASKED)) == ["MASKED", "AT_BOUND"]
    assert flag_names(sum(1 << bit for bit in FROZEN.values())) == list(FROZEN)


@pytest.mark.parametrize("flag", Flag)
def test_quality_is_the_worst_that_the_flags_say(flag):
    expected = 2 if flag & UNUSABLE else 1 if flag & SUSPECT else 0
    others = np.array([int(flag), int(flag | Flag.PSF_NORMALISED), int(flag | Flag.NO_DATA), 0])
    assert quality(others).tolist() == [expected, expected, 2, 0]
    assert quality(others).dtype == np.int8
