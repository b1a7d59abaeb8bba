"""Math rewards: gold and response in, verdict out (recipes.md, section 4: last box of the answer part, 1 or 0)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import Field

from infra.config import Config
from infra.fingerprint import fingerprint
from infra.row_cache import RowCache
from tasks.records import Outcome, Verdict
from tasks.rewards.extract import answer_part, last_box
from tasks.rewards.math_pool import MathPool
from tasks.rewards.math_rules import Ruling, decide
from tasks.rewards.verdicts import verdict

MIB = 1024 * 1024


class MathConfig(Config):
    """How math answers are compared; all of it may change a verdict."""

    version: int = Field(default=1, description="of the rules; raise it with any change of theirs, verdicts are cached")
    timeout_s: float = Field(default=5.0, gt=0, description="for math_verify on one pair (its own default)")
    memory_bytes: int = Field(default=2048 * MIB, description="address space of a math_verify process")
    recycle_after: int = Field(default=500, ge=1, description="pairs after which a math_verify process is replaced")
    max_answer_chars: int = Field(default=1000, ge=1, description="a longer answer is unparseable")
    min_rounded_digits: int = Field(
        default=6, ge=1, description="a decimal that rounds the exact value is right from this many significant digits"
    )


class MathVerifier:
    """Compares answers; owns its processes, which start when the first pair needs algebra. Safe from threads.

    Args:
        config: the rules.
        num_processes: math_verify processes.
        cache: keeps what math_verify found, by pair and version; faults are never kept.
    """

    def __init__(self, config: MathConfig, num_processes: int = 2, cache: RowCache | None = None) -> None:
        self.config = config
        self._cache = cache
        self._pool = MathPool(num_processes, config.timeout_s, config.memory_bytes, config.recycle_after)

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def judge(self, gold: str, response: str) -> Verdict:
        """Verdict on a response's last box, in its answer part."""
        return self.judge_all([(gold, response)])[0]

    def judge_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts on pairs of gold and response text, in order."""
        answers = [boxed_answer(response) for _, response in pairs]
        asked = [(gold, a) for (gold, _), a in zip(pairs, answers, strict=True) if isinstance(a, str)]
        compared = iter(self.compare_all(asked))
        return [next(compared) if isinstance(answer, str) else answer for answer in answers]

    def compare(self, gold: str, answer: str) -> Verdict:
        """Verdict on two bare answers."""
        return self.compare_all([(gold, answer)])[0]

    def compare_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts on pairs of bare answers, in order; equal pairs are compared once."""
        verdicts = {pair: self._decide(*pair) for pair in dict.fromkeys(pairs)}
        open_pairs = [pair for pair, found in verdicts.items() if found is None]
        verdicts |= self._by_algebra(open_pairs)
        return [found for pair in pairs if (found := verdicts[pair]) is not None]

    def _decide(self, gold: str, answer: str) -> Verdict | None:
        started = time.perf_counter()
        ruling = self._refuse(gold, answer) or decide(gold, answer, self.config.min_rounded_digits)
        return None if ruling is None else _verdict(ruling, answer, (time.perf_counter() - started) * 1000)

    def _refuse(self, gold: str, answer: str) -> Ruling | None:
        for text, outcome in ((gold, Outcome.GOLD_UNPARSEABLE), (answer, Outcome.ANSWER_UNPARSEABLE)):
            if not text.strip():
                return Ruling(outcome, "guard", "empty")
            if len(text) > self.config.max_answer_chars:
                return Ruling(outcome, "guard", f"{len(text)} characters")
        return None

    def _by_algebra(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Verdict]:
        if len(pairs) <= 1:
            return {pair: self._verify(pair) for pair in pairs}
        with ThreadPoolExecutor(min(len(pairs), self._pool.num_processes)) as threads:
            return dict(zip(pairs, threads.map(self._verify, pairs), strict=True))

    def _verify(self, pair: tuple[str, str]) -> Verdict:
        key = fingerprint([*pair, self.config.version])
        known = self._cache.get(key) if self._cache else None
        if known is not None:
            return Verdict.model_validate(known)
        compared = self._pool.compare(*pair)
        found = _verdict(compared.ruling, pair[1], compared.ms)
        if self._cache and not found.outcome.is_fault:
            self._cache.put(key, found.model_dump(mode="json"))
        return found


def boxed_answer(response: str) -> str | Verdict:
    """The answer that a response commits to, or the verdict that it has none."""
    answer = answer_part(response)
    if answer is None:
        return verdict(Outcome.ANSWER_MISSING, "extract", detail="thinking never ends")
    boxed = last_box(answer)
    if boxed is None:
        return verdict(Outcome.ANSWER_MISSING, "extract", detail="no box in the answer part")
    return boxed


def _verdict(ruling: Ruling, answer: str, ms: float) -> Verdict:
    return verdict(ruling.outcome, ruling.method, extracted=answer, detail=ruling.detail, ms=ms)
