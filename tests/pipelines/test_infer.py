import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from astroflow.catalogs import load_catalog, open_source
from astroflow.catalogs.parts import part_files, write_parquet
from astroflow.catalogs.posterior_table import read_posterior_catalog
from astroflow.errors import BundleError, ConfigError, IncompleteError, InputError, OutputError
from astroflow.pipelines.infer import infer
from astroflow.pipelines.verify import verify
from astroflow.posteriors.exact.certificate import Verdict
from astroflow.posteriors.flags import UNUSABLE, Flag

TROUBLE_FLAGS = {"off the tile": Flag.NO_DATA, "no position": Flag.BAD_POSITION, "under a mask": Flag.NO_DATA, "dead pixels": Flag.NO_DATA}


@pytest.fixture
def again(survey, small_bundle, scheduler):
    """A function that runs `inferred`'s command in a folder, with changes."""

    def run(out, **changes):
        asked = {"n_draws": 64, "seed": 9, "keep_samples": True, "rows_per_partition": 20, "scheduler": scheduler, "bundle": small_bundle}
        return infer(**({"catalog": survey.recipe, "out": out} | asked | changes))

    return run


@pytest.fixture
def changed_survey(survey, tmp_path):
    """A function that writes the survey's recipe with another table, and other keys."""

    def write(table=None, **keys):
        recipe = yaml.safe_load(survey.recipe.read_text())
        for part in ("image", "noise", "mask", "psf"):
            recipe[part]["path"] = str(survey.recipe.parent / recipe[part]["path"])
        recipe["table"]["path"] = str(tmp_path / "catalog.parquet")
        write_parquet(parquet.read_table(survey.catalog) if table is None else table, tmp_path / "catalog.parquet")
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(recipe | keys))
        return path

    return write


def test_one_row_out_per_row_in_and_bad_rows_are_flagged(inferred, survey):
    table = read_posterior_catalog(inferred / "catalog")
    given, truth = parquet.read_table(survey.catalog), parquet.read_table(survey.truth)
    assert table["id"].tolist() == given["id"].to_pylist()
    assert table["row_index"].tolist() == list(range(60))
    bad = np.zeros(60, bool)
    for row, trouble in enumerate(truth["trouble"].to_pylist()):
        if trouble:
            bad[row] = True
            assert table["flags"][row] & TROUBLE_FLAGS[trouble], trouble
            assert table["note"][row]
    assert bad.sum() == 2
    np.testing.assert_array_equal(np.asarray(table["flags"]) & UNUSABLE != 0, bad)
    np.testing.assert_array_equal(table["mag_q50"].mask, bad)
    assert not np.isfinite(table["samples_mag"][bad]).any()
    assert np.isfinite(table["samples_mag"][~bad]).all()
    assert table["samples_mag"].shape == (60, 64)
    # the truth is where the posterior says, give or take its width
    pull = (np.asarray(truth["mag"]) - np.asarray(table["mag_mean"]))[~bad] / np.asarray(table["mag_sd"])[~bad]
    assert np.median(np.abs(pull)) < 2


def test_verify_counts_what_infer_did(inferred, small_posterior):
    facts = verify(inferred)
    table = read_posterior_catalog(inferred / "catalog")
    assert facts["rows"] == 60
    assert facts["bundle"] == small_posterior.digest
    assert [facts[name] for name in ("good", "suspect", "unusable")] == [int((table["quality"] == k).sum()) for k in range(3)]
    files = part_files(inferred / "catalog")
    assert facts["parts"] == len(files) == len(list((inferred / "ledger").iterdir())) > 3
    record = json.loads((inferred / "run.json").read_text())
    assert record["asked"]["seed"] == 9
    assert set(record) == {"asked", "bundle_path", "recipe", "seed", "versions", "git_revision", "command"}


def test_a_finished_run_is_a_valid_hats_catalog_of_the_rows_that_have_a_position(inferred, survey):
    from hats import read_hats
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(inferred / "catalog", strict=True)
    placed = np.isfinite(np.asarray(parquet.read_table(survey.catalog)["ra"])).sum()
    catalog = read_hats(inferred / "catalog")
    assert catalog.catalog_info.total_rows == placed < 60
    assert catalog.catalog_info.astroflow_bundle == json.loads((inferred / "run.json").read_text())["asked"]["bundle"]
    (beside,) = (inferred / "catalog").glob("*.parquet")
    assert rows_of(beside) == 60 - placed


def test_the_catalog_holds_what_the_posterior_says_in_this_process(inferred, survey, small_posterior):
    """The same ids and seed give the same bits: over Dask in three parts, and here in one batch and one by one."""
    source = open_source(load_catalog(survey.recipe))
    (partition,) = source.partitions(100)
    cutouts = list(source.read(partition, small_posterior.stamp.size * max(small_posterior.stamp.binning)))
    draws = small_posterior.sample(cutouts, 64, 9)
    table = read_posterior_catalog(inferred / "catalog")
    for place, name in enumerate(small_posterior.parameters.names):
        np.testing.assert_array_equal(table[f"samples_{name}"], draws[..., place], strict=True)
    summary = small_posterior.summarize(cutouts, 64, 9)
    usable = np.asarray(table["quality"]) < 2
    for name in ("mag_mean", "re_arcsec_q84", "cov_e1_e2", "snr"):
        np.testing.assert_array_equal(np.asarray(table[name])[usable], np.asarray(summary[name], np.float32)[usable])
    np.testing.assert_array_equal(table["flags"], summary["flags"])
    alone = np.concatenate([small_posterior.sample([cutouts[row]], 64, 9) for row in (59, 0, 31)])
    np.testing.assert_array_equal(alone, draws[[59, 0, 31]])


@pytest.mark.slow
@pytest.mark.dask
def test_a_local_worker_and_other_partitions_give_the_same_bits(inferred, again, tmp_path):
    result = again(tmp_path / "other", rows_per_partition=37, scheduler=None, workers=1)
    assert result.tally.rows == 60
    assert "never validated" in result.validated[0]
    one, other = (read_posterior_catalog(folder / "catalog") for folder in (inferred, tmp_path / "other"))
    assert one.colnames == other.colnames
    for name in one.colnames:
        np.testing.assert_array_equal(np.ma.getmaskarray(one[name]), np.ma.getmaskarray(other[name]))
        np.testing.assert_array_equal(np.ma.filled(one[name]), np.ma.filled(other[name]))
    assert not (tmp_path / "other" / "stage").exists()


def test_a_resumed_run_ends_with_the_same_bytes(inferred, copied, again, digests):
    left = 60 - rows_of(part(copied, 1))
    part(copied, 1).unlink()
    # what a killed writer leaves
    (copied / "stage").mkdir()
    (copied / "stage" / f".part-00001.parquet.{'0' * 32}").write_bytes(b"PAR1")
    with pytest.raises(IncompleteError, match=f"has {left} of 60 rows"):
        verify(copied)
    result = again(copied)
    assert result.tally.rows == 60
    assert sorted(file.name for file in copied.iterdir()) == sorted(file.name for file in inferred.iterdir())
    assert digests(copied, MADE_EACH_TIME) == digests(inferred, MADE_EACH_TIME)
    assert verify(copied) == verify(inferred)


def test_a_complete_run_needs_no_cluster(copied, again, digests):
    before = digests(copied, MADE_EACH_TIME)
    result = again(copied, scheduler="tcp://127.0.0.1:1")
    assert (result.tally.rows, result.tally.unusable) == (60, 2)
    assert digests(copied, MADE_EACH_TIME) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 10}, "seed"),
        ({"n_draws": 128}, "n_draws"),
        ({"rows_per_partition": 30}, "rows_per_partition"),
        ({"keep_samples": False}, "keep_samples"),
    ],
)
def test_another_run_does_not_go_into_the_same_folder(copied, again, changes, named):
    with pytest.raises(OutputError, match=rf"holds another run \({named} differ\)"):
        again(copied, **changes)


def test_another_catalog_does_not_go_into_the_same_folder(copied, again, changed_survey, survey):
    table = parquet.read_table(survey.catalog)
    with pytest.raises(OutputError, match=r"\(catalog, ids_sum, rows, table_sha256 differ\)"):
        again(copied, catalog=changed_survey(table.slice(0, 50)))


def test_a_table_whose_positions_have_changed_is_another_catalog(copied, again, survey, inferred):
    """Ids are what they were; a row that crosses the border of a pixel would be in two parts, or in none."""
    given, content = parquet.read_table(survey.catalog), survey.catalog.read_bytes()
    place = given.schema.get_field_index("ra")
    moved = given.set_column(place, "ra", pa.array(np.asarray(given["ra"]) + 1e-4))
    try:
        write_parquet(moved, survey.catalog)
        with pytest.raises(OutputError, match=r"\(table_sha256 differ\)"):
            again(copied)
        with pytest.raises(InputError, match="positions or other columns that it read are not the same"):
            verify(copied, survey.recipe)
    finally:
        survey.catalog.write_bytes(content)
    assert verify(copied, survey.recipe)["rows"] == 60


def test_a_complete_run_that_lost_a_part_does_not_call_itself_complete_while_it_is_mended(copied, again, monkeypatch):
    part(copied, 1).unlink()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("astroflow.pipelines.infer.run_parts", stop)
    with pytest.raises(KeyboardInterrupt):
        again(copied)
    assert not (copied / "manifest.json").exists()
    assert not (copied / "catalog" / "hats.properties").exists()


def test_a_list_of_partitions_that_lacks_one_is_seen(copied):
    listed = copied / "catalog" / "partition_info.csv"
    listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="partition_info.csv lists other parts than there are"):
        verify(copied)


def test_a_disk_that_fails_under_the_driver_leaves_a_run_to_resume(copied, again, monkeypatch):
    part(copied, 1).unlink()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("astroflow.pipelines.infer.conclude", full)
    with pytest.raises(IncompleteError, match="No space left on device.*run the same command again"):
        again(copied)


def test_another_bundle_does_not_go_into_the_same_folder(copied, again, other_bundle):
    with pytest.raises(OutputError, match=r"\(bundle differ\)"):
        again(copied, bundle=other_bundle)


def test_a_foreign_folder_is_left_alone(again, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("one")
    with pytest.raises(OutputError, match="is not empty and holds no inference run"):
        again(tmp_path / "thesis")
    with pytest.raises(OutputError, match="is a file"):
        again(tmp_path / "thesis" / "chapter.txt")
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_a_catalog_without_rows_gives_one_without_rows(again, changed_survey, survey, tmp_path):
    result = again(
        tmp_path / "empty", catalog=changed_survey(parquet.read_table(survey.catalog).slice(0, 0)), scheduler="tcp://127.0.0.1:1"
    )
    assert result.tally.rows == 0
    assert verify(tmp_path / "empty")["rows"] == 0
    table = read_posterior_catalog(result.catalog)
    assert len(table) == 0
    assert {"id", "mag_q50", "flags", "samples_mag"} <= set(table.colnames)


def test_a_certified_run_counts_its_verdicts(again, changed_survey, survey, tmp_path):
    """This forward model has wings that no likelihood follows, so that no question applies to any row that has a posterior."""
    few = changed_survey(parquet.read_table(survey.catalog).slice(0, 8))
    result = again(tmp_path / "certified", catalog=few, certify=True, n_draws=256)
    posteriors = result.tally.good + result.tally.suspect
    none = {Verdict.OK: 0, Verdict.FAILED: 0, Verdict.NOT_APPLICABLE: posteriors}
    assert result.tally.verdicts == {"inference": none, "model": none}
    assert result.tally.lines()[-1] == f"model: 0 OK, 0 failed, {posteriors} not applicable"


def test_a_contradicting_pixel_scale_is_refused(again, changed_survey, tmp_path):
    with pytest.raises(InputError, match=r"by its WCS; the recipe says `pixel_scale_arcsec: 0.1`"):
        again(tmp_path / "out", catalog=changed_survey(pixel_scale_arcsec=0.1))
    assert not (tmp_path / "out").exists()


def test_a_pixel_scale_that_the_bundle_was_not_trained_at_is_refused(again, tmp_path):
    (tmp_path / "stamps").mkdir()
    from astroflow.catalogs.fits_images import write_fits_image

    write_fits_image(tmp_path / "stamps" / "a.fits", np.eye(32, dtype=np.float32))
    write_fits_image(tmp_path / "psf.fits", np.eye(9, dtype=np.float32))
    recipe = {
        "kind": "stamps", "image": {"path": "stamps/*.fits"}, "noise": {"kind": "constant", "value": 1.0}, "psf": {"path": "psf.fits"},
        "zero_point": 27.0, "pixel_scale_arcsec": 0.03,
    }  # fmt: skip
    (tmp_path / "stamps.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(InputError, match=r"has 0\.03 arcsec per pixel; the bundle .* was trained at 0\.2"):
        again(tmp_path / "out", catalog=tmp_path / "stamps.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"n_draws": 8}, "--draws must be at least 32"), ({"rows_per_partition": 0}, "--rows-per-partition must be at least 1")],
)
def test_options_out_of_range(again, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        again(tmp_path, **changes)


def test_a_cluster_that_cannot_be_meant_is_refused_before_anything_is_written(again, tmp_path):
    with pytest.raises(ConfigError, match="no configs/clusters recipe 'slurn'.*Did you mean 'slurm'"):
        again(tmp_path / "out", scheduler="slurn")
    assert not (tmp_path / "out").exists()


def test_a_missing_bundle_is_named(again, tmp_path):
    with pytest.raises(BundleError, match="nowhere is no bundle"):
        again(tmp_path / "out", bundle=tmp_path / "nowhere")


MADE_EACH_TIME = ("progress.jsonl", "hats.properties", "properties")
"""Files that tell when they were made."""


def part(folder, index):
    return part_files(folder / "catalog")[index]


def rows_of(path):
    return parquet.ParquetFile(path).metadata.num_rows


def test_verify_sees_a_missing_part(copied):
    left = 60 - rows_of(part(copied, 2))
    part(copied, 2).unlink()
    with pytest.raises(IncompleteError, match=f"has {left} of 60 rows"):
        verify(copied)


def test_verify_sees_that_there_is_nothing(copied, tmp_path):
    shutil.rmtree(copied / "catalog")
    with pytest.raises(IncompleteError, match="no parts yet"):
        verify(copied)
    with pytest.raises(InputError, match="holds no inference run"):
        verify(tmp_path)
    (copied / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not the record of an inference run"):
        verify(copied)


def test_verify_sees_a_part_that_is_there_twice(copied):
    shutil.copy(part(copied, 0), copied / "catalog" / "part-00099.parquet")
    with pytest.raises(InputError, match=rf"row \d+ 2 times, and {rows_of(part(copied, 0))} rows more than once"):
        verify(copied)


def test_verify_sees_a_part_in_another_ones_place(copied):
    shutil.copy(part(copied, 0), part(copied, 1))
    with pytest.raises(InputError, match="more than once"):
        verify(copied)


def rewritten(path, name, change):
    table = parquet.ParquetFile(path).read()
    place = table.schema.get_field_index(name)
    column = table.column(name).to_pylist()
    parquet.write_table(table.set_column(place, table.schema.field(name), pa.array(change(column), table.schema.field(name).type)), path)


def test_verify_sees_a_part_of_another_bundle(copied):
    rewritten(part(copied, 1), "bundle", lambda column: ["f" * 64, *column[1:]])
    with pytest.raises(InputError, match="ffffffffffff made some of the rows"):
        verify(copied)


def test_verify_sees_edited_ids(copied):
    rewritten(part(copied, 1), "id", lambda column: [column[1], column[0], *column[2:]])
    with pytest.raises(InputError, match="the ids are not those of the input catalog"):
        verify(copied)


def test_verify_sees_rows_of_a_longer_catalog(copied):
    rewritten(part(copied, 2), "row_index", lambda column: [*column[:-1], 99])
    with pytest.raises(InputError, match="has row 99, which the catalog of 60 rows has not"):
        verify(copied)


def test_a_damaged_part_is_named_and_made_again(inferred, copied, again, digests):
    part(copied, 1).write_bytes(part(copied, 1).read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{part(copied, 1).name} is no part of a posterior catalog, or damaged"):
        verify(copied)
    again(copied)
    assert digests(copied, MADE_EACH_TIME) == digests(inferred, MADE_EACH_TIME)


def test_bad_images_and_tables_are_one_error(again, changed_survey, survey, tmp_path):
    table = parquet.read_table(survey.catalog)
    doubled = pa.concat_tables([table, table.slice(0, 1)])
    with pytest.raises(InputError, match="unique|more than once|twice"):
        again(tmp_path / "out", catalog=changed_survey(doubled))
    with pytest.raises(InputError, match=r"has no column 'ra'.*Did you mean 'raj'"):
        again(tmp_path / "out", catalog=changed_survey(table.rename_columns(["id", "raj", "dec"])))
    with pytest.raises(InputError, match=r"tile\.png does not exist"):
        again(tmp_path / "out", catalog=changed_survey(image={"path": str(tmp_path / "tile.png")}))
    assert not (tmp_path / "out").exists()


def command(*arguments):
    from astroflow.cli import main

    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def test_the_commands_speak_in_exit_codes(copied, survey, small_bundle, capsys):
    asked = [
        "infer",
        survey.recipe,
        "--bundle",
        small_bundle,
        "--out",
        copied,
        "--draws",
        64,
        "--seed",
        9,
        "--samples",
        "--rows-per-partition",
        20,
    ]
    assert command(*asked) == 0
    assert capsys.readouterr().out == f"{copied / 'catalog'}\n"
    assert command(*asked, "--allow-flagged", 0.01, "--json") == 3
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert (facts["rows"], facts["unusable"]) == (60, 2)
    (counted,) = [line for line in printed.err.splitlines() if line.startswith("60 rows: ")]
    assert counted.endswith("2 unusable")
    assert sum(facts["suspect_flags"].values()) >= facts["suspect"] > 0
    assert printed.err.splitlines()[-2].startswith("suspect for: ")
    assert sum(facts["unusable_flags"].values()) >= 2
    assert printed.err.splitlines()[-3].startswith("unusable for: ")
    assert facts["validated"] == [printed.err.splitlines()[-1]]
    assert command("verify", copied) == 0
    part(copied, 1).unlink()
    assert command("verify", copied) == 4
    assert command(*asked[:-1], 21) == 2
    printed = capsys.readouterr()
    assert printed.out == f"{copied / 'catalog'}\n"
    assert printed.err.splitlines()[-1].startswith(f"error: {copied} holds another run (rows_per_partition differ)")
    assert "Traceback" not in printed.err
