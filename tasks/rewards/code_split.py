"""Split a test: what is asked of the candidate goes into its jail, what is expected stays outside."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from typing import NamedTuple, cast

from tasks.rewards.code_prelude import NODE_COMPARISONS, known_names
from tasks.rewards.code_statements import (
    Statement,
    closure,
    known_values,
    needed_names,
    replace_names,
    root,
    touched,
    trusted_names,
)
from tasks.rewards.code_values import VALUE_ERRORS, ask_name, dotted, evaluate, is_ask, is_known

_MOST_UNROLLED = 1000


class SplitTest(NamedTuple):
    """A test with its calls taken out.

    Attributes:
        source: as it was written.
        condition: must hold; has `ask_name(n)` where the n-th value of the candidate stands.
        asks: expressions for the candidate's jail; none holds anything that is expected.
        before: positions of the statements that make what they name.
    """

    source: str
    condition: ast.expr
    asks: list[str]
    before: list[int]


class NotSplitError(ValueError):
    """The test does not come apart; it runs as a whole, in the judge's jail."""


class Splitter:
    """Splits the asserts of a sequence of statements.

    Args:
        statements: of set-up and tests, in order.
        entry_points: names that the tests say are the candidate's; without any, those that nothing else defines.
    """

    def __init__(self, statements: Sequence[Statement], entry_points: frozenset[str] = frozenset()) -> None:
        self.statements = statements
        self.checkers = frozenset(name for item in statements if item.is_definition for name in item.defines)
        self.under_test = entry_points | _undefined(statements) or _first_called(statements)
        self._trusted = trusted_names(statements) - self.under_test
        self._in_place = _changed_in_place(statements)
        self._values = known_values(statements, self._trusted, self._in_place)

    def split(self, position: int) -> SplitTest:
        """Split the assert at a position.

        Raises:
            NotSplitError: it does not come apart.
        """
        node = self.statements[position].node
        assert isinstance(node, ast.Assert)
        values = self._values[position]
        taker = _Taker(self, replace_names(_unrolled(node.test, values), values), position)
        return SplitTest(ast.unparse(node), taker.condition, taker.asks, sorted(taker.before))

    def is_of_candidate(self, name: str, position: int) -> bool:
        """Whether what a name stands for is the candidate's, or was made by it."""
        if name in self.under_test or name in self._in_place:
            return True
        made_by = [self.statements[at] for at in closure(self.statements[:position], [name])]
        return any(item.needs & self.under_test for item in made_by)

    def is_trusted(self, node: ast.AST) -> bool:
        """Whether the value of a node can be told outside of the jail."""
        return is_known(node, self._trusted)

    def needed_before(self, expression: ast.expr, position: int) -> list[int]:
        """Positions of what must run in the candidate's jail before a question.

        Raises:
            NotSplitError: that would carry more than inputs: a function of the tests that calls the candidate may hold
                what is expected, and so may a comparison.
        """
        positions = closure(self.statements[:position], needed_names(expression))
        for at in positions:
            item = self.statements[at]
            if isinstance(item.node, ast.Assert) or item.is_import:
                continue
            is_theirs = any(self.is_of_candidate(name, at) for name in item.needs)
            if is_theirs and not (_is_simple(item.node) and self._asks_only(item.node, at)):
                raise NotSplitError(f"`{ast.unparse(item.node)[:80]}` may hold what is expected")
        return [at for at in positions if not isinstance(self.statements[at].node, ast.Assert)]

    def _asks_only(self, node: ast.stmt, position: int) -> bool:
        value = getattr(node, "value", None)
        return value is not None and (not self._mentions(value, position) or self.is_question(value, position))

    def _mentions(self, node: ast.AST, position: int) -> bool:
        return any(self.is_of_candidate(name, position) for name in needed_names(node))

    def is_question(self, node: ast.expr, position: int) -> bool:
        """Whether a node is a call of the candidate, or an item or attribute of one, whose arguments are inputs only.

        A method of a *result* takes no argument here: in `f(x).startswith("a")` the argument is what is expected.
        """
        if any(isinstance(part, ast.Compare | ast.Lambda | ast.NamedExpr) for part in ast.walk(node)):
            return False
        name = root(node)
        if not name or not self.is_of_candidate(name, position):
            return False
        is_object = name[:1].isupper() or name not in self.under_test
        return is_object or not _is_method_with_arguments(node)


def _is_method_with_arguments(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and (node.args or node.keywords):
                return not isinstance(node.func.value, ast.Name)
            node = node.func
        else:
            node = node.value
    return False


def _is_simple(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign | ast.Expr | ast.AnnAssign)


class _Taker(ast.NodeTransformer):
    """Takes the questions out of one condition."""

    def __init__(self, splitter: Splitter, condition: ast.expr, position: int) -> None:
        self._splitter, self._position = splitter, position
        self.asks: list[str] = []
        self.before: set[int] = set()
        self.condition = cast(ast.expr, self.visit(copy.deepcopy(condition)))
        if not self.asks:
            raise NotSplitError("nothing is asked of the program")
        if not splitter.is_trusted(self.condition) or _compares_questions(self.condition):
            raise NotSplitError("it needs more than plain values")

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr) and self._splitter.is_question(node, self._position):
            return self._taken(node)
        if isinstance(node, ast.Call) and dotted(node.func) in NODE_COMPARISONS and len(node.args) == 2:
            return self._compared(node)
        visited: ast.AST = self.generic_visit(node)
        return visited

    def _taken(self, node: ast.expr) -> ast.expr:
        self.before |= set(self._splitter.needed_before(node, self._position))
        folded = _Folder(self._splitter).visit(node)
        self.asks.append(ast.unparse(folded))
        return ask_name(len(self.asks) - 1)

    def _compared(self, node: ast.Call) -> ast.AST:
        """Nodes of a list or tree, compared by their values."""
        values, builder = NODE_COMPARISONS[dotted(node.func)]
        found, wanted = node.args
        if not (isinstance(wanted, ast.Call) and dotted(wanted.func) == builder and len(wanted.args) == 1):
            return node
        if not self._splitter.is_question(found, self._position):
            return node
        asked = self._taken(ast.Call(ast.Name(values, ast.Load()), [found], []))
        return ast.Compare(asked, [ast.Eq()], [_without_last_nones(wanted.args[0])])


class _Folder(ast.NodeTransformer):
    """Puts the value of `{"in": 1, "out": 2}["in"]` in its place, so that what is beside it stays outside."""

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if not self._splitter.is_trusted(node):
            return self.generic_visit(node)
        try:
            value = evaluate(node, lambda _: None)
            folded = ast.parse(repr(value), mode="eval").body
        except (*VALUE_ERRORS, SyntaxError) as error:
            raise NotSplitError(f"`{ast.unparse(node)[:80]}` has no value: {error}") from None
        if not is_known(folded, frozenset()):
            raise NotSplitError(f"`{ast.unparse(node)[:80]}` has a value that cannot be written down")
        return folded

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Dict | ast.List | ast.Tuple | ast.Set):
            raise NotSplitError(f"a part of `{ast.unparse(node.value)[:80]}` may be what is expected")
        return self.generic_visit(node)


def _without_last_nones(node: ast.expr) -> ast.expr:
    items = list(node.elts) if isinstance(node, ast.List) else []
    while items and isinstance(items[-1], ast.Constant) and items[-1].value is None:
        items.pop()
    return ast.List(items, ast.Load()) if isinstance(node, ast.List) else node


def _compares_questions(condition: ast.expr) -> bool:
    """Whether two sides of a comparison both come from the candidate, who would then decide it alone."""
    comparisons = [node for node in ast.walk(condition) if isinstance(node, ast.Compare)]
    sides = [[node.left, *node.comparators] for node in comparisons]
    return any(sum(any(is_ask(part) for part in ast.walk(side)) for side in each) > 1 for each in sides)


def _unrolled(node: ast.expr, values: dict[str, ast.expr]) -> ast.expr:
    """`all(E for x in [1, 2])` as `E(1) and E(2)`, so that each part can be split; `any` likewise."""
    if not (isinstance(node, ast.Call) and dotted(node.func) in {"all", "any"} and len(node.args) == 1):
        return node
    inner = node.args[0]
    if not isinstance(inner, ast.GeneratorExp | ast.ListComp) or len(inner.generators) != 1:
        return node
    loop = inner.generators[0]
    items = _items(replace_names(loop.iter, values))
    bound = [_bound_by(loop.target, item) for item in items]
    if loop.ifs or not 0 < len(items) <= _MOST_UNROLLED or not all(bound):
        return node
    parts = [replace_names(inner.elt, names) for names in bound]
    return ast.BoolOp(ast.And() if dotted(node.func) == "all" else ast.Or(), parts)


def _bound_by(target: ast.expr, item: ast.expr) -> dict[str, ast.expr]:
    """Names of a loop with their values in one round; empty where they are not plain to see."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    if isinstance(target, ast.Tuple) and isinstance(item, ast.Tuple) and len(target.elts) == len(item.elts):
        parts = [_bound_by(*pair) for pair in zip(target.elts, item.elts, strict=True)]
        return {name: value for part in parts for name, value in part.items()} if all(parts) else {}
    return {}


def _items(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.List | ast.Tuple):
        return node.elts
    if isinstance(node, ast.Call) and dotted(node.func) == "range" and is_known(node, frozenset({"range"})):
        try:
            return [ast.Constant(value) for value in evaluate(node, lambda _: None)]
        except (ValueError, TypeError):
            return []
    return []


def _undefined(statements: Sequence[Statement]) -> frozenset[str]:
    defined = {name for item in statements for name in item.defines} | known_names()
    return frozenset(name for item in statements for name in item.needs) - defined


def _first_called(statements: Sequence[Statement]) -> frozenset[str]:
    """The candidate shadows a builtin or a name of the prelude (`sum`, `gcd`): what the asserts call first."""
    own = {name for item in statements for name in item.defines if not item.is_import}
    names = set()
    for item in statements:
        if isinstance(item.node, ast.Assert):
            calls = [part for part in ast.walk(item.node.test) if isinstance(part, ast.Call)]
            names |= {call.func.id for call in calls[:1] if isinstance(call.func, ast.Name)} - own
    return frozenset(names)


def _changed_in_place(statements: Sequence[Statement]) -> frozenset[str]:
    """Variables that a call in an assert may change, and whose value another assert looks at."""
    asserts = [item.node.test for item in statements if isinstance(item.node, ast.Assert)]
    given = {name for test in asserts for name in touched(test)}
    looked_at = {
        part.id
        for test in asserts
        for node in ast.walk(test)
        if isinstance(node, ast.Compare)
        for part in [node.left]
        if isinstance(part, ast.Name)
    }
    return frozenset(given & looked_at)
