"""Recipes: strict YAML read into pydantic models, found by path or by name.

A recipe says what differs from the defaults; every default lives in a model next to the code that uses it, with
one sentence on what it means. An unknown key is an error that names the nearest known one.
"""

__all__ = [
    "Recipe",
    "RecipePath",
    "commented_defaults",
    "expand_path",
    "find_recipe",
    "load_recipe",
    "parse_kind",
    "parse_recipe",
    "read_yaml",
    "resolve_path",
]

import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml

from astroflow.errors import ConfigError, nearest

RECIPE_FOLDERS = ("sims", "configs", "catalogs", "pipelines")

R = TypeVar("R", bound="Recipe")


class Recipe(pydantic.BaseModel):
    """Base of every recipe model: immutable, and unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def open_parts(cls) -> "Mapping[str, Mapping[str, type[Recipe]]]":
        """Return the known kinds of each field that is open to installed ones, by field; the first is the example."""
        return {}


_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<plain>\w+))")


def expand_path(text: str) -> str:
    """Expand ``~``, ``$NAME``, ``${NAME}`` and ``${NAME:-default}``.

    Raises
    ------
    ConfigError
        If a variable without a default is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        found = os.environ.get(name) or match["default"]
        if found is None:
            raise ConfigError(f"path {text!r} needs the environment variable {name}: set it, or write ${{{name}:-default}}")
        return found

    return os.path.expanduser(_VARIABLE.sub(value, text))


def resolve_path(text: str, folder: Path | None) -> str:
    """Expand a path, template or glob of a recipe and make it absolute.

    Parameters
    ----------
    text : str
        As the recipe says it; ``{column}`` and ``*`` may stand in it.
    folder : Path or None
        The recipe's folder, tried before the working folder.
    """
    expanded = expand_path(text)
    if "://" in expanded or os.path.isabs(expanded):
        return expanded
    # Up to the first part that is filled in later, the path has to exist as it stands.
    fixed = re.split(r"[{*?\[]", expanded, maxsplit=1)[0]
    fixed = fixed if fixed == expanded else os.path.dirname(fixed)
    for place in (folder.absolute(), Path.cwd()) if folder is not None else (Path.cwd(),):
        if (place / fixed).exists():
            return os.path.normpath(place / expanded)
    return os.path.normpath(Path.cwd() / expanded)


def _absolute(path: str, info: pydantic.ValidationInfo) -> str:
    return resolve_path(path, (info.context or {}).get("folder"))


RecipePath = Annotated[str, pydantic.AfterValidator(_absolute)]
"""A path in a recipe: a relative one is looked for beside the recipe, then in the working folder. See `expand_path`."""


def _places() -> list[Path]:
    """Return where recipes are looked up by name: the working folder, the checkout, the installed copies."""
    package = Path(__file__).parent
    checkout = [package.parent] if (package.parent / "pyproject.toml").is_file() else []
    return [Path.cwd(), *checkout, package / "_recipes"]


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

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, str(key.value)) in seen:
                raise ConfigError(f"key {key.value!r} is given twice, on line {key.start_mark.line + 1}")
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping; anything else is a ConfigError."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        what = "nothing" if data is None else type(data).__name__
        raise ConfigError(f"{path} should hold a mapping of keys to values; it holds {what}")
    return data


def parse_recipe(model: type[R], data: Any, where: str, folder: Path | None = None) -> R:
    """Fill a recipe model from plain data.

    Parameters
    ----------
    model : type
        The recipe model.
    data : mapping
        Plain data, as YAML gives it.
    where : str
        What messages call it, usually its path.
    folder : Path, optional
        Where the recipe's relative paths start; the working folder by default.

    Raises
    ------
    ConfigError
        With one line for each key that is unknown, missing or out of range.
    """
    try:
        return model.model_validate(data, context={"folder": folder or Path.cwd()})
    except pydantic.ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(model, problem) for problem in error.errors())) from None


def parse_kind(kinds: "Mapping[str, type[Recipe]]", data: Mapping[str, Any], where: str, folder: Path | None = None) -> Any:
    """Fill the recipe model that plain data name by their key `kind`; otherwise as `parse_recipe`.

    Raises
    ------
    ConfigError
        Also if there is no such kind; the known ones are listed.
    """
    kind = data.get("kind")
    if kind not in kinds:
        said = "`kind` is missing" if kind is None else f"unknown kind {kind!r}"
        raise ConfigError(f"{where}: {said}; known kinds: {', '.join(kinds)}.{nearest(str(kind), kinds)}")
    return parse_recipe(kinds[str(kind)], data, where, folder)


def _explain(model: type[Recipe], problem: Any) -> str:
    """Say in one line what is wrong with one key."""
    kind, given = problem["type"], problem["loc"]
    owners, named = _walk(model, given[:-1] if kind in ("extra_forbidden", "missing") else given)
    location = ".".join([*named, str(given[-1])] if kind in ("extra_forbidden", "missing") else named)
    place = f"`{location}`" if location else "recipe"
    if kind == "extra_forbidden":
        known = sorted({key for owner in owners for key in owner.model_fields})
        return f"unknown key {place}; known keys: {', '.join(known)}.{nearest(str(given[-1]), known)}"
    if kind == "missing":
        return f"missing key {place}"
    if kind == "union_tag_not_found":
        return f"{place} needs a `kind`; known kinds: {', '.join(_kinds(owners))}"
    if kind == "union_tag_invalid":
        tag = str(problem["ctx"]["tag"])
        return f"unknown kind {tag!r} of {place}; known kinds: {', '.join(_kinds(owners))}.{nearest(tag, _kinds(owners))}"
    if kind == "value_error":  # raised by our own validators, which name the values
        return f"{place}: {problem['ctx']['error']}" if location else str(problem["ctx"]["error"])
    if kind in ("model_type", "model_attributes_type"):
        return f"{place} should hold keys and values; it holds {problem['input']!r}"
    return f"{place} (= {problem['input']!r}): {problem['msg']}"


def load_recipe(model: type[R], name: str | Path, folder: str) -> R:
    """Find, read and parse a recipe."""
    path = find_recipe(name, folder)
    return parse_recipe(model, read_yaml(path), str(path), path.parent)


def _models_in(annotation: Any) -> list[type[Recipe]]:
    """Return the recipe models that an annotation can hold, through unions, lists and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Recipe):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]


def _kinds(models: list[type[Recipe]]) -> list[str]:
    return [str(m.model_fields["kind"].default) for m in models if "kind" in m.model_fields]


def _walk(model: type[Recipe], location: tuple[int | str, ...]) -> tuple[list[type[Recipe]], list[str]]:
    """Follow an error's location: the models that it ends in, and its parts without the kinds that pydantic puts between."""
    models: list[type[Recipe]] = [model]
    named: list[str] = []
    for part in location:
        chosen = [m for m in models if part in _kinds([m])]
        owners = [m for m in models if part in m.model_fields]
        if chosen and not owners:
            models = chosen
            continue
        named.append(str(part))
        models = [inner for owner in owners for inner in _models_in(owner.model_fields[str(part)].annotation)] or models
    return models, named


def commented_defaults(model: type[Recipe]) -> str:
    """Return a recipe model's defaults as YAML, each key with its meaning as a comment above it.

    A key without a default has no value and is marked `required`. A part that may be of several kinds is shown with its
    default kind, or with the first.
    """
    return "\n".join(_commented(model, None, "")) + "\n"


def _commented(model: type[Recipe], instance: Recipe | None, pad: str) -> list[str]:
    lines: list[str] = []
    parts = model.open_parts()
    for name, field in sorted(model.model_fields.items(), key=lambda item: item[0] != "kind"):
        models = _models_in(field.annotation)
        meaning = (model.__doc__ or "").splitlines()[0] if name == "kind" else field.description or ""
        lines.append(f"{pad}# {' '.join(meaning.split())}")
        value = None if instance is None else getattr(instance, name)
        if instance is None and not field.is_required():
            value = field.get_default(call_default_factory=True)
        if name in parts:
            lines += [f"{pad}{name}:", *_commented(next(iter(parts[name].values())), None, pad + "  ")]
        elif isinstance(value, Recipe):
            if len(_kinds(models)) > 1:
                lines[-1] += f" Kinds: {', '.join(_kinds(models))}."
            lines += [f"{pad}{name}:", *_commented(type(value), value, pad + "  ")]
        elif value is None and field.is_required() and len(models) == 1:
            lines += [f"{pad}{name}:", *_commented(models[0], None, pad + "  ")]
        elif value is None and field.is_required():
            kinds = _kinds(models)
            lines.append(f"{pad}{name}:  # required" + (f"; kinds: {', '.join(kinds)}" if kinds else ""))
        else:
            lines.append(f"{pad}{name}: {_inline(value)}")
    return lines


def _inline(value: Any) -> str:
    """Write a plain value as YAML on one line."""
    plain = [v.model_dump(mode="json") if isinstance(v, Recipe) else v for v in value] if isinstance(value, list | tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
