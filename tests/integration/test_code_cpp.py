"""C++ programs, graded as Python ones are: through standard input and output."""

import shutil

import pytest

from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig, CodeGrader

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (`apt-get install g++`)"),
]
MIB = 1024 * 1024
TESTS = {"kind": "stdio", "inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}
HEAD = "#include <bits/stdc++.h>\nusing namespace std;\nint main() {\n  long long n; cin >> n;\n"


@pytest.fixture(scope="module")
def grader() -> CodeGrader:
    return CodeGrader(CodeConfig(test_s=3.0, memory_bytes=256 * MIB, output_bytes=MIB), Sandbox())


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("cout << n * n << endl; }", Outcome.PASSED),
        ("printf(\"%.9f\", double(n) * n); }", Outcome.PASSED),
        ("cout << n << endl; }", Outcome.WRONG),
        ("exit(0); }", Outcome.WRONG),
        ("cout << n * n << endl }", Outcome.COMPILE_ERROR),
        ("return 3; }", Outcome.RUNTIME_ERROR),
        ("volatile int* p = nullptr; *p = 1; }", Outcome.RUNTIME_ERROR),
        ("for (volatile long i = 0;; i++); }", Outcome.TIME_LIMIT),
        ("vector<long> v; for (;;) v.push_back(n); }", Outcome.MEMORY_LIMIT),
        ("for (;;) cout << \"4444444444\"; }", Outcome.OUTPUT_LIMIT),
    ],
)  # fmt: skip
def test_outcomes(grader: CodeGrader, body: str, outcome: Outcome) -> None:
    verdict = grader.judge(TESTS, f"```cpp\n{HEAD}  {body}\n```")
    assert verdict.outcome is outcome, verdict


def test_the_compiler_is_quoted(grader: CodeGrader) -> None:
    verdict = grader.judge(TESTS, "```c++\nint main() { return missing; }\n```")
    assert verdict.outcome is Outcome.COMPILE_ERROR
    assert "missing" in verdict.detail
