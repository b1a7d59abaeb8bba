"""Identity: a canonical encoding that raises on whatever it cannot encode, and the hashes made from it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def canonical(value: Any) -> Any:
    """`value` as plain JSON types with one spelling each.

    Raises:
        TypeError: the value has no canonical form (a path, a set, an object): places and objects are not identity.
        ValueError: a float is NaN or infinite.
    """
    if isinstance(value, BaseModel):
        return {name: canonical(getattr(value, name)) for name in sorted(type(value).model_fields)}
    if isinstance(value, Enum):
        return canonical(value.value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be part of an identity; use a finite number")
        return value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        items = {_key(key): item for key, item in value.items()}
        return {key: canonical(items[key]) for key in sorted(items)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be part of an identity: {value!r}; use plain values or a Config")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"key {key!r} cannot be part of an identity; use string keys")
    return key


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, UTF-8 kept."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
