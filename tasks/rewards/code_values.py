"""What is compared outside of the jail: plain values, and the few operations that a test may do with them.

Nothing of the candidate runs here: its values come as plain data, so a comparison is Python's own. They may still be
huge or built to collide, so arithmetic and hashing have bounds.
"""

from __future__ import annotations

import ast
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tasks.rewards.code_agents import NotPlainError

Fetch = Callable[[int], Any]
"""Value of the n-th question to the candidate."""

_MOST_HASHED = 10_000
_LARGEST_INT_BITS = 4096
_SMALL_INT = 1 << 60
_MOST_REPEATED = 1_000_000
_ASK = "ask "  # no name of a program has a space


class Opaque:
    """Stands for an object of the candidate that is not plain data: equal to nothing that is expected."""

    def __repr__(self) -> str:
        return "<an object>"  # no address: a verdict is the same in every run


def opaque(_: Mapping[str, Any]) -> Opaque:
    """Resolve a reference to an object that stays in its jail."""
    return Opaque()


def ask_name(index: int) -> ast.Name:
    """Node that stands for the value of a question to the candidate."""
    return ast.Name(f"{_ASK}{index}", ast.Load())


def is_ask(node: ast.AST) -> bool:
    """Whether a node is the value of a question."""
    return isinstance(node, ast.Name) and node.id.startswith(_ASK)


def check_hashes(items: Iterable[Any]) -> list[Any]:
    """The items, unless hashing them could take minutes: CPython's hashes of numbers and tuples can be made to collide.

    Raises:
        ValueError: too many of a kind that can be made to collide.
    """
    found = list(items)
    if sum(not _has_safe_hash(item) for item in found) > _MOST_HASHED:
        raise ValueError(f"more than {_MOST_HASHED} tuples or huge numbers in a set or as keys")
    return found


def _has_safe_hash(item: Any) -> bool:
    if isinstance(item, int):
        return -_SMALL_INT < item < _SMALL_INT
    return item is None or isinstance(item, str | bytes | float)


def _counter(items: Iterable[Any]) -> Counter[Any]:
    return Counter(items if isinstance(items, dict) else check_hashes(items))


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    pairs = list(pairs.items() if isinstance(pairs, dict) else pairs)
    check_hashes(key for key, _ in pairs)
    return dict(pairs)


def _total(items: Iterable[Any]) -> Any:
    return sum(_numbers(*items))


def _plain_range(*bounds: int) -> list[int]:
    found = range(*bounds)
    if len(found) > _MOST_REPEATED:
        raise ValueError("a range of more than a million")
    return list(found)


def _numbers(*values: Any) -> tuple[Any, ...]:
    for value in values:
        if not isinstance(value, int | float | complex):
            raise TypeError(f"arithmetic with {type(value).__name__}")
        if isinstance(value, int) and value.bit_length() > _LARGEST_INT_BITS:
            raise ValueError("arithmetic with a huge number")
    return values


def _add(left: Any, right: Any) -> Any:
    if type(left) is type(right) and isinstance(left, list | tuple | str):
        return left + right
    return operator.add(*_numbers(left, right))


def _subtract(left: Any, right: Any) -> Any:
    if isinstance(left, set | frozenset) and isinstance(right, set | frozenset):
        return left - right
    return operator.sub(*_numbers(left, right))


def _multiply(left: Any, right: Any) -> Any:
    items, times = (right, left) if isinstance(left, int) else (left, right)
    if isinstance(items, list | tuple | str) and isinstance(times, int) and len(items) * times <= _MOST_REPEATED:
        return items * times
    return operator.mul(*_numbers(left, right))


def _power(base: Any, exponent: Any) -> Any:
    _numbers(base, exponent)
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > _LARGEST_INT_BITS:
        raise ValueError("a huge power")
    return base**exponent


# What a test may call outside of the jail. Numbers only where the work grows with the value.
TRUSTED: dict[str, Callable[..., Any]] = {
    "abs": lambda value: abs(*_numbers(value)),
    "round": lambda value, digits=None: round(_numbers(value)[0], digits),
    "set": lambda items=(): set(check_hashes(items)),
    "frozenset": lambda items=(): frozenset(check_hashes(items)),
    "Counter": _counter, "collections.Counter": _counter, "dict": _dict, "range": _plain_range,
    "list": list, "tuple": tuple, "sorted": sorted, "len": len, "sum": _total, "min": min, "max": max,
    "float": float, "int": int, "str": str, "bool": bool, "isinstance": isinstance, "all": all, "any": any,
    "isclose": math.isclose, "math.isclose": math.isclose, "fabs": math.fabs, "math.fabs": math.fabs,
    "math.sqrt": math.sqrt, "sqrt": math.sqrt, "math.isnan": math.isnan, "math.isinf": math.isinf,
}  # fmt: skip
CONSTANTS: dict[str, Any] = {
    "inf": math.inf, "nan": math.nan, "math.inf": math.inf, "math.nan": math.nan, "math.pi": math.pi, "math.e": math.e,
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "tuple": tuple, "set": set, "dict": dict,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _add, ast.Sub: _subtract, ast.Mult: _multiply, ast.Pow: _power,
    ast.Div: lambda left, right: operator.truediv(*_numbers(left, right)),
    ast.FloorDiv: lambda left, right: operator.floordiv(*_numbers(left, right)),
    ast.Mod: lambda left, right: operator.mod(*_numbers(left, right)),
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_, ast.USub: lambda value: -_numbers(value)[0], ast.UAdd: lambda value: +_numbers(value)[0],
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda item, items: item in items, ast.NotIn: lambda item, items: item not in items,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
# What comparing plain data may raise: about the values, never about the grader.
VALUE_ERRORS = (ValueError, TypeError, KeyError, IndexError, ArithmeticError, RecursionError, AttributeError)


def dotted(node: ast.expr) -> str:
    """`a.b` of a name or of an attribute of a name; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_known(node: ast.AST, trusted: frozenset[str]) -> bool:
    """Whether `evaluate` can tell the value of a node, given that only `trusted` names mean what they usually do."""
    if isinstance(node, ast.Constant) or is_ask(node):
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        return dotted(node) in trusted and dotted(node) in CONSTANTS
    if isinstance(node, ast.Call):
        parts: list[ast.AST] = [*node.args, *(keyword.value for keyword in node.keywords)]
        is_named = dotted(node.func) in trusted and all(keyword.arg for keyword in node.keywords)
        return is_named and all(is_known(part, trusted) for part in parts)
    if isinstance(node, ast.Compare) and not _is_plain_identity(node):
        return False
    if isinstance(node, ast.BinOp) and (type(node.op) not in _ARITHMETIC or _is_text(node.left)):
        return False
    if isinstance(node, ast.Dict) and None in node.keys:
        return False
    if isinstance(node, _STRUCTURE):
        return all(is_known(part, trusted) for part in _parts(node))
    return False


_STRUCTURE = (
    ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BoolOp, ast.BinOp, ast.Compare, ast.Subscript, ast.Slice,
)  # fmt: skip


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_plain_identity(node: ast.Compare) -> bool:
    """`is` tells something of None, True and False only: other values are copies here."""
    by_identity = [
        right for op, right in zip(node.ops, node.comparators, strict=True) if type(op) in (ast.Is, ast.IsNot)
    ]
    return all(isinstance(right, ast.Constant) and right.value in (None, True, False) for right in by_identity)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.expr):
            yield part


def evaluate(node: ast.AST, fetch: Fetch) -> Any:
    """Value of a node that `is_known`, with what the candidate says where it stands for a question.

    Raises:
        VALUE_ERRORS: what the operations of the test raise on these values.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if is_ask(node):
        return fetch(int(node.id.removeprefix(_ASK)))  # type: ignore[attr-defined]
    if isinstance(node, ast.Name | ast.Attribute):
        return CONSTANTS[dotted(node)]
    if isinstance(node, ast.Call):
        named = {keyword.arg or "": evaluate(keyword.value, fetch) for keyword in node.keywords}
        return TRUSTED[dotted(node.func)](*(evaluate(part, fetch) for part in node.args), **named)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        items = [evaluate(item, fetch) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items) if isinstance(node, ast.Tuple) else set(items)
    if isinstance(node, ast.Dict):
        return {evaluate(k, fetch): evaluate(v, fetch) for k, v in zip(node.keys, node.values, strict=True) if k}
    return _operate(node, fetch)


def _operate(node: ast.AST, fetch: Fetch) -> Any:
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](evaluate(node.operand, fetch))
    if isinstance(node, ast.BoolOp):
        values = (evaluate(value, fetch) for value in node.values)
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.Compare):
        return _compare(node, fetch)
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](evaluate(node.left, fetch), evaluate(node.right, fetch))
    if isinstance(node, ast.Slice):
        return slice(*(part and evaluate(part, fetch) for part in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.Subscript):
        return evaluate(node.value, fetch)[evaluate(node.slice, fetch)]
    raise NotPlainError(f"{type(node).__name__} is not known here")


def _compare(node: ast.Compare, fetch: Fetch) -> bool:
    left = evaluate(node.left, fetch)
    for operation, comparator in zip(node.ops, node.comparators, strict=True):
        right = evaluate(comparator, fetch)
        if not _COMPARISONS[type(operation)](left, right):
            return False
        left = right
    return True


def same_json(expected: Any, found: Any, tolerance: float) -> bool:
    """Equality of a call's output, where tuples are lists (tests come as JSON) and floats may be off by `tolerance`."""
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        return len(expected) == len(found) and all(
            same_json(left, right, tolerance) for left, right in zip(expected, found, strict=True)
        )
    if isinstance(expected, dict) and isinstance(found, dict):
        found = _dict((str(key) if isinstance(key, int | float) else key, item) for key, item in found.items())
        return expected.keys() == found.keys() and all(
            same_json(item, found[key], tolerance) for key, item in expected.items()
        )
    if isinstance(expected, float) and isinstance(found, int | float) and not isinstance(found, bool):
        return expected == found or math.isclose(expected, found, rel_tol=tolerance, abs_tol=tolerance)
    return bool(expected == found)
