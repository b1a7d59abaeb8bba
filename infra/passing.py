"""Arguments and results of a phase as JSON: an artifact goes as a short text, so weights and rows never travel.

`encode` and `decode` are inverse for what phases take and give: artifacts, named tuples of them, configs, plain values.
`form_of` is the type that a person fills in: the same, with text in the place of artifacts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Field, create_model

from infra.artifacts import Artifact
from infra.config import Config, ConfigError
from infra.lookup import find_artifact, text_of
from infra.store import Store

ArtifactText = Annotated[
    str,
    Field(
        description="label of a step, whose last artifact under this recipe's name is taken; or step/fingerprint; or "
        "the first digits of a digest"
    ),
]


def encode(value: Any) -> Any:
    """Plain JSON types for a phase's argument or result.

    Raises:
        TypeError: a value of no such type.
    """
    if isinstance(value, Artifact):
        return text_of(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: encode(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} cannot be passed between phases; use artifacts, configs or plain values")


def decode(annotation: Any, value: Any, store: Store, recipe: str) -> Any:
    """What `encode` made, as `annotation` again; a label is looked up under the recipe's name.

    Raises:
        UnknownArtifactError: no such artifact in the store.
        ConfigError: an artifact of another kind than the phase takes, or one whose files are gone.
    """
    if _is(annotation, Artifact):
        return _artifact(annotation, value, store, recipe)
    if _is(annotation, BaseModel):
        return annotation.model_validate(value)
    if _is_named_tuple(annotation):
        hints = get_type_hints(annotation)
        return annotation(**{name: decode(hint, value[name], store, recipe) for name, hint in hints.items()})
    if get_origin(annotation) is tuple:
        return tuple(decode(get_args(annotation)[0], item, store, recipe) for item in value)
    inner = _optional(annotation)
    if inner is not None and value is not None:
        return decode(inner, value, store, recipe)
    return value


def artifacts_in(value: Any) -> Iterator[Artifact]:
    """The artifacts of a phase's argument or result."""
    if isinstance(value, Artifact):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from artifacts_in(item)


def form_of(annotation: Any) -> Any:
    """The type of a form's field for a parameter of this type."""
    if _is(annotation, Artifact):
        return ArtifactText
    if _is_named_tuple(annotation):
        fields: Mapping[str, Any] = {n: (form_of(hint), ...) for n, hint in get_type_hints(annotation).items()}
        return create_model(annotation.__name__, __base__=Config, __doc__=annotation.__doc__, **fields)
    if get_origin(annotation) is tuple:
        return list[form_of(get_args(annotation)[0])]  # type: ignore[misc]
    inner = _optional(annotation)
    return annotation if inner is None else form_of(inner) | None


def _artifact(wanted: type[Artifact], text: str, store: Store, recipe: str) -> Artifact:
    found = find_artifact(store, text, recipe)
    if not isinstance(found, wanted):
        raise ConfigError(f"`{text}` is a {found.kind}; this phase takes a {wanted.__name__.lower()} here: name one")
    # Looking makes its manifest young, so a collection of garbage leaves it while the phase works.
    if store.find_whole(found.step, found.fingerprint or "") is None:
        raise ConfigError(f"`{text}` is not whole in the store {store.uri} any more; run its recipe again")
    return found


def _is(annotation: Any, wanted: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, wanted)


def _is_named_tuple(annotation: Any) -> bool:
    return _is(annotation, tuple) and hasattr(annotation, "_fields")


def _optional(annotation: Any) -> Any:
    """X of `X | None`."""
    if get_origin(annotation) not in (Union, UnionType):
        return None
    plain = [part for part in get_args(annotation) if part is not NoneType]
    return plain[0] if len(plain) == 1 else None
