"""Sources of programming tasks. Their code is text here and runs in the sandbox only.

Assert tests: `setup` runs after the solution and before the asserts; each assert is one statement.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from tasks.ingest.adapters.labels import user_turn
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain

MBPP_FRAME = "{}\n\nYour code should pass these tests:\n\n{}"
HUMANEVAL_FRAME = "Complete the following Python function.\n\n```python\n{}\n```"


def mbpp(row: NativeRow) -> Draft:
    """MBPP: the shown tests name the function; the challenge tests are checked too, but not shown."""
    shown = _lines(row.list("test_list"))
    asserts = [*shown, *_lines(row.list("challenge_test_list"))]
    return _mbpp(row, row.text("text"), shown, assert_tests(asserts, _unix(row.text("test_setup_code"))))


def mbpp_sanitized(row: NativeRow) -> Draft:
    """Sanitized MBPP: imports instead of set-up code."""
    shown = _lines(row.list("test_list"))
    return _mbpp(row, row.text("prompt"), shown, assert_tests(shown, "\n".join(_lines(row.list("test_imports")))))


def humaneval(row: NativeRow) -> Draft:
    """HumanEval: a function header to complete; the set-up defines `check`, which the one assert calls."""
    header, test, entry = row.text("prompt"), _unix(row.text("test")), row.text("entry_point")
    tests = assert_tests([f"check({entry})"], test) if test.strip() and entry else None
    prompt = HUMANEVAL_FRAME.format(header.strip()) if header.strip() else ""
    solution = header + row.text("canonical_solution")
    return Draft(Domain.CODE, user_turn(prompt), tests=tests, solution=solution, stem=header.strip())


def leetcode(row: NativeRow) -> Draft:
    """LeetCode in rllm's form: `check(candidate)` with plain asserts, rewritten to one assert a case."""
    functional = _unix(row.mapping("tests").get("functional") or "")
    solution = _unix(row.text("solutions")) or None
    return Draft(Domain.CODE, user_turn(row.text("problem")), tests=_from_check(functional), solution=solution)


def leetcode_weekly(row: NativeRow) -> Draft:
    """DeepSeek-Coder's LeetCode contests: pairs of `test_input = …` and an assert that uses it."""
    return Draft(Domain.CODE, user_turn(row.text("prompt_sft")), tests=_from_pairs(_unix(row.text("test"))))


def acecode(row: NativeRow) -> Draft:
    """AceCode: asserts written by a model."""
    return Draft(Domain.CODE, user_turn(row.text("question")), tests=assert_tests(_lines(row.list("test_cases"))))


def code_contests(row: NativeRow) -> Draft:
    """CodeContests in rllm's form: parallel lists of inputs and outputs."""
    tests = row.mapping("tests")
    inputs, outputs = tests.get("inputs") or [], tests.get("outputs") or []
    return Draft(Domain.CODE, user_turn(row.text("problem")), tests=stdio_tests(inputs, outputs))


def codeforces(row: NativeRow) -> Draft:
    """Codeforces in rllm's form: a list of {input, output}."""
    cases = row.list("tests")
    if not all(isinstance(case, dict) and {"input", "output"} <= case.keys() for case in cases):
        raise FieldError("field `tests` holds a case without `input` or `output`")
    tests = stdio_tests([case["input"] for case in cases], [case["output"] for case in cases])
    return Draft(Domain.CODE, user_turn(row.text("problem")), tests=tests)


def taco(row: NativeRow) -> Draft:
    """TACO's generation example: a prompt with a model's outputs, without tests."""
    prompt = row.text("prompt").strip().removeprefix("QUESTION:").removesuffix("ANSWER:")
    return Draft(Domain.CODE, user_turn(prompt))


def assert_tests(asserts: Sequence[str], setup: str = "") -> dict[str, Any] | None:
    """Tests that are statements; None where there is none."""
    return {"kind": "assert", "setup": setup, "asserts": list(asserts)} if asserts else None


def stdio_tests(inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Any] | None:
    """Tests that feed a program and read what it prints; None where there is none.

    Raises:
        FieldError: an input lacks its output.
    """
    if len(inputs) != len(outputs):
        raise FieldError(f"field `tests` has {len(inputs)} inputs but {len(outputs)} outputs")
    return {"kind": "stdio", "inputs": list(inputs), "outputs": list(outputs)} if inputs else None


def _mbpp(row: NativeRow, text: str, shown: list[str], tests: dict[str, Any] | None) -> Draft:
    text = text.strip()
    prompt = MBPP_FRAME.format(text, "\n".join(shown)) if text and shown else text
    return Draft(Domain.CODE, user_turn(prompt), tests=tests, solution=_unix(row.text("code")) or None, stem=text)


def _lines(values: Sequence[Any]) -> list[str]:
    return [_unix(str(value)).strip() for value in values]


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _from_check(source: str) -> dict[str, Any] | None:
    """`def check(candidate): assert …` followed by `check(CALL)`."""
    if not source.strip():
        return None
    body = _parse(source).body
    calls = [ast.unparse(s.value.args[0]) for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
    functions = [statement for statement in body if isinstance(statement, ast.FunctionDef)]
    if len(calls) != 1 or len(functions) != 1:
        raise FieldError("field `tests` is not one `check` function and one call of it")
    if not all(isinstance(statement, ast.Assert) for statement in functions[0].body):
        return assert_tests([ast.unparse(body[-1])], ast.unparse(functions[0]))
    return assert_tests([ast.unparse(s).replace("candidate(", f"{calls[0]}(", 1) for s in functions[0].body])


def _from_pairs(source: str) -> dict[str, Any] | None:
    asserts, given = [], ""
    for statement in _parse(source).body:
        text = ast.unparse(statement)
        if isinstance(statement, ast.Assert):
            asserts.append(text.replace("**test_input", f"**{given}").replace("my_solution", "Solution()"))
        elif isinstance(statement, ast.Assign) and text.startswith("test_input = "):
            given = text.removeprefix("test_input = ")
    return assert_tests(asserts)


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise FieldError(f"the tests are not Python: {error}") from None
