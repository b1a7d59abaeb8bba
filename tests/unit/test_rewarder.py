"""Routing by domain, chat scores, choices; one odd row harms no other."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from infra.llm_http import EndpointError
from infra.sandbox.limits import SandboxError
from infra.sandbox.sandbox import Sandbox
from tasks.records import Domain, Message, Outcome, Query
from tasks.rewards.chat import LlmJudge, judge_chat
from tasks.rewards.choice import letter_of
from tasks.rewards.code import CodeConfig, CodeGrader
from tasks.rewards.rewarder import RewardConfig, Rewarder


def query(domain: Domain, **fields: Any) -> Query:
    return Query(id="q", domain=domain, source="s", messages=(Message(role="user", content="Why?"),), **fields)


def scores(_: Sequence[Mapping[str, str]], num_samples: int) -> list[str]:
    return ['Here: {"helpfulness": 1, "correctness": 0.5, "coherence": 0}'] * num_samples


MODEL = LlmJudge(scores)


def has_sandbox() -> bool:
    try:
        return bool(Sandbox().level)
    except SandboxError:
        return False


MATH = query(Domain.MATH, answer="42")
CHOICE = query(Domain.SCIENCE, answer="B", choices=("red", "green"))
SCIENCE = query(Domain.SCIENCE, answer="3.0 m")
INSTRUCTION = query(Domain.INSTRUCTION, constraints=[{"id": "punctuation:no_comma", "kwargs": {}}])
UNKNOWN = query(Domain.INSTRUCTION, constraints=[{"id": "made:up", "kwargs": {}}])
CHAT = query(Domain.CHAT)
CODE = query(Domain.CODE, tests={"kind": "assert", "setup": "", "asserts": ["assert f(1) == 2"]})


def test_routes_by_domain_in_order() -> None:
    batch = [
        (CHAT, "hello"), (MATH, r"\boxed{42}"), (CHOICE, r"\boxed{(B)}"), (SCIENCE, r"\boxed{300 cm}"),
        (INSTRUCTION, "no comma"), (UNKNOWN, "text"), (MATH, r"\boxed{43}"), (CHOICE, r"\boxed{red}"), (MATH, "none"),
        (query(Domain.MATH), r"\boxed{1}"), (query(Domain.INSTRUCTION), "text"),
    ]  # fmt: skip
    with Rewarder(RewardConfig(), model=MODEL) as rewarder:
        verdicts = rewarder.score(batch)
    assert [v.outcome for v in verdicts] == [
        Outcome.SCORED, Outcome.EQUAL, Outcome.EQUAL, Outcome.EQUAL, Outcome.PASSED, Outcome.TESTS_MISSING,
        Outcome.DIFFERENT, Outcome.DIFFERENT, Outcome.ANSWER_MISSING, Outcome.GOLD_UNPARSEABLE, Outcome.TESTS_MISSING,
    ]  # fmt: skip
    assert verdicts[0].score == 0.5
    assert all((v.score is None) == v.outcome.is_fault for v in verdicts)


@pytest.mark.skipif(not has_sandbox(), reason="no jail works here")
def test_code_goes_to_the_sandbox() -> None:
    with Rewarder(RewardConfig()) as rewarder:
        good, bad = (f"```python\ndef f(x): return x + {n}\n```" for n in (1, 2))
        verdicts = rewarder.score([(CODE, good), (CODE, bad), (MATH, r"\boxed{42}"), (CODE, "none")])
    assert [v.outcome for v in verdicts[:3]] == [Outcome.PASSED, Outcome.WRONG, Outcome.EQUAL]
    assert verdicts[3].score == 0


def test_code_without_a_jail_is_an_error_and_not_a_fault() -> None:
    class NoSandbox(Sandbox):
        @property
        def level(self) -> Any:
            raise SandboxError("no jail works here")

    with Rewarder(RewardConfig(), code=CodeGrader(CodeConfig(), NoSandbox())) as rewarder, pytest.raises(SandboxError):
        rewarder.score([(CODE, "x")])


def test_one_failing_question_harms_no_other() -> None:
    def ask(messages: Sequence[Mapping[str, str]], num_samples: int) -> list[str]:
        if "odd" in messages[0]["content"]:
            raise ConnectionError("gone")
        return ["not json"] if "garbled" in messages[0]["content"] else scores(messages, num_samples)

    with Rewarder(RewardConfig(), model=LlmJudge(ask)) as rewarder:
        verdicts = rewarder.score([(CHAT, text) for text in ("fine", "odd", "garbled", "fine", "<think>")])
    assert [v.outcome for v in verdicts] == [
        Outcome.SCORED, Outcome.CRASH, Outcome.CRASH, Outcome.SCORED, Outcome.ANSWER_MISSING
    ]  # fmt: skip
    assert "ConnectionError" in verdicts[1].detail


def test_chat_without_a_reward_model_is_told() -> None:
    with Rewarder(RewardConfig()) as rewarder, pytest.raises(ValueError, match="no reward model"):
        rewarder.score([(CHAT, "hello")])


def test_works_from_an_event_loop() -> None:
    async def score(rewarder: Rewarder) -> list[Outcome]:
        batches = await asyncio.gather(*(asyncio.to_thread(rewarder.score, [(MATH, r"\boxed{42}")]) for _ in range(8)))
        return [verdict.outcome for batch in batches for verdict in batch]

    with Rewarder(RewardConfig()) as rewarder:
        assert asyncio.run(score(rewarder)) == [Outcome.EQUAL] * 8


def test_a_step_of_rollouts_takes_no_time() -> None:
    thinking = f"<think>{'so ' * 50}</think>"
    batch = [(query(Domain.MATH, answer=str(i)), rf"{thinking}\boxed{{{i + i % 3}}}") for i in range(768)]
    with Rewarder(RewardConfig()) as rewarder:
        started = time.process_time()
        verdicts = rewarder.score(batch)
        spent = time.process_time() - started
    assert sum(v.outcome is Outcome.EQUAL for v in verdicts) == 256
    assert spent < 3, "a step of 768 took seconds: the fast path is gone"  # measured: 0.03 s


HOSTILE = [
    (query(Domain.MATH, answer="2"), r"\boxed{9^{9^{9^{9}}}}"), (query(Domain.MATH, answer="2"), r"\boxed{" * 5_000),
    (query(Domain.MATH, answer="\ud800"), "\ud800\\boxed{\udfff}"), (query(Domain.MATH, answer=""), r"\boxed{}"),
    (query(Domain.SCIENCE, answer="A", choices=("x",)), r"\boxed{\text{" + "A" * 50_000 + "}}"),
    (query(Domain.INSTRUCTION, constraints=[{"kwargs": 3}]), "text"),
    (query(Domain.INSTRUCTION, constraints=[{"id": "keywords:existence", "kwargs": {"keywords": "(" * 50}}]), "("),
    (query(Domain.INSTRUCTION, constraints=[{"id": "punctuation:no_comma", "kwargs": {}}]), "\x00\ud800" * 9_000),
    (CHAT, "\ud800{}{}{}"),
]  # fmt: skip


def test_hostile_rows_harm_no_other() -> None:
    batch = [pair for odd in HOSTILE for pair in (odd, (MATH, r"\boxed{42}"))]
    with Rewarder(RewardConfig(), model=MODEL) as rewarder:
        verdicts = rewarder.score(batch)
        streamed = dict(rewarder.stream(iter(batch)))
    assert [v.outcome for v in verdicts[1::2]] == [Outcome.EQUAL] * len(HOSTILE)
    assert all((v.score is None) == v.outcome.is_fault for v in verdicts)
    assert [streamed[row].outcome for row in range(len(batch))] == [v.outcome for v in verdicts]


def test_a_batch_with_a_row_that_breaks_the_verifier_is_judged_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    with Rewarder(RewardConfig()) as rewarder:
        judge_all = rewarder._math.judge_all

        def breaks(pairs: Sequence[tuple[Any, str]]) -> list[Any]:
            if any("odd" in response for _, response in pairs):
                raise RuntimeError("broken")
            return judge_all(pairs)

        monkeypatch.setattr(rewarder._math, "judge_all", breaks)
        verdicts = rewarder.score([(MATH, r"\boxed{42}"), (MATH, "odd"), (MATH, r"\boxed{41}")])
    assert [v.outcome for v in verdicts] == [Outcome.EQUAL, Outcome.CRASH, Outcome.DIFFERENT]
    assert verdicts[1].score is None


def test_domains_are_judged_at_the_same_time_and_streamed_as_they_are_ready() -> None:
    is_math_done = threading.Event()

    def slow(messages: Sequence[Mapping[str, str]], num_samples: int) -> list[str]:
        assert is_math_done.wait(30), "chat came first and kept the others waiting"
        return scores(messages, num_samples)

    rows = []
    with Rewarder(RewardConfig(), model=LlmJudge(slow)) as rewarder:
        for scored in rewarder.stream(iter([(CHAT, "hello"), (INSTRUCTION, "text"), (MATH, r"\boxed{42}")])):
            rows.append(scored.row)
            if len(rows) == 2:
                is_math_done.set()
    assert sorted(rows[:2]) == [1, 2]
    assert rows[2] == 0


def test_a_stream_holds_few_rows() -> None:
    drawn, judged, most = 0, 0, 0

    def rows() -> Iterator[tuple[Query, str]]:
        nonlocal drawn
        for number in range(1, 3_001):
            drawn = number
            yield (MATH, r"\boxed{42}")

    with Rewarder(RewardConfig(), num_processes=1, num_programs=1, max_asks=1) as rewarder:
        for judged, _ in enumerate(rewarder.stream(rows()), 1):
            most = max(most, drawn - judged)
    assert judged == 3_000
    assert most <= 16 * 3


def test_leaving_a_stream_early_ends_its_work() -> None:
    with Rewarder(RewardConfig()) as rewarder:
        stream = rewarder.stream((MATH, r"\boxed{42}") for _ in range(1_000_000))
        assert next(stream).verdict.outcome is Outcome.EQUAL
        stream.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("rewards")]


def test_an_endpoint_that_is_gone_ends_the_batch() -> None:
    def gone(*_: Any) -> Any:
        raise EndpointError("gone")

    with Rewarder(RewardConfig(), model=gone) as rewarder, pytest.raises(EndpointError):
        rewarder.score([(CHAT, "hello"), (MATH, r"\boxed{42}")])


def test_no_answer_part_needs_no_model() -> None:
    assert judge_chat(CHAT, "<think>", LlmJudge(lambda *_: pytest.fail("asked"))).outcome is Outcome.ANSWER_MISSING


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), (r"\text{B}", "B"), ("$B$", "B"), ("B) green", "B"),
     ("green", "B"), ("Green", "B"),
     ("(A) red", "A"), ("A) green", None), ("E", None), ("A or B", None), ("a green thing", None),
     ("Option A", "A")],
)  # fmt: skip
def test_letters(answer: str, letter: str | None) -> None:
    assert letter_of(answer, ["red", "green"]) == letter
