import json

import numpy as np
import pytest

from astroflow.errors import IncompleteError, InputError, OutputError
from astroflow.sims.stamp import StampSpec
from astroflow.training.training_set import SHARD, TrainingSet
from astroflow.types import Noiseless

N = 2 * SHARD + 100
SPEC = StampSpec(size=16, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=5)
RECIPE = {"galaxy": {"kind": "sersic", "n": 1.5}, "seeds": [1, 2]}


def simulations(rows):
    """Numbers that tell which row they belong to."""
    ids = np.asarray(rows)
    return Noiseless(
        theta=np.repeat(ids[:, None], 7, 1).astype(np.float32),
        images=np.stack([np.random.default_rng(i).normal(size=(1, 16, 16)) for i in ids]).astype(np.float32),
        psf=np.stack([np.full((1, 5, 5), i) for i in ids]).astype(np.float32),
        binning=1 + ids % 2,
        ids=ids,
    )


@pytest.fixture
def create(small_simulator):
    def made(path, **changes):
        return TrainingSet.create(
            path, **({"n": N, "seed": 5, "recipe": RECIPE, "parameters": small_simulator.parameters, "stamp": SPEC} | changes)
        )

    return made


@pytest.fixture
def filled(create, tmp_path):
    data = create(tmp_path / "data.zarr")
    for shard in data.shards:
        data.write(shard, simulations(data.rows(shard)))
    return data


def content(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def equal(one, other):
    return all(np.array_equal(getattr(one, f), getattr(other, f)) for f in ("theta", "images", "psf", "binning", "ids"))


@pytest.mark.parametrize(("start", "stop"), [(0, N), (0, 1), (N - 1, N), (SHARD - 3, SHARD + 3), (100, 2 * SHARD + 50)])
def test_what_is_read_is_what_was_written(filled, start, stop):
    got = filled.read(start, stop)
    assert equal(got, simulations(range(start, stop)))
    assert got.images.dtype == np.float32
    assert got.binning.dtype == got.ids.dtype == np.int64


def test_it_opens_again_with_all_that_it_knows(filled):
    again = TrainingSet.open(filled.path)
    assert (again.n, again.seed, again.recipe) == (N, 5, RECIPE)
    assert again.missing == []
    assert [len(again.rows(shard)) for shard in again.shards] == [SHARD, SHARD, 100]
    assert equal(again.read(0, N), filled.read(0, N))


def test_bytes_do_not_depend_on_the_order_of_the_shards(filled, create, tmp_path):
    other = create(tmp_path / "other.zarr")
    for shard in (2, 0, 1, 0):
        other.write(shard, simulations(other.rows(shard)))
    assert content(other.path) == content(filled.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.zarr", "other.zarr"], "no stage is left"


def test_missing_shards_are_known_and_cannot_be_read(create, tmp_path):
    data = create(tmp_path / "data.zarr")
    assert data.missing == [0, 1, 2]
    data.write(1, simulations(data.rows(1)))
    assert data.missing == [0, 2]
    assert equal(data.read(SHARD, SHARD + 10), simulations(range(SHARD, SHARD + 10)))
    with pytest.raises(IncompleteError, match="lacks 2 of its shards; run `astroflow simulate` again with the same arguments"):
        data.read(0, N)


def test_a_shard_of_which_one_file_is_missing_is_missing(filled):
    (filled.path / "psf" / "c" / "1" / "0" / "0" / "0").unlink()
    assert filled.missing == [1]
    before = content(filled.path)
    filled.write(1, simulations(filled.rows(1)))
    assert filled.missing == []
    assert content(filled.path).keys() - before.keys() == {"psf/c/1/0/0/0"}


def test_a_writer_that_is_killed_leaves_a_stage_and_no_shard(create, tmp_path, monkeypatch):
    data = create(tmp_path / "data.zarr")
    before = content(data.path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("astroflow.training.training_set.os.fsync", killed)
        patch.setattr("astroflow.training.training_set.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            data.write(0, simulations(data.rows(0)))
    assert content(data.path) == before
    assert data.missing == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2
    data.clear_stages()
    assert [p.name for p in tmp_path.iterdir()] == ["data.zarr"]
    data.write(0, simulations(data.rows(0)))
    assert data.missing == [1, 2]


def test_the_same_run_resumes_and_another_is_refused(create, filled):
    assert create(filled.path).missing == []
    for changes, named in (
        ({"n": N + 1}, "n differ"),
        ({"seed": 6}, "seed differ"),
        ({"recipe": {"galaxy": 1}}, "recipe differ"),
        ({"n": 3, "seed": 1}, "n, seed differ"),
    ):
        with pytest.raises(OutputError, match=rf"holds another training set \({named}\); give another --out"):
            create(filled.path, **changes)
    assert equal(filled.read(0, N), simulations(range(N)))


def test_a_folder_of_something_else_is_refused_and_left_alone(create, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("Introduction")
    (tmp_path / "file").write_text("x")
    for place in ("thesis", "file"):
        with pytest.raises(OutputError, match="is not empty and holds no training set of this version; give another --out"):
            create(tmp_path / place)
    assert content(tmp_path) == {"thesis/chapter1.tex": b"Introduction", "file": b"x"}


def test_an_empty_folder_is_fine(create, tmp_path):
    (tmp_path / "empty").mkdir()
    assert create(tmp_path / "empty").missing == [0, 1, 2]


def test_no_training_set_says_how_to_make_one(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="no training set at .*: make one with `astroflow simulate"):
            TrainingSet.open(path)


def test_another_format_is_refused(filled):
    metadata = json.loads((filled.path / "zarr.json").read_text())
    metadata["attributes"]["format"] = "astroflow-training-set-9"
    (filled.path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="is not a training set of this version .*training-set-9"):
        TrainingSet.open(filled.path)


def test_a_shard_has_as_many_rows_as_it_should(create, tmp_path):
    data = create(tmp_path / "data.zarr")
    with pytest.raises(InputError, match=f"shard 2 holds 100 simulations; got {SHARD}"):
        data.write(2, simulations(data.rows(0)))
    assert data.missing == [0, 1, 2]


@pytest.mark.parametrize("where", ["cut", 0.1, 0.5, 0.9, 1.0])
def test_a_damaged_shard_is_an_input_error(filled, where):
    file = filled.path / "images" / "c" / "1" / "0" / "0" / "0"
    raw = bytearray(file.read_bytes())
    if where == "cut":
        raw = raw[: len(raw) // 2]
    else:
        raw[round(where * (len(raw) - 1))] ^= 1
    file.write_bytes(raw)
    with pytest.raises(InputError, match=r"images cannot be read between rows 512 and 1024: .* Remove its damaged file"):
        filled.read(SHARD, 2 * SHARD)
    assert equal(filled.read(0, SHARD), simulations(range(SHARD)))


def test_an_empty_file_is_no_shard(filled):
    (filled.path / "images" / "c" / "1" / "0" / "0" / "0").write_bytes(b"")
    assert filled.missing == [1]
