"""Science and logic as the hub's data sets publish them."""

from __future__ import annotations

import re

from tasks.ingest.adapters.hub_dialog import role_turns
from tasks.ingest.adapters.labels import label, letter_of, user_turn, with_options
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain
from tasks.rewards.extract import last_box

_OPTION = re.compile(r"\(([A-Z])\)")
_NUM_LOGIC_OPTIONS = 5


def natural_instructions(row: NativeRow) -> Draft:
    """Natural Instructions' tasks of MMLU: a question with options `(A)… (B)…`, the letter as target."""
    text = row.text("inputs")
    targets = row.take("targets")
    right = targets[0] if isinstance(targets, list) and targets else targets
    stem, *marked = _OPTION.split(text)
    options = [option.strip() for option in marked[1::2]]
    return _choice(stem, options, right) if options else Draft(Domain.SCIENCE, user_turn(text), answer=label(right))


def mmlu(row: NativeRow) -> Draft:
    """MMLU: options in a list and the answer as an index from 0."""
    return _choice(row.text("question"), [str(option) for option in row.list("choices")], row.take("answer"))


def chemistry_qa(row: NativeRow) -> Draft:
    """ChemistryQA: questions of chemistry with a quantity, an equation or words as answer."""
    row.leave("full_articfle", "full_article")
    question = "\n\n".join(part for part in (row.text("question").strip(), _more(row)) if part)
    return Draft(Domain.SCIENCE, user_turn(question), answer=label(row.take("answer")))


def logic_701(row: NativeRow) -> Draft:
    """LOGIC-701: five options in columns of their own, the right one by its number from 1."""
    options = [row.text(f"answer_option_{number}") for number in range(1, _NUM_LOGIC_OPTIONS + 1)]
    number = row.take("correct_option_number")
    if not str(number).isdecimal():
        raise FieldError(f"field `correct_option_number` is {number!r}, not a number from 1")
    draft = _choice(row.text("problem_statement"), options, int(number) - 1)
    solution = row.text("solution") or None
    return Draft(
        draft.domain, draft.messages, answer=draft.answer, choices=draft.choices, solution=solution, stem=draft.stem
    )


def ncert(row: NativeRow) -> Draft:
    """NCERT: school questions with a written answer, and the explanation of their topic."""
    solution = row.text("Explanation") or None
    return Draft(Domain.SCIENCE, user_turn(row.text("Question")), answer=label(row.take("Answer")), solution=solution)


def question_answer(row: NativeRow) -> Draft:
    """A question and its answer, nothing else known."""
    return Draft(Domain.SCIENCE, user_turn(row.text("question")), answer=label(row.take("answer")))


def nemotron_science(row: NativeRow) -> Draft:
    """Llama-Nemotron, science: multiple choice in the text; the label is the box of the output, which is kept."""
    turns = row.take("input")
    messages = user_turn(turns) if isinstance(turns, str) else role_turns(turns, "input")
    output = row.text("output")
    return Draft(Domain.SCIENCE, messages, answer=label(last_box(output)), solution=output or None)


def _more(row: NativeRow) -> str:
    return str(row.optional("question_description") or "").strip()


def _choice(stem: str, options: list[str], right: object) -> Draft:
    options = [option.strip() for option in options]
    prompt = with_options(stem, options) if stem.strip() else ""
    letter = letter_of(right, len(options))
    return Draft(Domain.SCIENCE, user_turn(prompt), answer=letter, choices=tuple(options), stem=stem.strip())
