"""Adapters of the hub's schemas: each on a row of its shape, and the turns that such rows can take."""

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from tasks.ingest.adapters.cases import listed_tests, parallel_tests
from tasks.ingest.adapters.registry import ADAPTERS
from tasks.ingest.catalogue import schemas
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain
from tasks.rewards.code_tests import plan_tests

STDIO = {"kind": "stdio", "inputs": ["1 2\n"], "outputs": ["3\n"]}
SUM = "print(sum(map(int, input().split())))"


def draft_of(adapter: str, **changes: Any) -> Draft:
    return ADAPTERS[adapter](NativeRow(schemas()[adapter].row | changes))


def asked(draft: Draft) -> str:
    return draft.messages[-1].content


@pytest.mark.parametrize(
    ("adapter", "prompt", "answer", "solution"),
    [
        ("aime_2025", "Find $n$.", "70", None),
        ("aime_table", "Find $n$.", "60", None),
        ("big_math", "What is $1+1$?", "2", None),
        ("deepmath_103k", "Evaluate the limit.", "0", "It tends to $\\boxed{0}$."),
        ("deepscaler", "Find $n$.", "-\\frac{2}{3}", "It is $-\\frac{2}{3}$."),
        ("metamath", "What is $1+1$?", "2", "One and one is two.\nThe answer is: $2$"),
        ("numina_1_5", "Find $n$.", "7", "So $n=7$."),
        ("numina_cot", "Find $n$.", "7", "So $n = \\boxed{7}$."),
        ("omni_math", "Find $n$.", "9", "It is 9."),
        ("openr1_math", "Find $n$.", "7", "So $n=7$."),
        ("s1_full", "What is $2^7$?", "128", "128"),
        ("still_3", "Find $n$.", "7", None),
    ],
)
def test_mathematics(adapter: str, prompt: str, answer: str, solution: str | None) -> None:
    draft = draft_of(adapter)
    assert (draft.domain, asked(draft), draft.answer, draft.solution) == (Domain.MATH, prompt, answer, solution)


def test_labels_that_are_none() -> None:
    for word in ("proof", "notfound"):
        assert (draft_of("numina_1_5", answer=word).answer, draft_of("numina_1_5", answer=word).meta) == (
            None,
            {"answer": word},
        )
    assert draft_of("numina_cot", solution="So it holds.").answer is None
    assert draft_of("metamath", response="I cannot tell.").answer is None


def test_s1_takes_the_box_or_the_bare_answer_and_tells_domains_apart() -> None:
    assert draft_of("s1_full", solution="Thus $\\boxed{\\frac{1}{2}}$.").answer == "\\frac{1}{2}"
    assert draft_of("s1_full", solution="It follows from above.").answer is None
    assert draft_of("s1_full", cot_type="science", solution="D").domain is Domain.SCIENCE
    assert draft_of("s1_full", cot_type="crossword").meta == {"cot_type": "crossword"}


def test_science() -> None:
    assert (draft_of("chemistry_qa").answer, asked(draft_of("chemistry_qa"))) == (
        "36 g",
        "What mass is 2 mol of water?",
    )
    assert asked(draft_of("chemistry_qa", question_description="Use M = 18.")).endswith("\n\nUse M = 18.")
    for adapter, letter, choices in (
        ("logic_701", "D", ("1", "2", "3", "4", "5")),
        ("mmlu", "B", ("m", "kg", "s", "K")),
        ("natural_instructions", "B", ("Mars", "Jupiter", "Venus", "Earth")),
    ):
        draft = draft_of(adapter)
        assert (draft.domain, draft.answer, draft.choices) == (Domain.SCIENCE, letter, choices)
    assert draft_of("logic_701").solution == "Count on."
    assert draft_of("natural_instructions", targets=["C"]).answer == "C"
    assert draft_of("ncert").answer == "5 m/s"
    assert draft_of("question_answer").answer == "B"
    assert (draft_of("nemotron_science").answer, draft_of("nemotron_science", input="Which?").messages[0].role) == (
        "B",
        "user",
    )
    with pytest.raises(FieldError, match="`correct_option_number` is 'four'"):
        draft_of("logic_701", correct_option_number="four")


@pytest.mark.parametrize("adapter", ["deepcoder", "eurus", "openthoughts_code", "taco_problems", "verifiable_coding"])
def test_programs_that_read_and_print(adapter: str) -> None:
    draft = draft_of(adapter)
    assert (draft.domain, asked(draft), draft.tests) == (Domain.CODE, "Print the sum.", STDIO)
    assert draft.solution == (None if adapter == "eurus" else SUM)


def test_every_schema_of_code_makes_tests_that_the_judge_can_read() -> None:
    tests = {name: draft_of(name).tests for name in ADAPTERS if draft_of(name).domain is Domain.CODE}
    assert [name for name, each in tests.items() if each is None] == ["taco"]
    for each in tests.values():
        if each is not None:
            assert len(plan_tests(each).tests) >= 1


def test_eurus_takes_off_the_form_that_it_asks_for() -> None:
    text = "Find $n$.\n\nPresent the answer in LaTex format: \\boxed{Your answer}"
    row = {"prompt": [{"role": "user", "content": text}], "ability": "math", "reward_model": {"ground_truth": "7"}}
    draft = draft_of("eurus", **row)
    assert (draft.domain, asked(draft), draft.answer, draft.tests) == (Domain.MATH, "Find $n$.", "7", None)


def test_functions_are_called() -> None:
    starter = "class Solution:\n    def add(self, a, b):"
    lists = {"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]}
    draft = draft_of("taco_problems", starter_code=starter, input_output=json.dumps(lists))
    assert draft.tests == {"kind": "call", "function": "add", "inputs": [[1, 2]], "outputs": [3]}
    assert asked(draft) == f"Print the sum.\n\nUse this starter code:\n\n```python\n{starter}\n```"
    assert draft.stem == "Print the sum."
    case = {"input": "1\n[2, 3]", "output": "[1, 2, 3]", "testtype": "functional", "metadata": {"func_name": "add"}}
    assert listed_tests([case], "tests") == {
        "kind": "call",
        "function": "add",
        "inputs": [[1, [2, 3]]],
        "outputs": [[1, 2, 3]],
    }
    beside = draft_of(
        "deepcoder",
        tests=json.dumps([{"input": "1", "output": "2", "testtype": "functional"}]),
        metadata=json.dumps({"func_name": "f"}),
        starter_code="def f(n):",
    )
    assert beside.tests == {"kind": "call", "function": "f", "inputs": [[1]], "outputs": [2]}


def test_wrapped_outputs_are_unwrapped_only_where_all_are() -> None:
    tests = parallel_tests({"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [4, 5]]}, "tests")
    assert tests is not None
    assert tests["outputs"] == [[3], [4, 5]]


def test_lines_are_joined_and_absent_tests_are_none() -> None:
    tests = parallel_tests({"inputs": [["1", "2"]], "outputs": [["3"]]}, "tests")
    assert tests == {"kind": "stdio", "inputs": ["1\n2"], "outputs": ["3"]}
    for nothing in (None, {}, []):
        assert parallel_tests(nothing, "tests") is None  # type: ignore[arg-type]
    assert listed_tests([], "tests") is None
    assert parallel_tests({"inputs": [], "outputs": []}, "tests") is None


def test_tests_of_another_shape_are_an_error() -> None:
    with pytest.raises(FieldError, match="as many `inputs` as `outputs`"):
        parallel_tests({"inputs": ["1"], "outputs": []}, "tests")
    with pytest.raises(FieldError, match="a case without `input`"):
        listed_tests([{"in": "1"}], "tests")
    with pytest.raises(FieldError, match="several functions: f, g"):
        listed_tests([{"input": [1], "output": 1, "fn_name": name} for name in "fg"], "tests")
    with pytest.raises(FieldError, match="for a call, which is not JSON"):
        listed_tests([{"input": "x y", "output": "1", "fn_name": "f"}], "tests")
    with pytest.raises(FieldError, match="`test_cases` is not JSON"):
        draft_of("openthoughts_code", test_cases="{")


def test_pytest_modules_become_asserts() -> None:
    one = draft_of("kodcode")
    assert one.tests == {"kind": "assert", "setup": "", "asserts": ["assert f(1) == 2"]}
    module = (
        "import pytest\nfrom solution import f\n\ndef test_a():\n    assert f(1) == 2\n    assert f(2) == 3\n\n"
        "def test_b():\n    with pytest.raises(ValueError):\n        f('x')\n"
    )
    tests = draft_of("kodcode", test=module).tests
    assert tests is not None
    assert tests["asserts"] == ["assert f(1) == 2", "assert f(2) == 3", "test_b()"]
    assert tests["setup"].startswith("import pytest\ndef test_b():")
    with pytest.raises(FieldError, match="`test` is not Python"):
        draft_of("kodcode", test="def (:")


def test_check_functions_keep_their_imports() -> None:
    tests = draft_of("leetcode_dataset").tests
    assert tests is not None
    assert (tests["kind"], tests["entry_point"]) == ("check", "Solution().go")
    assert tests["code"].startswith("import math\nfrom typing import *\n\ndef check(candidate):")
    assert "Use this starter code" in asked(draft_of("leetcode_dataset"))
    assert draft_of("opencoder").tests == {"kind": "assert", "setup": "", "asserts": ["assert f(1) == 2"]}


def test_codeforces_statements_are_put_together() -> None:
    draft = draft_of("codeforces_cots")
    assert asked(draft) == (
        "# Sum\n\nPrint the sum of two numbers.\n\n## Input\n\nTwo numbers.\n\n## Output\n\nTheir sum.\n\n"
        "## Examples\n\nInput:\n```\n1 2\n```\nOutput:\n```\n3\n```\n\n## Note\n\nSmall."
    )
    assert draft.tests == {"kind": "stdio", "inputs": ["1 2\n", "2 2\n"], "outputs": ["3\n", "4\n"]}
    assert draft.solution == SUM
    none = dict.fromkeys(("public_tests", "private_tests", "generated_tests", "accepted_solutions"))
    assert draft_of("codeforces_cots", **none).tests == {"kind": "stdio", "inputs": ["1 2"], "outputs": ["3"]}


def test_livecodebench_reads_open_and_hidden_tests_and_refuses_a_pickle_with_a_class() -> None:
    hidden = json.dumps([{"input": "2 2\n", "output": "4\n", "testtype": "stdin"}])
    draft = draft_of("livecodebench", private_test_cases=hidden)
    assert draft.tests == {"kind": "stdio", "inputs": ["1 2\n", "2 2\n"], "outputs": ["3\n", "4\n"]}
    assert draft.meta == {"question_id": "abc_a"}
    evil = base64.b64encode(zlib.compress(pickle.dumps(Path("x")))).decode()
    with pytest.raises(FieldError, match=r"row abc_a, field `private_test_cases`: cannot be read .*it names pathlib"):
        draft_of("livecodebench", private_test_cases=evil)


def test_dialogs() -> None:
    draft = draft_of("messages")
    assert (draft.domain, asked(draft), draft.solution) == (Domain.CHAT, "Write a haiku.", "Leaves fall.")
    assert draft_of("messages_if").domain is Domain.INSTRUCTION
    turns = [("system", ""), ("user", "Hi"), ("assistant", "Hello"), ("user", "Who?")]
    longer = draft_of("messages", messages=[{"role": role, "content": text} for role, text in turns])
    assert ([turn.role for turn in longer.messages], longer.solution) == (["user", "assistant", "user"], None)
    orca = draft_of("open_orca")
    assert [turn.role for turn in orca.messages] == ["system", "user"]
    assert draft_of("open_orca", question=" ").messages == ()
    assert draft_of("natural_reasoning").solution == "Short waves scatter most."
    assert draft_of("flan").solution == "yes"
    with pytest.raises(FieldError, match="a turn of `tool`"):
        draft_of("messages", messages=[{"role": "tool", "content": "x"}])


def test_nemotron_pairs_instructions_with_their_arguments() -> None:
    draft = draft_of("nemotron_if")
    assert draft.domain is Domain.INSTRUCTION
    assert draft.constraints == [
        {"id": "punctuation:no_comma", "kwargs": {}},
        {"id": "length_constraints:number_paragraphs", "kwargs": {"num_paragraphs": 3}},
    ]
    with pytest.raises(FieldError, match="as many `instruction_kwargs`"):
        draft_of("nemotron_if", args={"instruction_id_list": ["a"], "instruction_kwargs": []})
