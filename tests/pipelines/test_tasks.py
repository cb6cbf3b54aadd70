import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from astroflow.catalogs import load_catalog, open_source
from astroflow.catalogs.hats import part_path
from astroflow.catalogs.parts import read_part
from astroflow.catalogs.posterior_columns import CERTIFICATE, REFINED
from astroflow.errors import BundleError, ConfigError, InputError
from astroflow.pipelines import tasks
from astroflow.pipelines.catalog_run import pieces
from astroflow.pipelines.catalog_run.inputs import file_states
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.tally import Tally
from astroflow.pipelines.infer import population_of
from astroflow.pipelines.tasks import InferenceJob, infer_partition, infer_rows, part_name, prepare_worker, simulate_shard
from astroflow.posteriors.bundle import BundleConfig, build_linearized
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.recipe import LinearizedRecipe
from astroflow.provenance import deciding_versions
from astroflow.training.training_set import TrainingSet


@pytest.fixture
def job(small_bundle, small_posterior, tmp_path, monkeypatch):
    """What a worker is asked; it has the bundle already."""
    monkeypatch.setattr(tasks, "loaded", lambda bundle, digest: small_posterior)
    return InferenceJob(
        str(small_bundle),
        small_posterior.digest,
        Ledger(tmp_path, "f" * 64),
        n_draws=64,
        seed=9,
        keep_samples=True,
        by_sky=True,
        information={"seed": "9"},
    )


@pytest.fixture
def source(survey):
    return open_source(load_catalog(survey.recipe))


def made(source, partition, job, careful=False):
    """The table that a task keeps, in a ledger of its own."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), "f" * 64)
        receipt = infer_partition(source.only(partition), partition, replace(job, ledger=ledger), {}, careful)
        return read_part(ledger.catalog / receipt.part)


def kept(inferred, partition):
    return inferred / "catalog" / part_name(partition)


def test_a_partition_becomes_one_file_whatever_the_blocks(job, source, inferred, monkeypatch):
    monkeypatch.setattr(tasks, "BLOCK_ROWS", 3)
    partition = source.partitions(20, by_sky=True)[1]
    receipt = infer_partition(source.only(partition), partition, job, {}, False)
    assert receipt.tally.rows == len(partition)
    assert receipt.part == str(part_path(*partition.pixel))
    assert (job.ledger.catalog / receipt.part).read_bytes() == kept(inferred, partition).read_bytes()
    assert job.ledger.finished(receipt.part) == receipt


@pytest.mark.parametrize("rows", [7, 60])
def test_shuffled_input_and_other_partitions_have_the_same_rows(job, source, rows):
    """All that is said of an object, down to the bits of its draws, hangs on its id alone; only its place in the table is another."""
    shuffled = source._with_rows(replace(source.rows.take(np.random.default_rng(5).permutation(60)), index=np.arange(60)))
    assert shuffled.row_keys().tolist() != source.row_keys().tolist()

    def everything(one, rows):
        table = pa.concat_tables([infer_rows(one.only(part), part, job) for part in one.partitions(rows, by_sky=True)])
        return table.drop_columns(["row_index"]).sort_by("id")

    assert everything(shuffled, rows) == everything(source, 20)


def test_a_partition_that_is_made_carefully_has_the_same_bytes(job, source, inferred, monkeypatch):
    monkeypatch.setattr(pieces, "ROWS", 4)
    for partition in source.partitions(20, by_sky=True)[2:]:
        receipt = infer_partition(source.only(partition), partition, job, {}, True)
        assert (job.ledger.catalog / receipt.part).read_bytes() == kept(inferred, partition).read_bytes()


def test_a_row_that_no_process_survives_is_flagged_and_its_neighbours_stay_what_they_were(job, source, inferred, monkeypatch):
    partition = source.partitions(20, by_sky=True)[1]
    row = 3
    folder = job.ledger.pieces(part_name(partition))
    folder.mkdir(parents=True)
    monkeypatch.setattr(pieces, "ROWS", 4)
    # what processes leave that died: one of the piece, the others of the row alone
    for name, deaths in (("000000000-000000004", 1), (f"{row:09d}-{row + 1:09d}", pieces.DEATHS)):
        for death in range(deaths):
            (folder / f"{name}.{death:032x}.begun").touch()
    receipt = infer_partition(source.only(partition), partition, job, {}, True)
    assert receipt.tally.unusable_flags[Flag.CRASHED] == 1
    table, calm = (read_part(file) for file in (job.ledger.catalog / receipt.part, kept(inferred, partition)))
    crashed = np.asarray(table.column("row_index")) == partition.rows[row]
    assert table.filter(crashed).column("flags").to_pylist() == [int(Flag.CRASHED)]
    assert table.filter(crashed).column("note").to_pylist() == ["3 processes died, each with this row alone at work"]
    assert table.filter(crashed).column("mag_q50").to_pylist() == [None]
    assert table.filter(~crashed) == calm.filter(~crashed)
    assert table.column("_healpix_29") == calm.column("_healpix_29")


def test_a_part_is_not_made_of_files_that_change(job, source, survey):
    partition = source.partitions(20)[0]
    files = source.files(partition)
    assert {Path(file).name for file in files} == {"tile.fits", "tile_rms.fits", "tile_mask.fits", "psf.fits"}
    then = file_states(files) | {str(survey.catalog): (1, 2)}
    with pytest.raises(InputError, match=r"catalog.parquet has changed since this run was planned: it had 1 bytes, .*put back what it was"):
        infer_partition(source.only(partition), partition, job, then, False)
    with pytest.raises(FileNotFoundError, match="was there when this run was planned"):
        infer_partition(source.only(partition), partition, job, {"nowhere": (1, 2)}, False)
    assert not job.ledger.catalog.exists()


@pytest.mark.parametrize("careful", [False, True])
def test_a_part_is_not_made_of_a_file_that_changed_and_was_put_right_meanwhile(job, source, survey, monkeypatch, careful):
    partition = source.partitions(20)[0]
    files = file_states(source.files(partition))

    def touched(*_):
        before, content = survey.image.stat(), survey.image.read_bytes()
        survey.image.write_bytes(content[:5000])
        survey.image.write_bytes(content)
        os.utime(survey.image, ns=(before.st_atime_ns, before.st_mtime_ns))
        return "a table of what nobody should keep"

    monkeypatch.setattr(tasks, "infer_rows", touched)
    with pytest.raises(OSError, match="was touched while it was read"):
        infer_partition(source.only(partition), partition, job, files, careful)
    assert not job.ledger.catalog.exists()
    assert not list(job.ledger.pieces(part_name(partition)).glob("*.arrow"))


def test_certified_rows_say_so_in_columns_of_their_own(job, source, inferred):
    """This forward model has wings that no likelihood follows: nothing applies, and nothing is flagged for it."""
    partition = source.partitions(20, by_sky=True)[0]
    receipt = infer_partition(source.only(partition), partition, replace(job, certify=True), {}, False)
    table, plain = (read_part(file) for file in (job.ledger.catalog / receipt.part, kept(inferred, partition)))
    assert set(table.column_names) - set(plain.column_names) == {column.name for column in CERTIFICATE}
    usable = np.asarray(table.column("quality")) < 2
    assert set(np.asarray(table.column("inference_ok").filter(usable))) == {-1}
    assert table.column("ess_fraction").null_count == len(table)
    assert table.column("flags") == plain.column("flags")
    assert population_of(job.ledger.catalog).lines() == ["0 certified rows together: model not applicable"]


def test_rows_that_fail_are_refined_and_say_so(job, source, small_posterior, small_forward_model, monkeypatch):
    followed = small_forward_model | {"psf": small_forward_model["psf"] | {"image_size": 17}}
    monkeypatch.setattr(tasks, "loaded", lambda bundle, digest: replace(small_posterior, forward_model=followed))
    partition = source.partitions(12)[0]
    asked = replace(job, n_draws=256, certify=True)
    before = made(source, partition, asked)
    after = made(source, partition, replace(asked, refine_budget=8000))
    assert set(after.column_names) - set(before.column_names) == {column.name for column in REFINED}
    method, failed, passed = (
        np.asarray(t.column(name)) for t, name in ((after, "refined"), (before, "inference_ok"), (after, "inference_ok"))
    )
    touched = failed == 0
    assert touched.sum() > 2, "a rough network"
    np.testing.assert_array_equal(touched, method >= 0)
    np.testing.assert_array_equal(passed[touched], (method[touched] > 0).astype(int))
    assert (method[touched] > 0).mean() > 0.7
    flags = np.asarray(after.column("flags"))
    np.testing.assert_array_equal((flags & Flag.INFERENCE_POOR) != 0, passed == 0)
    same = np.asarray(after.column("mag_mean")) == np.asarray(before.column("mag_mean"))
    np.testing.assert_array_equal(same, method <= 0)


def test_rows_that_fail_get_the_linearised_posterior_and_say_so(job, source, small_posterior, small_forward_model, monkeypatch):
    followed = small_forward_model | {"engine": "fourier", "psf": small_forward_model["psf"] | {"image_size": 17}}
    recipe = LinearizedRecipe.model_validate({"flow": {"layers": 1, "hidden": (16,)}, "least_snr": 1e9})
    architecture = small_posterior.estimator.architecture.model_copy(update={"linearized": recipe})
    config = BundleConfig(architecture=architecture, parameters=small_posterior.parameters, stamp=small_posterior.stamp,
                          forward_model=followed, training={})  # fmt: skip
    # untrained, so a Gaussian about the fit: better than a rough network where galaxies are bright
    posterior = replace(small_posterior, forward_model=followed, linearized=build_linearized(config, seed=1))
    monkeypatch.setattr(tasks, "loaded", lambda bundle, digest: posterior)
    partition = source.partitions(12)[0]
    asked = replace(job, n_draws=256, certify=True)
    table = made(source, partition, asked)
    monkeypatch.setattr(tasks, "loaded", lambda bundle, digest: replace(posterior, linearized=None))
    plain = made(source, partition, asked)
    linearized, means, efficiency = (np.asarray(table.column(name)) for name in ("linearized", "mag_mean", "ess_fraction"))
    assert set(linearized) == {0, 1}
    assert not np.asarray(plain.column("linearized")).any()
    assert (np.asarray(plain.column("inference_ok"))[linearized == 1] == 0).all(), "only rows that failed"
    assert (efficiency[linearized == 1] > np.asarray(plain.column("ess_fraction"))[linearized == 1]).all()
    np.testing.assert_array_equal(means != np.asarray(plain.column("mag_mean")), linearized == 1)
    uncertified = made(source, partition, replace(asked, certify=False))
    assert not np.asarray(uncertified.column("linearized")).any(), "catalogs without certificates say it too"


def test_catalogs_of_an_ensemble_say_where_its_members_contradict_each_other(job, source, small_ensemble, monkeypatch):
    monkeypatch.setattr(tasks, "loaded", lambda bundle, digest: small_ensemble)
    partition = source.partitions(12)[0]
    table = made(source, partition, job)
    assert "mutual information" in table.schema.field("disagreement").metadata[b"description"].decode()
    apart = np.asarray(table.column("disagreement"))
    assert ((apart > 0) & (apart < np.log(2))).all()
    side = small_ensemble.stamp.size * max(small_ensemble.stamp.binning)
    expected = small_ensemble.encode(list(source.only(partition).read(partition, side))).disagreement
    np.testing.assert_allclose(apart, expected, rtol=1e-6)


def test_a_part_that_is_there_is_left_alone(job, source, inferred):
    partition = source.partitions(20, by_sky=True)[1]
    content = kept(inferred, partition).read_bytes()
    receipt = job.ledger.keep(part_name(partition), content, Tally.of(read_part(kept(inferred, partition))))
    when = (job.ledger.catalog / receipt.part).stat().st_mtime_ns
    # not even its files are looked at
    assert infer_partition(source, partition, job, {"nowhere": (1, 2)}, False) == receipt
    assert (job.ledger.catalog / receipt.part).stat().st_mtime_ns == when


def test_a_bundle_that_has_changed_since_the_run_began_is_refused(small_bundle):
    with pytest.raises(BundleError, match=r"has changed since this run began: its digest is \w{12}, expected ffffffffffff"):
        prepare_worker(str(small_bundle), "f" * 64, deciding_versions())


def test_a_worker_of_other_versions_is_refused(small_bundle, small_posterior):
    with pytest.raises(ConfigError, match=r"a worker has numpy \S+ instead of 1.26: its rows would have other bits"):
        prepare_worker(str(small_bundle), small_posterior.digest, deciding_versions() | {"numpy": "1.26"})


def test_a_shard_is_drawn_once(recipe_folder, small_training_set, small_simulator, tmp_path):
    data = TrainingSet.create(
        tmp_path / "data.zarr",
        n=12,
        seed=5,
        recipe=small_training_set.recipe,
        parameters=small_simulator.parameters,
        stamp=small_simulator.stamp,
    )
    assert simulate_shard(str(data.path), 0) == 12
    np.testing.assert_array_equal(data.read(0, 12).images, small_training_set.read(0, 12).images)
    written = (data.path / "theta" / "c" / "0" / "0").stat().st_mtime_ns
    assert simulate_shard(str(data.path), 0) == 12
    assert (data.path / "theta" / "c" / "0" / "0").stat().st_mtime_ns == written
