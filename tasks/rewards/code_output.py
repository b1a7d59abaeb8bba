"""Programs that read standard input: one jail a test, and what they print against what is expected."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from infra.sandbox.backend import Backend
from infra.sandbox.limits import Ending, Language, Limits, Program, SandboxError
from tasks.records import Outcome
from tasks.rewards.code_prelude import prelude_for
from tasks.rewards.code_session import OUTCOMES, FailedError
from tasks.rewards.code_tests import StdioTest

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
_LONGEST_NUMBER = 400
_NOT_COMPILED = ("SyntaxError", "IndentationError", "TabError")


def jailed_program(source: str, language: Language) -> Program:
    """What goes into the jail: Python behind the prelude, but compiled apart from it: `from __future__` must lead."""
    if language is not Language.PYTHON:
        return Program(source.encode("utf-8", "replace").decode(), language)
    behind = f"exec(compile({source!r}, 'main.py', 'exec'), globals())"
    return Program(f"{prelude_for(source)}\n{behind}", language)


def check_output(backend: Backend, program: Program, test: StdioTest, limits: Limits, tolerance: float) -> None:
    """Run one test.

    Raises:
        FailedError: the program fails it.
        SandboxError: the jail fails.
    """
    done = backend.run(program, test.given, limits)
    if done.outcome is Ending.SANDBOX_FAILURE:
        raise SandboxError(done.stderr)
    if done.outcome is not Ending.FINISHED:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        is_refused = done.outcome is Ending.FAILED and last.startswith(_NOT_COMPILED)
        outcome = Outcome.COMPILE_ERROR if is_refused else OUTCOMES[done.outcome]
        told = done.stderr[:300] if done.outcome is Ending.COMPILE_ERROR else done.stderr[-200:]
        raise FailedError(outcome, f"{done.outcome} {told}".strip())
    if not same_output(test.expected, done.stdout, tolerance):
        raise FailedError(Outcome.WRONG, f"printed {done.stdout[:100]!r}")


def same_output(expected: str, printed: str, tolerance: float = 0.0) -> bool:
    """Line by line without the space around them, then token by token, where numbers are compared as such.

    Letters keep their case. `tolerance` is absolute or relative to what is expected, whichever is larger (testlib's
    `doubleCompare`), and is granted only where what is expected has a decimal point or an exponent: integers are exact.
    """
    wanted, found = ([line.strip() for line in text.strip().splitlines()] for text in (expected, printed))
    if wanted == found:
        return True
    if len(wanted) != len(found):
        return False
    tokens = [(left.split(), right.split()) for left, right in zip(wanted, found, strict=True)]
    return all(
        len(left) == len(right) and all(_same_token(*pair, tolerance) for pair in zip(left, right, strict=True))
        for left, right in tokens
    )


def _same_token(expected: str, printed: str, tolerance: float) -> bool:
    if expected == printed:
        return True
    left, right = _number(expected), _number(printed)
    if left is None or right is None:
        return False
    if left == right:
        return True
    allowed = Decimal(tolerance) * max(Decimal(1), abs(left))
    return not expected.lstrip("+-").isdigit() and abs(left - right) <= allowed


def _number(token: str) -> Decimal | None:
    if len(token) > _LONGEST_NUMBER or not _NUMBER.fullmatch(token):
        return None
    try:
        return Decimal(token)
    except InvalidOperation:
        return None
