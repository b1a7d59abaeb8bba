"""Frozen configs that refuse typos, and TOML files whose errors name the file, the key and the remedy."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A recipe or profile that cannot be used; the message names file, key and remedy."""


class Config(BaseModel):
    """Base of every config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ConfigType = TypeVar("ConfigType", bound=BaseModel)


def load_toml(path: Path, model: type[ConfigType], overrides: Mapping[str, Any] | None = None) -> ConfigType:
    """Read `path` as `model`; `overrides` maps dotted keys (`sft.lr`, `grpo.0.lr`) to values that replace it.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds an unknown key, a wrong type or an impossible value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name a file that exists") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}; mend the file") from None
    for key, value in (overrides or {}).items():
        _assign(path, content, key, value)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explain(path, model, error)) from None


def as_toml(config: BaseModel) -> str:
    """The fields of a config that are set to something else than None, as TOML that `load_toml` reads back."""
    content = config.model_dump(mode="json", exclude_none=True)
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in content.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml_value(key)} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON writes what is beyond U+FFFF as two surrogates, and DEL as it is; TOML takes neither.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def named_toml(name_or_path: str, folder: Path, noun: str) -> Path:
    """The file `folder/NAME.toml`, or the path that was given.

    Raises:
        ConfigError: no file of that name in the folder.
    """
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    path = folder / f"{name_or_path}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise ConfigError(f"no {noun} `{name_or_path}`; known: {known}; or give the path of a .toml file")
    return path


def _assign(path: Path, content: dict[str, Any], key: str, value: Any) -> None:
    """Set the field at a dotted key; a number counts the tables of a list."""
    *above, last = key.split(".")
    place: Any = content
    try:
        for part in above:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (AttributeError, IndexError, TypeError, ValueError):
        raise ConfigError(
            f"{path}: {key}: no such field to set; name one of the file's, such as `a.b` or `a.0.b`"
        ) from None


def _explain(path: Path, model: type[BaseModel], error: ValidationError) -> str:
    lines = [f"{path}: {error.error_count()} problem(s)"]
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        lines.append(f"  {key}: {_remedy(model, problem)}")
    return "\n".join(lines)


def _remedy(model: type[BaseModel], problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, problem["loc"][:-1]))
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        return f"unknown key; did you mean `{near[0]}`?" if near else f"unknown key; known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return "required key is missing; add it"
    return f"{problem['msg']} (given: {problem['input']!r})"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Names of the fields that the table at `location` may hold."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        if fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
    return {name for m in models for name in m.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
