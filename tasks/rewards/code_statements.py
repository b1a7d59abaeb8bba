"""Statements of tests, and what names mean in them: which bind a name, which need one, which values are known."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tasks.rewards.code_prelude import known_names
from tasks.rewards.code_values import CONSTANTS, TRUSTED, is_known

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
PURE = frozenset(name for name in TRUSTED if "." not in name)


class Statement(NamedTuple):
    """One statement, with the names that it defines, those that it defines or may change, and those that it needs."""

    node: ast.stmt
    defines: frozenset[str]
    binds: frozenset[str]
    needs: frozenset[str]

    @property
    def is_definition(self) -> bool:
        """A function or class; running it alone does nothing."""
        return isinstance(self.node, _DEFINITIONS)

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, _IMPORTS)


def read_statement(node: ast.stmt) -> Statement:
    """A statement with its names. Names of inner scopes (arguments, loop variables of comprehensions) are left out."""
    defined = _defined(node)
    changed = (
        set() if isinstance(node, (*_DEFINITIONS, *_IMPORTS, ast.Assert)) else _changed_through(node) | touched(node)
    )
    return Statement(node, frozenset(defined), frozenset(defined | changed), frozenset(needed_names(node)))


def needed_names(node: ast.AST) -> set[str]:
    """Names that a node reads, but for those of its inner scopes."""
    loads = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
    return loads - _inner(node)


def _inner(node: ast.AST) -> set[str]:
    names = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    scopes: list[ast.AST] = [part.target for part in ast.walk(node) if isinstance(part, ast.comprehension)]
    if isinstance(node, _DEFINITIONS):
        names.add(node.name)
        scopes += node.body
    return names.union(*map(_stored, scopes))


def _stored(node: ast.AST) -> set[str]:
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    return {part.id for part in names if isinstance(part.ctx, ast.Store | ast.Del)}


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    if isinstance(node, _IMPORTS):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return _stored(node) - _inner(node)


def _changed_through(node: ast.stmt) -> set[str]:
    """Names whose objects an assignment to an item or attribute changes."""
    targets = [part for part in ast.walk(node) if isinstance(part, ast.Attribute | ast.Subscript)]
    return {root(part) for part in targets if isinstance(part.ctx, ast.Store | ast.Del)} - {""}


def touched(node: ast.AST) -> set[str]:
    """Names whose objects a call in the node may change: what it is called on, and what it is given by name."""
    names: set[str] = set()
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and not (isinstance(call.func, ast.Name) and call.func.id in PURE):
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            names |= {part.id for part in given if isinstance(part, ast.Name)}
            names |= {root(call.func)} if isinstance(call.func, ast.Attribute) else set()
    return names - {""} - known_names()


def root(node: ast.expr) -> str:
    """The name that a chain of attributes, items and calls starts from; empty where it starts otherwise."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def closure(statements: Sequence[Statement], names: Iterable[str]) -> list[int]:
    """Positions of the statements that make what `names` stand for, in order."""
    wanted, chosen = set(names), set[int]()
    while True:
        found = {at for at, item in enumerate(statements) if at not in chosen and item.binds & wanted}
        if not found:
            return sorted(chosen)
        chosen |= found
        wanted |= {name for at in found for name in statements[at].needs}


def known_values(
    statements: Sequence[Statement], trusted: frozenset[str], in_place: frozenset[str]
) -> list[dict[str, ast.expr]]:
    """Before each statement: the variables whose value the tests' text tells. One that anything changes has none."""
    values: dict[str, ast.expr] = {}
    found = []
    for statement in statements:
        found.append(values)
        if statement.binds:
            values = {name: value for name, value in values.items() if name not in statement.binds} | {
                name: value
                for name, value in _assigned(statement.node, values)
                if name not in in_place and is_known(value, trusted)
            }
    return found


def _assigned(node: ast.stmt, values: dict[str, ast.expr]) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return [(node.targets[0].id, replace_names(node.value, values))]
    return []


class _Replacer(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> Any:
        return self._values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def replace_names(node: ast.expr, values: dict[str, ast.expr]) -> ast.expr:
    """A copy of an expression with names replaced."""
    if not values.keys() & needed_names(node):
        return node
    copied = ast.parse(ast.unparse(node), mode="eval").body
    replaced: ast.expr = _Replacer({name: value for name, value in values.items() if name not in _inner(node)}).visit(
        copied
    )
    return replaced


def trusted_names(statements: Sequence[Statement]) -> frozenset[str]:
    """Names with a meaning of their own outside of the jail, but for those that the tests give another one."""
    own = {name for statement in statements if not statement.is_import for name in statement.defines}
    return frozenset(name for name in {*TRUSTED, *CONSTANTS} if name.split(".")[0] not in own)
