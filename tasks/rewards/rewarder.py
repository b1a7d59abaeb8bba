"""Rewarder: queries and responses in, verdicts out, each by the reward of its domain."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from pydantic import Field

from infra.config import Config, ConfigError
from infra.llm_http import EndpointError
from infra.row_cache import RowCache
from infra.sandbox.sandbox import Sandbox
from tasks.records import Domain, Outcome, Query, Verdict
from tasks.rewards.chat import ChatConfig, RewardModel, judge_chat
from tasks.rewards.choice import is_letter_of, judge_choice
from tasks.rewards.code import CodeConfig, CodeGrader
from tasks.rewards.code_place import CodeJudge
from tasks.rewards.instructions import ConstraintError, InstructionConfig, judge_instructions
from tasks.rewards.math import Gold, MathConfig, MathVerifier
from tasks.rewards.math_pool import PoolError
from tasks.rewards.verdicts import verdict

Pair = tuple[Query, str]
_MATH, _CHOICE = "math", "choice"
# Rows in flight for each that is worked on: enough that no domain waits while another is slow, little to hold.
_QUEUED = 16


class RewardConfig(Config):
    """The rewards of all domains; part of the identity of whatever they decide."""

    math: MathConfig = Field(default=MathConfig(), description="math, and science without options")
    code: CodeConfig = Field(default=CodeConfig(), description="code")
    instructions: InstructionConfig = Field(default=InstructionConfig(), description="instruction following")
    chat: ChatConfig = Field(default=ChatConfig(), description="chat")


class Scored(NamedTuple):
    """A verdict, and the place of its row among those that were given."""

    row: int
    verdict: Verdict


class Job(NamedTuple):
    """Rows of one route that are judged in one go, with their places."""

    route: str
    indices: list[int]
    rows: list[Pair]


class Rewarder:
    """Scores responses; owns the math processes. Safe from threads; from an event loop use `asyncio.to_thread`.

    A response that was cut at the length limit is judged as any other text: what to do with it is the caller's policy.

    Args:
        config: the rules.
        num_processes: math_verify processes.
        num_programs: programs judged at a time.
        model: the reward model, for chat; without one a chat query is an error.
        max_asks: questions to the reward model at a time.
        code: judges programs; by default in jails of this machine. Whoever gives one closes it.
        cache: keeps what math_verify found.
    """

    def __init__(
        self,
        config: RewardConfig,
        *,
        num_processes: int = 2,
        num_programs: int = 2,
        model: RewardModel | None = None,
        max_asks: int = 32,
        code: CodeJudge | None = None,
        cache: RowCache | None = None,
    ) -> None:
        self.config = config
        self._math = MathVerifier(config.math, num_processes, cache)
        self._code = code or CodeGrader(config.code, Sandbox())
        self._model = model
        # Text alone holds the interpreter's lock, so more than one thread would gain nothing.
        self._threads = {_MATH: num_processes, str(Domain.CODE): num_programs, str(Domain.CHAT): max_asks}

    def __enter__(self) -> Rewarder:
        return self

    def __exit__(self, *_: object) -> None:
        self._math.close()

    def score(self, batch: Sequence[Pair]) -> list[Verdict]:
        """Verdicts in the order of the batch. A row that cannot be judged gets a fault; it never harms another.

        Raises:
            ValueError: a chat query, and no reward model.
            SandboxError: a code query, and no jail works here.
            EndpointError: the reward model cannot be asked.
        """
        jobs = [self._job(index, pair) for index, pair in enumerate(batch)]
        # All math in one go: of the equal answers of a group one is compared.
        maths = [job for job in jobs if job.route == _MATH]
        together = Job(_MATH, [job.indices[0] for job in maths], [job.rows[0] for job in maths])
        others = [job for job in jobs if job.route != _MATH]
        found = dict(self._run([*([together] if maths else []), *others]))
        return [found[index] for index in range(len(batch))]

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        """Verdicts as they are ready, each with the place of its row; all domains at the same time.

        Rows are drawn from `pairs` only as fast as they are judged. Leaving the loop early drops what has not begun.

        Raises:
            As `score`.
        """
        return self._run(self._job(index, pair) for index, pair in enumerate(pairs))

    def _job(self, index: int, pair: Pair) -> Job:
        query = pair[0]
        if query.domain is Domain.CHAT and self._model is None:
            raise ValueError(f"query {query.id} is chat, and there is no reward model; give `model` to the Rewarder")
        if query.domain is Domain.CODE:
            self._code.ready()  # where no program can be judged, the caller hears why
        route = str(query.domain)
        if query.domain in {Domain.MATH, Domain.SCIENCE}:
            route = _CHOICE if is_letter_of(query.answer, query.choices) else _MATH
        return Job(route, [index], [pair])

    def _run(self, jobs: Iterable[Job]) -> Iterator[Scored]:
        most = _QUEUED * sum(self._threads.values())
        crew = _Crew(self._threads)
        try:
            for job in jobs:
                crew.start(job, self._judge_all)
                yield from crew.finished(wait=crew.num_open >= most)
            while crew.num_open:
                yield from crew.finished(wait=True)
        finally:
            crew.end()

    def _judge_all(self, job: Job) -> list[Scored]:
        if job.route == _MATH:
            verdicts = self._score_math(job.rows)
        else:
            judge = self._judges()[job.route]
            verdicts = [_guarded(judge, row) for row in job.rows]
        return [Scored(row, found) for row, found in zip(job.indices, verdicts, strict=True)]

    def _score_math(self, rows: list[Pair]) -> list[Verdict]:
        if len(rows) == 1:
            return [_guarded(self._judge_math, rows[0])]
        try:
            return self._math.judge_all([(gold_of(query), response) for query, response in rows])
        except PoolError:
            raise
        except Exception:  # one of them is odd, and which one is found by judging each alone
            return [_guarded(self._judge_math, row) for row in rows]

    def _judges(self) -> dict[str, Callable[[Query, str], Verdict]]:
        return {
            _CHOICE: lambda query, text: judge_choice(query.answer or "", query.choices, text),
            str(Domain.CODE): lambda query, text: self._code.judge(query.tests, text),
            str(Domain.INSTRUCTION): lambda query, text: judge_instructions(
                query.constraints, text, self.config.instructions
            ),
            str(Domain.CHAT): self._judge_chat,
        }

    def _judge_math(self, query: Query, response: str) -> Verdict:
        return self._math.judge(gold_of(query), response)

    def _judge_chat(self, query: Query, response: str) -> Verdict:
        assert self._model is not None
        return judge_chat(query, response, self._model)


class _Crew:
    """Threads of every route, started at its first job, and one place where what is done arrives."""

    def __init__(self, threads: dict[str, int]) -> None:
        self._threads = threads
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._done: queue.SimpleQueue[Future[list[Scored]]] = queue.SimpleQueue()
        self.num_open = 0

    def start(self, job: Job, work: Callable[[Job], list[Scored]]) -> None:
        pool = self._pools.get(job.route)
        if pool is None:
            pool = self._pools[job.route] = ThreadPoolExecutor(self._threads.get(job.route, 1), "rewards")
        self.num_open += 1
        pool.submit(work, job).add_done_callback(self._done.put)

    def finished(self, wait: bool) -> list[Scored]:
        """What a job that ended has found; nothing where none has, and there is no wait for the next."""
        if not wait and self._done.empty():
            return []
        self.num_open -= 1
        return self._done.get().result()

    def end(self) -> None:
        """Drop what has not begun, and wait for the rest."""
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)


def gold_of(query: Query) -> Gold:
    """The right answer of a math or science query, with the other ways to write it where its row names some."""
    return [query.answer or "", *query.alternatives] if query.alternatives else query.answer or ""


def _guarded(judge: Callable[[Query, str], Verdict], row: Pair) -> Verdict:
    # The one place that catches everything: a batch of thousands must not fall to one odd row, and a fault says what.
    try:
        return judge(*row)
    except (EndpointError, ConfigError, PoolError):
        raise  # no row is odd: the run cannot judge at all
    except ConstraintError as error:
        return verdict(Outcome.TESTS_MISSING, "instructions", detail=str(error))
    except Exception as error:
        return verdict(Outcome.CRASH, str(row[0].domain), detail=f"{type(error).__name__}: {error}"[:500])
