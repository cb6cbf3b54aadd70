"""Bundles: a trained posterior on disk, as data and never as a program.

A bundle is a folder of four files::

    config.json            architecture (from an allow-list), parameters and priors, stamp, resolved forward model, training provenance
    weights.safetensors    every variable by name, and where the training simulations lie
    golden.safetensors     a few inputs with the answers they must give
    manifest.json          format, size and sha256 of each file, and the digest of them all: the bundle's identity

Loading checks sizes, digests, the schema, every tensor's name and shape, then recomputes the golden answers. Nothing in a bundle is
ever executed or unpickled. What a validation found out lies beside these files (`validated`) and is no part of the identity.
"""

__all__ = ["BundleConfig", "build_estimator", "build_linearized", "bundle_digest", "check_free", "load_posterior", "save_bundle"]

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from safetensors import SafetensorError
from safetensors.numpy import load, save

from astroflow.config import Recipe
from astroflow.errors import BundleError, ConfigError, InputError, OutputError
from astroflow.files import atomic_write, clear_stages, is_stage
from astroflow.posteriors.ensemble import AnyEstimator, Ensemble, build_any_estimator
from astroflow.posteriors.exact.prior_target import prior_bijector
from astroflow.posteriors.familiarity import Familiarity
from astroflow.posteriors.inputs import input_shapes, network_inputs
from astroflow.posteriors.linearized import Linearization, LinearizedStage
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.recipe import Architecture
from astroflow.posteriors.validated import ATTACHED
from astroflow.sims.fourier.engine import fourier_engine
from astroflow.sims.noise_correlation import ValuesCorrelation
from astroflow.sims.parameters import Parameters
from astroflow.sims.recipe import galaxy_from_data
from astroflow.sims.sersics import SersicSum
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Stamps

FORMAT = "astroflow-bundle"
VERSION = 2
FILES = ("config.json", "weights.safetensors", "golden.safetensors")
BESIDE = ("history.json", "learning_curve.png", ATTACHED)
"""What a training, and a validation, write into the bundle's folder besides."""
MAX_JSON = 4 * 1024**2
MAX_WEIGHTS = 2 * 1024**3
GOLDEN_OBJECTS, GOLDEN_DRAWS = 8, 16
"""So many answers are stored, of ensembles with more members one draw of each."""
GOLDEN_TOLERANCE = 2e-3
AUXILIARY = ("log_snr",)


class BundleConfig(Recipe):
    """What `config.json` holds."""

    architecture: Architecture
    """The networks."""
    parameters: Parameters
    """Names, units, joint prior."""
    stamp: StampSpec
    """What the network takes."""
    forward_model: dict[str, Any]
    """The resolved recipe of the simulator."""
    training: dict[str, Any]
    """Seed, sizes, scores and versions of the training."""
    noise_correlation: ValuesCorrelation | None = None
    """Correlation of native pixels' noise in training; independent if left out."""


def build_estimator(config: BundleConfig, seed: int = 0) -> AnyEstimator:
    """Build the untrained estimator that a configuration describes."""
    return build_any_estimator(
        config.architecture, input_shapes(config.stamp), prior_bijector(config.parameters.prior), len(config.parameters), AUXILIARY, seed
    )


def build_linearized(config: BundleConfig, seed: int = 0) -> LinearizedStage | None:
    """Build the untrained linearised stage that a configuration describes, if it has one.

    Raises
    ------
    ConfigError
        If the Fourier engine cannot draw the forward model's galaxy.
    """
    recipe = config.architecture.linearized
    if recipe is None:
        return None
    galaxy = galaxy_from_data(config.forward_model)
    if not isinstance(galaxy, SersicSum):
        raise ConfigError(
            f"`linearized` fits sums of Sersic profiles, which the Fourier engine draws; {type(galaxy).__name__} is none. "
            "Leave `linearized` out"
        )
    prior, context = config.parameters.prior, config.architecture.context_length
    engine = fourier_engine(galaxy, prior.names)
    return LinearizedStage(recipe, engine, prior, prior_bijector(prior), config.stamp, context, seed)


def check_free(path: Path) -> None:
    """Refuse a place for a bundle that holds something else.

    Raises
    ------
    OutputError
        If it is a file, or a folder with other files than a bundle's. A bundle without its manifest is what a killed writer leaves.
    """
    others = [f for f in path.iterdir() if f.name not in (*FILES, *BESIDE) and not is_stage(f)] if path.is_dir() else []
    if path.is_file() or (others and not (path / "manifest.json").exists()):
        raise OutputError(f"{path} is not empty and holds no bundle; give another --out")


def save_bundle(path: Path, posterior: Posterior, golden: Stamps) -> str:
    """Write a bundle and return its digest.

    Parameters
    ----------
    path : Path
        A new or empty folder, or one that holds a bundle to be replaced.
    posterior : Posterior
        What to save.
    golden : Stamps
        At least eight framed stamps whose answers are stored.

    Raises
    ------
    OutputError
        If the folder holds something that is no bundle.
    """
    check_free(path)
    estimator = posterior.estimator
    config = BundleConfig(
        architecture=estimator.architecture, parameters=posterior.parameters, stamp=posterior.stamp,
        forward_model=posterior.forward_model, training=posterior.training,
        noise_correlation=None if posterior.noise_correlation is None else ValuesCorrelation.of(posterior.noise_correlation),
    )  # fmt: skip
    weights = {f"estimator/{name}": np.asarray(v) for name, v in estimator.variables.items()}
    weights |= {f"familiarity/{name}": value for name, value in posterior.familiarity.to_arrays().items()}
    if posterior.linearized is not None:
        weights |= {f"linearized/{name}": np.asarray(v) for name, v in posterior.linearized.variables.items()}
    contents = {
        "config.json": _canonical(config.model_dump(mode="json")),
        "weights.safetensors": _packed(weights),
        "golden.safetensors": _packed(_golden(posterior, golden)),
    }
    files = {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in contents.items()}
    manifest = {"format": FORMAT, "version": VERSION, "files": files, "digest": _identity(files)}
    path.mkdir(parents=True, exist_ok=True)
    # the old manifest goes first and the new one comes last: a folder without one is no bundle
    (path / "manifest.json").unlink(missing_ok=True)
    for name, content in contents.items():
        atomic_write(path / name, content)
    atomic_write(path / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())
    clear_stages(path)
    return str(manifest["digest"])


def load_posterior(path: str | Path) -> Posterior:
    """Load a trained posterior, checking everything.

    Parameters
    ----------
    path : str or Path
        A bundle folder.

    Raises
    ------
    BundleError
        If a file is missing, changed, of another version or shape, or the golden answers differ.
    """
    folder = Path(path)
    manifest = _manifest(folder)
    contents = _checked_files(folder, manifest)
    data = _strict_json(folder / "config.json", contents["config.json"])
    try:
        config = BundleConfig.model_validate(data)
    except pydantic.ValidationError as error:
        raise BundleError(
            f"{folder}/config.json does not describe a posterior: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        ) from None
    weights, golden = (_tensors(folder / name, contents[name]) for name in FILES[1:])
    try:
        estimator, linearized = build_estimator(config), build_linearized(config)
    except ConfigError as error:
        raise BundleError(f"{folder}/config.json does not describe a posterior: {error}") from None
    expected = {f"familiarity/{name}": shape for name, shape in Familiarity.shapes(config.architecture.context_length).items()}
    variables = {f"estimator/{name}": v for name, v in estimator.variables.items()}
    variables |= {f"linearized/{name}": v for name, v in (linearized.variables if linearized else {}).items()}
    _check_tensors(weights, expected | {name: tuple(v.shape) for name, v in variables.items()}, folder / FILES[1])
    for name, variable in variables.items():
        variable.assign(weights[name])
    familiarity = Familiarity.from_arrays({n.removeprefix("familiarity/"): v for n, v in weights.items() if n.startswith("familiarity/")})
    _check_golden(estimator, linearized, golden, folder)
    return Posterior(
        estimator=estimator, linearized=linearized, parameters=config.parameters, stamp=config.stamp, familiarity=familiarity,
        forward_model=config.forward_model, digest=str(manifest["digest"]), training=config.training,
        noise_correlation=None if config.noise_correlation is None else config.noise_correlation.map,
    )  # fmt: skip


def bundle_digest(path: str | Path) -> str:
    """Return a bundle's identity as its manifest states it, without loading it.

    Raises
    ------
    BundleError
        If there is no bundle.
    """
    return str(_manifest(Path(path)).get("digest"))


def _manifest(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        raise BundleError(
            f"{folder} is a file; a bundle is a folder with {', '.join(('manifest.json', *FILES))}. "
            "Keras, pickle and SavedModel files are never loaded, because loading them can run any program"
        )
    if not (folder / "manifest.json").is_file():
        raise BundleError(f"{folder} is no bundle: it has no manifest.json. Make one with `astroflow train ... --out {folder}`")
    manifest = _strict_json(folder / "manifest.json", (folder / "manifest.json").read_bytes() if _small(folder / "manifest.json") else b"")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{folder}/manifest.json is not an astroflow manifest")
    if manifest.get("version") != VERSION:
        raise BundleError(
            f"{folder} is a bundle of version {manifest.get('version')!r}; this astroflow reads version {VERSION}: train again"
        )
    return manifest


def _canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, indent=1, allow_nan=False).encode()


def _packed(arrays: dict[str, Array]) -> bytes:
    """Return the content of a safetensors file. The library writes memory as it lies, so a view must become an array first."""
    return save({name: np.asarray(value, order="C") for name, value in arrays.items()})


def _identity(files: dict[str, dict[str, Any]]) -> str:
    listing = "\n".join(f"{name} {files[name]['sha256']}" for name in sorted(files))
    return hashlib.sha256(f"{FORMAT} {VERSION}\n{listing}".encode()).hexdigest()


def _small(path: Path) -> bool:
    if path.stat().st_size > MAX_JSON:
        raise BundleError(f"{path} has {path.stat().st_size} bytes; at most {MAX_JSON} are allowed")
    return True


def _strict_json(path: Path, content: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not allowed")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key is given twice")
        return dict(pairs)

    try:
        return json.loads(content, parse_constant=refuse, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not strict JSON: {error}") from None


def _checked_files(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != set(FILES):
        raise BundleError(f"{folder}/manifest.json should list exactly {', '.join(FILES)}")
    contents = {}
    for name in FILES:
        path = folder / name
        entry = files[name] if isinstance(files[name], dict) else {}
        if not path.is_file():
            raise BundleError(f"{folder} lacks {name}")
        size = path.stat().st_size
        if size > (MAX_JSON if name.endswith(".json") else MAX_WEIGHTS):
            raise BundleError(f"{path} is too large: {size} bytes")
        content = path.read_bytes()
        found: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        if found != entry:
            said = f"{entry.get('bytes')} bytes, sha256 {str(entry.get('sha256'))[:16]}"
            raise BundleError(
                f"{path} has been changed: it has {len(content)} bytes, sha256 {found['sha256'][:16]}; the manifest says {said}"
            )
        contents[name] = content
    if manifest.get("digest") != _identity(files):
        raise BundleError(f"{folder}/manifest.json has been changed: its digest does not belong to its files")
    return contents


def _tensors(path: Path, content: bytes) -> dict[str, Array]:
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from None
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise BundleError(f"{path}: tensor {name} holds values that are not finite")
    return arrays


def _check_tensors(found: dict[str, Array], expected: dict[str, tuple[int, ...]], path: Path) -> None:
    """Refuse tensors that are missing, left over, or of another shape than the architecture has."""
    odd = sorted(set(found) ^ set(expected))
    if odd:
        what = "missing" if odd[0] in expected else "left over"
        raise BundleError(f"{path} does not fit the architecture: {len(odd)} tensors are missing or left over, e.g. {odd[0]} is {what}")
    for name, shape in expected.items():
        if found[name].shape != shape or found[name].dtype.kind != "f":
            raise BundleError(
                f"{path}: tensor {name} is {found[name].dtype} of shape {found[name].shape}, expected floats of shape {shape}"
            )


def _golden(posterior: Posterior, stamps: Stamps) -> dict[str, Array]:
    if len(stamps) < GOLDEN_OBJECTS:
        raise InputError(f"a bundle needs {GOLDEN_OBJECTS} stamps for its golden answers; got {len(stamps)}")
    estimator, stamps = posterior.estimator, stamps[:GOLDEN_OBJECTS]
    inputs = network_inputs(stamps)
    noise = np.random.default_rng(0).standard_normal(_golden_shape(estimator), dtype=np.float32)
    golden = {f"inputs/{name}": value for name, value in inputs.items()} | {"noise": noise} | _answers(estimator, inputs, noise)
    if posterior.linearized is None:
        return golden
    fits = posterior.linearized.fit(golden["context"], estimator.guess(golden["context"]), stamps)
    given = {"features": fits.features, "point": fits.point, "factor": fits.factor}
    # its flow is checked by densities: compiling fit and sampler takes longer than loading a bundle should
    draws = posterior.linearized.sample(fits, noise)
    answers = {"draws": draws, "density": posterior.linearized.log_prob(draws, fits), "share": posterior.linearized.share(fits)}
    return golden | {f"linearized/{name}": value for name, value in (given | answers).items()}


def _golden_shape(estimator: AnyEstimator) -> tuple[int, int, int]:
    """Return the shape of golden draws, of which every member makes some."""
    members = estimator.size if isinstance(estimator, Ensemble) else 1
    return GOLDEN_OBJECTS, max(GOLDEN_DRAWS, members), estimator.dimensions


def _answers(estimator: AnyEstimator, inputs: dict[str, Array], noise: Array) -> dict[str, Array]:
    context, auxiliary = estimator.encode(inputs)
    draws = estimator.sample(context, noise)
    # in units where the prior has unit width, so that one tolerance serves every parameter
    real = np.asarray(estimator.target.inverse(draws))
    return {"context": context, "draws": real, "auxiliary": np.stack(list(auxiliary.values()), -1)}


def _check_golden(estimator: AnyEstimator, linearized: LinearizedStage | None, golden: dict[str, Array], folder: Path) -> None:
    n, draws = GOLDEN_OBJECTS, _golden_shape(estimator)
    expected = {f"inputs/{name}": (n, *shape) for name, shape in estimator.shapes.items()}
    expected |= {"noise": draws, "draws": draws, "auxiliary": (n, len(estimator.auxiliary))}
    expected["context"] = (n, estimator.context_length)
    if linearized is not None:
        p = estimator.dimensions
        shapes = {
            "features": (n, linearized.length), "point": (n, p), "factor": (n, p, p), "draws": draws, "density": draws[:2], "share": (n,),
        }  # fmt: skip
        expected |= {f"linearized/{name}": shape for name, shape in shapes.items()}
    _check_tensors(golden, expected, folder / FILES[2])
    answers = _answers(estimator, {name: golden[f"inputs/{name}"] for name in estimator.shapes}, golden["noise"])
    if linearized is not None:
        features, point, factor = (golden[f"linearized/{name}"] for name in ("features", "point", "factor"))
        fits = Linearization(features, point, factor, converged=np.ones(n, bool))
        answers["linearized/density"] = linearized.log_prob(golden["linearized/draws"], fits)
        answers["linearized/share"] = linearized.share(fits)
    for name, value in answers.items():
        scale = max(1.0, float(np.abs(golden[name]).max()))
        worst = float(np.abs(value - golden[name]).max()) / scale
        if not worst <= GOLDEN_TOLERANCE:
            raise BundleError(
                f"{folder}: this installation does not reproduce the bundle's stored answers "
                f"({name} differs by {worst:.2g}, allowed {GOLDEN_TOLERANCE:g}). "
                "Run `astroflow doctor`; a different TensorFlow build or device is the usual reason"
            )
