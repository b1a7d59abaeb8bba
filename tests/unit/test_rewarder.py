"""Routing by domain, chat scores, choices; one odd row harms no other."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from infra.sandbox.limits import SandboxError
from infra.sandbox.sandbox import Sandbox
from tasks.records import Domain, Message, Outcome, Query
from tasks.rewards.chat import read_scores, reward_messages
from tasks.rewards.choice import letter_of
from tasks.rewards.rewarder import RewardConfig, Rewarder


def query(domain: Domain, **fields: Any) -> Query:
    return Query(id="q", domain=domain, source="s", messages=(Message(role="user", content="Why?"),), **fields)


def scores(_: Sequence[Mapping[str, str]]) -> str:
    return 'Here: {"helpfulness": 1, "correctness": 0.5, "coherence": 0}'


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
    with Rewarder(RewardConfig(), ask=scores) as rewarder:
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
    assert [v.outcome for v in verdicts] == [Outcome.PASSED, Outcome.WRONG, Outcome.EQUAL, Outcome.ANSWER_MISSING]


def test_code_without_a_jail_is_an_error_and_not_a_fault() -> None:
    class NoSandbox(Sandbox):
        @property
        def level(self) -> Any:
            raise SandboxError("no jail works here")

    with Rewarder(RewardConfig(), sandbox=NoSandbox()) as rewarder, pytest.raises(SandboxError):
        rewarder.score([(CODE, "x")])


def test_one_failing_question_harms_no_other() -> None:
    def ask(messages: Sequence[Mapping[str, str]]) -> str:
        if "odd" in messages[0]["content"]:
            raise ConnectionError("gone")
        return "not json" if "garbled" in messages[0]["content"] else scores(messages)

    with Rewarder(RewardConfig(), ask=ask) as rewarder:
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


def test_prompt_shows_all_turns_of_a_dialog() -> None:
    dialog = CHAT.model_copy(update={"messages": (Message(role="system", content="Be brief."), *CHAT.messages)})
    prompt = reward_messages(dialog, "Because.")[0]["content"]
    assert "<query>\nSystem: Be brief.\n\nUser: Why?\n</query>" in prompt
    assert "<response>\nBecause.\n</response>" in prompt


@pytest.mark.parametrize(
    ("reply", "score"),
    [('{"helpfulness": 1, "correctness": 1, "coherence": 0.4}', 0.8),
     ('```json\n{"helpfulness": 0, "correctness": 0, "coherence": 0}\n```', 0.0),
     ('{"helpfulness": 0.9} {"helpfulness": 1, "correctness": 1, "coherence": 1}', 1.0),
     ('{"helpfulness": 2, "correctness": 1, "coherence": 1}', None),
     ('{"helpfulness": true, "correctness": 1, "coherence": 1}', None),
     ("0.5", None), ("", None), ('{"helpfulness": 1, "correctness": 1}', None),
     ('{"helpfulness": NaN, "correctness": 1, "coherence": 1}', None)],
)  # fmt: skip
def test_read_scores(reply: str, score: float | None) -> None:
    verdict = read_scores(reply)
    assert verdict.outcome is (Outcome.CRASH if score is None else Outcome.SCORED)
    assert verdict.score == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), (r"\text{B}", "B"), ("$B$", "B"), ("B) green", "B"),
     ("green", "B"), ("Green", "B"),
     ("(A) red", "A"), ("A) green", None), ("E", None), ("A or B", None), ("a green thing", None),
     ("Option A", "A")],
)  # fmt: skip
def test_letters(answer: str, letter: str | None) -> None:
    assert letter_of(answer, ["red", "green"]) == letter
