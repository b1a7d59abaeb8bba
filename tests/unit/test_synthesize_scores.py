"""verify_score by hand, the step's scores beside its samples, and the mixture beside its targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.artifacts import Drop
from infra.runtime import Runtime
from tasks.generation.chat import lay_out
from tasks.records import Domain, Message, Outcome, Query, Response, Verdict
from tasks.rewards.rewarder import RewardConfig
from tasks.synthesize import steps
from tasks.synthesize.config import DomainPolicy, Mixture, SampleSelection, SelectionConfig
from tasks.synthesize.mixture import MEASURED_WHOLE, Share, missing_samples, mixture_table
from tasks.synthesize.perplexity import Perplexity
from tasks.synthesize.selection import SynthesizeReason, fault_of_perplexity, verify_score
from tasks.synthesize.steps import QueryScore, ScoredSample, select_samples
from tasks.training.samples import Sample
from tests.unit.memory_tables import MemoryTables

RIGHT, WRONG = Verdict(outcome=Outcome.EQUAL, score=1.0), Verdict(outcome=Outcome.DIFFERENT, score=0.0)
CRASH = Verdict(outcome=Outcome.CRASH)


def scored(score: float) -> Verdict:
    return Verdict(outcome=Outcome.SCORED, score=score)


@pytest.mark.parametrize(
    ("domain", "verdicts", "num_unanswered", "score"),
    [
        (Domain.MATH, [RIGHT, WRONG, RIGHT, RIGHT], 0, 0.75),
        (Domain.MATH, [RIGHT], 3, 0.25),  # what is cut off passes no test
        (Domain.CODE, [RIGHT, CRASH], 0, 1.0),  # a crash of the verifier says nothing
        (Domain.MATH, [], 2, 0.0),
        (Domain.MATH, [CRASH], 0, None),
        (Domain.CHAT, [scored(0.9), scored(0.5)], 2, 0.7),
        (Domain.CHAT, [], 2, None),
    ],
)
def test_pass_rate_or_mean_reward(
    domain: Domain, verdicts: list[Verdict], num_unanswered: int, score: float | None
) -> None:
    faults = [None] * len(verdicts) + [SynthesizeReason.TRUNCATED] * num_unanswered
    found = verify_score(domain, faults, [*verdicts, *([None] * num_unanswered)])
    assert found == (None if score is None else pytest.approx(score))


@pytest.mark.parametrize(
    ("mean_nll", "fault"),
    [
        (math.log(19.99), None),
        (math.log(20.01), SynthesizeReason.PERPLEXITY),
        (2000.0, SynthesizeReason.PERPLEXITY),  # its exponential is no number any more
        (None, SynthesizeReason.PERPLEXITY_FAILED),
    ],
)
def test_twenty_is_the_highest_perplexity(mean_nll: float | None, fault: SynthesizeReason | None) -> None:
    score = Perplexity(query_id="q", sample_index=0, mean_nll=mean_nll, num_tokens=9)
    assert fault_of_perplexity(score, 20.0) is fault
    assert fault_of_perplexity(None, 20.0) is SynthesizeReason.PERPLEXITY_FAILED


def test_a_perplexity_too_large_for_a_number_is_infinite() -> None:
    scores = [Perplexity(query_id="q", sample_index=0, mean_nll=x, num_tokens=9) for x in (0.0, 2000.0, None)]
    assert [score.perplexity for score in scores] == [1.0, math.inf, None]


class FakeRewarder:
    """Right is what says `\\boxed{4}`."""

    def score(self, batch: Sequence[tuple[Query, str]]) -> list[Verdict]:
        return [RIGHT if "\\boxed{4}" in text else WRONG for _, text in batch]


def query(name: str, domain: Domain = Domain.MATH) -> Query:
    messages = (Message(role="user", content=f"What is {name}?"),)
    return Query(id=name, domain=domain, source="s", messages=messages, answer="4")


def responses_to(name: str, answers: Sequence[str]) -> list[Response]:
    texts = [lay_out(f"thought {i}", f"\\boxed{{{answer}}}") for i, answer in enumerate(answers)]
    return [
        Response(query_id=name, model="m", sample_index=i, text=text, finish_reason="stop")
        for i, text in enumerate(texts)
    ]


def perplexity(name: str, index: int, value: float | None) -> Perplexity:
    mean = None if value is None else math.log(value)
    return Perplexity(query_id=name, sample_index=index, mean_nll=mean, num_tokens=9)


def test_the_step_drops_what_surprises_and_writes_every_querys_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "open_rewarder", lambda *_: FakeRewarder())
    monkeypatch.setattr(steps, "BATCH_QUERIES", 2)
    said = {"a": ["4", "4", "5"], "b": ["4"], "c": ["5", "5"], "d": [], "e": ["4"]}
    scores = [
        *[perplexity("a", index, value) for index, value in enumerate([3.0, 90.0, 3.0])],
        perplexity("b", 0, 90.0),
        *[perplexity("c", index, 3.0) for index in range(2)],
        perplexity("e", 0, None),
    ]
    tables = MemoryTables(
        tmp_path,
        queries=[query(name) for name in said],
        responses=[response for name, answers in said.items() for response in responses_to(name, answers)],
        perplexities=scores,
    )
    config = SampleSelection(selection=SelectionConfig(), rewards=RewardConfig())
    sets = tables.sets
    select_samples.inner(sets["queries"], sets["responses"], config, tables.out, Runtime(), sets["perplexities"])
    tables.close()
    drops = {drop.query_id: drop for drop in tables.read("dropped", Drop)}
    assert {name: drop.reason for name, drop in drops.items()} == {
        "b": "perplexity",
        "c": "no_correct_response",
        "d": "no_response",
        "e": "perplexity_failed",
    }
    assert drops["b"].evidence == "of 1 responses: 1 perplexity"
    (sample,) = tables.read("kept", ScoredSample)
    assert (sample.id, sample.verify_score) == ("a/0", pytest.approx(2 / 3))
    assert tables.read("kept", Sample)[0].id == "a/0"  # a trainer reads the same rows without the score
    rows = {row.query_id: row for row in tables.read("scores", QueryScore)}
    assert {name: row.verify_score for name, row in rows.items()} == {
        "a": pytest.approx(2 / 3), "b": 1.0, "c": 0.0, "d": None, "e": 1.0,
    }  # fmt: skip
    assert (rows["a"].num_responses, rows["a"].num_judged, rows["a"].num_kept) == (3, 3, 1)


def sample(text: str, name: str = "q") -> Sample:
    messages = (Message(role="user", content="ask"), Message(role="assistant", content=text))
    return Sample(id=name, query_id=name, source="s", domain=Domain.MATH, messages=messages)


def test_the_table_tells_targets_and_what_is_missing() -> None:
    """Code has 10 of 120 samples and wants 16.4 %: with 12 more it has 22 of 132, 16.7 %."""
    shares = {"math": Share(90, 4000), "code": Share(10, 400), "chat": Share(20, 4000)}
    mixture = Mixture(
        math=DomainPolicy(target_share=0.355, target_tokens=2000),
        code=DomainPolicy(target_share=0.164, target_tokens=100),
        science=DomainPolicy(target_share=0.043),
    )
    lines = mixture_table(shares, mixture).splitlines()
    assert "| math | 90 | 75.0% | 35.5% | 1,000 | 47.6% | 2,000 |" in lines
    assert "| code | 10 | 8.3% | 16.4% | 100 | 4.8% | 100 |" in lines
    assert "| science | 0 | 0.0% | 4.3% | 0 | 0.0% |  |" in lines
    assert "| chat | 20 | 16.7% |  | 1,000 | 47.6% |  |" in lines
    assert not [line for line in lines if "instruction" in line]
    assert [line for line in lines if line.startswith("- ")] == [
        "- code is short of its share by 12 samples",
        "- math is short of its tokens by 1,000",
        "- science is short of its share by 6 samples",
    ]


def test_a_mixture_without_targets_says_so() -> None:
    assert mixture_table({"math": Share(1, 40)}, Mixture()).endswith("The recipe sets no targets.")
    reached = Mixture(math=DomainPolicy(target_tokens=5))
    assert mixture_table({"math": Share(1, 40)}, reached).endswith("No domain is short of its target.")
    assert "The recipe sets no targets." in mixture_table({}, Mixture())


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.01, 0.95))
def test_what_is_missing_is_the_least_that_reaches_the_share(own: int, others: int, target: float) -> None:
    missing = missing_samples(Share(own), target, own + others)
    total = own + others + missing
    assert own + missing >= target * total - 1e-6
    if missing:
        assert own + missing - 1 < target * (total - 1) + 1e-6


def test_tokens_are_those_of_the_tokenizer_and_beyond_a_thousand_samples_by_their_ratio() -> None:
    asked: list[str] = []

    def count(row: Sample) -> int:
        asked.append(row.id)
        return len(row.response) // 2

    share = Share()
    for number in range(MEASURED_WHOLE + 500):
        share.add(sample("x" * 20, str(number)), count)
    assert len(asked) == MEASURED_WHOLE + 5
    assert share.num_tokens == 10 * (MEASURED_WHOLE + 500)
    small, unknown = Share(), Share()
    small.add(sample("x" * 21), count)
    unknown.add(sample("x" * 21))
    assert (small.num_tokens, unknown.num_tokens) == (10, 6)
    assert "tokens by a/b" in mixture_table({"math": small}, Mixture(), "a/b")
    assert "tokens (≈ characters / 4)" in mixture_table({"math": unknown}, Mixture())


def test_shares_beyond_the_whole_are_refused() -> None:
    with pytest.raises(ValidationError, match="at most 1"):
        Mixture(math=DomainPolicy(target_share=0.7), code=DomainPolicy(target_share=0.4))
