"""Multiple choice → fill-in-the-blank: the checks by hand, and the step against the scripted stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from infra.artifacts import Drop
from infra.runtime import Endpoint, Runtime
from tasks.filter import rewrite
from tasks.filter.rewrite import Rewrite, rewrite_choices, rewritten_query
from tasks.filter.rewrite_checks import (
    Fault,
    Pair,
    RewriteReason,
    Rewriting,
    answer_pairs,
    choice_of,
    fault_of_answer,
    fault_of_check,
    fault_of_options,
    fault_of_question,
    read_rewriting,
)
from tasks.filter.rewrite_config import ChoiceRewriteConfig, RewriteCheck, RewriterConfig
from tasks.records import Domain, Message, Outcome, Query
from tasks.rewards.math import MathConfig, MathVerifier
from tests.unit.memory_tables import MemoryTables

RUNTIME = Runtime(endpoints={role: Endpoint(base_url="stand-in") for role in ("rewriter", "arbiter")})


def config(otherwise: Literal["keep", "drop"] = "keep", answerer: str = "arbiter") -> RewriteCheck:
    return RewriteCheck(
        rewrite=ChoiceRewriteConfig(
            rewriter=RewriterConfig(model="scripted-stand-in/rewriter", role="rewriter"),
            answerer=RewriterConfig(model=f"scripted-stand-in/{answerer}", role="arbiter"),
            domains=(Domain.MATH, Domain.SCIENCE),
            otherwise=otherwise,
        ),
        math=MathConfig(),
    )


def mcq(stem: str, *options: str, answer: str = "A", name: str = "q", **fields: Any) -> Query:
    lines = [f"{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False)]
    known: dict[str, Any] = {"domain": Domain.SCIENCE, "source": "s", "meta": {"stem": stem, "subject": "x"}}
    text = "\n".join([stem, "", *lines])
    turns = (Message(role="user", content=text),)
    return Query.model_validate(
        {"id": name, "messages": turns, "choices": options, "answer": answer, **known, **fields}
    )


def rewriting(question: str, answer: str) -> Rewriting:
    return Rewriting(question, answer, "…")


@pytest.mark.parametrize(
    ("option", "refers"),
    [
        ("None of the above", True),
        ("All of these", True),
        ("both A and C", True),
        ("B and D only", True),
        ("Neither A nor B", True),
        ("choice B", True),
        ("42", False),
        ("all of space", False),
        ("a choice a customer makes", False),
        ("vitamins A and D", False),
    ],
)
def test_an_option_that_speaks_of_options_is_left_alone(option: str, refers: bool) -> None:
    choice = choice_of(mcq("What is it?", option, "4"))
    assert choice is not None
    assert (fault_of_options(choice) is not None) is refers


def test_only_multiple_choice_has_options() -> None:
    assert choice_of(mcq("What is 6 times 7?", answer="42")) is None
    assert choice_of(mcq("What is 6 times 7?", "1", "2", answer="C")) is None
    choice = choice_of(mcq("What is 6 times 7?", "41", " $42$. ", "43", answer="B"))
    assert choice is not None
    assert (choice.right, choice.wrong) == ("42", ("41", "43"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<question>What is $\\frac{1}{2}$?</question><answer>0.5</answer>",
            Rewriting("What is $\\frac{1}{2}$?", "0.5", ""),
        ),
        ("<think><question>x</question></think><question>y?</question><answer>z</answer>", Rewriting("y?", "z", "")),
        ("<reason>It asks about options.</reason><question>none</question>", RewriteReason.OPTIONS_NEEDED),
        ("<question>What is it?</question>", RewriteReason.REWRITE_FAILED),
        ("<think>\n<question>x</question><answer>y</answer>", RewriteReason.REWRITE_FAILED),
        ("I cannot do that.", RewriteReason.REWRITE_FAILED),
    ],
)
def test_readings_of_replies(text: str, expected: Rewriting | RewriteReason) -> None:
    found = read_rewriting(text)
    assert found == expected if isinstance(found, Rewriting) else found.reason is expected


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("A train makes 60 km in 2 hours. What is its speed in km/h?", None),
        ("A train makes 60 km in 2 hours. Which of the following is its speed?", RewriteReason.OPTIONS_NEEDED),
        ("Which of these is the speed of a train that makes 60 km in 2 hours?", RewriteReason.OPTIONS_NEEDED),
        ("A train makes 60 km in 2 hours. Which option is its speed?", RewriteReason.OPTIONS_NEEDED),
        ("A train makes 60 km in 2 hours. Speed?\nA. 30 km/h\nB. 40 km/h", RewriteReason.OPTIONS_NEEDED),
        ("A train makes 60 km in some hours. What is its speed?", RewriteReason.QUESTION_CHANGED),
        ("A train makes 60 km in 2 hours, so at 30 km/h. What is its speed?", RewriteReason.QUESTION_CHANGED),
    ],
)
def test_a_question_stands_without_options_and_keeps_its_numbers(question: str, reason: RewriteReason | None) -> None:
    choice = choice_of(
        mcq("A train makes 60 km in 2 hours. Which of the following is its speed?", "30 km/h", "40 km/h")
    )
    assert choice is not None
    fault = fault_of_question(choice, rewriting(question, "30 km/h"))
    assert (fault.reason if fault else None) is reason


def test_numbers_of_options_may_go_where_no_bare_question_is_known() -> None:
    choice = choice_of(mcq("What is 6 times 7?", "42", "45", meta={}))
    assert choice is not None
    assert fault_of_question(choice, rewriting("What is 6 times 7?", "42")) is None
    assert fault_of_question(choice, rewriting("What is six times 7?", "42")) is not None


@pytest.mark.parametrize(
    ("options", "answer", "reason"),
    [
        (("1/2", "1/3"), "0.5", None),
        (("1/2", "0.5"), "0.5", RewriteReason.ANSWER_UNVERIFIABLE),  # two right options
        (("1/2", "1/3"), "1/3", RewriteReason.ANSWER_CHANGED),
        (("osmosis", "diffusion"), "Osmosis", None),
        (("it goes up and then down", "it stays"), "it goes up and then down", RewriteReason.ANSWER_UNVERIFIABLE),
    ],
)
def test_the_label_is_the_options_own_text(options: tuple[str, ...], answer: str, reason: RewriteReason | None) -> None:
    choice = choice_of(mcq("What is it?", *options))
    assert choice is not None
    found = rewriting("What is it?", answer)
    with MathVerifier(MathConfig(), 1) as verifier:
        pairs = answer_pairs(choice, found)
        verdicts = verifier.compare_all(pairs)
    outcomes = {pair: verdict.outcome for pair, verdict in zip(pairs, verdicts, strict=True)}
    fault = fault_of_answer(choice, found, outcomes, max_words=3)
    assert (fault.reason if fault else None) is reason


def test_a_time_out_says_nothing_about_a_rewriting() -> None:
    choice = choice_of(mcq("What is it?", "1", "2"))
    assert choice is not None
    slow = {Pair("1", "1"): Outcome.EQUAL, Pair("1", "2"): Outcome.TIME_OUT, Pair("1", "3"): Outcome.DIFFERENT}
    fault = fault_of_answer(choice, rewriting("?", "1"), slow, 3)
    assert fault == Fault(RewriteReason.REWRITE_FAILED, "comparing with '1': equal, time_out")
    checks = [fault_of_check(choice, said, slow) for said in ("1", "2", "3", None)]
    assert [check and check.reason for check in checks] == [
        None, RewriteReason.REWRITE_FAILED, RewriteReason.ANSWER_UNCONFIRMED, RewriteReason.ANSWER_UNCONFIRMED,
    ]  # fmt: skip


def test_the_old_form_is_kept_in_the_meta() -> None:
    choice = choice_of(mcq("What is 6 times 7?", "41", "42", answer="B", solution="So (B).", alternatives=("B.",)))
    assert choice is not None
    new = rewritten_query(choice, rewriting("What is 6 times 7?", "42"))
    assert (new.prompt, new.answer, new.choices, new.solution) == ("What is 6 times 7?", "42", (), None)
    assert (new.id, new.alternatives) == (choice.query.id, ())
    old = {"prompt": choice.query.prompt, "choices": ["41", "42"], "answer": "B", "solution": "So (B)."}
    assert new.meta == {"subject": "x", "rewritten_from": old}


BATCH = [
    mcq("What is 6 times 7?", "13", "42", "41", "67", answer="B", name="good"),
    mcq("What is 6 plus 7?", "13", "42", "41", "67", answer="B", name="mislabelled"),
    mcq("Which of the following numbers is the largest?", "1", "4", "7", "6", answer="C", name="bound"),
    mcq("What is 8 plus 7?", "None of the above", "42", "41", "67", answer="A", name="none"),
    mcq("What is 9 times 7?", "63", "42", "41", "67", answer="A", name="chat", domain=Domain.CHAT),
    mcq("What is 9 times 7?", answer="63", name="open"),
]


def run(folder: Path, check: RewriteCheck) -> MemoryTables:
    tables = MemoryTables(folder, queries=BATCH)
    rewrite_choices.inner(tables.sets["queries"], check, tables.out, RUNTIME)
    tables.close()
    return tables


def test_the_step_rewrites_what_it_can_and_keeps_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = run(tmp_path / "whole", config())
    kept = {query.id: query for query in tables.read("kept", Query)}
    assert (kept["good"].prompt, kept["good"].answer, kept["good"].choices) == ("What is 6 times 7?", "42", ())
    assert all(kept[query.id] == query for query in BATCH if query.id != "good")
    rows = {row.query_id: row for row in tables.read("rewrites", Rewrite)}
    assert {name: row.fault for name, row in rows.items()} == {
        "good": "",
        "mislabelled": "answer_changed",
        "bound": "options_needed",
        "none": "options_needed",
    }
    assert (rows["good"].new, rows["good"].answer, rows["bound"].new) == ("What is 6 times 7?", "42", None)
    assert rows["mislabelled"].evidence == "option '42', rewritten '13'"
    assert "| options needed | 2 |" in tables.out.notes[0]
    monkeypatch.setattr(rewrite, "BATCH_QUERIES", 2)
    batched = run(tmp_path / "batched", config())
    assert batched.bytes_of("kept") == tables.bytes_of("kept")
    assert batched.bytes_of("rewrites") == tables.bytes_of("rewrites")


def test_domains_without_answers_to_compare_are_refused() -> None:
    models = {"rewriter": RewriterConfig(model="m", role="r"), "answerer": RewriterConfig(model="m", role="r")}
    with pytest.raises(ValidationError, match="chat: only answers of math and science"):
        ChoiceRewriteConfig.model_validate({**models, "domains": ("math", "chat")})


def test_what_cannot_be_rewritten_may_be_dropped_with_its_reason(tmp_path: Path) -> None:
    tables = run(tmp_path, config(otherwise="drop"))
    drops = {drop.query_id: drop.reason for drop in tables.read("dropped", Drop)}
    assert drops == {"mislabelled": "answer_changed", "bound": "options_needed", "none": "options_needed"}
    assert {query.id for query in tables.read("kept", Query)} == {"good", "chat", "open"}


def test_an_answer_that_nobody_else_finds_is_unconfirmed(tmp_path: Path) -> None:
    """A judge in the answerer's place never boxes an answer."""
    tables = run(tmp_path, config(answerer="judge"))
    (row,) = [row for row in tables.read("rewrites", Rewrite) if row.query_id == "good"]
    assert (row.fault, row.evidence) == ("answer_unconfirmed", "the answerer gives no answer")


DATA = Path(__file__).resolve().parents[2].parent / "shared/data"


@pytest.mark.skipif(not (DATA / "raw").exists(), reason=f"no real data at {DATA}")
def test_real_options_and_stems_are_read_for_what_they_are() -> None:
    """MMLU: 17 of 410 right options speak of other options; 249 stems speak of none, and would pass unchanged."""
    from tasks.filter.text import stem
    from tasks.ingest.config import SourceConfig
    from tasks.ingest.conversion import convert_file

    source = SourceConfig(name="mmlu", file="mmlu_science_val.jsonl", adapter="mmlu_mcq", license="")
    rows = [query for query, _ in convert_file(DATA / "raw" / source.file, source)]
    choices = [choice for query in rows if (choice := choice_of(query)) is not None]
    assert len(choices) == len(rows) == 410
    bound = [choice.right for choice in choices if fault_of_options(choice)]
    assert len(bound) == 17
    assert all("of th" in right or "A and B" in right for right in bound)
    same = [fault_of_question(choice, rewriting(stem(choice.query), choice.right)) for choice in choices]
    reasons = [fault.reason for fault in same if fault is not None]
    assert len(reasons) == 161
    assert len(reasons) > sum("of the following" in choice.query.meta["stem"].lower() for choice in choices) > 150
    assert set(reasons) == {RewriteReason.OPTIONS_NEEDED}
