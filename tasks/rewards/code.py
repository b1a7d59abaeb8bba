"""Code rewards: 1 iff every test passes (recipes.md, section 4). What is expected never enters the candidate's jail."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import Field

from infra.config import Config
from infra.sandbox.backend import Backend
from infra.sandbox.limits import Language, Limits, SandboxError
from tasks.records import Outcome, Verdict
from tasks.rewards.code_fence import last_code_block
from tasks.rewards.code_output import check_output, jailed_program
from tasks.rewards.code_session import FailedError, Session
from tasks.rewards.code_tests import BadTestsError, CallPlan, Plan, StatementPlan, StdioPlan, languages_of, plan_tests
from tasks.rewards.extract import answer_part
from tasks.rewards.verdicts import verdict

MIB = 1024 * 1024
_LONGEST_S = 3600.0


class CodeConfig(Config):
    """Limits of code checking; all of it may change a verdict."""

    version: int = Field(default=3, description="of the rules; raise it with any change of theirs, verdicts are cached")
    test_s: float = Field(default=6.0, gt=0, le=_LONGEST_S, description="for one test (SkyworkAI/Skywork-OR1)")
    seconds_per_test: float = Field(
        default=7.0, gt=0, le=_LONGEST_S, description="the 7 of min(7n + 5, 300) s for all n tests"
    )
    spare_s: float = Field(default=5.0, ge=0, le=_LONGEST_S, description="the 5 of min(7n + 5, 300)")
    total_s: float = Field(default=300.0, gt=0, le=_LONGEST_S, description="the 300 of min(7n + 5, 300)")
    memory_bytes: int = Field(
        default=1024 * MIB, ge=64 * MIB, le=64 * 1024 * MIB, description="address space of the program"
    )
    output_bytes: int = Field(
        default=16 * MIB, ge=1024, le=1024 * MIB, description="what a program may print, or return, in all"
    )
    tolerance: float = Field(
        default=1e-6,
        ge=0,
        allow_inf_nan=False,
        description="absolute or relative error of a printed or returned decimal (testlib of Codeforces); 0: exact, "
        "as LiveCodeBench compares",
    )
    first_failure_exit: bool = Field(
        default=True, description="stop at the first test that fails; false: run all, and tell how many pass"
    )
    sandbox_retries: int = Field(
        default=1, ge=0, le=100, description="times that a program is tried again when its jail fails"
    )

    def total(self, num_tests: int) -> float:
        """Seconds for all tests of a query."""
        return min(self.seconds_per_test * num_tests + self.spare_s, self.total_s)

    def limits(self, wall_s: float) -> Limits:
        """Limits of a jail that lives `wall_s` at most."""
        sizes = {"memory_bytes": self.memory_bytes, "output_bytes": self.output_bytes}
        return Limits(wall_s=wall_s, cpu_s=max(1, round(wall_s)), **sizes)


class _Tally(NamedTuple):
    """How many tests pass, of how many, and the first that fails."""

    num_passed: int
    num_tests: int
    failure: FailedError | None


class CodeGrader:
    """Runs a response's program against tests. Safe from threads."""

    def __init__(self, config: CodeConfig, sandbox: Backend) -> None:
        self.config = config
        self._sandbox = sandbox

    def ready(self) -> None:
        """Return when programs can be judged.

        Raises:
            SandboxError: no jail works here.
        """
        _ = self._sandbox.level

    def judge(self, tests: dict[str, Any] | None, response: str) -> Verdict:
        """Verdict on the last block of code of a response's answer part, in the language that the tests ask for."""
        try:
            languages = languages_of(tests)
        except BadTestsError as error:
            return verdict(Outcome.TESTS_MISSING, "tests", detail=str(error))
        answer = answer_part(response)
        block = None if answer is None else last_code_block(answer, languages)
        if block is None:
            wanted = " or ".join(sorted(languages))
            return verdict(Outcome.NO_CODE, "extract", detail=f"no fenced block of {wanted} in the answer part")
        return self.judge_program(tests, block.source, block.language)

    def judge_program(self, tests: dict[str, Any] | None, program: str, language: Language | None = None) -> Verdict:
        """Verdict on a bare program. `language` None: what the tests name, otherwise Python."""
        started = time.perf_counter()
        method, detail, fraction = "tests", "", None
        try:
            plan = plan_tests(tests)
            method = "tests_whole" if isinstance(plan, StatementPlan) and not plan.is_split else "tests"
            tally = self._tally_with_retries(plan, program, _language(tests, language))
            outcome = tally.failure.outcome if tally.failure else Outcome.PASSED
            detail = str(tally.failure or "")
            fraction = None if self.config.first_failure_exit else tally.num_passed / tally.num_tests
        except BadTestsError as error:
            outcome, detail = Outcome.TESTS_MISSING, str(error)
        except SandboxError as error:
            outcome, detail = Outcome.SANDBOX_ERROR, str(error)
        ms = (time.perf_counter() - started) * 1000
        found = verdict(outcome, method, extracted=program, detail=_printable(detail)[:500], ms=ms)
        return found if fraction is None else found.model_copy(update={"fraction": fraction})

    def _tally_with_retries(self, plan: Plan, program: str, language: Language) -> _Tally:
        for _ in range(self.config.sandbox_retries):
            try:
                return self._tally(plan, program, language)
            except SandboxError:  # says nothing of the program: it has another try
                continue
        return self._tally(plan, program, language)

    def _tally(self, plan: Plan, program: str, language: Language) -> _Tally:
        if isinstance(plan, StdioPlan):
            return self._tally_stdio(plan, program, language)
        limits = self.config.limits(self.config.total(len(plan.tests)))
        with Session(self._sandbox, limits, self.config.test_s, program) as session:
            try:
                session.start()
            except FailedError as failure:
                return _Tally(0, len(plan.tests), failure)
            return self._count(len(plan.tests), _checker(session, plan, self.config.tolerance), lambda: session.is_lost)

    def _tally_stdio(self, plan: StdioPlan, source: str, language: Language) -> _Tally:
        program = jailed_program(source, language)
        deadline = time.monotonic() + self.config.total(len(plan.tests))

        def check(index: int) -> None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise FailedError(Outcome.TIME_LIMIT, f"test {index}: time_limit of all tests")
            limits = self.config.limits(min(self.config.test_s, left))
            try:
                check_output(self._sandbox, program, plan.tests[index], limits, self.config.tolerance)
            except FailedError as failure:
                raise FailedError(failure.outcome, f"test {index}: {failure}") from None

        return self._count(len(plan.tests), check, lambda: time.monotonic() >= deadline)

    def _count(self, num_tests: int, check: Callable[[int], None], is_over: Callable[[], bool]) -> _Tally:
        num_passed, first = 0, None
        for index in range(num_tests):
            try:
                check(index)
                num_passed += 1
            except FailedError as failure:
                first = first or failure
                if self.config.first_failure_exit or failure.outcome is Outcome.COMPILE_ERROR or is_over():
                    break
        return _Tally(num_passed, num_tests, first)


def _checker(session: Session, plan: StatementPlan | CallPlan, tolerance: float) -> Callable[[int], None]:
    if isinstance(plan, CallPlan):
        return lambda index: session.call(plan, plan.tests[index], f"test {index}", tolerance)
    return lambda index: session.check(plan, plan.tests[index], f"test {index}")


def _language(tests: dict[str, Any] | None, language: Language | None) -> Language:
    allowed = languages_of(tests)
    if language is not None and language not in allowed:
        raise BadTestsError(f"the program is in {language}, and the tests are for {', '.join(sorted(allowed))}")
    return language or (next(iter(allowed)) if len(allowed) == 1 else Language.PYTHON)


def _printable(detail: str) -> str:
    """Without lone surrogates, which a program may return and no file may hold."""
    return detail.encode("utf-8", "replace").decode("utf-8")
