"""Code rewards: 1 iff every test passes (recipes.md, section 4). What is expected never enters the candidate's jail."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from pydantic import Field

from infra.config import Config
from infra.sandbox.jail import Jail, JailEndedError
from infra.sandbox.limits import Ending, Limits, Program, SandboxError
from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome, Verdict
from tasks.rewards import code_agents
from tasks.rewards.code_agents import decode
from tasks.rewards.code_tests import BadTestsError, SplitTest, TestPlan, WholeTest, plan_tests, top_level_names
from tasks.rewards.extract import answer_part, last_code_block
from tasks.rewards.verdicts import verdict

MIB = 1024 * 1024
_AGENTS = Path(code_agents.__file__)
# What LeetCode-style solutions take for granted; builtins last, since star imports shadow `pow` and others.
PRELUDE = "\n".join(
    f"import {name}" for name in ("bisect", "collections", "functools", "heapq", "itertools", "math", "operator", "re",
                                  "string", "random", "sys")
) + "\n" + "\n".join(
    f"from {name} import *" for name in ("bisect", "collections", "functools", "heapq", "itertools", "math", "operator",
                                         "typing", "builtins")
)  # fmt: skip


class CodeConfig(Config):
    """Limits of code checking; all of it may change a verdict."""

    version: int = Field(default=1, description="of the rules; raise it with any change of theirs, verdicts are cached")
    test_s: float = Field(default=6.0, gt=0, description="for one test (SkyworkAI/Skywork-OR1)")
    seconds_per_test: float = Field(default=7.0, gt=0, description="the 7 of min(7n + 5, 300) s for all n tests")
    spare_s: float = Field(default=5.0, ge=0, description="the 5 of min(7n + 5, 300)")
    total_s: float = Field(default=300.0, gt=0, description="the 300 of min(7n + 5, 300)")
    memory_bytes: int = Field(default=1024 * MIB, description="address space of the program")
    output_bytes: int = Field(default=16 * MIB, description="what a program may print, or return, in all")

    def total(self, num_tests: int) -> float:
        """Seconds for all tests of a query."""
        return min(self.seconds_per_test * num_tests + self.spare_s, self.total_s)

    def limits(self, wall_s: float) -> Limits:
        """Limits of a jail that lives `wall_s` at most."""
        sizes = {"memory_bytes": self.memory_bytes, "output_bytes": self.output_bytes}
        return Limits(wall_s=wall_s, cpu_s=max(1, round(wall_s)), **sizes)


class _RejectedError(Exception):
    """The candidate fails; the message says why."""


class CodeGrader:
    """Runs a response's program against tests. Safe from threads."""

    def __init__(self, config: CodeConfig, sandbox: Sandbox) -> None:
        self.config = config
        self._sandbox = sandbox

    def judge(self, tests: dict[str, Any] | None, response: str) -> Verdict:
        """Verdict on the last Python block of a response's answer part."""
        answer = answer_part(response)
        program = None if answer is None else last_code_block(answer)
        if program is None:
            return verdict(Outcome.ANSWER_MISSING, "extract", detail="no fenced code block in the answer part")
        return self.judge_program(tests, program)

    def judge_program(self, tests: dict[str, Any] | None, program: str) -> Verdict:
        """Verdict on a bare program. A limit or an error of the program is WRONG; one of the jail is CRASH."""
        started = time.perf_counter()
        outcome, detail = Outcome.PASSED, ""
        try:
            self._check(tests or {}, program)
        except _RejectedError as rejection:
            outcome, detail = Outcome.WRONG, str(rejection)
        except BadTestsError as error:
            outcome, detail = Outcome.TESTS_MISSING, str(error)
        except SandboxError as error:
            outcome, detail = Outcome.CRASH, str(error)
        ms = (time.perf_counter() - started) * 1000
        return verdict(outcome, "tests", extracted=program, detail=detail[:500], ms=ms)

    def _check(self, tests: dict[str, Any], program: str) -> None:
        kind = tests.get("kind")
        if kind == "assert":
            plan = plan_tests(tests.get("setup") or "", tests.get("asserts") or [])
            limits = self.config.limits(self.config.total(len(plan.tests)))
            with _Session(self._sandbox, self.config, limits, plan, program) as session:
                session.run()
        elif kind == "stdio":
            self._check_stdio(tests.get("inputs") or [], tests.get("outputs") or [], program)
        else:
            raise BadTestsError(f"no tests of a known kind: {kind!r}; use `assert` or `stdio`")

    def _check_stdio(self, inputs: Sequence[str], outputs: Sequence[str], program: str) -> None:
        if not inputs or len(inputs) != len(outputs):
            raise BadTestsError(f"{len(inputs)} inputs and {len(outputs)} outputs")
        deadline = time.monotonic() + self.config.total(len(inputs))
        for index, (given, expected) in enumerate(zip(inputs, outputs, strict=True)):
            left = deadline - time.monotonic()
            if left <= 0:
                raise _RejectedError(f"test {index}: {Ending.TIME_LIMIT} of all tests")
            limits = self.config.limits(min(self.config.test_s, left))
            done = self._sandbox.run(Program(f"{PRELUDE}\n{program}"), given, limits)
            if done.outcome is Ending.SANDBOX_FAILURE:
                raise SandboxError(done.stderr)
            if done.outcome is not Ending.FINISHED:
                raise _RejectedError(f"test {index}: {done.outcome} {done.stderr[-200:]}")
            if not same_output(expected, done.stdout):
                raise _RejectedError(f"test {index}: printed {done.stdout[:100]!r}")


class _Session:
    """The jails of one candidate: its own, and the judge's where a test cannot be split."""

    def __init__(self, sandbox: Sandbox, config: CodeConfig, limits: Limits, plan: TestPlan, program: str) -> None:
        self._sandbox, self._config, self._limits, self._plan, self._program = sandbox, config, limits, plan, program
        self._open = ExitStack()
        self._candidate_jail: Jail | None = None
        self._judge_jail: Jail | None = None
        self._test_deadline = 0.0

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run(self) -> None:
        """Run all tests in order.

        Raises:
            _RejectedError: one fails.
            BadTestsError: a test cannot be judged.
            SandboxError: a jail fails.
        """
        self._next_test()
        self._candidate_jail = self._open_agent("candidate")
        for source in (PRELUDE, self._program, "" if self._plan.setup_is_secret else self._plan.setup):
            self._fetch("run", source, "the program")
        for index, test in enumerate(self._plan.tests):
            self._next_test()
            label = f"test {index}"
            if isinstance(test, WholeTest):
                self._run_whole(test, label)
            elif not self._holds(test, label):
                raise _RejectedError(f"{label}: {test.source[:200]} does not hold")

    def _open_agent(self, role: str) -> Jail:
        program = f"ROLE = {role!r}\n{_AGENTS.read_text(encoding='utf-8')}"
        return self._open.enter_context(self._sandbox.open(Program(program), self._limits))

    def _next_test(self) -> None:
        self._test_deadline = time.monotonic() + self._config.test_s

    def _ask_candidate(self, message: str, label: str) -> str:
        assert self._candidate_jail is not None
        try:
            return self._candidate_jail.ask(message, self._test_deadline - time.monotonic())
        except JailEndedError as ended:
            raise _RejectedError(f"{label}: {_told(ended.outcome)}") from None

    def _fetch(self, verb: str, source: str, label: str) -> Any:
        reply = self._ask_candidate(json.dumps({"do": verb, "with": source}), label)
        try:
            content = json.loads(reply)
            if "error" in content:
                raise _RejectedError(f"{label}: {content['error']}")
            return decode(content["value"], _NotPlain)
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
            raise _RejectedError(f"{label}: the program garbled its reply: {type(error).__name__}") from None

    def _holds(self, test: SplitTest, label: str) -> bool:
        try:
            return test.holds(lambda expression: self._fetch("eval", expression, label))
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
            raise _RejectedError(f"{label}: {type(error).__name__}: {error}") from None

    def _run_whole(self, test: WholeTest, label: str) -> None:
        if self._judge_jail is None:
            self._judge_jail = self._open_agent("judge")
            self._ask_judge({"source": PRELUDE}, label)
            own = top_level_names(self._program)
            self._ask_judge({"names": sorted(own & self._plan.mentioned())}, label)
            self._expect_done(self._ask_judge({"source": self._plan.setup}, label), "the set-up of the tests")
        self._expect_done(self._ask_judge({"source": test.source}, label), label)

    def _ask_judge(self, message: dict[str, Any], label: str) -> dict[str, Any]:
        """Ask the judge, and carry its calls to the candidate until it is done."""
        assert self._judge_jail is not None
        line = json.dumps(message)
        while True:
            try:
                reply: dict[str, Any] = json.loads(self._judge_jail.ask(line, self._test_deadline - time.monotonic()))
            except JailEndedError as ended:  # a value of the candidate that no test can bear
                raise _RejectedError(f"{label}: {_told(ended.outcome)} in the test") from None
            if "do" not in reply:
                return reply
            line = self._ask_candidate(json.dumps(reply), label)

    @staticmethod
    def _expect_done(reply: dict[str, Any], label: str) -> None:
        if "fault" in reply:
            raise BadTestsError(f"{label} cannot be judged apart from the program: {reply['fault']}")
        if not reply["done"]:
            raise _RejectedError(f"{label}: {reply['error']}")


class _NotPlain:
    """Stands for an object of the candidate that is not plain data: equal to nothing that is expected."""

    def __init__(self, form: dict[str, Any]) -> None:
        self.form = form


def _told(outcome: Ending) -> str:
    return "the program left" if outcome is Ending.FINISHED else str(outcome)


def same_output(expected: str, printed: str) -> bool:
    """Equal line by line, but for space at line ends and empty last lines; or token by token, as numbers too."""
    wanted, found = ([line.rstrip() for line in text.rstrip().splitlines()] for text in (expected, printed))
    if wanted == found:
        return True
    if len(wanted) != len(found):
        return False
    tokens = [(left.split(), right.split()) for left, right in zip(wanted, found, strict=True)]
    return all(len(left) == len(right) and all(map(_same_token, left, right)) for left, right in tokens)


def _same_token(expected: str, printed: str) -> bool:
    if expected == printed:
        return True
    try:
        return Decimal(expected) == Decimal(printed)
    except InvalidOperation:
        return False
