"""The jails of one candidate: its own, and the judge's where a test cannot be split."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from infra.sandbox.backend import Backend
from infra.sandbox.jail import Jail, JailEndedError
from infra.sandbox.limits import Ending, Limits, Program, SandboxError
from tasks.records import Outcome
from tasks.rewards import code_agents
from tasks.rewards.code_agents import decode
from tasks.rewards.code_prelude import PRELUDE, prelude_for
from tasks.rewards.code_split import SplitTest
from tasks.rewards.code_tests import BadTestsError, CallPlan, CallTest, StatementPlan, WholeTest
from tasks.rewards.code_values import VALUE_ERRORS, check_hashes, evaluate, opaque, same_json

# How a program's end reads as an outcome; one that left before its reply has failed, whatever its exit code.
OUTCOMES = {
    Ending.FINISHED: Outcome.RUNTIME_ERROR,
    Ending.FAILED: Outcome.RUNTIME_ERROR,
    Ending.COMPILE_ERROR: Outcome.COMPILE_ERROR,
    Ending.TIME_LIMIT: Outcome.TIME_LIMIT,
    Ending.MEMORY_LIMIT: Outcome.MEMORY_LIMIT,
    Ending.OUTPUT_LIMIT: Outcome.OUTPUT_LIMIT,
}
# Errors of a test that no program can cause: the tests themselves are broken.
_BROKEN_TESTS = frozenset({"ImportError", "ModuleNotFoundError", "SyntaxError"})


class FailedError(Exception):
    """The candidate fails a test; the message names it and says how."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


class Session:
    """A candidate that is asked for values, until the block ends.

    Args:
        backend: where its jails are.
        limits: of each jail; the wall clock is that of all tests.
        test_s: seconds for one test.
        program: its source.
    """

    def __init__(self, backend: Backend, limits: Limits, test_s: float, program: str) -> None:
        self._backend, self._limits, self._test_s, self._program = backend, limits, test_s, program
        self._open = ExitStack()
        self._deadline = time.monotonic() + limits.wall_s
        self._test_deadline = 0.0
        self._candidate: Jail | None = None
        self._candidate_open = self._open.enter_context(ExitStack())
        self._judge: Jail | None = None
        self._sent: set[int] = set()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def is_lost(self) -> bool:
        """Whether a later test cannot run: its state died with a jail, or the time of all tests is over."""
        return time.monotonic() >= self._deadline or (self._candidate is None and self._judge is not None)

    def start(self) -> None:
        """Load the program into a fresh jail.

        Raises:
            FailedError: it does not compile, or fails at once.
            SandboxError: a jail fails.
        """
        self._test_deadline = time.monotonic() + self._test_s
        self._sent.clear()
        self._candidate_open.close()  # an endless loop of an earlier test must not run beside this one
        self._candidate = self._open_agent("candidate", self._candidate_open)
        self._run(prelude_for(self._program), "the prelude")
        self._run(self._program, "the program")

    def call(self, plan: CallPlan, test: CallTest, label: str, tolerance: float) -> None:
        """Run a call test; raises as `start` does."""
        self._begin()
        content = {"function": plan.function, "owner": plan.owner, "arguments": test.arguments}
        found = self._fetch("invoke", content, label)
        try:
            is_same = same_json(test.expected, found, tolerance)
        except VALUE_ERRORS as error:
            raise _mismatch(label, error) from None
        if not is_same:
            raise FailedError(Outcome.WRONG, f"{label}: {plan.function} returned {_shown(found)}")

    def check(self, plan: StatementPlan, test: SplitTest | WholeTest, label: str) -> None:
        """Run one test of statements.

        Raises:
            FailedError: it fails.
            BadTestsError: it cannot be judged.
            SandboxError: a jail fails.
        """
        self._begin()
        if isinstance(test, WholeTest):
            return self._check_whole(plan, test, label)
        self._prepare(plan, test, label)
        try:
            does_hold = bool(evaluate(test.condition, lambda index: self._fetch("eval", test.asks[index], label)))
        except VALUE_ERRORS as error:
            raise _mismatch(label, error) from None
        if not does_hold:
            raise FailedError(Outcome.WRONG, f"{label}: {test.source[:200]} does not hold")
        return None

    def _prepare(self, plan: StatementPlan, test: SplitTest, label: str) -> None:
        for position in test.before:
            if position in self._sent:
                continue
            self._sent.add(position)
            try:
                self._run(plan.setup[position], f"{label}: the set-up")
            except FailedError as failure:
                if self._is_broken_import(plan.setup[position]):
                    raise BadTestsError(f"the tests ask for what is not installed: {plan.setup[position]}") from failure
                raise

    def _is_broken_import(self, source: str) -> bool:
        """Whether an import fails without the program, too; a program can make any import fail."""
        if not source.startswith(("import ", "from ")):
            return False
        with ExitStack() as stack:
            try:
                reply = self._open_agent("judge", stack).ask(json.dumps({"source": source}), self._test_s)
            except JailEndedError as ended:
                raise SandboxError(f"`{source}` ended a jail that holds no program: {ended.outcome}") from None
        return not json.loads(reply)["done"]

    # The candidate's side

    def _begin(self) -> None:
        if self._candidate is None:
            self.start()
        self._test_deadline = time.monotonic() + self._test_s

    def _open_agent(self, role: str, stack: ExitStack) -> Jail:
        left = max(0.001, self._deadline - time.monotonic())
        limits = self._limits.model_copy(update={"wall_s": left})
        return stack.enter_context(self._backend.open(Program(_agent(role)), limits))

    def _run(self, source: str, label: str) -> None:
        try:
            self._fetch("compile", source, label)
        except FailedError as failure:
            is_refused = failure.outcome is Outcome.RUNTIME_ERROR and self._candidate is not None
            raise FailedError(Outcome.COMPILE_ERROR if is_refused else failure.outcome, str(failure)) from None
        self._fetch("run", None, label)

    def _fetch(self, verb: str, content: Any, label: str) -> Any:
        reply = self._ask_candidate(json.dumps({"do": verb, "with": content}), label)
        try:
            told = json.loads(reply)
            if "error" in told:
                raise FailedError(_outcome_of_error(told), f"{label}: {str(told['error'])[:300]}")
            return decode(told["value"], opaque, check_hashes)
        except VALUE_ERRORS as error:
            detail = f"{label}: the program garbled its reply: {type(error).__name__}"
            raise FailedError(Outcome.RUNTIME_ERROR, detail) from None

    def _ask_candidate(self, message: str, label: str) -> str:
        assert self._candidate is not None
        try:
            return self._candidate.ask(message, self._test_deadline - time.monotonic())
        except JailEndedError as ended:
            self._candidate = None
            raise _ended(ended, label) from None

    # The judge's side

    def _check_whole(self, plan: StatementPlan, test: WholeTest, label: str) -> None:
        if self._judge is None:
            self._judge = self._open_agent("judge", self._open)
            self._ask_judge({"source": PRELUDE}, label)
            self._ask_judge({"names": sorted(plan.under_test)}, label)
        _expect_done(self._ask_judge({"source": test.source}, label), label)

    def _ask_judge(self, message: dict[str, Any], label: str) -> dict[str, Any]:
        """Ask the judge, and carry its calls to the candidate until it is done."""
        assert self._judge is not None
        line = json.dumps(message)
        is_theirs = False  # whether the last call of the candidate was an error
        while True:
            try:
                reply: dict[str, Any] = json.loads(self._judge.ask(line, self._test_deadline - time.monotonic()))
            except JailEndedError as ended:  # a value of the candidate that no test can bear
                raise _ended(ended, f"{label}, in the test") from None
            if "do" not in reply:
                return {**reply, "is_theirs": is_theirs}
            line = self._ask_candidate(json.dumps(reply), label)
            is_theirs = line.startswith('{"error"')


@cache
def _agent(role: str) -> str:
    return f"ROLE = {role!r}\n{Path(code_agents.__file__).read_text(encoding='utf-8')}"


def _ended(ended: JailEndedError, label: str) -> Exception:
    if ended.outcome is Ending.SANDBOX_FAILURE:
        return SandboxError(f"{label}: the jail failed")
    told = "the program left" if ended.outcome is Ending.FINISHED else str(ended.outcome)
    return FailedError(OUTCOMES[ended.outcome], f"{label}: {told}")


def _mismatch(label: str, error: Exception) -> FailedError:
    return FailedError(Outcome.WRONG, f"{label}: {type(error).__name__}: {str(error)[:200]}")


def _expect_done(reply: dict[str, Any], label: str) -> None:
    if "fault" in reply:
        raise BadTestsError(f"{label} cannot be judged apart from the program: {reply['fault']}")
    if reply["done"]:
        return
    if reply["kind"] in _BROKEN_TESTS and not reply["is_theirs"]:
        raise BadTestsError(f"{label} is broken: {reply['error']}")
    is_wrong = reply["kind"] == "AssertionError" or not reply["is_theirs"]
    raise FailedError(Outcome.WRONG if is_wrong else _outcome_of_error(reply), f"{label}: {reply['error']}")


def _outcome_of_error(told: dict[str, Any]) -> Outcome:
    return Outcome.MEMORY_LIMIT if told.get("kind") == "MemoryError" else Outcome.RUNTIME_ERROR


def _shown(value: Any) -> str:
    try:
        return repr(value)[:100]
    except VALUE_ERRORS:  # a number with too many digits to print
        return f"a {type(value).__name__}"
