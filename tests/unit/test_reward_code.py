"""Code rewards: every kind of test, and an outcome that says what happened."""

from typing import Any

import pytest

from infra.sandbox.limits import Ending, Execution, Language, SandboxError
from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig, CodeGrader

MIB = 1024 * 1024
LIMITS = {"test_s": 2.0, "memory_bytes": 256 * MIB, "output_bytes": MIB}
TESTS = {"kind": "assert", "setup": "import math", "asserts": ["assert f(2) == 4", "assert f(3) == 9, 'msg'"]}
LOOP = "def check(candidate):\n    for x in [2, 3]:\n        assert candidate(x) == x * x\n"
CHECK = {"kind": "check", "entry_point": "f", "code": LOOP}
CALL = {"kind": "call", "function": "f", "inputs": [[2], [3]], "outputs": [4, 9]}
STDIO = {"kind": "stdio", "inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    sandbox = Sandbox()
    try:
        _ = sandbox.level
    except SandboxError as error:
        pytest.skip(str(error))
    return sandbox


@pytest.fixture(scope="module")
def grader(sandbox: Sandbox) -> CodeGrader:
    return CodeGrader(CodeConfig(**LIMITS), sandbox)


@pytest.mark.parametrize("tests", [TESTS, CHECK, CALL], ids=["split", "whole", "call"])
@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("def f(x): return x * x", Outcome.PASSED),
        ("from __future__ import annotations\ndef f(x: Later): return x * x", Outcome.PASSED),
        ("def f(x):\n    print('noise', flush=True); return x ** 2", Outcome.PASSED),
        ("f = lambda x: sum([x] * x)", Outcome.PASSED),
        ("class N(int): pass\ndef f(x): return N(x * x)", Outcome.PASSED),
        ("def f(x): return pow(x, 2, 100)", Outcome.PASSED),  # the builtin one, not math's
        ("def f(x): return x", Outcome.WRONG),
        ("def f(x): return None", Outcome.WRONG),
        ("def f(x): return 4", Outcome.WRONG),
        ("def f(x): return 1 / 0", Outcome.RUNTIME_ERROR),
        ("def f(x): raise AssertionError", Outcome.RUNTIME_ERROR),
        ("def f(x): raise SystemExit(0)", Outcome.RUNTIME_ERROR),
        ("x = 1 / 0\ndef f(x): return x * x", Outcome.RUNTIME_ERROR),
        ("def f(x) return x", Outcome.COMPILE_ERROR),
        ("def f(x): return x\0", Outcome.COMPILE_ERROR),
        ("def f(x):\n    while True: pass", Outcome.TIME_LIMIT),
        ("def f(x): return 'a' * 10**10", Outcome.MEMORY_LIMIT),
        ("def f(x): return 'a' * 10**7", Outcome.OUTPUT_LIMIT),
    ],
)
def test_programs(grader: CodeGrader, tests: dict[str, Any], program: str, outcome: Outcome) -> None:
    verdict = grader.judge_program(tests, program)
    assert verdict.outcome is outcome, verdict
    assert verdict.score == float(outcome is Outcome.PASSED)


def test_the_method_says_how_far_a_verdict_is_to_be_trusted(grader: CodeGrader) -> None:
    program = "def f(x): return x * x"
    assert [grader.judge_program(tests, program).method for tests in (TESTS, CHECK, CALL, STDIO)] == [
        "tests", "tests_whole", "tests", "tests",
    ]  # fmt: skip


def test_the_detail_names_the_test(grader: CodeGrader) -> None:
    program = "def f(x): return 4"
    assert grader.judge_program(TESTS, program).detail == "test 1: assert f(3) == 9, 'msg' does not hold"
    assert grader.judge_program(CALL, program).detail == "test 1: f returned 4"
    assert grader.judge_program(STDIO, "print(4)").detail == "test 1: printed '4\\n'"


def test_the_fraction_of_tests_that_pass(sandbox: Sandbox) -> None:
    grader = CodeGrader(CodeConfig(**LIMITS, first_failure_exit=False), sandbox)
    tests = {"kind": "assert", "asserts": [f"assert f({x}) == {x}" for x in range(5)]}
    program = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    if x == 2:\n        while True: pass\n    return x"
    verdict = grader.judge_program(tests, program)
    assert (verdict.outcome, verdict.score) == (Outcome.RUNTIME_ERROR, 0.0)
    assert (verdict.fraction, verdict.detail) == (3 / 5, "test 1: the program left")
    assert grader.judge_program(STDIO, "print(9)").fraction == 0.5
    assert grader.judge_program(tests, "def f(x): return x").fraction == 1.0


@pytest.mark.parametrize(
    "tests", [None, {}, {"kind": "odd"}, {"kind": "assert", "asserts": []}, {**STDIO, "outputs": []},
              {**TESTS, "language": "cpp"}, {**STDIO, "language": "cobol"}],
)  # fmt: skip
def test_no_tests_is_never_a_pass(grader: CodeGrader, tests: dict[str, Any] | None) -> None:
    for verdict in (grader.judge_program(tests, "f = 1"), grader.judge(tests, "```python\nf = 1\n```")):
        assert (verdict.outcome, verdict.score) == (Outcome.TESTS_MISSING, None)
        assert verdict.detail


def test_a_test_that_breaks_by_itself_is_no_wrong_answer(grader: CodeGrader) -> None:
    tests = {"kind": "assert", "asserts": ["import no_such_module\nfor x in range(2):\n    assert f(x) == x"]}
    assert grader.judge_program(tests, "def f(x): return x").outcome is Outcome.TESTS_MISSING


def test_an_import_that_fails_for_the_tests_is_told_from_one_that_the_program_breaks(grader: CodeGrader) -> None:
    program = "import sys\nsys.modules['statistics'] = None\ndef f(x): return x"
    asserts = ["assert f(numpy.mean(1)) == 1"], ["assert f(statistics.mean([1])) == 1"]
    absent, broken = (
        {"kind": "assert", "setup": f"import {name}", "asserts": lines}
        for name, lines in zip(("numpy", "statistics"), asserts, strict=True)
    )
    assert grader.judge_program(absent, program).outcome is Outcome.TESTS_MISSING
    assert grader.judge_program(broken, program).outcome is Outcome.RUNTIME_ERROR


def test_recursion_as_deep_as_on_livecodebench(grader: CodeGrader) -> None:
    program = "def f(x, n=20000):\n    return x * x if n == 0 else f(x, n - 1)"
    assert grader.judge_program(TESTS, program).outcome is Outcome.PASSED
    assert grader.judge_program(STDIO, f"{program}\nprint(f(int(input())))").outcome is Outcome.PASSED


class Flaky(Sandbox):
    """Fails a number of times before it works."""

    def __init__(self, num_failures: int) -> None:
        super().__init__()
        self.num_left = num_failures

    def open(self, program: Any, limits: Any) -> Any:
        self.num_left -= 1
        if self.num_left >= 0:
            raise SandboxError("no jail")
        return super().open(program, limits)

    def run(self, program: Any, stdin: str, limits: Any) -> Execution:
        self.num_left -= 1
        return Execution(Ending.SANDBOX_FAILURE, "", "no jail", 0.0) if self.num_left >= 0 else super().run(
            program, stdin, limits
        )  # fmt: skip


@pytest.mark.parametrize(("tests", "program"), [(TESTS, "def f(x): return x * x"), (STDIO, "print(int(input()) ** 2)")])
@pytest.mark.parametrize(("num_failures", "outcome"), [(1, Outcome.PASSED), (2, Outcome.SANDBOX_ERROR)])
def test_a_failing_sandbox_is_tried_again_and_then_a_fault(
    grader: CodeGrader, tests: dict[str, Any], program: str, num_failures: int, outcome: Outcome
) -> None:
    verdict = CodeGrader(grader.config, Flaky(num_failures)).judge_program(tests, program)
    assert verdict.outcome is outcome, verdict
    assert verdict.score == (None if outcome.is_fault else 1.0)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("print(int(input()) ** 2)", Outcome.PASSED),
        ("from __future__ import annotations\nprint(int(input()) ** 2)", Outcome.PASSED),
        ("import sys\nn = int(sys.stdin.read()); print(f'{n * n}.0 ')", Outcome.PASSED),
        ("print(int(input()) ** 2); exit()", Outcome.PASSED),
        ("def main():\n    print(int(input()) ** 2)\nif __name__ == '__main__':\n    main()", Outcome.PASSED),
        ("print(int(input()))", Outcome.WRONG),
        ("print(4)", Outcome.WRONG),
        ("import sys; sys.exit(0)", Outcome.WRONG),
        ("print(int(input()) ** 2); 1/0", Outcome.RUNTIME_ERROR),
        ("print(int(input())", Outcome.COMPILE_ERROR),
        ("while True: pass", Outcome.TIME_LIMIT),
        ("x = 'a' * 10**10", Outcome.MEMORY_LIMIT),
        ("while True: print('4' * 10000)", Outcome.OUTPUT_LIMIT),
    ],
)
def test_stdio(grader: CodeGrader, program: str, outcome: Outcome) -> None:
    verdict = grader.judge_program(STDIO, program)
    assert verdict.outcome is outcome, verdict


@pytest.mark.parametrize(
    "program",
    [
        "class Solution:\n    def f(self, x): return x * x",
        "class Solution:\n    def f(self, x): return x * x\ndef helper(x): return 0",
        "def f(x): return x * x",
        "class Other: pass\nclass Solution(Other):\n    @staticmethod\n    def f(x): return x * x\nf = 3",
    ],
)
def test_calls_find_the_method_or_the_function(grader: CodeGrader, program: str) -> None:
    assert grader.judge_program(CALL, program).outcome is Outcome.PASSED


def test_calls_of_a_named_class(grader: CodeGrader) -> None:
    program = "class Maker:\n    def f(self, x): return x * x\nclass Solution:\n    def f(self, x): return 0"
    assert grader.judge_program({**CALL, "class": "Maker"}, program).outcome is Outcome.PASSED
    assert grader.judge_program(CALL, program).outcome is Outcome.WRONG
    assert grader.judge_program({**CALL, "class": "Absent"}, program).outcome is Outcome.RUNTIME_ERROR


def test_outputs_of_calls_are_json(grader: CodeGrader) -> None:
    tests = {"kind": "call", "function": "f", "inputs": [[1]], "outputs": [[[1, 2], 0.3, {"1": "a"}]]}
    assert grader.judge_program(tests, "def f(x): return ((1, 2), 0.1 + 0.2, {1: 'a'})").outcome is Outcome.PASSED
    assert grader.judge_program(tests, "def f(x): return ((1, 3), 0.3, {1: 'a'})").outcome is Outcome.WRONG


def test_response_is_judged_by_its_last_fence(grader: CodeGrader) -> None:
    good, bad = "```python\ndef f(x): return x * x\n```", "```python\ndef f(x): return 0\n```"
    assert grader.judge(TESTS, f"<think>{bad}</think>{bad}\nBetter:\n{good}").outcome is Outcome.PASSED
    assert grader.judge(TESTS, f"<think>{good}").outcome is Outcome.NO_CODE
    assert grader.judge(TESTS, f"<think>\n{good}\n</think> done").outcome is Outcome.NO_CODE
    verdict = grader.judge(TESTS, "```cpp\nint main() {}\n```")
    assert (verdict.outcome, verdict.score) == (Outcome.NO_CODE, 0.0)
    assert verdict.detail == "no fenced block of python in the answer part"


def test_the_language_of_a_program() -> None:
    seen: list[Language] = []

    class Listening(Sandbox):
        def run(self, program: Any, stdin: str, limits: Any) -> Execution:
            seen.append(program.language)
            return Execution(Ending.COMPILE_ERROR, "", "error: expected ';'", 0.0)

    grader = CodeGrader(CodeConfig(), Listening())
    for tests, fence in ((STDIO, "cpp"), ({**STDIO, "language": "c++"}, "cpp"), ({**STDIO, "language": "cpp"}, "")):
        assert grader.judge(tests, f"```{fence}\nint main() {{}}\n```").outcome is Outcome.COMPILE_ERROR
    grader.judge_program({**STDIO, "language": "cpp"}, "int main() {}")
    assert seen == [Language.CPP] * 4
    assert grader.judge({**STDIO, "language": "cpp"}, "```python\nprint(1)\n```").outcome is Outcome.NO_CODE


def test_objects_of_the_candidate_cross_by_reference(grader: CodeGrader) -> None:
    program = "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n"
    program += "    def top(self): return self.items[-1]"
    split = "s = Stack()\ns.push(3)\nassert s.top() + 1 == 4"
    whole = "s = Stack()\nfor x in range(4):\n    s.push(x)\n    assert s.top() == x"
    for source, method in ((split, "tests"), (whole, "tests_whole")):
        tests = {"kind": "assert", "setup": "", "asserts": [source]}
        verdict = grader.judge_program(tests, program)
        assert (verdict.outcome, verdict.method) == (Outcome.PASSED, method), verdict
        assert grader.judge_program(tests, program.replace("[-1]", "[0] + 1")).outcome is Outcome.WRONG


def test_errors_cross(grader: CodeGrader) -> None:
    source = "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass"
    tests = {"kind": "assert", "setup": "", "asserts": [source]}
    assert grader.judge_program(tests, "def f(x): raise ValueError(x)").outcome is Outcome.PASSED
    assert grader.judge_program(tests, "def f(x): return x").outcome is Outcome.WRONG


def test_what_leetcode_offers_is_there(grader: CodeGrader) -> None:
    nodes = "assert is_same_list(rev(list_node([1, 2])), list_node([2, 1]))"
    tree = "assert is_same_tree(same(tree_node([1, None, 2])), tree_node([1, None, 2, None]))"
    program = "def rev(node, last=None):\n    return rev(node.next, ListNode(node.val, last)) if node else last\n"
    program += (
        "def same(node: Optional[TreeNode]):\n    return TreeNode(node.val, right=TreeNode(SortedList([3, 2])[0]))"
    )
    verdict = grader.judge_program({"kind": "assert", "asserts": [nodes, tree]}, program)
    assert verdict.outcome is Outcome.PASSED, verdict
    names = "print(inf > 1, ascii_lowercase[0], gcd(4, 6), Counter('a')['a'], deque([1])[0])"
    source = f"import sortedcontainers\n{names}"
    assert grader.judge_program({**STDIO, "outputs": ["True a 2 1 1"] * 2}, source).outcome is Outcome.PASSED


def test_limits_of_skywork() -> None:
    config = CodeConfig()
    assert (config.test_s, config.total(1), config.total(10), config.total(100)) == (6.0, 12.0, 75.0, 300.0)
