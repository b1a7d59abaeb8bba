"""Tests of all kinds, read into one plan: what is asked of the program, and what is expected of it."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from infra.sandbox.limits import Language
from tasks.rewards.code_fence import SPELLINGS
from tasks.rewards.code_split import NotSplitError, Splitter, SplitTest
from tasks.rewards.code_statements import Statement, closure, read_statement, root


class BadTestsError(ValueError):
    """Tests that are not there or cannot be read: nothing to judge by."""


class WholeTest(NamedTuple):
    """Statements that run as they are, in the judge's jail, with the candidate's names at a distance."""

    source: str


class CallTest(NamedTuple):
    """A call with its output, both plain."""

    arguments: list[Any]
    expected: Any


class StdioTest(NamedTuple):
    """Standard input and output."""

    given: str
    expected: str


class StatementPlan(NamedTuple):
    """Assert tests in order.

    Attributes:
        setup: statements, of which each test names those that must run before it.
        under_test: names that are the candidate's.
    """

    tests: list[SplitTest | WholeTest]
    setup: list[str]
    under_test: frozenset[str]

    @property
    def is_split(self) -> bool:
        """Whether all tests are compared outside of the jails."""
        return all(isinstance(test, SplitTest) for test in self.tests)


class CallPlan(NamedTuple):
    """Call tests in order. `owner`: the class whose method is called, where the tests name one."""

    tests: list[CallTest]
    function: str
    owner: str | None


class StdioPlan(NamedTuple):
    """Tests through standard input and output, in order."""

    tests: list[StdioTest]


Plan = StatementPlan | CallPlan | StdioPlan
# Python 3.11 counts the depth of a syntax tree once for all threads, and raises SystemError when two of them build one.
_ONE_AT_A_TIME = threading.Lock()
_FUNCTION = re.compile(r"(?:(?P<owner>[^\W\d]\w*)(?:\(\))?\.)?(?P<name>[^\W\d]\w*)")
_FIELDS = {"assert": "asserts", "call": "function, inputs, outputs", "stdio": "inputs, outputs",
           "check": "entry_point, code"}  # fmt: skip


def plan_tests(tests: Mapping[str, Any] | None) -> Plan:
    """Read tests of any kind.

    Raises:
        BadTestsError: there is none, its kind or language is unknown, or a field is missing, of another type, or not
            Python.
    """
    with _ONE_AT_A_TIME:
        return _plan_tests(tests or {})


def _plan_tests(tests: Mapping[str, Any]) -> Plan:
    kind = tests.get("kind")
    languages_of(tests)
    if kind == "assert":
        return _plan_asserts(_text(tests, "setup", ""), _texts(tests, "asserts"))
    if kind == "check":
        return _plan_check(_text(tests, "entry_point"), _text(tests, "code"))
    if kind == "call":
        return _plan_calls(tests)
    if kind == "stdio":
        pairs = zip(*_pairs(tests, str), strict=True)
        return StdioPlan([StdioTest(given, expected) for given, expected in pairs])
    known = "; ".join(f"{name}: {fields}" for name, fields in _FIELDS.items())
    raise BadTestsError(f"no tests of a known kind: {kind!r}; known are {known}")


def languages_of(tests: Mapping[str, Any] | None) -> frozenset[Language]:
    """Languages that a program for these tests may be in. Other than Python only where tests feed its standard input.

    Raises:
        BadTestsError: the tests ask for a language that they cannot test, or that is unknown.
    """
    asked, is_stdio = (tests or {}).get("language"), (tests or {}).get("kind") == "stdio"
    if asked is None:
        return frozenset(Language) if is_stdio else frozenset({Language.PYTHON})
    language = SPELLINGS.get(str(asked).lower())
    if language is None:
        raise BadTestsError(f"unknown language {asked!r}; known are {', '.join(Language)}")
    if language is not Language.PYTHON and not is_stdio:
        raise BadTestsError(f"programs in {language} take tests of kind stdio only")
    return frozenset({language})


def _plan_calls(tests: Mapping[str, Any]) -> CallPlan:
    inputs, outputs = _pairs(tests, list)
    owner = _text(tests, "class", "") or None
    told = _text(tests, "function").strip()
    found = _FUNCTION.fullmatch(told)
    if found is None or (owner and found["owner"] not in {None, owner}):
        raise BadTestsError(f"`function` of the tests is {told[:80]!r}; write `name`, or `Class.name` for a method")
    calls = [CallTest(*pair) for pair in zip(inputs, outputs, strict=True)]
    return CallPlan(calls, found["name"], owner or found["owner"])


def _pairs(tests: Mapping[str, Any], kind: type) -> tuple[list[Any], list[Any]]:
    inputs, outputs = (list(tests.get(name) or []) for name in ("inputs", "outputs"))
    if not inputs or len(inputs) != len(outputs):
        raise BadTestsError(f"{len(inputs)} inputs and {len(outputs)} outputs; there must be as many, and at least one")
    checked = [("inputs", inputs), *([("outputs", outputs)] if kind is str else [])]
    for name, values in checked:
        wrong = [index for index, value in enumerate(values) if not isinstance(value, kind)]
        if wrong:
            raise BadTestsError(f"{name}[{wrong[0]}] is not a {kind.__name__}")
    return inputs, outputs


def _text(tests: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = tests.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (not value.strip() and default is None):
        raise BadTestsError(f"`{name}` of the tests is missing or not a text")
    return value


def _texts(tests: Mapping[str, Any], name: str) -> list[str]:
    values = tests.get(name) or []
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise BadTestsError(f"`{name}` of the tests is not a list of texts")
    return list(values)


def _parse(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadTestsError(f"a test is not Python: {error}") from None


def _plan_asserts(setup: str, asserts: Sequence[str]) -> StatementPlan:
    """Asserts after their set-up. `check(f)` is written out where the set-up defines `check`."""
    before = _parse(setup)
    tests = [statement for source in asserts for statement in _parse(source)]
    if not tests:
        raise BadTestsError("there are no tests")
    written_out = _written_out(before, tests[0]) if len(tests) == 1 else None
    if written_out is not None:
        before, tests = written_out
    return _plan(before, tests, frozenset())


def _plan_check(entry_point: str, code: str) -> StatementPlan:
    """HumanEval: `check(candidate)` is called with the candidate's function."""
    before = _parse(code)
    (call,) = _parse(f"check({entry_point})")
    if not any(isinstance(item, ast.FunctionDef) and item.name == "check" for item in before):
        raise BadTestsError("`code` of the tests defines no `check`")
    if not any(_can_fail(part) for item in before for part in ast.walk(item)):
        raise BadTestsError("`check` of the tests asserts nothing, so no program fails it")
    before, tests = _written_out(before, call) or (before, [call])
    return _plan(before, tests, frozenset({root(ast.parse(entry_point, mode="eval").body)}))


def _can_fail(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return isinstance(node, ast.Assert | ast.Raise) or name.startswith(("assert", "fail", "raises"))


def _written_out(before: list[ast.stmt], call: ast.stmt) -> tuple[list[ast.stmt], list[ast.stmt]] | None:
    """Set-up and body of the checking function that is called, with its argument in place; None: it must stay whole."""
    if not (isinstance(call, ast.Expr) and isinstance(call.value, ast.Call) and isinstance(call.value.func, ast.Name)):
        return None
    name, arguments = call.value.func.id, call.value.args
    defined = [item for item in before if isinstance(item, ast.FunctionDef) and item.name == name]
    if len(defined) != 1 or len(arguments) != 1 or call.value.keywords or not _is_flat(defined[0]):
        return None
    parameter = defined[0].args.args[0].arg
    body = [_Argument(parameter, arguments[0]).visit(item) for item in defined[0].body]
    rest = [item for item in before if item is not defined[0]]
    return rest, [ast.parse(ast.unparse(item)).body[0] for item in body]


def _is_flat(function: ast.FunctionDef) -> bool:
    """Whether the body means the same outside of the function: one argument that keeps its value, no `return`."""
    own = function.args
    if len(own.args) != 1 or own.vararg or own.kwarg or own.kwonlyargs or own.posonlyargs or function.decorator_list:
        return False
    inside = [part for item in function.body for part in ast.walk(item)]
    binds_again = any(isinstance(part, ast.Name) and part.id == own.args[0].arg and not isinstance(part.ctx, ast.Load)
                      for part in inside)  # fmt: skip
    leaves = (ast.Return, ast.Nonlocal, ast.Global, ast.Yield, ast.YieldFrom, ast.FunctionDef, ast.ClassDef, ast.Lambda)
    return not binds_again and not any(isinstance(part, leaves) for part in inside)


class _Argument(ast.NodeTransformer):
    def __init__(self, parameter: str, argument: ast.expr) -> None:
        self._parameter, self._argument = parameter, argument

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._argument if node.id == self._parameter else node


def _plan(before: list[ast.stmt], tests: list[ast.stmt], entry_points: frozenset[str]) -> StatementPlan:
    num_before = len(before)
    statements = [read_statement(node) for node in [*before, *(node for node in tests if not _says_nothing(node))]]
    splitter = Splitter(statements, entry_points)
    found: list[SplitTest | WholeTest] = []
    unrun: list[str] = []  # what the judge has not run yet
    for position, statement in enumerate(statements):
        source = ast.unparse(statement.node)
        if position >= num_before:
            _refuse_dropped(statement.node)
            _refuse_unheard(splitter, position)
        if not _is_test(splitter, position, is_setup=position < num_before):
            unrun.append(source)
            continue
        test = _split(splitter, position)
        if isinstance(test, WholeTest):
            test = WholeTest("\n".join([*unrun, test.source]))
            unrun = []
        found.append(test)
    if not found:
        raise BadTestsError("no test asks anything of the program")
    sources = [ast.unparse(item.node) for item in statements]
    return StatementPlan(_consistent(found, statements), sources, splitter.under_test)


def _says_nothing(node: ast.stmt) -> bool:
    """`assert True`, a docstring, a lone name."""
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and bool(node.test.value)
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Name)
    )


def _refuse_dropped(node: ast.stmt) -> None:
    """Raise where a test is written so that it can never fail."""
    if isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
        raise BadTestsError(f"`{ast.unparse(node)[:80]}` asserts a tuple, which always holds; take the brackets off")
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare | ast.BoolOp | ast.UnaryOp):
        raise BadTestsError(f"`{ast.unparse(node)[:80]}` can never fail; write `assert` before it")


def _refuse_unheard(splitter: Splitter, position: int) -> None:
    """Raise where a call is given what the program answers, and nothing here says that it fails for a wrong one."""
    node = splitter.statements[position].node
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return
    name, told = root(node.value), f"`{ast.unparse(node)[:80]}`"
    if name in splitter.checkers:
        made_by = [splitter.statements[at].node for at in closure(splitter.statements[:position], [name])]
        if not any(_can_fail(part) for item in made_by for part in ast.walk(item)):
            raise BadTestsError(f"{told} asserts nothing, so no program fails it")
        return
    # `results.append(f(2))` prepares for a later assert, and `print(f(2))` hides nothing.
    made = {each for item in splitter.statements if not item.is_import for each in item.defines}
    is_check = name not in made | {"print"} or (
        isinstance(node.value.func, ast.Attribute) and _can_fail(node.value.func)
    )
    if is_check and _is_given_an_answer(node.value, splitter):
        raise BadTestsError(f"{told} is no assert, and nothing defines that it fails; write `assert` with a comparison")


def _is_given_an_answer(call: ast.Call, splitter: Splitter) -> bool:
    """Whether a function under test is called among the arguments; `Node(3)` makes an object, and answers nothing."""
    given = [part for item in [*call.args, *(keyword.value for keyword in call.keywords)] for part in ast.walk(item)]
    return any(
        isinstance(part, ast.Call)
        and root(part) in splitter.under_test
        and not (isinstance(part.func, ast.Name) and part.func.id[:1].isupper())
        for part in given
    )


def _is_test(splitter: Splitter, position: int, *, is_setup: bool) -> bool:
    """Whether a statement can fail for what the candidate does, rather than prepare for one that does."""
    statement = splitter.statements[position]
    if statement.is_definition or statement.is_import:
        return False
    if not any(splitter.is_of_candidate(name, position) for name in statement.needs):
        return False
    if isinstance(statement.node, ast.Assert):
        return True
    if isinstance(statement.node, ast.Expr):  # `check(f)` of the tests, not `stack.push(1)` of the candidate
        return isinstance(statement.node.value, ast.Call) and root(statement.node.value) in splitter.checkers
    return not is_setup and not isinstance(statement.node, ast.Assign | ast.AnnAssign | ast.AugAssign)


def _split(splitter: Splitter, position: int) -> SplitTest | WholeTest:
    node = splitter.statements[position].node
    try:
        return splitter.split(position) if isinstance(node, ast.Assert) else WholeTest(ast.unparse(node))
    except NotSplitError:
        return WholeTest(ast.unparse(node))


def _consistent(tests: list[SplitTest | WholeTest], statements: Sequence[Statement]) -> list[SplitTest | WholeTest]:
    """One whole test, where a test cannot be split and another leans on state: both must see the same objects."""
    needed = [statements[at] for test in tests if isinstance(test, SplitTest) for at in test.before]
    has_state = any(not item.is_import and not item.is_definition for item in needed)
    if all(isinstance(test, SplitTest) for test in tests) or not has_state:
        return tests
    return [WholeTest("\n".join(ast.unparse(item.node) for item in statements))]
