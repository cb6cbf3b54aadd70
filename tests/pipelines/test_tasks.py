from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from astroflow.catalogs import load_catalog, open_source
from astroflow.catalogs.posterior_columns import CERTIFICATE, REFINED
from astroflow.errors import BundleError, InputError
from astroflow.pipelines import tasks
from astroflow.pipelines.infer import population_of
from astroflow.pipelines.tasks import InferenceJob, infer_partition, part_counts, prepare_worker, read_part, simulate_shard
from astroflow.posteriors.bundle import BundleConfig, build_linearized
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.recipe import LinearizedRecipe
from astroflow.training.training_set import TrainingSet


@pytest.fixture
def job(small_bundle, small_posterior, tmp_path, monkeypatch):
    """What a worker is asked; it has the bundle already."""
    monkeypatch.setattr(tasks, "_posterior", lambda bundle, digest: small_posterior)
    return InferenceJob(
        str(small_bundle),
        small_posterior.digest,
        str(tmp_path),
        n_draws=64,
        seed=9,
        keep_samples=True,
        information={"seed": "9"},
    )


@pytest.fixture
def source(survey):
    return open_source(load_catalog(survey.recipe))


def test_a_partition_becomes_one_file_whatever_the_blocks(job, source, inferred, monkeypatch):
    monkeypatch.setattr(tasks, "BLOCK_ROWS", 7)
    partition = source.partitions(20)[1]
    counts = infer_partition(source.only(partition), partition, job)
    assert counts["rows"] == 20
    assert counts["rows"] == counts["good"] + counts["suspect"] + counts["unusable"]
    assert [file.name for file in job.part(0).parent.iterdir()] == ["part-00001.parquet"]
    assert parquet.read_table(job.part(1)) == parquet.read_table(inferred / "catalog" / "part-00001.parquet")


def test_certified_rows_say_so_in_columns_of_their_own(job, source, inferred):
    """This forward model has wings that no likelihood follows: nothing applies, and nothing is flagged for it."""
    partition = source.partitions(20)[0]
    infer_partition(source.only(partition), partition, replace(job, certify=True))
    table = parquet.read_table(job.part(0))
    plain = parquet.read_table(inferred / "catalog" / "part-00000.parquet")
    assert set(table.column_names) - set(plain.column_names) == {column.name for column in CERTIFICATE}
    usable = np.asarray(table.column("quality")) < 2
    assert set(np.asarray(table.column("inference_ok").filter(usable))) == {-1}
    assert table.column("ess_fraction").null_count == len(table)
    assert table.column("flags") == plain.column("flags")
    assert population_of(job.part(0).parent).lines() == ["0 certified rows together: model not applicable"]


def test_rows_that_fail_are_refined_and_say_so(job, source, small_posterior, small_forward_model, monkeypatch):
    followed = small_forward_model | {"psf": small_forward_model["psf"] | {"image_size": 17}}
    monkeypatch.setattr(tasks, "_posterior", lambda bundle, digest: replace(small_posterior, forward_model=followed))
    partition = source.partitions(12)[0]
    asked = replace(job, n_draws=256, certify=True)
    infer_partition(source.only(partition), partition, asked)
    before = parquet.read_table(job.part(0))
    job.part(0).unlink()
    infer_partition(source.only(partition), partition, replace(asked, refine_budget=8000))
    after = parquet.read_table(job.part(0))
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
    monkeypatch.setattr(tasks, "_posterior", lambda bundle, digest: posterior)
    partition = source.partitions(12)[0]
    asked = replace(job, n_draws=256, certify=True)
    infer_partition(source.only(partition), partition, asked)
    table = parquet.read_table(job.part(0))
    job.part(0).unlink()
    monkeypatch.setattr(tasks, "_posterior", lambda bundle, digest: replace(posterior, linearized=None))
    infer_partition(source.only(partition), partition, asked)
    plain = parquet.read_table(job.part(0))
    linearized, means, efficiency = (np.asarray(table.column(name)) for name in ("linearized", "mag_mean", "ess_fraction"))
    assert set(linearized) == {0, 1}
    assert not np.asarray(plain.column("linearized")).any()
    assert (np.asarray(plain.column("inference_ok"))[linearized == 1] == 0).all(), "only rows that failed"
    assert (efficiency[linearized == 1] > np.asarray(plain.column("ess_fraction"))[linearized == 1]).all()
    np.testing.assert_array_equal(means != np.asarray(plain.column("mag_mean")), linearized == 1)
    job.part(0).unlink()
    infer_partition(source.only(partition), partition, replace(asked, certify=False))
    uncertified = parquet.read_table(job.part(0))
    assert not np.asarray(uncertified.column("linearized")).any(), "catalogs without certificates say it too"


def test_catalogs_of_an_ensemble_say_where_its_members_contradict_each_other(job, source, small_ensemble, monkeypatch):
    monkeypatch.setattr(tasks, "_posterior", lambda bundle, digest: small_ensemble)
    partition = source.partitions(12)[0]
    infer_partition(source.only(partition), partition, job)
    table = parquet.read_table(job.part(0))
    assert "mutual information" in table.schema.field("disagreement").metadata[b"description"].decode()
    apart = np.asarray(table.column("disagreement"))
    assert ((apart > 0) & (apart < np.log(2))).all()
    side = small_ensemble.stamp.size * max(small_ensemble.stamp.binning)
    expected = small_ensemble.encode(list(source.only(partition).read(partition, side))).disagreement
    np.testing.assert_allclose(apart, expected, rtol=1e-6)


def test_a_file_that_is_there_is_only_counted(job, source, inferred):
    job.part(1).write_bytes((inferred / "catalog" / "part-00001.parquet").read_bytes())
    when = job.part(1).stat().st_mtime_ns
    partition = source.partitions(20)[1]
    assert infer_partition(source, partition, job) == part_counts(inferred / "catalog" / "part-00001.parquet")
    assert job.part(1).stat().st_mtime_ns == when


def test_a_file_that_is_no_part(tmp_path):
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="no part of a posterior catalog, or damaged"):
        part_counts(tmp_path / "part-00000.parquet")
    import pyarrow as pa

    parquet.write_table(pa.table({"id": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="no part of a posterior catalog, or damaged"):
        read_part(tmp_path / "other.parquet", ["quality"])


def test_a_bundle_that_has_changed_since_the_run_began_is_refused(small_bundle):
    with pytest.raises(BundleError, match=r"has changed since this run began: its digest is \w{12}, expected ffffffffffff"):
        prepare_worker(str(small_bundle), "f" * 64)


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
