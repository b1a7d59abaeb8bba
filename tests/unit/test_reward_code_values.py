"""Plain values: how they cross, and how they are compared."""

import ast
import json
import time
from collections import Counter, OrderedDict
from fractions import Fraction
from typing import Any

import pytest

from tasks.rewards.code_agents import decode, encode
from tasks.rewards.code_output import same_output
from tasks.rewards.code_values import VALUE_ERRORS, check_hashes, evaluate, is_known, opaque, same_json

TRUSTED = frozenset({"abs", "set", "sum", "len", "sorted", "range", "int", "round"})


def test_plain_values_cross_unharmed() -> None:
    value = [None, True, 2**70, -0.5, 1j, "é", b"a", (1, (2,)), {1: {"a"}}, frozenset({(1, 2)}), Fraction(1, 3)]
    assert decode(json.loads(json.dumps(encode(value)))) == value
    assert decode(encode(Counter("aab"))) == {"a": 2, "b": 1}
    assert type(decode(encode(OrderedDict(a=1)))) is dict
    with pytest.raises(TypeError, match="not plain"):
        encode(object())


def test_an_object_equals_nothing() -> None:
    value = decode({"ref": 0}, opaque)
    assert value != {"ref": 0}
    assert value != decode({"ref": 0}, opaque)


def test_an_object_is_told_without_its_address() -> None:
    assert repr([opaque({})]) == "[<an object>]"


def test_values_that_collide_are_not_hashed() -> None:
    modulus = 2**61 - 1  # of CPython's hash of numbers: all of these have the hash 0
    form = {"set": [{"int": hex(modulus * n)} for n in range(1, 20_000)]}
    started = time.perf_counter()
    with pytest.raises(ValueError, match="huge numbers"):
        decode(form, opaque, check_hashes)
    assert time.perf_counter() - started < 1
    assert len(decode({"set": list(range(20_000))}, opaque, check_hashes)) == 20_000


@pytest.mark.parametrize(
    "source", ["2**99999999", "[0] * 10**9", "range(10**9)", "abs('a')", "sum(['a', 'b'])", "-'a'"]
)
def test_no_operation_grows_without_bound(source: str) -> None:
    node = ast.parse(source, mode="eval").body
    assert is_known(node, TRUSTED)
    with pytest.raises(VALUE_ERRORS):
        evaluate(node, lambda _: None)


@pytest.mark.parametrize(
    "source", ["open('x')", "x", "f'{1}'", "'%d' % 1", "[].append(1)", "lambda: 1", "{**{}}", "1 is 2"]
)
def test_what_is_not_known(source: str) -> None:
    assert not is_known(ast.parse(source, mode="eval").body, TRUSTED)


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [([1, 2], (1, 2), True), ([1], [1, 2], False), (0.3, 0.1 + 0.2, True), (0.3, 0.31, False), (2.0, 2, True),
     (7, 7.0000001, False), ({"1": [1]}, {1: (1,)}, True), ({"a": 1}, {"a": 1, "b": 2}, False), (None, None, True),
     ("1", 1, False), ([1, 2], {1, 2}, False), (1.0, float("nan"), False), (1, opaque({}), False)],
)  # fmt: skip
def test_same_json(expected: Any, found: Any, same: bool) -> None:
    assert same_json(expected, found, 1e-6) is same


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [("1 2\n", "1 2", True), ("1\n2\n", " 1 \n2\n\n", True), ("1.0", "1", True), ("1", "2", False),
     ("a b", "a  b", True), ("1\n2", "1 2", False), ("", "", True), ("", "1", False), ("nan", "nan", True),
     ("YES", "yes", False), ("1e3", "1000", True), ("1_000", "1000", False), ("0.333333", "0.3333331", True),
     ("0.333", "0.334", False), ("1000000007", "1000000008", False), ("1000000000.0", "1000000900.0", True),
     ("1", "1.0000001", False), ("1" * 500, "1" * 499 + "2", False), ("1e99999", "1e99998", False), ("a", "b", False)],
)  # fmt: skip
def test_same_output(expected: str, printed: str, same: bool) -> None:
    assert same_output(expected, printed, 1e-6) is same


def test_without_tolerance_decimals_are_exact() -> None:
    assert not same_output("0.333333", "0.3333331")
    assert same_output("0.50", "0.5")
