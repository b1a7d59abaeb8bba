"""Tests as data: what is asked of the candidate, and what is expected, which never enters its jail."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Fetch = Callable[[str], Any]
"""Value of an expression, from the candidate's jail."""

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_CONTAINERS: dict[str, Callable[..., Any]] = {
    "set": set, "frozenset": frozenset, "tuple": tuple, "list": list, "dict": dict, "sorted": sorted, "float": float,
}  # fmt: skip


class BadTestsError(ValueError):
    """Tests that are not there or not Python: nothing to judge by."""


class SplitTest(NamedTuple):
    """`assert CALL == LITERAL` and the like: `holds` asks for the calls and compares outside of the jail."""

    source: str
    condition: ast.expr

    def holds(self, fetch: Fetch) -> bool:
        """Whether the test passes; raises what a comparison of plain data raises."""
        return _holds(self.condition, fetch)


class WholeTest(NamedTuple):
    """A test that runs as it is, in the judge's jail, with the candidate's names at a distance."""

    source: str


class TestPlan(NamedTuple):
    """Tests in order, with the set-up for each side."""

    tests: list[SplitTest | WholeTest]
    setup: str
    setup_is_secret: bool

    def mentioned(self) -> set[str]:
        """Names that the tests or their set-up use."""
        sources = [self.setup, *(test.source for test in self.tests)]
        return {node.id for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def plan_tests(setup: str, asserts: Iterable[str]) -> TestPlan:
    """Read assert tests.

    Raises:
        BadTestsError: there is none, or one is not Python.
    """
    try:
        is_secret = any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(setup)))
        tests = [_read(statement) for source in asserts for statement in ast.parse(source).body]
    except (SyntaxError, ValueError, RecursionError) as error:
        raise BadTestsError(f"a test is not Python: {error}") from None
    if not tests:
        raise BadTestsError("there are no tests")
    return TestPlan(tests, setup, is_secret)


def _read(statement: ast.stmt) -> SplitTest | WholeTest:
    source = ast.unparse(statement)
    if isinstance(statement, ast.Assert) and _is_split(statement.test):
        return SplitTest(source, statement.test)
    return WholeTest(source)


def _is_split(node: ast.expr) -> bool:
    """Whether only calls, and nothing that is expected, would go into the jail."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _is_split(node.operand)
    if isinstance(node, ast.BoolOp):
        return all(_is_split(value) for value in node.values)
    if isinstance(node, ast.Compare):
        return _is_split_comparison(node)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in _TRUSTED


# A bare call of these decides something about the candidate's values, and so belongs to the judge.
_TRUSTED = frozenset({"all", "any", "isinstance", "callable", "hasattr", "bool", "issubclass", "isclose"})


def _is_split_comparison(node: ast.Compare) -> bool:
    if len(node.ops) != 1:
        return False
    operation, sides = node.ops[0], (node.left, node.comparators[0])
    literal = [is_literal(side) for side in sides]
    if isinstance(operation, ast.Is | ast.IsNot):
        return isinstance(sides[1], ast.Constant) and sides[1].value in {None, True, False} and not literal[0]
    if isinstance(operation, ast.In | ast.NotIn):
        return literal[1] and not literal[0] and _is_call(sides[0])
    # An order compares what an object says of itself; only the judge may ask that.
    call = sides[1] if literal[0] else sides[0]
    return sum(literal) == 1 and type(operation) in _COMPARISONS and _is_call(call)


def _is_call(node: ast.expr) -> bool:
    """A call, or an item or attribute of one: not arithmetic, which an object of the candidate could answer."""
    return isinstance(node, ast.Call | ast.Subscript | ast.Attribute | ast.Name)


def is_literal(node: ast.expr) -> bool:
    """Whether the value of a node is known without running anything."""
    try:
        literal_value(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


def literal_value(node: ast.expr) -> Any:
    """Value of a literal, of a container made from one (`set([1])`), or of `float("inf")`.

    Raises:
        ValueError: it is no literal.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CONTAINERS:
        if node.keywords or len(node.args) > 1:
            raise ValueError("no literal")
        return _CONTAINERS[node.func.id](*(literal_value(argument) for argument in node.args))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -literal_value(node.operand)
    if isinstance(node, ast.Tuple | ast.List):
        items = [literal_value(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    return ast.literal_eval(node)


def _holds(node: ast.expr, fetch: Fetch) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _holds(node.operand, fetch)
    if isinstance(node, ast.BoolOp):
        values = (_holds(value, fetch) for value in node.values)
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.Compare):
        return _compare(node, fetch)
    return bool(fetch(ast.unparse(node)))


def _compare(node: ast.Compare, fetch: Fetch) -> bool:
    left, right = (
        literal_value(side) if is_literal(side) else fetch(ast.unparse(side))
        for side in (node.left, node.comparators[0])
    )
    operation = node.ops[0]
    if isinstance(operation, ast.Is | ast.IsNot):
        return (left is right) is isinstance(operation, ast.Is)
    if isinstance(operation, ast.In | ast.NotIn):
        return (left in right) is isinstance(operation, ast.In)
    return _COMPARISONS[type(operation)](left, right)


def top_level_names(program: str) -> set[str]:
    """Names that a program defines itself; not what it imports. Empty where it is not Python."""
    names: set[str] = set()
    try:
        body = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return names
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        else:
            names |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names
