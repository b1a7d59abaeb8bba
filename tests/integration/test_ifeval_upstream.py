"""All 541 prompts of IFEval: strict and loose verdicts are those of the package's own entry, called directly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.rewards.instruction_upstream import registry, sentence_tokenizer
from tasks.rewards.instructions import InstructionConfig, judge_instructions

pytestmark = pytest.mark.integration
IFEVAL = Path(__file__).resolve().parents[2].parent / "shared/data/benchmarks/ifeval.jsonl"
# Of the files in NLTK's own `punkt_tab/english`, read with NLTK and told in order.
PUNKT_ENGLISH = "05d1b12e48957bd1e1d458276076802cde540d5f3c0785efbd5c522ad2703023"
Row = dict[str, Any]


def followed(row: Row) -> str:
    """A response that tries to follow: keywords, marks, sections, bullets and length as the arguments ask."""
    lines: list[str] = []
    for kwargs in row["kwargs"]:
        lines += [str(word) for word in kwargs.get("keywords") or []]
        lines += [str(kwargs["keyword"])] * int(kwargs.get("frequency") or 0) if kwargs.get("keyword") else []
        lines += [f"* bullet {n}" for n in range(int(kwargs.get("num_bullets") or 0))]
        lines += [f"*part {n}*" for n in range(int(kwargs.get("num_highlights") or 0))]
        lines += [f"[place {n}]" for n in range(int(kwargs.get("num_placeholders") or 0))]
        lines += [f"{kwargs.get('section_spliter')} {n}" for n in range(int(kwargs.get("num_sections") or 0))]
        lines += [f"WORD{n}" for n in range(int(kwargs.get("capital_frequency") or 0))]
        lines += [f"One sentence by Dr. Smith at {n} p.m. today." for n in range(int(kwargs.get("num_sentences") or 0))]
        lines += ["word " * int(kwargs.get("num_words") or 0)]
        lines += [str(kwargs.get("letter") or "") * int(kwargs.get("let_frequency") or 0)]
        lines += [f"{kwargs['postscript_marker']} more"] if kwargs.get("postscript_marker") else []
        lines += [str(kwargs.get("end_phrase") or "")]
    repeated = [str(k["prompt_to_repeat"]) for k in row["kwargs"] if k.get("prompt_to_repeat")]
    return "\n".join([*repeated, "<<title>>", "My answer is yes.", *lines])


MAKERS: dict[str, Callable[[Row], str]] = {
    "followed": followed,
    "quoted": lambda row: f'"{followed(row)}"',
    "the prompt again": lambda row: str(row["prompt"]),
    "capitals": lambda row: str(row["prompt"]).upper(),
    "lower case, no commas": lambda row: followed(row).lower().replace(",", ""),
    "two": lambda row: f"one\n******\n{row['key']}",
    "paragraphs": lambda row: "\n***\n".join(
        ["text"] * max([int(k.get("num_paragraphs") or 0) for k in row["kwargs"]] + [1])
    ),
    "json": lambda row: f'```json\n{{"key": {row["key"]}}}\n```',
    "in another script": lambda _: "これは日本語の文章です。\u200b🙂 ﷽ \u202eabc ñ, «x»",
    "marks alone": lambda _: '*** ****** << >> [] "" \' , . ! # * - \u0000',
    "empty": lambda _: "",
    "blank": lambda _: " \n\t ",
}


@pytest.mark.skipif(not IFEVAL.exists(), reason="the shared data folder is not there")
@pytest.mark.parametrize("maker", MAKERS)
def test_upstream_says_the_same(maker: str) -> None:
    registry()
    from if_verifiable import IFEvalSample, evaluate_output_for_sample

    rows = [json.loads(line) for line in IFEVAL.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 541
    for row in rows:
        response = MAKERS[maker](row)
        _, scores = evaluate_output_for_sample("ifeval", IFEvalSample(**row), response)
        constraints = [
            {"id": name, "kwargs": kwargs}
            for name, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True)
        ]
        strict = judge_instructions(constraints, response)
        loose = judge_instructions(constraints, response, InstructionConfig(rules="loose"))
        assert (strict.score, loose.score) == (scores.binary_strict, scores.binary_loose), (row["key"], strict, loose)


def test_the_responses_tell_verdicts_apart() -> None:
    if not IFEVAL.exists():
        pytest.skip("the shared data folder is not there")
    rows = [json.loads(line) for line in IFEVAL.read_text(encoding="utf-8").splitlines()]
    passed = {
        name
        for row in rows
        for name, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True)
        if judge_instructions([{"id": name, "kwargs": kwargs}], followed(row)).score
    }
    assert len(passed) > 15, "hardly an instruction is ever followed: the comparison shows little"


def test_the_sentence_model_is_nltks() -> None:
    parameters = sentence_tokenizer()._params
    told = json.dumps([
        sorted(parameters.abbrev_types), sorted(parameters.collocations), sorted(parameters.sent_starters),
        sorted(parameters.ortho_context.items()),
    ])  # fmt: skip
    assert hashlib.sha256(told.encode()).hexdigest() == PUNKT_ENGLISH
