import numpy as np
import pytest

from astroflow.errors import InputError
from astroflow.training.checkpoint import load_checkpoint, save_checkpoint

ARRAYS = {
    "weights/0": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "optimizer/0": np.array(17, np.int64),
    "optimizer/1": np.float32(1e-38) * np.ones((2, 1, 2), np.float32).transpose(2, 0, 1),
}
STATE = {"history": [{"epoch": 0, "val_loss": 1 / 3}]}


def test_everything_comes_back_bit_by_bit(tmp_path):
    path = tmp_path / "new" / "state.safetensors"
    save_checkpoint(path, ARRAYS, STATE)
    arrays, state = load_checkpoint(path)
    assert state == STATE
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype
        assert arrays[name].shape == value.shape
        assert np.array_equal(arrays[name], value)


def test_where_there_is_none_there_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "state.safetensors") is None


def test_the_last_one_replaces_the_one_before(tmp_path):
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, ARRAYS, STATE)
    save_checkpoint(path, {"weights/0": np.zeros(2)}, {"history": []})
    arrays, state = load_checkpoint(path)
    assert list(arrays) == ["weights/0"]
    assert state == {"history": []}
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, ARRAYS, STATE)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("astroflow.files.os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, {"weights/0": np.zeros(2)}, {"history": []})
    assert load_checkpoint(path)[1] == STATE
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-10], lambda raw: raw[:5], lambda raw: b"", lambda raw: b"\x80\x04." + raw, lambda raw: b"{}"]
)
def test_a_damaged_one_is_a_clear_error(tmp_path, damage):
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, ARRAYS, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"checkpoint .*state.safetensors is damaged .*; remove it to start again"):
        load_checkpoint(path)


def test_a_file_of_tensors_without_a_state_is_no_checkpoint(tmp_path):
    from safetensors.numpy import save

    path = tmp_path / "state.safetensors"
    path.write_bytes(save({"weights/0": np.zeros(2)}))
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(path)
