"""Math rewards: gold and response in, verdict out (recipes.md, section 4: last box of the answer part, 1 or 0)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pydantic import Field

from infra.fingerprint import fingerprint
from infra.row_cache import RowCache
from tasks.records import Outcome, Verdict
from tasks.rewards.math_answer import find_answers
from tasks.rewards.math_guard import clean
from tasks.rewards.math_parts import Open, Ruling
from tasks.rewards.math_policy import BoxPolicy, Fallback, Policy
from tasks.rewards.math_pool import MathPool
from tasks.rewards.math_rules import decide
from tasks.rewards.verdicts import verdict

MIB = 1024 * 1024
# One label, or several that are equally right.
Gold = str | Sequence[str]


class MathConfig(Policy):
    """How math answers are compared; all of it may change a verdict."""

    version: int = Field(default=4, description="of the rules; raise it with any change of theirs, verdicts are cached")
    timeout_s: float = Field(default=5.0, gt=0, description="for math_verify on one pair (its own default)")
    memory_bytes: int = Field(default=2048 * MIB, description="address space of a math_verify process")
    recycle_after: int = Field(default=500, ge=1, description="pairs after which a math_verify process is replaced")
    max_answer_chars: int = Field(default=1000, ge=1, description="a longer answer is unparseable")
    boxes: BoxPolicy = Field(default=BoxPolicy.LAST, description="which of several boxes is judged")
    fallbacks: tuple[Fallback, ...] = Field(
        default=(),
        description="where the answer of a text without a box is looked for, always in the order label, phrase, "
        "number; none by default, since the prompt asks for a box",
    )


class Pair(NamedTuple):
    """Two bare answers to be compared."""

    gold: str
    answer: str


class _Row(NamedTuple):
    """What the comparison of one response takes: every alternative of the gold with every answer."""

    golds: list[str]
    answers: list[str]
    found_by: str
    missing: Verdict | None


class MathVerifier:
    """Compares answers; owns its processes, which start when the first pair needs algebra. Safe from threads.

    Args:
        config: the rules.
        num_processes: math_verify processes.
        cache: keeps what math_verify found, by pair, policy and version; faults are never kept.
    """

    def __init__(self, config: MathConfig, num_processes: int = 2, cache: RowCache | None = None) -> None:
        self.config = config
        self._cache = cache
        self._pool = MathPool(num_processes, config.timeout_s, config.memory_bytes, config.recycle_after)
        self._policy = Policy(**config.model_dump(include=set(Policy.model_fields)))

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def judge(self, gold: Gold, response: str) -> Verdict:
        """Verdict on what a response answers."""
        return self.judge_all([(gold, response)])[0]

    def judge_all(self, pairs: Sequence[tuple[Gold, str]]) -> list[Verdict]:
        """Verdicts on pairs of gold and response text, in order."""
        rows = [self._row(gold, response) for gold, response in pairs]
        wanted = [Pair(gold, answer) for row in rows for answer in row.answers for gold in row.golds]
        compared = dict(zip(wanted, self.compare_all(wanted), strict=True))
        return [row.missing or self._judge(row, compared) for row in rows]

    def compare(self, gold: str, answer: str) -> Verdict:
        """Verdict on two bare answers."""
        return self.compare_all([(gold, answer)])[0]

    def compare_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts on pairs of bare answers, in order; equal pairs are compared once."""
        decided = {pair: self._decide(Pair(*pair)) for pair in dict.fromkeys(pairs)}
        by_algebra = self._by_algebra({pair: found for pair, found in decided.items() if isinstance(found, Open)})
        verdicts = {pair: found for pair, found in decided.items() if isinstance(found, Verdict)} | by_algebra
        return [verdicts[pair] for pair in pairs]

    def _row(self, gold: Gold, response: str) -> _Row:
        answers = find_answers(response, self.config.boxes, self.config.fallbacks)
        golds = list(dict.fromkeys([gold] if isinstance(gold, str) else gold)) or [""]
        missing = None
        if not answers.texts:
            missing = verdict(Outcome.ANSWER_MISSING, "extract", detail=answers.missing)
        return _Row(golds, answers.texts, answers.found_by, missing)

    def _judge(self, row: _Row, compared: dict[Pair, Verdict]) -> Verdict:
        found = [any_equal([compared[Pair(gold, answer)] for gold in row.golds]) for answer in row.answers]
        best = all_equal(found) if self.config.boxes is BoxPolicy.ALL_EQUAL else any_equal(found)
        return best.model_copy(update={"method": f"{row.found_by}:{best.method}"}) if row.found_by else best

    def _decide(self, pair: Pair) -> Verdict | Open:
        started = time.perf_counter()
        gold, answer = clean(pair.gold), clean(pair.answer)
        try:
            ruling = self._refuse(gold, answer) or decide(gold, answer, self._policy)
        except Exception as error:
            # A rule that fails on an odd text must not take the batch along; it says nothing about the answer.
            ruling = Ruling(Outcome.CRASH, "rules", f"{type(error).__name__}: {error}"[:300])
        if isinstance(ruling, Open):
            return ruling
        return _verdict(ruling, answer, (time.perf_counter() - started) * 1000)

    def _refuse(self, gold: str, answer: str) -> Ruling | None:
        for text, outcome in ((gold, Outcome.GOLD_UNPARSEABLE), (answer, Outcome.ANSWER_UNPARSEABLE)):
            if not text.strip():
                return Ruling(outcome, "guard", "empty")
            if len(text) > self.config.max_answer_chars:
                return Ruling(outcome, "guard", f"{len(text)} characters")
        return None

    def _by_algebra(self, pairs: dict[tuple[str, str], Open]) -> dict[tuple[str, str], Verdict]:
        if len(pairs) <= 1:
            return {pair: self._verify(pair[1], texts) for pair, texts in pairs.items()}
        with ThreadPoolExecutor(min(len(pairs), self._pool.num_processes)) as threads:
            answers = [answer for _, answer in pairs]
            return dict(zip(pairs, threads.map(self._verify, answers, pairs.values()), strict=True))

    def _verify(self, answer: str, texts: Open) -> Verdict:
        key = fingerprint([*texts, self._policy, self.config.version])
        known = self._cache.get(key) if self._cache else None
        if known is not None:
            return Verdict.model_validate(known).model_copy(update={"extracted": clean(answer)})
        compared = self._pool.compare(*texts, self._policy.min_rounded_digits)
        found = _verdict(compared.ruling, clean(answer), compared.ms)
        if self._cache and not found.outcome.is_fault:
            self._cache.put(key, found.model_dump(mode="json"))
        return found


def any_equal(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several of which one equal one is enough. A fault hides no equal one, and none hides a fault.

    A gold that cannot be read, or a time-out, may have been the equal one: without another, nothing is known.
    """
    return next(
        (v for v in verdicts if v.outcome is Outcome.EQUAL),
        next((v for v in verdicts if v.outcome.is_fault), verdicts[0]),
    )


def all_equal(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several that must all be equal: one that is certainly not decides, whatever failed beside it."""
    return next(
        (v for v in verdicts if not v.outcome.is_right and not v.outcome.is_fault),
        next((v for v in verdicts if v.outcome.is_fault), verdicts[-1]),
    )


def boxed_answer(response: str) -> str | Verdict:
    """The last box of a response's answer part, or the verdict that it has none."""
    found = find_answers(response, BoxPolicy.LAST)
    return found.texts[0] if found.texts else verdict(Outcome.ANSWER_MISSING, "extract", detail=found.missing)


def _verdict(ruling: Ruling, answer: str, ms: float) -> Verdict:
    return verdict(ruling.outcome, ruling.method, extracted=answer, detail=ruling.detail, ms=ms)
