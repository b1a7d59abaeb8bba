"""Sources of science and logic: multiple choice, and short numeric answers with a unit."""

from __future__ import annotations

import re

from tasks.ingest.adapters.labels import label, letter_of, option_text, user_turn, with_options
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain

_QASC_OPTION = re.compile(r"- \([A-Z]\) ")


def mmlu_mcq(row: NativeRow) -> Draft:
    """MMLU with options in the columns A to D and the answer as a letter."""
    return _choice(row.text("question"), [row.text(letter) for letter in "ABCD"], row.take("answer"))


def mmlu_stem(row: NativeRow) -> Draft:
    """MMLU-STEM as a benchmark: options in a list and the answer as an index from 0."""
    return _choice(row.text("question"), [str(option) for option in row.list("choices")], row.take("answer"))


def agieval(row: NativeRow) -> Draft:
    """AGIEval (LogiQA): a passage, a question, options that carry their marks, the answer as a letter."""
    return _agieval(row, Domain.SCIENCE)


def agieval_math(row: NativeRow) -> Draft:
    """AGIEval (SAT-Math): as LogiQA, with the worked solution under `other`."""
    return _agieval(row, Domain.MATH)


def qasc(row: NativeRow) -> Draft:
    """QASC from FLAN: options inside the question text, behind a literal backslash-n."""
    stem, mark, options = row.text("question").replace("\\n", "\n").partition("\nOptions:\n")
    if not mark:
        raise FieldError("field `question` has no `Options:` part")
    choices = [option.strip() for option in _QASC_OPTION.split(options)[1:]]
    return _choice(stem, choices, row.take("answer"), solution=row.text("rationale") or None)


def scibench(row: NativeRow) -> Draft:
    """SciBench: a number, and its unit in the meta."""
    answer, unit = label(row.take("answer_number")), row.text("unit").strip()
    return Draft(Domain.SCIENCE, user_turn(row.text("problem_text")), answer=answer, meta={"unit": unit})


def _agieval(row: NativeRow, domain: Domain) -> Draft:
    stem = "\n\n".join(part for part in (row.text("passage").strip(), row.text("question").strip()) if part)
    options = [option_text(str(option)) for option in row.list("options")]
    other = row.optional("other") or {}
    return _choice(stem, options, row.take("label"), domain=domain, solution=other.get("solution"))


def _choice(
    stem: str, options: list[str], right: object, domain: Domain = Domain.SCIENCE, solution: str | None = None
) -> Draft:
    options = [option.strip() for option in options]
    prompt = with_options(stem, options) if stem.strip() else ""
    letter = letter_of(right, len(options))
    return Draft(domain, user_turn(prompt), answer=letter, choices=tuple(options), solution=solution, stem=stem.strip())
