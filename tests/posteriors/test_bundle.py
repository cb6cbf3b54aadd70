import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load, save

import astroflow.posteriors.bundle as module
from astroflow.errors import BundleError, InputError, OutputError
from astroflow.files import atomic_write
from astroflow.posteriors.bundle import FILES, check_free, load_posterior, save_bundle
from astroflow.posteriors.estimator import Estimator
from astroflow.posteriors.recipe import Architecture
from astroflow.sims.noise_correlation import CosmosCorrelation

NAMES = (*FILES, "manifest.json")


@pytest.fixture
def bundle(small_bundle, tmp_path):
    """A copy that a test may spoil."""
    path = tmp_path / "bundle"
    path.mkdir()
    for name in NAMES:
        shutil.copy(small_bundle / name, path / name)
    return path


def sealed(path):
    """Make size, digests and identity fit the files again, as someone who means harm would, or another version."""
    files = {
        name: {"sha256": hashlib.sha256((path / name).read_bytes()).hexdigest(), "bytes": (path / name).stat().st_size} for name in FILES
    }
    listing = "\n".join(f"{name} {files[name]['sha256']}" for name in sorted(files))
    manifest = json.loads((path / "manifest.json").read_text())
    digest = hashlib.sha256(f"{manifest['format']} {manifest['version']}\n{listing}".encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest | {"files": files, "digest": digest}))


def with_json(path, name, change):
    data = json.loads((path / name).read_text())
    change(data)
    (path / name).write_text(json.dumps(data))


def with_tensors(path, change, name="weights.safetensors"):
    arrays = {key: value.copy() for key, value in load((path / name).read_bytes()).items()}
    change(arrays)
    (path / name).write_bytes(save(arrays))
    sealed(path)


def refused(path, message):
    with pytest.raises(BundleError, match=message):
        load_posterior(path)


# -- there and back ----------------------------------------------------------------------------------------------------


def test_a_loaded_posterior_gives_the_same_bits(small_posterior, small_simulator, galaxies, tmp_path):
    path = tmp_path / "again"
    digest = save_bundle(path, small_posterior, galaxies.stamps)
    again = load_posterior(path)
    assert again.digest == digest
    stamps = galaxies.stamps[:5]
    assert np.array_equal(again.sample(stamps, 16, seed=1), small_posterior.sample(stamps, 16, seed=1))
    assert np.array_equal(again.encode(stamps).flags, small_posterior.encode(stamps).flags)
    assert again.parameters == small_simulator.parameters
    assert again.stamp == small_simulator.stamp
    assert again.forward_model == small_posterior.forward_model
    assert again.training == small_posterior.training


def test_what_is_a_view_in_memory_is_what_it_says_in_the_file():
    wide = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"part": wide[:, :2], "turned": wide.T, "number": np.float32(3)}
    found = load(module._packed(arrays))
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())
    assert found["number"].shape == ()


@pytest.mark.parametrize(("kind", "number"), [("spline_maf", "bins"), ("spline_coupling", "bins"), ("mixture", "components")])
def test_a_bundle_remembers_its_kind_of_flow(kind, number, small_posterior, galaxies, tmp_path, monkeypatch):
    traced = tf.function  # compiling the samplers would take most of the time
    monkeypatch.setattr(tf, "function", lambda f=None, jit_compile=None, **options: traced(f, **options))
    estimator = small_posterior.estimator
    data = estimator.architecture.model_dump() | {"flow": {"kind": kind, "hidden": (8,), number: 3}}
    flow = Estimator(
        Architecture.model_validate(data), estimator.shapes, estimator.target, estimator.dimensions, estimator.auxiliary, seed=5
    )
    path = tmp_path / "bundle"
    save_bundle(path, dataclasses.replace(small_posterior, estimator=flow), galaxies.stamps)
    again = load_posterior(path)  # which compares draws with the golden ones
    assert again.estimator.architecture == flow.architecture
    assert getattr(again.estimator.architecture.flow, number) == 3
    for name, variable in flow.variables.items():
        assert np.array_equal(again.estimator.variables[name], variable), name
    with_json(path, "config.json", lambda c: c["architecture"]["flow"].update({number: 4}))
    sealed(path)
    refused(path, "expected floats of shape")
    with_json(path, "config.json", lambda c: c["architecture"]["flow"].update(kind="maf"))
    sealed(path)
    refused(path, "does not describe a posterior: .*`(bins|bound|components)` belongs to (splines|mixtures)")


def test_a_bundle_holds_the_noise_correlation_it_was_trained_with(small_posterior, galaxies, tmp_path):
    """In numbers: no file is needed to load it."""
    assert small_posterior.noise_correlation is None
    correlation = CosmosCorrelation(max_lag=4).map
    digest = save_bundle(tmp_path / "bundle", replace(small_posterior, noise_correlation=correlation), galaxies.stamps)
    again = load_posterior(tmp_path / "bundle")
    assert np.allclose(again.noise_correlation, correlation, atol=1e-6)
    assert digest != small_posterior.digest, "it is part of the identity"
    assert save_bundle(tmp_path / "copy", again, galaxies.stamps) == digest
    with_json(tmp_path / "bundle", "config.json", lambda data: data["noise_correlation"]["values"][0].pop())
    sealed(tmp_path / "bundle")
    refused(tmp_path / "bundle", "expected a square of odd side")


def test_files_depend_on_the_posterior_alone(small_posterior, galaxies, tmp_path):
    digests = [save_bundle(tmp_path / name, small_posterior, galaxies.stamps) for name in ("one", "other")]
    assert digests[0] == digests[1]
    for name in NAMES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "other"], "nothing is left beside them"


def test_a_bundle_may_be_replaced_by_another_and_nothing_else_may(small_posterior, galaxies, bundle, tmp_path):
    save_bundle(bundle, small_posterior, galaxies.stamps)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("Introduction")
    (tmp_path / "file").write_text("x")
    for place in ("thesis", "file"):
        with pytest.raises(OutputError, match="is not empty and holds no bundle; give another --out"):
            save_bundle(tmp_path / place, small_posterior, galaxies.stamps)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "Introduction"
    check_free(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_writer_that_was_killed_can_start_again(small_posterior, galaxies, tmp_path, monkeypatch, written):
    """Whatever files a killed writer leaves, the folder is no bundle, may be written again, and then is one."""
    folder, done = tmp_path / "bundle", []

    def dying(path, content):
        if len(done) == written:
            (path.parent / f".{path.name}.{'0' * 32}").write_bytes(content[:10])
            raise KeyboardInterrupt
        done.append(path)
        atomic_write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(module, "atomic_write", dying)
        with pytest.raises(KeyboardInterrupt):
            save_bundle(folder, small_posterior, galaxies.stamps)
    with pytest.raises(BundleError, match="is no bundle"):
        load_posterior(folder)
    digest = save_bundle(folder, small_posterior, galaxies.stamps)
    assert load_posterior(folder).digest == digest
    assert {file.name for file in folder.iterdir()} == {*FILES, "manifest.json"}


def test_too_few_golden_stamps_are_refused(small_posterior, galaxies, tmp_path):
    with pytest.raises(InputError, match="a bundle needs 8 stamps for its golden answers; got 3"):
        save_bundle(tmp_path / "bundle", small_posterior, galaxies.stamps[:3])


def test_loading_needs_no_galsim_and_no_pickle(small_bundle):
    program = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(event) if event.startswith(('pickle.', 'subprocess.', 'os.system')) else None)\n"
        "from astroflow import load_posterior\n"
        f"posterior = load_posterior({str(small_bundle)!r})\n"
        "assert posterior.digest\n"
        "assert not {'galsim', 'dask', 'distributed'} & set(sys.modules), sorted(sys.modules)\n"
        "assert 'pickle.find_class' not in opened\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    assert done.returncode == 0, done.stderr


# -- damage --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_one_changed_bit_is_refused(bundle, name, where):
    content = bytearray((bundle / name).read_bytes())
    content[round(where * (len(content) - 1))] ^= 1
    (bundle / name).write_bytes(content)
    refused(bundle, rf"{name} has been changed: it has \d+ bytes, sha256")


def test_one_changed_byte_of_the_manifest_is_refused(bundle):
    content = (bundle / "manifest.json").read_bytes()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1
        if json_equal(bytes(changed), content):
            continue
        (bundle / "manifest.json").write_bytes(changed)
        refused(bundle, "bundle|manifest")


def json_equal(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_missing_or_empty_is_refused(bundle, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: len(content) // 2])
    refused(bundle, "has been changed")
    (bundle / name).write_bytes(b"")
    refused(bundle, "has been changed")
    (bundle / name).unlink()
    refused(bundle, f"lacks {name}")


def test_what_is_no_bundle_says_how_to_make_one(tmp_path):
    refused(tmp_path / "nothing", "is no bundle: it has no manifest.json. Make one with `astroflow train")
    refused(tmp_path, "is no bundle")
    (tmp_path / "model.keras").write_bytes(b"PK")
    refused(tmp_path / "model.keras", "is a file; a bundle is a folder .* never loaded, because loading them can run any program")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=1), "is a bundle of version 1; this astroflow reads version 2: train again"),
        (lambda m: m.pop("version"), "is a bundle of version None"),
        (lambda m: m.update(format="other"), "is not an astroflow manifest"),
        (lambda m: m["files"].pop("golden.safetensors"), "should list exactly"),
        (lambda m: m["files"].update({"../config.json": {}}), "should list exactly"),
        (lambda m: m.update(files=[]), "should list exactly"),
        (lambda m: m["files"].update({"config.json": "x"}), "has been changed"),
        (lambda m: m.update(digest="0" * 64), "its digest does not belong to its files"),
        (lambda m: m.update(digest=None), "its digest does not belong to its files"),
    ],
)
def test_manifests_of_something_else_are_refused(bundle, change, message):
    with_json(bundle, "manifest.json", change)
    refused(bundle, message)


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", '{"a": NaN}', '{"a": Infinity}', '{"a": 1, "a": 2}', "{'a': 1}", "not json", "\xff", '{"a": 1} {"b": 2}', "[" * 100_000, ""],
)
def test_only_strict_json_is_read(bundle, text):
    (bundle / "config.json").write_bytes(text.encode("latin-1"))
    sealed(bundle)
    refused(bundle, "is not strict JSON|does not describe a posterior")
    (bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    refused(bundle, "is not strict JSON|is not an astroflow manifest")


def test_huge_json_is_not_read(bundle):
    (bundle / "manifest.json").write_bytes(b" " * (4 * 1024**2 + 1))
    refused(bundle, "bytes; at most 4194304 are allowed")
    (bundle / "config.json").write_bytes(b" " * (4 * 1024**2 + 1))


# -- files that fit their digests, but not the bundle --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["architecture"]["flow"].update(kind="pickle"), "does not describe a posterior: .*kind"),
        (lambda c: c["architecture"]["summary"].update(kind="keras"), "does not describe a posterior: .*kind"),
        (lambda c: c["architecture"].update(module="os:system"), "does not describe a posterior: .*module"),
        (lambda c: c["architecture"]["flow"].update(layers=10**9), "does not describe a posterior: .*layers"),
        (lambda c: c["architecture"]["flow"].update(hidden=[]), "does not describe a posterior: .*hidden"),
        (lambda c: c["architecture"]["flow"].update(hidden=[2, 2]), "needs hidden layers of at least 7 units"),
        (lambda c: c.pop("stamp"), "does not describe a posterior: .*stamp"),
        (lambda c: c["parameters"]["members"].pop(), "does not describe a posterior: .*differ"),
        (lambda c: c["parameters"]["prior"]["blocks"][0]["distribution"].update(kind="exec"), "does not describe a posterior"),
    ],
)
def test_configurations_beyond_the_allowed_are_refused(bundle, change, message):
    with_json(bundle, "config.json", change)
    sealed(bundle)
    refused(bundle, message)


def first(arrays, part):
    return next(name for name in sorted(arrays) if name.startswith(part))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("estimator/layer0/x0"), "1 tensors are missing or left over, e.g. estimator/layer0/x0 is missing"),
        (lambda a: a.pop("familiarity/psf_mean"), "e.g. familiarity/psf_mean is missing"),
        (lambda a: a.update({"estimator/evil": np.zeros(3, np.float32)}), "e.g. estimator/evil is left over"),
        (lambda a: a.update({"elsewhere": np.zeros(3, np.float32)}), "e.g. elsewhere is left over"),
        (
            lambda a: a.update({"estimator/layer0/x0": a["estimator/layer0/x0"].T.copy()}),
            r"tensor estimator/layer0/x0 is float32 of shape \(32, 7\), expected",
        ),
        (
            lambda a: a.update({"familiarity/psf_mean": np.zeros(5)}),
            r"familiarity/psf_mean is float64 of shape \(5,\), expected floats of shape \(6,\)",
        ),
        (lambda a: a.update({"estimator/layer0/x0": a["estimator/layer0/x0"].astype(np.int32)}), "layer0/x0 is int32"),
        (lambda a: a["estimator/layer0/x0"].fill(np.nan), "tensor estimator/layer0/x0 holds values that are not finite"),
        (lambda a: a["familiarity/context_threshold"].fill(np.inf), "holds values that are not finite"),
        (lambda a: a.clear(), "tensors are missing or left over"),
    ],
    ids=["missing", "no limits", "extra", "extra elsewhere", "shape", "limits' shape", "kind", "nan", "inf", "empty"],
)
def test_weights_that_do_not_fit_are_refused(bundle, change, message):
    with_tensors(bundle, change)
    refused(bundle, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("noise"), "noise is missing"),
        (lambda a: a.pop("inputs/image"), "inputs/image is missing"),
        (lambda a: a.update(noise=a["noise"][:, :1].copy()), "tensor noise is float32 of shape"),
        (lambda a: a.update({name: value[:0].copy() for name, value in a.items()}), "is float32 of shape"),
        (lambda a: a.update(further=np.zeros(3, np.float32)), "further is left over"),
    ],
    ids=["noise", "input", "other noise", "no rows", "extra"],
)
def test_golden_answers_that_do_not_fit_are_refused(bundle, change, message):
    with_tensors(bundle, change, "golden.safetensors")
    refused(bundle, message)


@pytest.mark.parametrize("part", ["estimator/dense0/kernel", "estimator/layer1/context1"])
def test_weights_that_do_not_give_the_golden_answers_are_refused(bundle, part):
    with_tensors(bundle, lambda arrays: arrays.update({part: arrays[part] * np.float32(1.05)}))
    refused(bundle, "does not reproduce the bundle's stored answers")


# -- programs in disguise ----------------------------------------------------------------------------------------------


class Mischief:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seal", [False, True])
def test_a_pickle_in_disguise_is_never_run(bundle, tmp_path, name, seal):
    proof = tmp_path / "proof"
    (bundle / name).write_bytes(pickle.dumps(Mischief(proof)))
    if seal and name != "manifest.json":
        sealed(bundle)
    refused(bundle, "is not strict JSON|is not a safetensors file|has been changed")
    assert not proof.exists()
    pickle.loads((bundle / name).read_bytes())
    assert proof.exists(), "the pickle would have done it"


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.safetensors"])
def test_a_keras_file_in_disguise_is_refused(bundle, name):
    with zipfile.ZipFile(bundle / name, "w") as archive:
        archive.writestr("config.json", '{"module": "keras.layers", "class_name": "Lambda", "config": {"function": "gASV"}}')
        archive.writestr("model.weights.h5", b"\x89HDF")
    sealed(bundle)
    refused(bundle, "is not a safetensors file")


@pytest.mark.parametrize("header", [b"\xff" * 8, (2**40).to_bytes(8, "little"), (2).to_bytes(8, "little") + b"{}" + b"x", b""])
def test_headers_that_lie_are_refused(bundle, header):
    (bundle / "weights.safetensors").write_bytes(header)
    sealed(bundle)
    refused(bundle, "is not a safetensors file|tensors are missing")
