"""Identity has one spelling, and what has none is refused."""

from __future__ import annotations

import hashlib
import random
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.config import Config
from infra.fingerprint import canonical_json, file_digest, fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


class Colour(StrEnum):
    RED = "red"


class Inner(Config):
    b: int = 2
    a: float = 1.5


class Outer(Config):
    inner: Inner = Inner()
    colours: tuple[Colour, ...] = (Colour.RED,)
    nothing: int | None = None


def test_a_config_has_one_spelling() -> None:
    assert canonical_json(Outer()) == '{"colours":["red"],"inner":{"a":1.5,"b":2},"nothing":null}'


def test_the_fingerprint_is_the_sha256_of_that_spelling() -> None:
    assert fingerprint({"b": 1, "a": [True, "é"]}) == hashlib.sha256('{"a":[true,"é"],"b":1}'.encode()).hexdigest()


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=6), st.randoms())
def test_key_order_is_irrelevant(value: dict[str, Any], order: random.Random) -> None:
    keys = list(value)
    order.shuffle(keys)
    assert fingerprint({key: value[key] for key in keys}) == fingerprint(value)


@given(JSON, JSON)
def test_values_spelled_alike_are_equal(left: Any, right: Any) -> None:
    if fingerprint(left) == fingerprint(right):
        assert left == right


@pytest.mark.parametrize("value", [Path("/tmp/x"), {1, 2}, frozenset(), b"bytes", object(), 1j, Outer])
def test_what_has_no_one_spelling_is_refused_with_its_type(value: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(value).__name__} cannot be part of an identity"):
        fingerprint({"deep": [value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="use a finite number"):
        fingerprint([value])


@pytest.mark.parametrize("value", [{1: "a"}, {1: "a", "b": 2}, {None: 0}])
def test_keys_that_are_not_text_are_refused(value: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match="use string keys"):
        fingerprint(value)


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
