"""Code rewards: honest programs pass, and no forgery does."""

from pathlib import Path
from typing import Any

import pytest

from infra.sandbox.limits import SandboxError
from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig, CodeGrader, same_output
from tasks.rewards.code_agents import decode, encode
from tasks.rewards.code_tests import BadTestsError, SplitTest, plan_tests

TESTS = {"kind": "assert", "setup": "import math", "asserts": ["assert f(2) == 4", "assert f(3) == 9, 'msg'"]}
# The shape of HumanEval: everything that is expected stands in the set-up.
CHECK = {
    "kind": "assert",
    "setup": "def check(candidate):\n    assert candidate(2) == 4\n    assert abs(candidate(3) - 9.0) < 1e-6\n",
    "asserts": ["check(f)"],
}
STDIO = {"kind": "stdio", "inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}


@pytest.fixture(scope="module")
def grader() -> CodeGrader:
    sandbox = Sandbox()
    try:
        _ = sandbox.level
    except SandboxError as error:
        pytest.skip(str(error))
    return CodeGrader(CodeConfig(test_s=2.0, memory_bytes=256 * 1024 * 1024, output_bytes=1024 * 1024), sandbox)


def judge(grader: CodeGrader, tests: dict[str, Any], program: str) -> Outcome:
    return grader.judge_program(tests, program).outcome


@pytest.mark.parametrize("tests", [TESTS, CHECK])
@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("def f(x): return x * x", Outcome.PASSED),
        ("def f(x):\n    print('noise', flush=True); return x ** 2", Outcome.PASSED),
        ("f = lambda x: sum([x] * x)", Outcome.PASSED),
        ("class N(int): pass\ndef f(x): return N(x * x)", Outcome.PASSED),
        ("def f(x): return x", Outcome.WRONG),
        ("def f(x): return None", Outcome.WRONG),
        ("def g(x): return x * x", Outcome.WRONG),
        ("def f(x) return x", Outcome.WRONG),
        ("def f(x): return 4", Outcome.WRONG),
    ],
)
def test_honest_programs(grader: CodeGrader, tests: dict[str, Any], program: str, outcome: Outcome) -> None:
    assert judge(grader, tests, program) is outcome


FORGERIES = {
    "leaves at once": "import sys; sys.exit(0)",
    "leaves hard": "import os; os._exit(0)",
    "leaves in the call": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit": "def f(x): raise SystemExit(0)",
    "loops": "def f(x):\n    while True: pass",
    "eats memory": "def f(x): return 'a' * 10**10",
    "returns a flood": "def f(x): return 'a' * 10**7",
    "equals everything": "class E:\n    def __eq__(self, o): return True\n    def __bool__(self): return True\n"
    "    def __sub__(self, o): return self\n    def __abs__(self): return self\n    def __lt__(self, o): return True\n"
    "def f(x): return E()",
    "int that equals everything": "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = None\n"
    "    def __sub__(self, o): return E(0)\ndef f(x): return E(7)",
    "float that is small": "class E(float):\n    def __eq__(self, o): return True\n    def __abs__(self): return self\n"
    "    def __lt__(self, o): return True\n    def __sub__(self, o): return self\ndef f(x): return E(5)",
    "patches builtins": "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.sum = lambda *a: 0\n"
    "builtins.AssertionError = type('A', (Exception,), {})\ndef f(x): return 0",
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"value\": true}'\ndef f(x): return 0",
    "garbles the channel": "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'{\"done\": true}\\n' * 9)\n"
    "    except OSError: pass\ndef f(x): return 0",
    "replaces the test": "def check(c): pass\ndef f(x): return 0",
    "reads the frames": "import sys, gc\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for v in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n"
    "            if isinstance(v, str) and '== ' in v: return int(v.rsplit('== ')[1].split()[0].rstrip(','))\n"
    "        frame = frame.f_back\n    return 0",
    "closes the pipes": "import os\nos.closerange(0, 50)\ndef f(x): return x * x if x == 2 else 0",
    "nests too deep": "def f(x):\n    v = []\n    for _ in range(100000): v = [v]\n    return v",
    "huge number": "def f(x): return 1 << 10**7",
}


@pytest.mark.parametrize("tests", [TESTS, CHECK], ids=["split", "whole"])
@pytest.mark.parametrize("program", FORGERIES.values(), ids=FORGERIES.keys())
def test_no_forgery_passes(grader: CodeGrader, tests: dict[str, Any], program: str) -> None:
    verdict = grader.judge_program(tests, program)
    assert verdict.outcome is Outcome.WRONG, verdict
    assert verdict.detail


def test_detail_names_the_limit(grader: CodeGrader) -> None:
    assert "time_limit" in grader.judge_program(TESTS, FORGERIES["loops"]).detail
    assert "MemoryError" in grader.judge_program(TESTS, FORGERIES["eats memory"]).detail
    assert "output_limit" in grader.judge_program(TESTS, FORGERIES["returns a flood"]).detail


@pytest.mark.parametrize(
    "tests", [None, {}, {"kind": "assert", "setup": "", "asserts": []}, {"kind": "stdio", "inputs": [], "outputs": []},
              {"kind": "stdio", "inputs": ["1"], "outputs": []}, {"kind": "odd"},
              {"kind": "assert", "setup": "", "asserts": ["assert f(1) =="]}],
)  # fmt: skip
def test_no_tests_is_never_a_pass(grader: CodeGrader, tests: dict[str, Any] | None) -> None:
    verdict = grader.judge_program(tests, "def f(x): return x")
    assert (verdict.outcome, verdict.score) == (Outcome.TESTS_MISSING, None)


def test_sandbox_failure_is_a_fault(tmp_path: Path) -> None:
    class Broken(Sandbox):
        def open(self, program: str, limits: Any) -> Any:
            raise SandboxError("no jail")

    assert judge(CodeGrader(CodeConfig(), Broken()), TESTS, "x = 1") is Outcome.CRASH


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("print(int(input()) ** 2)", Outcome.PASSED),
        ("import sys\nn = int(sys.stdin.read()); print(f'{n * n}.0 ')", Outcome.PASSED),
        ("print(int(input()) ** 2); exit()", Outcome.PASSED),
        ("print(int(input()))", Outcome.WRONG),
        ("print(4)", Outcome.WRONG),
        ("print(int(input()) ** 2); 1/0", Outcome.WRONG),
        ("import sys; sys.exit(0)", Outcome.WRONG),
        ("while True: print('4' * 10000)", Outcome.WRONG),
    ],
)
def test_stdio(grader: CodeGrader, program: str, outcome: Outcome) -> None:
    assert judge(grader, STDIO, program) is outcome


def test_response_is_judged_by_its_last_fence(grader: CodeGrader) -> None:
    good, bad = "```python\ndef f(x): return x * x\n```", "```python\ndef f(x): return 0\n```"
    assert grader.judge(TESTS, f"<think>{bad}</think>{bad}\nBetter:\n{good}").outcome is Outcome.PASSED
    assert grader.judge(TESTS, f"<think>{good}").outcome is Outcome.ANSWER_MISSING
    assert grader.judge(TESTS, f"<think>\n{good}\n</think> done").outcome is Outcome.ANSWER_MISSING


def test_objects_of_the_candidate_cross_by_reference(grader: CodeGrader) -> None:
    program = "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n"
    program += "    def top(self): return self.items[-1]"
    tests = {"kind": "assert", "setup": "", "asserts": ["s = Stack()\ns.push(3)\nassert s.top() + 1 == 4"]}
    assert judge(grader, tests, program) is Outcome.PASSED
    assert judge(grader, tests, program.replace("[-1]", "[0] + 1")) is Outcome.WRONG


def test_errors_cross(grader: CodeGrader) -> None:
    source = "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass"
    tests = {"kind": "assert", "setup": "", "asserts": [source]}
    assert judge(grader, tests, "def f(x): raise ValueError(x)") is Outcome.PASSED
    assert judge(grader, tests, "def f(x): return x") is Outcome.WRONG
    assert judge(grader, tests, "def f(x): raise AssertionError") is Outcome.WRONG


def test_limits_of_skywork() -> None:
    config = CodeConfig()
    assert (config.test_s, config.total(1), config.total(10), config.total(100)) == (6.0, 12.0, 75.0, 300.0)


def test_what_is_expected_stays_outside() -> None:
    plan = plan_tests("", [
        "assert f(1) == 2", "assert 2 == f(1)", "assert set(f(1)) == set([1, 2])", "assert f(1) is None",
        "assert not f(1)",
        "assert f(1) != 3 and f(2) == [1, (2, 3)]", "assert f(1) in (1, 2)", "assert f(1)[0] == float('inf')",
        "assert f(1) - 1 == 2", "assert abs(f(1) - 2) < 0.1", "assert all(f(i) for i in range(3))", "assert f(1) < 3",
        "assert f(1) == g(1)", "check(f)",
    ])  # fmt: skip
    assert [isinstance(test, SplitTest) for test in plan.tests] == [True] * 8 + [False] * 6
    asked: list[str] = []
    test = plan.tests[5]
    assert isinstance(test, SplitTest)
    assert not test.holds(lambda expression: asked.append(expression))
    assert asked == ["f(1)", "f(2)"]


def test_broken_tests_are_told() -> None:
    with pytest.raises(BadTestsError, match="no tests"):
        plan_tests("x = 1", [])


def test_plain_values_cross_unharmed() -> None:
    import json
    from collections import Counter, OrderedDict
    from fractions import Fraction

    value = [None, True, 2**70, -0.5, 1j, "é", b"a", (1, (2,)), {1: {"a"}}, frozenset({(1, 2)}), Fraction(1, 3)]
    assert decode(json.loads(json.dumps(encode(value)))) == value
    assert decode(encode(Counter("aab"))) == {"a": 2, "b": 1}
    assert type(decode(encode(OrderedDict(a=1)))) is dict
    with pytest.raises(TypeError, match="not plain"):
        encode(object())


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [("1 2\n", "1 2", True), ("1\n2\n", "1 \n2\n\n", True), ("1.0", "1", True), ("1", "2", False),
     ("a b", "a  b", True), ("1\n2", "1 2", False), ("", "", True), ("", "1", False), ("nan", "nan", True)],
)  # fmt: skip
def test_same_output(expected: str, printed: str, same: bool) -> None:
    assert same_output(expected, printed) is same
