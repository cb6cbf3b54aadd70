from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from astroflow.catalogs import load_catalog, open_source
from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.errors import BundleError, InputError
from astroflow.pipelines import redraw as module
from astroflow.pipelines import tasks
from astroflow.pipelines.catalog_run.conclusion import conclude
from astroflow.pipelines.catalog_run.ledger import Ledger
from astroflow.pipelines.catalog_run.record import claim, fingerprint, ids_sum
from astroflow.pipelines.redraw import read_ids, redraw, write_draws
from astroflow.pipelines.tasks import InferenceJob, infer_partition
from astroflow.pipelines.verify import verify


@pytest.fixture(autouse=True)
def loaded_already(small_posterior, small_bundle, monkeypatch):
    load = module.load_posterior
    monkeypatch.setattr(module, "load_posterior", lambda path: small_posterior if Path(path) == small_bundle else load(path))


@pytest.fixture(scope="module")
def kept(survey, small_bundle, small_posterior, tmp_path_factory):
    """The survey's catalog with its draws, and with what they were made of; a run without a cluster."""
    out = tmp_path_factory.mktemp("kept") / "run"
    source = open_source(load_catalog(survey.recipe))
    partitions = source.partitions(20, by_sky=True)
    options = {"n_draws": 64, "seed": 9, "keep_samples": True, "keep_contexts": True, "refine_budget": 0, "by_sky": True}
    ids = hex(ids_sum(range(60), source.row_keys()))
    asked = {
        "catalog": {},
        "rows": 60,
        "ids_sum": ids,
        "table_sha256": source.rows.digest(),
        "bundle": small_posterior.digest,
        "rows_per_partition": 20,
    } | options
    claim(out, asked, [], 9, small_bundle)
    job = InferenceJob(str(small_bundle), small_posterior.digest, Ledger(out, fingerprint(asked)), **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "loaded", lambda bundle, digest: small_posterior)
        receipts = [infer_partition(source.only(partition), partition, job, {}, False) for partition in partitions]
    conclude(source, small_posterior, job, partitions, receipts)
    assert verify(out)["rows"] == 60
    return out


def test_draws_from_the_catalog_alone_are_those_of_the_run(kept, small_posterior):
    table = read_posterior_catalog(kept / "catalog")
    found = redraw(kept, n_draws=64)
    assert found.ids.tolist() == table["id"].tolist()
    for place, name in enumerate(found.parameters.names):
        np.testing.assert_array_equal(found.draws[..., place], table[f"samples_{name}"], strict=True)
    assert (found.counts == np.where(np.asarray(table["quality"]) < 2, 64, 0)).all()
    assert table["context"].dtype == np.float16
    ids = table["id"][[40, 3]].tolist()
    more = redraw(kept, ids=[str(one) for one in ids], n_draws=1000)
    np.testing.assert_array_equal(more.draws[:, :64], found.draws[[40, 3]])
    assert not np.array_equal(redraw(kept, ids=ids, n_draws=64, seed=10).draws, found.draws[[40, 3]])


def test_contexts_are_no_default_columns_of_a_hats_catalog_that_is_valid(kept):
    from hats import read_hats
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(kept / "catalog", strict=True)
    assert not {"context", "fit", "samples"} & set(read_hats(kept / "catalog").catalog_info.default_columns)


def test_draws_are_written_as_catalogs_have_them(kept, tmp_path):
    found = redraw(kept, n_draws=70)
    write_draws(found, tmp_path / "draws.parquet")
    table = parquet.read_table(tmp_path / "draws.parquet")
    assert table.column("id").to_pylist() == found.ids.tolist()
    assert set(table.column("draws").to_pylist()) == {0, 70}
    first = table.column("samples")[0].as_py()
    np.testing.assert_array_equal(np.float32(first["mag"]), found.draws[0, :, 0])
    assert [value is None for value in table.column("samples").to_pylist()] == (found.counts == 0).tolist()


def test_what_cannot_be_drawn_again(kept, inferred, other_bundle, tmp_path):
    with pytest.raises(InputError, match="has kept nothing to draw from again: run `astroflow infer --contexts`"):
        redraw(inferred)
    with pytest.raises(InputError, match="holds no inference run"):
        redraw(tmp_path)
    with pytest.raises(BundleError, match="was made by bundle"):
        redraw(kept, bundle=other_bundle)
    with pytest.raises(InputError, match="none of the ids"):
        redraw(kept, ids=[1])
    known = redraw(kept, n_draws=1).ids[0]
    with pytest.raises(InputError, match="no row with id 1, 2"):
        redraw(kept, ids=[known, 1, 2])
    with pytest.raises(InputError, match="id 'galaxy' is no integer"):
        redraw(kept, ids=["galaxy"])
    for odd in (1.7, "12345678901234567890", None):
        with pytest.raises(InputError, match="is no integer of 64 bits"):
            redraw(kept, ids=[odd])
    with pytest.raises(InputError, match="`n_draws` must be at least 1"):
        redraw(kept, n_draws=0)
    (tmp_path / "ids").write_text("\n 12\n\n13 \n")
    assert read_ids(tmp_path / "ids") == ["12", "13"]
    (tmp_path / "none").write_text("\n")
    with pytest.raises(InputError, match="holds no ids"):
        read_ids(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read"):
        read_ids(tmp_path / "nowhere")
