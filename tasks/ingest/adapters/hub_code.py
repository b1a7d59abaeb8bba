"""Programming tasks as the hub's data sets publish them. Their code is text here and runs in the sandbox only."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from tasks.ingest.adapters.cases import listed_tests, parallel_tests, piped_tests, with_starter
from tasks.ingest.adapters.code import assert_tests
from tasks.ingest.adapters.labels import label, user_turn
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain
from tasks.rewards.code_livecodebench import TestsEncodingError, read_livecodebench

# How Eurus-2-RL-Data asks for the form of an answer, at the end of each prompt; a recipe asks in its own words.
_EURUS_CLOSINGS = ("\n\nWrite Python code to solve the problem.", "\n\nPresent the answer in LaTex format:")
_LIVECODEBENCH_FIELDS = ("question_id", "public_test_cases", "private_test_cases", "metadata")


def eurus(row: NativeRow) -> Draft:
    """PRIME's Eurus-2-RL-Data in verl's form: math with a label, code with tests as JSON text."""
    asked = [turn for turn in row.list("prompt") if isinstance(turn, Mapping) and turn.get("role") == "user"]
    text = str(asked[-1].get("content") or "") if asked else ""
    for closing in _EURUS_CLOSINGS:
        text = text.rpartition(closing)[0] or text
    truth = row.mapping("reward_model").get("ground_truth")
    if row.text("ability") == "code":
        tests = parallel_tests(_loads(truth, "reward_model.ground_truth"), "reward_model.ground_truth")
        return Draft(Domain.CODE, user_turn(text), tests=tests, meta={"ability": "code"})
    return Draft(Domain.MATH, user_turn(text), answer=label(truth), meta={"ability": row.text("ability")})


def deepcoder(row: NativeRow) -> Draft:
    """DeepCoder-Preview-Dataset: TACO's parallel lists or a list of cases, as JSON text; the first solution is kept."""
    tests = row.json("tests")
    starter = str(row.optional("starter_code") or "")
    found = parallel_tests(tests, "tests") if isinstance(tests, Mapping) else _of_livecodebench(row, tests)
    solutions = row.optional("solutions") or []
    solution = solutions if isinstance(solutions, str) else next(iter(solutions), None)
    return _problem(row.text("problem"), starter, found, solution or None)


def kodcode(row: NativeRow) -> Draft:
    """KodCode-V1: pytest functions that import the solution; those that only assert become their asserts."""
    tests = _from_pytest(row.text("test"))
    return Draft(Domain.CODE, user_turn(row.text("question")), tests=tests, solution=row.text("solution") or None)


def livecodebench(row: NativeRow) -> Draft:
    """LiveCodeBench: open tests in JSON, hidden ones pickled; the reader refuses a pickle that names any class."""
    fields = {name: row.take(name) for name in _LIVECODEBENCH_FIELDS}
    try:
        tests = read_livecodebench(fields)
    except TestsEncodingError as error:
        raise FieldError(str(error)) from None
    draft = _problem(row.text("question_content"), row.text("starter_code"), tests, None)
    return Draft(
        draft.domain, draft.messages, tests=tests, stem=draft.stem, meta={"question_id": fields["question_id"]}
    )


def codeforces_cots(row: NativeRow) -> Draft:
    """codeforces-cots: a statement in parts; R1's generation and other people's programs are not kept."""
    row.leave("prompt", "generation", "messages", "api_metadata", "failed_solutions")
    groups = [row.optional(name) for name in ("public_tests", "private_tests", "generated_tests")]
    inputs = [text for group in groups if group for text in group.get("input") or []]
    outputs = [text for group in groups if group for text in group.get("output") or []]
    examples = row.list("examples")
    tests = piped_tests(inputs, outputs) or listed_tests(examples, "examples")
    solution = next((str(each.get("code")) for each in row.optional("accepted_solutions") or []), None)
    return Draft(Domain.CODE, user_turn(_statement(row, examples)), tests=tests, solution=solution)


def verifiable_coding(row: NativeRow) -> Draft:
    """verifiable-coding-problems-python: cases of pipes or of one function below `verification_info`."""
    cases = row.mapping("verification_info").get("test_cases")
    tests = listed_tests(cases, "verification_info.test_cases")
    solution = row.text("gold_standard_solution").strip() or None
    return Draft(Domain.CODE, user_turn(row.text("problem")), tests=tests, solution=solution)


def opencoder(row: NativeRow) -> Draft:
    """opencoder-sft-stage2, educational_instruct: asserts a row; `output` is `code` with words around it."""
    row.leave("output")
    asserts = [str(line).strip() for line in row.list("testcase")]
    solution = row.text("code") or None
    return Draft(Domain.CODE, user_turn(row.text("instruction")), tests=assert_tests(asserts), solution=solution)


def openthoughts_code(row: NativeRow) -> Draft:
    """OpenThoughts-114k-Code_decontaminated: parallel lists as JSON text; R1's response is not kept."""
    row.leave("deepseek_reasoning", "deepseek_solution", "messages")
    tests = parallel_tests(row.json("test_cases"), "test_cases")
    solution = row.text("ground_truth_solution").strip() or None
    return _problem(row.text("problem"), str(row.optional("starter_code") or ""), tests, solution)


def leetcode_dataset(row: NativeRow) -> Draft:
    """LeetCodeDataset: `check(candidate)` after the imports and classes that LeetCode takes for granted."""
    row.leave("query", "response", "input_output")
    check = f"{row.text('prompt')}\n\n{row.text('test')}"
    tests = (
        {"kind": "check", "entry_point": row.text("entry_point"), "code": check} if row.text("test").strip() else None
    )
    return _problem(row.text("problem_description"), row.text("starter_code"), tests, row.text("completion") or None)


def taco_problems(row: NativeRow) -> Draft:
    """TACO: solutions and tests as JSON text; the first solution is kept."""
    tests = parallel_tests(row.json("input_output"), "input_output")
    solutions = row.json("solutions") or []
    return _problem(row.text("question"), row.text("starter_code"), tests, next(iter(solutions), None))


def _problem(problem: str, starter: str, tests: dict[str, Any] | None, solution: str | None) -> Draft:
    stem = problem.strip() if starter.strip() else None
    return Draft(Domain.CODE, user_turn(with_starter(problem, starter)), tests=tests, solution=solution, stem=stem)


def _of_livecodebench(row: NativeRow, tests: Any) -> dict[str, Any] | None:
    """A list of cases; those of LiveCodeBench may name their function beside the list only."""
    metadata = row.optional("metadata")
    metadata = _loads(metadata, "metadata") if isinstance(metadata, str) else metadata
    name = (metadata or {}).get("func_name") if isinstance(metadata, Mapping) else None
    if name and isinstance(tests, list):
        tests = [{**case, "fn_name": name} if case.get("testtype") == "functional" else case for case in tests]
    return listed_tests(tests, "tests")


def _loads(text: Any, field: str) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) and text.strip() else text or None
    except (ValueError, RecursionError) as error:
        raise FieldError(f"field `{field}` is not JSON: {str(error)[:200]}") from None


def _statement(row: NativeRow, examples: list[Any]) -> str:
    description = row.text("description").strip()
    if not description:
        return ""
    parts = [f"# {row.text('title').strip()}", description]
    titled = (("Input", "input_format"), ("Output", "output_format"), ("Interaction", "interaction_format"))
    parts += [f"## {title}\n\n{text}" for title, name in titled if (text := str(row.optional(name) or "").strip())]
    shown = [f"Input:\n```\n{case['input']}\n```\nOutput:\n```\n{case['output']}\n```" for case in examples]
    parts += ["## Examples\n\n" + "\n\n".join(shown)] if shown else []
    note = str(row.optional("note") or "").strip()
    return "\n\n".join([*parts, *([f"## Note\n\n{note}"] if note else [])])


def _from_pytest(source: str) -> dict[str, Any] | None:
    """A test module without its import of the solution: one assert, or one call of a test function, a test."""
    if not source.strip():
        return None
    try:
        body = ast.parse(source.replace("\r\n", "\n")).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FieldError(f"field `test` is not Python: {error}") from None
    rest = [each for each in body if not (isinstance(each, ast.ImportFrom) and each.module == "solution")]
    functions = [each for each in rest if isinstance(each, ast.FunctionDef) and each.name.startswith("test")]
    flat = [each for each in functions if all(isinstance(part, ast.Assert) for part in each.body)]
    setup = [each for each in rest if each not in flat]
    tests = [text for each in functions for text in (_asserts(each) if each in flat else [f"{each.name}()"])]
    return assert_tests(tests, "\n".join(ast.unparse(each) for each in setup))


def _asserts(function: ast.FunctionDef) -> list[str]:
    return [ast.unparse(statement) for statement in function.body]
