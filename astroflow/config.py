"""Recipes: strict YAML read into pydantic models, found by path or by name.

A recipe says what differs from the defaults; every default lives in a model next to the code that uses it, with
one sentence on what it means. An unknown key is an error that names the nearest known one.
"""

__all__ = ["Recipe", "commented_defaults", "find_recipe", "load_recipe", "parse_recipe", "read_yaml"]

import typing
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from astroflow.errors import ConfigError, nearest

RECIPE_FOLDERS = ("sims", "configs", "catalogs", "pipelines")

R = TypeVar("R", bound="Recipe")


class Recipe(pydantic.BaseModel):
    """Base of every recipe model: immutable, and unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _places() -> list[Path]:
    """Return where recipes are looked up by name: the working folder, the checkout, the installed copies."""
    package = Path(__file__).parent
    return [Path.cwd(), package.parent, package / "_recipes"]


def find_recipe(name: str | Path, folder: str) -> Path:
    """Find a recipe by path, or by its name in one of the recipe folders.

    Raises
    ------
    ConfigError
        If there is no such file; the message lists the known names.
    """
    path = Path(name)
    if path.is_file():
        return path
    known: set[str] = set()
    for place in _places():
        for candidate in (place / folder / f"{name}.yaml", place / path):
            if candidate.is_file():
                return candidate
        known |= {p.stem for p in (place / folder).glob("*.yaml")}
    raise ConfigError(
        f"no {folder} recipe {str(name)!r}: it is neither a file nor one of {', '.join(sorted(known)) or 'none'}."
        + nearest(Path(name).stem, known)
    )


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, refusing a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"key {key!r} is given twice, at {node.start_mark}")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping; anything else is a ConfigError."""
    try:
        data = yaml.load(path.read_text(), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} should hold a mapping of keys to values; it holds {type(data).__name__}")
    return data


def parse_recipe(model: type[R], data: Any, where: str) -> R:
    """Fill a recipe model from plain data.

    Raises
    ------
    ConfigError
        With one line for each key that is unknown, missing or out of range.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        lines = []
        for problem in error.errors():
            location = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                known = _known_keys(model, problem["loc"][:-1])
                hint = nearest(str(problem["loc"][-1]), known)
                lines.append(f"unknown key `{location}`; known keys: {', '.join(sorted(known))}.{hint}")
            elif problem["type"] == "missing":
                lines.append(f"missing key `{location}`")
            else:
                lines.append(f"`{location}` (= {problem['input']!r}): {problem['msg']}")
        raise ConfigError(f"{where}: " + "; ".join(lines)) from None


def load_recipe(model: type[R], name: str | Path, folder: str) -> R:
    """Find, read and parse a recipe."""
    path = find_recipe(name, folder)
    return parse_recipe(model, read_yaml(path), str(path))


def _models_in(annotation: Any) -> list[type[Recipe]]:
    """Return the recipe models that an annotation can hold, through unions, lists and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Recipe):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]


def _known_keys(model: type[Recipe], location: tuple[int | str, ...]) -> set[str]:
    """Return the keys allowed at a location of a validation error."""
    models: list[type[Recipe]] = [model]
    for part in location:
        inner = [m for owner in models if part in owner.model_fields for m in _models_in(owner.model_fields[part].annotation)]
        if inner:
            models = inner
        else:  # a union's tag, or an index in a list
            tagged = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == part]
            models = tagged or models
    return {key for m in models for key in m.model_fields}


def commented_defaults(model: type[Recipe], indent: int = 0) -> str:
    """Return a recipe model's defaults as YAML, each key with its meaning as a comment."""
    pad = " " * indent
    lines = []
    for name, field in model.model_fields.items():
        if field.description:
            lines.append(f"{pad}# {' '.join(field.description.split())}")
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, Recipe):
            lines += [f"{pad}{name}:", commented_defaults(type(default), indent + 2)]
            continue
        models = _models_in(field.annotation)
        if len(models) == 1 and field.is_required():
            lines += [f"{pad}{name}:", commented_defaults(models[0], indent + 2)]
            continue
        if field.is_required():
            kinds = [str(m.model_fields["kind"].default) for m in models if "kind" in m.model_fields]
            text = f"# required; kinds: {', '.join(kinds)}" if kinds else "# required"
        else:
            value = [d.model_dump(mode="json") if isinstance(d, Recipe) else d for d in default] if isinstance(default, list | tuple) else default
            text = yaml.safe_dump(value, default_flow_style=True).replace("...\n", "").strip()
        lines.append(f"{pad}{name}: {text}")
    return "\n".join(line for line in lines if line)
