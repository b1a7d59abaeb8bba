"""Sources of mathematics with a checkable answer."""

from __future__ import annotations

import json

from tasks.ingest.adapters.labels import label, user_turn, whole_number
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain


def gsm8k(row: NativeRow) -> Draft:
    """GSM8K, either split: the label stands after `####`, with thousands commas."""
    solution, mark, answer = row.text("answer").rpartition("####")
    gold = label(answer.replace(",", "")) if mark else None
    return Draft(Domain.MATH, user_turn(row.text("question")), answer=gold, solution=solution.strip() or None)


def hendrycks_math(row: NativeRow) -> Draft:
    """The MATH train set in rllm's form: answers already extracted."""
    return Draft(Domain.MATH, user_turn(row.text("problem")), answer=label(row.take("answer")))


def math500(row: NativeRow) -> Draft:
    """MATH-500, with worked solutions."""
    return _with_solution(row, "problem")


def aime(row: NativeRow) -> Draft:
    """AIME 1983-2023 in rllm's form; labels are whole numbers."""
    draft = _with_solution(row, "problem")
    return Draft(draft.domain, draft.messages, answer=whole_number(draft.answer), solution=draft.solution)


def aimo(row: NativeRow) -> Draft:
    """AI-MO validation sets (AMC, AIME): question, answer, url, solution; AMC labels are floats."""
    draft = _with_solution(row, "question")
    return Draft(draft.domain, draft.messages, answer=whole_number(draft.answer), solution=draft.solution)


def amc(row: NativeRow) -> Draft:
    """AMC in rllm's form; labels are floats."""
    return Draft(Domain.MATH, user_turn(row.text("problem")), answer=whole_number(row.take("answer")))


def deepmath(row: NativeRow) -> Draft:
    """DeepMath-103K in ROLL's form: `messages` is JSON text whose system turn only asks for a box."""
    return _roll(row, Domain.MATH, question=row.text("prompt"))


def multi_subject(row: NativeRow) -> Draft:
    """Multi-Subject-RLVR in ROLL's form: `prompt` holds the system turn, the question is the last user turn."""
    row.text("prompt")
    return _roll(row, Domain.SCIENCE, question=None)


def olympiadbench(row: NativeRow) -> Draft:
    """OlympiadBench: answer and solution are lists, and a context may precede the problem."""
    problem, context = row.text("problem"), row.text("context")
    answers, solutions = row.list("answer"), row.list("solution")
    return Draft(
        Domain.MATH,
        user_turn(f"{context}\n\n{problem}" if problem else ""),
        answer=label(answers[0]) if len(answers) == 1 else None,
        solution=solutions[0] if solutions else None,
        meta={"answers": answers} if len(answers) > 1 else {},
    )


def minerva(row: NativeRow) -> Draft:
    """Minerva (MIT courses): the first of several equivalent labels is the answer; the others go into the meta."""
    answers = [text for answer in row.list("answer") if (text := label(answer)) is not None]
    return Draft(
        Domain.MATH,
        user_turn(row.text("problem")),
        answer=answers[0] if answers else None,
        solution=row.text("solution") or None,
        meta={"other_answers": answers[1:]} if len(answers) > 1 else {},
    )


def gaokao(row: NativeRow) -> Draft:
    """Gaokao 2023 in English."""
    return Draft(Domain.MATH, user_turn(row.text("question")), answer=label(row.take("answer")))


def minif2f(row: NativeRow) -> Draft:
    """miniF2F: informal statements of proofs; there is no label."""
    return Draft(Domain.MATH, user_turn(row.text("informal_statement")), solution=row.text("informal_proof") or None)


def aime_verl(row: NativeRow) -> Draft:
    """AIME benchmarks in verl's form; a closing sentence that tells the model how to answer is taken off."""
    turns = row.list("prompt")
    if not turns or not isinstance(turns[-1], dict) or "content" not in turns[-1]:
        raise FieldError("field `prompt` holds no turn with `content`")
    question = str(turns[-1]["content"]).partition("Let's think step by step and output")[0]
    gold = row.mapping("reward_model")
    if "ground_truth" not in gold:
        raise FieldError("field `reward_model.ground_truth` is missing")
    return Draft(Domain.MATH, user_turn(question), answer=whole_number(gold["ground_truth"]))


def _with_solution(row: NativeRow, question: str) -> Draft:
    answer, solution = label(row.take("answer")), row.text("solution") or None
    return Draft(Domain.MATH, user_turn(row.text(question)), answer=answer, solution=solution)


def _roll(row: NativeRow, domain: Domain, question: str | None) -> Draft:
    try:
        turns = json.loads(row.text("messages"))
        asked = [turn["content"] for turn in turns if turn["role"] == "user"]
    except (ValueError, KeyError, TypeError):
        raise FieldError("field `messages` is not JSON text of turns with role and content") from None
    text = question if question is not None else (asked[-1] if asked else "")
    return Draft(domain, user_turn(text), answer=label(row.take("ground_truth")))
