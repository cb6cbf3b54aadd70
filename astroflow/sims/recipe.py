"""Forward-model recipes: the YAML files of the folder ``sims/``, and how they become a `Simulator`.

A part is chosen by its `kind`. Kinds are astroflow's own or come from installed packages through the entry-point groups
``astroflow.galaxies``, ``astroflow.psfs``, ``astroflow.noises`` (a `Recipe` subclass each) and ``astroflow.simulators``
(a function that returns a `Simulator`).
"""

__all__ = ["SimulatorRecipe", "build_simulator", "galaxy_from_data", "load_simulator", "simulator_data", "simulator_from_data"]

import functools
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import pydantic

from astroflow.config import Recipe, find_recipe, parse_recipe, read_yaml
from astroflow.errors import ConfigError, nearest
from astroflow.sims.bulge_disc import BulgeDiscGalaxy
from astroflow.sims.galaxies import Galaxy, SersicGalaxy
from astroflow.sims.masks import MaskPopulation
from astroflow.sims.noise import CCDNoise, RMSNoise
from astroflow.sims.psfs import ImagePSF, KolmogorovPSF, MoffatPSF
from astroflow.sims.simulator import Simulator
from astroflow.sims.stamp import StampSpec

PARTS: dict[str, dict[str, type[Recipe]]] = {
    "galaxy": {"sersic": SersicGalaxy, "bulge_disc": BulgeDiscGalaxy},
    "psf": {"moffat": MoffatPSF, "kolmogorov": KolmogorovPSF, "images": ImagePSF},
    "noise": {"rms": RMSNoise, "ccd": CCDNoise},
}
GROUPS = {"galaxy": "astroflow.galaxies", "psf": "astroflow.psfs", "noise": "astroflow.noises"}


class SimulatorRecipe(Recipe):
    """A forward model: galaxies, PSF, noise and masks on stamps."""

    @classmethod
    def open_parts(cls) -> Mapping[str, Mapping[str, type[Recipe]]]:
        return PARTS

    description: str = ""
    """One sentence: which survey, which systematics."""
    stamp: StampSpec
    """Size, sampling and units of the stamps."""
    galaxy: dict[str, Any]
    """Galaxy profile and prior; kinds: sersic, bulge_disc, or an installed one."""
    psf: dict[str, Any]
    """PSF population; kinds: moffat, kolmogorov, images, or an installed one."""
    noise: dict[str, Any]
    """Noise; kinds: rms, ccd, or an installed one."""
    masks: MaskPopulation = MaskPopulation()
    """Missing pixels."""
    engine: Literal["galsim", "fourier"] = "galsim"
    """What draws: galsim, or fourier, which is faster by far but only knows sums of Sersic profiles."""


def part_model(part: str, kind: str) -> type[Recipe]:
    """Return the recipe model of a part's kind, astroflow's own or an installed one."""
    own = PARTS[part]
    if kind in own:
        return own[kind]
    installed = {point.name: point for point in entry_points(group=GROUPS[part])}
    if kind not in installed:
        known = sorted({*own, *installed})
        raise ConfigError(f"unknown {part} kind {kind!r}; known kinds: {', '.join(known)}.{nearest(kind, known)}")
    point = installed[kind]
    try:
        model = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load {part} kind {kind!r} from {point.value!r}: {error}") from error
    if not (isinstance(model, type) and issubclass(model, Recipe)):
        raise ConfigError(f"{part} kind {kind!r} ({point.value!r}) should be a subclass of astroflow.config.Recipe; it is {model!r}")
    return model


def build_simulator(data: dict[str, Any], where: str = "simulator", folder: Path | None = None) -> tuple[Simulator, dict[str, Any]]:
    """Build a simulator from a recipe's plain data.

    Parameters
    ----------
    data : dict
        The recipe, as YAML gives it.
    where : str
        What messages call it, usually its path.
    folder : Path, optional
        Where the recipe's relative paths start; the working folder by default.

    Returns
    -------
    simulator : Simulator
    resolved : dict
        The recipe with every default filled in and every path absolute, as plain data; building it again gives the same
        simulator.
    """
    recipe = parse_recipe(SimulatorRecipe, data, where, folder)
    parts: dict[str, Any] = {}
    for part in PARTS:
        given = dict(getattr(recipe, part))
        if not isinstance(given.get("kind"), str):
            raise ConfigError(f"{where}: `{part}.kind` is missing; known kinds: {', '.join(PARTS[part])}")
        try:
            model = part_model(part, given["kind"])
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        parts[part] = parse_recipe(model, given, f"{where}: {part}", folder)
    resolved = recipe.model_dump(mode="json") | {part: model.model_dump(mode="json") for part, model in parts.items()}
    simulator = Simulator(**parts, stamp=recipe.stamp, masks=recipe.masks, engine=recipe.engine, name=Path(where).stem)
    try:
        # built here once, because only all priors together show some contradictions
        _ = simulator.parameters
    except pydantic.ValidationError as error:
        problems = "; ".join(str(problem.get("ctx", {}).get("error", problem["msg"])) for problem in error.errors())
        raise ConfigError(f"{where}: galaxy: {problems}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: galaxy: {error}") from error
    return simulator, resolved


def simulator_data(name: str | Path) -> dict[str, Any]:
    """Return a simulator as plain data, for files and workers: its resolved recipe, or a reference to your own Python.

    The recipe holds the digest of PSF images that lie in a file of their own.
    """
    if _is_python(str(name)):
        load_simulator(name)
        return {"reference": str(name)}
    simulator, resolved = _read(name)
    if isinstance(simulator.psf, ImagePSF):
        try:
            resolved["psf"] = simulator.psf.pinned().model_dump(mode="json")
        except ConfigError as error:
            raise ConfigError(f"{find_recipe(name, 'sims')}: psf: {error}") from error
    return resolved


def simulator_from_data(data: dict[str, Any]) -> Simulator:
    """Build a simulator from `simulator_data`."""
    return load_simulator(data["reference"]) if set(data) == {"reference"} else build_simulator(data)[0]


def galaxy_from_data(data: dict[str, Any]) -> Galaxy:
    """Build the galaxy of a forward model, and nothing else of it: no file that the model names has to be there.

    Raises
    ------
    ConfigError
        If the forward model is Python code, or its galaxy is of a kind that is not installed.
    """
    if "galaxy" not in data:
        raise ConfigError(f"a forward model in Python ({data.get('reference', 'unnamed')!r}) has no galaxy recipe to build a galaxy from")
    return parse_recipe(part_model("galaxy", data["galaxy"]["kind"]), data["galaxy"], "forward model: galaxy")  # type: ignore[return-value]


def _read(name: str | Path) -> tuple[Simulator, dict[str, Any]]:
    path = find_recipe(name, "sims")
    return build_simulator(read_yaml(path), str(path), path.parent)


def _is_python(text: str) -> bool:
    """Say whether a name means an installed simulator or ``module:attribute``, rather than a recipe."""
    module, colon, _ = text.partition(":")
    reference = bool(colon) and module.replace(".", "").isidentifier() and not Path(text).exists()
    return reference or any(point.name == text for point in entry_points(group="astroflow.simulators"))


def load_simulator(name: str | Path) -> Simulator:
    """Load a simulator by recipe path, recipe name, installed simulator name, or ``module:attribute``.

    Parameters
    ----------
    name : str or Path
        ``"sims/cosmos_acs.yaml"``, ``"cosmos_acs"``, the name of an ``astroflow.simulators`` entry point, or
        ``"my_module:my_simulator"`` (a `Simulator` or a function that returns one).

    Raises
    ------
    ConfigError
        If nothing of that name exists, or the recipe is not valid.
    """
    text = str(name)
    try:
        for point in entry_points(group="astroflow.simulators"):
            if point.name == text:
                return _as_simulator(point.load(), text)
        if _is_python(text):
            module, _, attribute = text.partition(":")
            return _as_simulator(functools.reduce(getattr, attribute.split("."), importlib.import_module(module)), text)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load simulator {text!r}: {error}") from error
    return _read(name)[0]


def _as_simulator(thing: Any, name: str) -> Simulator:
    made = thing() if callable(thing) and not isinstance(thing, Simulator) else thing
    if not isinstance(made, Simulator):
        raise ConfigError(f"{name!r} should be an astroflow Simulator or a function that returns one; it is {type(made).__name__}")
    return made
