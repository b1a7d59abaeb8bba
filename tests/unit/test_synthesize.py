"""Form, score, choice and mixture of responses; the steps with a rewarder of a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.artifacts import Dataset, Drop
from infra.output import Output, Resources
from infra.rows import read_shard
from infra.runtime import Runtime
from infra.store import Store
from tasks.generation.chat import lay_out
from tasks.generation.teacher import TeacherConfig
from tasks.records import Domain, Message, Outcome, Query, Response, Verdict
from tasks.rewards.rewarder import RewardConfig
from tasks.synthesize import steps
from tasks.synthesize.config import (
    DomainPolicy,
    Mixture,
    RepetitionRule,
    ResponsesConfig,
    SampleSelection,
    SelectionConfig,
)
from tasks.synthesize.quality import Parts, complete_parts, is_repetitive
from tasks.synthesize.selection import Choice, SynthesizeReason, choose, fault_of_form, fault_of_score, fit_mixture
from tasks.synthesize.steps import num_samples, select_samples
from tasks.training.samples import Sample

RULE = RepetitionRule()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>\nabc\n</think>\n<answer>\n\\boxed{4}\n</answer>", Parts("abc", "\\boxed{4}")),
        ("<think>\n</think>\n<answer>\n4\n</answer>", Parts("", "4")),
        ("<think>abc</think>\n\nThe answer is 4.", Parts("abc", "The answer is 4.")),
        ("abc</think>The answer is 4.", Parts("abc", "The answer is 4.")),
        ("  <think>a < b</think> <answer>a<b>c</answer> \n", Parts("a < b", "a<b>c")),
        ("<think>\nabc", None),
        ("<think>\nabc\n</think>", None),
        ("<think>abc</think><answer></answer>", None),
        ("<think>abc</think><answer>4", None),
        ("<think>abc</think>4</answer>", None),
        ("<think>abc</think><answer>4</answer> and more", None),
        ("<think>a</think><think>b</think>4", None),
        ("<think>a<think>b</think>4", None),
        ("<think>a</think>4</think>", None),
        ("<answer>4</answer><think>a</think>", None),
        ("4", None),
        ("", None),
    ],
)
def test_both_parts_must_be_complete(text: str, parts: Parts | None) -> None:
    assert complete_parts(text) == parts


plain = st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=40)


@given(thinking=plain, answer=plain.filter(lambda text: text.strip() != ""))
def test_what_is_laid_out_is_complete_and_comes_back(thinking: str, answer: str) -> None:
    parts = complete_parts(lay_out(thinking, answer))
    assert parts == Parts(thinking.strip(), answer.strip())
    assert lay_out(*parts) == lay_out(thinking, answer)


TWENTY = " ".join(f"word{i}" for i in range(20)) + " "


@pytest.mark.parametrize(
    ("text", "repetitive"),
    [
        (TWENTY * 21, True),
        (TWENTY * 20, False),
        ("start here: " + TWENTY * 21 + "and end", True),
        (" x ".join([TWENTY] * 21), True),  # not one after the other: the same string all the same
        ("ha " * 419, False),  # 20 times 20, and 19 more
        ("ha " * 420, True),
        ("-" * 420, True),
        (" ".join(str(i) for i in range(5000)), False),
        ("", False),
    ],
)
def test_twenty_tokens_more_than_twenty_times(text: str, repetitive: bool) -> None:
    assert is_repetitive(text, RULE) is repetitive


@given(st.lists(st.sampled_from("ab"), max_size=60), st.integers(1, 3), st.integers(1, 4))
def test_repetition_counts_as_str_count_does(letters: list[str], length: int, times: int) -> None:
    text = " ".join(letters)
    windows = {tuple(letters[i : i + length]) for i in range(len(letters) - length + 1)}
    most = max((_count(letters, window) for window in windows), default=0)
    assert is_repetitive(text, RepetitionRule(num_tokens=length, max_times=times)) is (most > times)


def _count(letters: Sequence[str], window: tuple[str, ...]) -> int:
    """Occurrences from the left that do not overlap, as `"".join(letters).count("".join(window))`."""
    return "".join(letters).count("".join(window))


def response(text: str = "", index: int = 0, finish: str = "stop", query_id: str = "q") -> Response:
    text = text or lay_out(f"sample {index}", "\\boxed{4}")
    return Response(query_id=query_id, model="m", sample_index=index, text=text, finish_reason=finish)


def test_faults_of_form_in_their_order() -> None:
    assert fault_of_form(response(), RULE) is None
    assert fault_of_form(response(finish="length"), RULE) is SynthesizeReason.TRUNCATED
    assert fault_of_form(response("no parts"), RULE) is SynthesizeReason.BAD_STRUCTURE
    assert fault_of_form(response(lay_out(TWENTY * 30, "4")), RULE) is SynthesizeReason.REPETITIVE


@pytest.mark.parametrize(
    ("outcome", "score", "domain", "fault"),
    [
        (Outcome.EQUAL, 1.0, Domain.MATH, None),
        (Outcome.DIFFERENT, 0.0, Domain.CODE, SynthesizeReason.NO_CORRECT_RESPONSE),
        (Outcome.ANSWER_MISSING, 0.0, Domain.SCIENCE, SynthesizeReason.NO_CORRECT_RESPONSE),
        (Outcome.TIME_OUT, None, Domain.MATH, SynthesizeReason.VERIFICATION_FAILED),
        (Outcome.SCORED, 0.71, Domain.CHAT, None),
        (Outcome.SCORED, 0.7, Domain.CHAT, SynthesizeReason.LOW_SCORE),
        (Outcome.SCORED, 0.71, Domain.MATH, SynthesizeReason.NO_CORRECT_RESPONSE),
    ],
)
def test_faults_of_score(outcome: Outcome, score: float | None, domain: Domain, fault: SynthesizeReason | None) -> None:
    verdict = Verdict(outcome=outcome, score=score)
    assert fault_of_score(verdict, domain, Mixture().of(domain)) is fault


def test_the_first_different_good_responses_are_chosen() -> None:
    texts = ["same", "other", "same", "third", "fourth"]
    responses = [response(lay_out(text, "4"), index) for index, text in enumerate(texts)]
    faults = [None, SynthesizeReason.NO_CORRECT_RESPONSE, None, None, None]
    assert choose("q", Domain.MATH, responses, faults, 2).kept == (0, 3)
    assert choose("q", Domain.MATH, responses, faults, 9).kept == (0, 3, 4)


def test_a_query_leaves_for_the_fault_of_its_furthest_response() -> None:
    faults = [SynthesizeReason.TRUNCATED, SynthesizeReason.NO_CORRECT_RESPONSE, SynthesizeReason.TRUNCATED]
    left = choose("q", Domain.MATH, [response(index=i) for i in range(3)], faults, 4)
    assert left.reason is SynthesizeReason.NO_CORRECT_RESPONSE
    assert left.evidence == "of 3 responses: 2 truncated, 1 no_correct_response"
    assert choose("q", Domain.MATH, [], [], 4).reason is SynthesizeReason.NO_RESPONSE


@given(
    st.lists(st.tuples(st.sampled_from([Domain.MATH, Domain.CHAT]), st.integers(0, 3)), max_size=20),
    st.integers(0, 10),
    st.randoms(),
)
def test_a_mixture_target_is_kept_whatever_the_order(sizes: list[tuple[Domain, int]], target: int, rng: object) -> None:
    choices = [
        Choice(f"q{i}", domain, tuple(range(n)), None if n else SynthesizeReason.NO_RESPONSE)
        for i, (domain, n) in enumerate(sizes)
    ]
    mixture = Mixture(math=DomainPolicy(max_samples=target))
    fitted = fit_mixture(choices, mixture)
    assert sum(len(c.kept) for c in fitted if c.domain is Domain.MATH) <= target
    assert [c for c in fitted if c.domain is Domain.CHAT] == [c for c in choices if c.domain is Domain.CHAT]
    assert all(bool(c.kept) != (c.reason is not None) for c in fitted)
    shuffled = list(choices)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(fit_mixture(shuffled, mixture)) == set(fitted)


def test_hard_queries_are_asked_more_often() -> None:
    config = ResponsesConfig(teacher=TeacherConfig(model="m"), num_samples=4, hard_num_samples=8, hard_below=0.75)
    agreements = {1.0: 4, 0.75: 4, 0.5: 8, None: 4}
    for agreement, expected in agreements.items():
        meta = {} if agreement is None else {"teacher_agreement": agreement}
        assert num_samples(query("q", meta=meta), config) == expected


def query(query_id: str, domain: Domain = Domain.MATH, **fields: object) -> Query:
    asked = {"messages": (Message(role="user", content=f"What is {query_id}?"),), "answer": "4"}
    return Query.model_validate({"id": query_id, "domain": domain, "source": f"{domain}-source", **asked, **fields})


class FakeRewarder:
    """Right is what says `\\boxed{4}`; chat is scored by its length; `crash` crashes the verifier."""

    def score(self, batch: Sequence[tuple[Query, str]]) -> list[Verdict]:
        return [self._verdict(asked, text) for asked, text in batch]

    def _verdict(self, asked: Query, text: str) -> Verdict:
        if "crash" in text:
            return Verdict(outcome=Outcome.CRASH)
        if asked.domain is Domain.CHAT:
            return Verdict(outcome=Outcome.SCORED, score=0.9 if "friendly" in text else 0.5)
        is_right = "\\boxed{4}" in text
        return Verdict(outcome=Outcome.EQUAL if is_right else Outcome.DIFFERENT, score=float(is_right))


class Tables:
    """Data sets in memory, and an output that reads them."""

    def __init__(self, folder: Path, **tables: list[Any]) -> None:
        (folder / "scratch").mkdir(parents=True)
        store = Store(str(folder / "store"), local=folder / "local")
        self.out = Output("step", scratch=folder / "scratch", store=store, resources=Resources())
        self.sets = {name: Dataset(name=name, digest=name, uri="", rows=len(rows)) for name, rows in tables.items()}
        rows: Any = lambda dataset, model: iter(tables[dataset.name])  # noqa: E731
        self.out.rows = rows  # type: ignore[method-assign]

    def finish(self) -> tuple[list[Sample], dict[str, Drop]]:
        self.out.check_conservation(self.sets["queries"].rows)
        paths = [(file, self.out.store.local_file(file)) for file in self.out.finish(True)]
        kept = [row for file, path in paths if "kept" in file.path for row in read_shard(path, Sample)]
        drops = {row.query_id: row for file, path in paths if "dropped" in file.path for row in read_shard(path, Drop)}
        return kept, drops


def test_every_query_is_kept_or_dropped_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "open_rewarder", lambda out, runtime, config: FakeRewarder())
    monkeypatch.setattr(steps, "BATCH_QUERIES", 3)
    right, wrong = lay_out("4", "\\boxed{4}"), lay_out("5", "\\boxed{5}")
    said: dict[str, tuple[Domain, list[tuple[str, str]]]] = {
        "a-right": (Domain.MATH, [(wrong, "stop"), (right, "stop"), (right, "stop")]),
        "b-wrong": (Domain.MATH, [(wrong, "stop"), (wrong, "stop")]),
        "c-silent": (Domain.MATH, []),
        "d-cut": (Domain.MATH, [(right, "length")]),
        "e-open": (Domain.SCIENCE, [("<think>\n\\boxed{4}", "stop")]),
        "f-loop": (Domain.MATH, [(lay_out(TWENTY * 30, "\\boxed{4}"), "stop")]),
        "g-crash": (Domain.CODE, [(lay_out("crash", "x"), "stop"), ("no parts", "stop")]),
        "h-cold": (Domain.CHAT, [(lay_out("", "Hm."), "stop")]),
        "i-warm": (Domain.CHAT, [("<think>hm</think>A friendly word.", "stop")]),
        "j-form": (Domain.INSTRUCTION, [(wrong, "stop"), ("no parts", "stop")]),
    }
    responses = [
        Response(query_id=key, model="m", sample_index=i, text=text, finish_reason=finish)
        for key, (_, texts) in said.items()
        for i, (text, finish) in enumerate(texts)
    ]
    tables = Tables(tmp_path, queries=[query(key, domain) for key, (domain, _) in said.items()], responses=responses)
    mixture = Mixture(instruction_following=DomainPolicy(repeats=3, is_judged=False))
    config = SampleSelection(selection=SelectionConfig(mixture=mixture), rewards=RewardConfig(), system_prompt="Think.")
    select_samples.inner(tables.sets["queries"], tables.sets["responses"], config, tables.out, Runtime())
    samples, drops = tables.finish()
    assert {key: drop.reason for key, drop in drops.items()} == {
        "b-wrong": "no_correct_response",
        "c-silent": "no_response",
        "d-cut": "truncated",
        "e-open": "bad_structure",
        "f-loop": "repetitive",
        "g-crash": "verification_failed",
        "h-cold": "low_score",
    }
    assert drops["g-crash"].evidence == "of 2 responses: 1 bad_structure, 1 verification_failed"
    assert [sample.id for sample in samples] == ["a-right/1", "i-warm/0", "j-form/0", "j-form/0/1", "j-form/0/2"]
    assert [m.role for m in samples[0].messages] == ["system", "user", "assistant"]
    assert samples[1].response == "<think>\nhm\n</think>\n<answer>\nA friendly word.\n</answer>"
    assert "| instruction_following | 3 | 60.0% |  |" in tables.out.notes[0]
