"""Rewarder: queries and responses in, verdicts out, each by the reward of its domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import Field

from infra.config import Config, ConfigError
from infra.llm_http import EndpointError
from infra.row_cache import RowCache
from infra.sandbox.sandbox import Sandbox
from tasks.records import Domain, Outcome, Query, Verdict
from tasks.rewards.chat import Ask, ChatConfig, judge_chat
from tasks.rewards.choice import is_letter_of, judge_choice
from tasks.rewards.code import CodeConfig, CodeGrader
from tasks.rewards.instructions import ConstraintError, judge_instructions
from tasks.rewards.math import MathConfig, MathVerifier
from tasks.rewards.verdicts import verdict

Pair = tuple[Query, str]


class RewardConfig(Config):
    """The rewards of all domains; part of the identity of whatever they decide."""

    math: MathConfig = Field(default=MathConfig(), description="math, and science without options")
    code: CodeConfig = Field(default=CodeConfig(), description="code")
    chat: ChatConfig = Field(default=ChatConfig(), description="chat")
    instructions_version: int = Field(default=1, description="of the instruction checkers; raise it with any change")


class Rewarder:
    """Scores responses; owns the math processes. Safe from threads; from an event loop use `asyncio.to_thread`.

    A response that was cut at the length limit is judged as any other text: what to do with it is the caller's policy.

    Args:
        config: the rules.
        num_processes: math_verify processes, and programs checked at a time.
        ask: the reward model, for chat; without one a chat query is an error.
        max_asks: questions to the reward model at a time.
        sandbox: for code; by default the best jail that works here.
        cache: keeps what math_verify found.
    """

    def __init__(
        self,
        config: RewardConfig,
        *,
        num_processes: int = 2,
        ask: Ask | None = None,
        max_asks: int = 32,
        sandbox: Sandbox | None = None,
        cache: RowCache | None = None,
    ) -> None:
        self.config = config
        self.sandbox = sandbox or Sandbox()
        self._math = MathVerifier(config.math, num_processes, cache)
        self._code = CodeGrader(config.code, self.sandbox)
        self._ask = ask
        self._num_processes, self._max_asks = num_processes, max_asks

    def __enter__(self) -> Rewarder:
        return self

    def __exit__(self, *_: object) -> None:
        self._math.close()

    def score(self, batch: Sequence[Pair]) -> list[Verdict]:
        """Verdicts in the order of the batch. A row that cannot be judged gets a fault; it never harms another.

        Raises:
            ValueError: a chat query, and no reward model.
            SandboxError: a code query, and no jail works here.
        """
        routes: dict[str, list[int]] = {}
        for index, (query, _) in enumerate(batch):
            routes.setdefault(self._route(query), []).append(index)
        verdicts: dict[int, Verdict] = {}
        for route, indices in routes.items():
            rows = [batch[index] for index in indices]
            found = self._score_math(rows) if route == "math" else self._score_each(route, rows)
            verdicts |= dict(zip(indices, found, strict=True))
        return [verdicts[index] for index in range(len(batch))]

    def _route(self, query: Query) -> str:
        if query.domain is Domain.CHAT and self._ask is None:
            raise ValueError(f"query {query.id} is chat, and there is no reward model; give `ask` to the Rewarder")
        if query.domain is Domain.CODE:
            _ = self.sandbox.level  # without a jail that works, no code is judged, and the caller hears why
        if query.domain in {Domain.MATH, Domain.SCIENCE}:
            return "choice" if is_letter_of(query.answer, query.choices) else "math"
        return str(query.domain)

    def _score_math(self, rows: list[Pair]) -> list[Verdict]:
        return self._math.judge_all([(query.answer or "", response) for query, response in rows])

    def _score_each(self, route: str, rows: list[Pair]) -> list[Verdict]:
        judge = self._judges()[route]
        workers = {str(Domain.CODE): self._num_processes, str(Domain.CHAT): self._max_asks}.get(route, 1)
        if workers == 1 or len(rows) == 1:
            return [_guarded(judge, row) for row in rows]
        with ThreadPoolExecutor(min(workers, len(rows))) as threads:
            return list(threads.map(lambda row: _guarded(judge, row), rows))

    def _judges(self) -> dict[str, Callable[[Query, str], Verdict]]:
        return {
            "choice": lambda query, text: judge_choice(query.answer or "", query.choices, text),
            str(Domain.CODE): lambda query, text: self._code.judge(query.tests, text),
            str(Domain.INSTRUCTION): lambda query, text: judge_instructions(query.constraints, text),
            str(Domain.CHAT): self._judge_chat,
        }

    def _judge_chat(self, query: Query, response: str) -> Verdict:
        assert self._ask is not None
        return judge_chat(query, response, self._ask)


def _guarded(judge: Callable[[Query, str], Verdict], row: Pair) -> Verdict:
    # The one place that catches everything: a batch of thousands must not fall to one odd row, and a fault says what.
    try:
        return judge(*row)
    except (EndpointError, ConfigError):
        raise  # no row is odd: the run cannot judge at all
    except ConstraintError as error:
        return verdict(Outcome.TESTS_MISSING, "instructions", detail=str(error))
    except Exception as error:
        return verdict(Outcome.CRASH, str(row[0].domain), detail=f"{type(error).__name__}: {error}"[:500])
