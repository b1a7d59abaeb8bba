"""IFEval's verifiable instructions, strict: 1 iff every one is followed (arXiv 2311.07911; google-research).

Each checker says what Google's checker says, its quirks included, so that scores can be compared.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.records import Outcome, Verdict
from tasks.rewards.extract import answer_part
from tasks.rewards.instruction_text import capital_words, count_sentences, count_words, detect_language
from tasks.rewards.verdicts import verdict

Kwargs = Mapping[str, Any]
Checker = Callable[[str, Kwargs], bool]
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}


class ConstraintError(ValueError):
    """An instruction that cannot be checked: an unknown id, or a missing or odd argument."""


def judge_instructions(constraints: Sequence[Mapping[str, Any]] | None, response: str) -> Verdict:
    """Verdict on the answer part of a response; no answer part, or an empty one, follows nothing.

    Raises:
        ConstraintError: a constraint cannot be checked, or there is none.
    """
    if not constraints:
        raise ConstraintError("no constraints to check; an instruction-following query needs some")
    started = time.perf_counter()
    answer = answer_part(response)
    if not answer:
        return verdict(Outcome.ANSWER_MISSING, "instructions", detail="no answer part")
    broken = [str(c["id"]) for c in constraints if not follows(str(c["id"]), c.get("kwargs") or {}, answer)]
    outcome = Outcome.WRONG if broken else Outcome.PASSED
    ms = (time.perf_counter() - started) * 1000
    return verdict(outcome, "instructions", detail=", ".join(broken), ms=ms)


def follows(instruction_id: str, kwargs: Kwargs, text: str) -> bool:
    """Whether a text follows one instruction. Arguments that are None count as absent.

    Raises:
        ConstraintError: the id is unknown, or an argument is missing or odd.
    """
    if instruction_id not in CHECKERS:
        raise ConstraintError(f"unknown instruction `{instruction_id}`; known: {', '.join(sorted(CHECKERS))}")
    given = {name: value for name, value in kwargs.items() if value is not None}
    try:
        return bool(text.strip()) and CHECKERS[instruction_id](text, given)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConstraintError(f"`{instruction_id}` with arguments {given}: {error!r}") from error


def _meets(relation: str, count: int, threshold: int) -> bool:
    if relation not in {"less than", "at least"}:
        raise ConstraintError(f"relation {relation!r}; use `less than` or `at least`")
    return count < threshold if relation == "less than" else count >= threshold


def _find_all(pattern: str, text: str) -> list[str]:
    """Keywords are patterns to IFEval; one that is no valid pattern is taken as plain text."""
    try:
        return re.findall(pattern, text, flags=re.IGNORECASE)
    except re.error:
        return re.findall(re.escape(pattern), text, flags=re.IGNORECASE)


def _is_english(text: str) -> bool:
    return detect_language(text) in {None, "en"}


def _is_language(text: str, k: Kwargs) -> bool:
    return detect_language(text) in {None, k["language"]}


def _json(text: str, _: Kwargs) -> bool:
    text = re.sub(r"^```(?:json|Json|JSON)?|```$", "", text.strip()).strip()
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _bullets(text: str, k: Kwargs) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, flags=re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, flags=re.MULTILINE)
    return len(stars) + len(dashes) == int(k["num_bullets"])


def _highlights(text: str, k: Kwargs) -> bool:
    single = [h for h in re.findall(r"\*[^\n\*]*\*", text) if h.strip("*").strip()]
    double = [h for h in re.findall(r"\*\*[^\n\*]*\*\*", text) if h.removeprefix("**").removesuffix("**").strip()]
    return len(single) + len(double) >= int(k["num_highlights"])


def _sections(text: str, k: Kwargs) -> bool:
    return len(re.split(rf"\s?{re.escape(k['section_spliter'].strip())}\s?\d+\s?", text)) - 1 >= int(k["num_sections"])


def _title(text: str, _: Kwargs) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _paragraphs(text: str, k: Kwargs) -> bool:
    paragraphs = re.split(r"\s?\*\*\*\s?", text)
    inner = paragraphs[1:-1]
    ends = sum(bool(paragraph.strip()) for paragraph in paragraphs[:1] + paragraphs[1:][-1:])
    return all(paragraph.strip() for paragraph in inner) and len(inner) + ends == int(k["num_paragraphs"])


def _nth_paragraph(text: str, k: Kwargs) -> bool:
    paragraphs = re.split(r"\n\n", text)
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    nth = int(k["nth_paragraph"])
    paragraph = paragraphs[nth - 1].strip() if nth <= count else ""
    if not paragraph:
        return False
    word = paragraph.split()[0].lstrip("'").lstrip('"')
    first = re.split(r"[.,?!'\"]", word)[0].lower()
    return count == int(k["num_paragraphs"]) and first == str(k["first_word"]).lower()


def _placeholders(text: str, k: Kwargs) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= int(k["num_placeholders"])


def _postscript(text: str, k: Kwargs) -> bool:
    marker = str(k["postscript_marker"]).strip()
    pattern = _POSTSCRIPTS.get(marker, rf"\s*{re.escape(marker.lower())}.*$")
    return re.search(pattern, text.lower(), flags=re.MULTILINE) is not None


def _two_responses(text: str, _: Kwargs) -> bool:
    pieces = [piece.strip() for piece in text.split("******")]
    answers = [piece for piece in pieces if piece]
    return all(pieces[1:-1]) and len(answers) == 2 and answers[0] != answers[1]


def _end(text: str, k: Kwargs) -> bool:
    return text.strip().strip('"').lower().endswith(str(k["end_phrase"]).strip().lower())


def _quotation(text: str, _: Kwargs) -> bool:
    text = text.strip()
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


def _forbidden(text: str, k: Kwargs) -> bool:
    return not any(_find_all(rf"\b{word}\b", text) for word in k["forbidden_words"])


def _letters(text: str, k: Kwargs) -> bool:
    return _meets(k["let_relation"], text.lower().count(str(k["letter"]).lower()), int(k["let_frequency"]))


CHECKERS: dict[str, Checker] = {
    "change_case:capital_word_frequency": lambda text, k: _meets(
        k["capital_relation"], capital_words(text), int(k["capital_frequency"])
    ),
    "change_case:english_capital": lambda text, _: text.isupper() and _is_english(text),
    "change_case:english_lowercase": lambda text, _: text.islower() and _is_english(text),
    "combination:repeat_prompt": lambda text, k: text.strip().lower().startswith(k["prompt_to_repeat"].strip().lower()),
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": lambda text, _: any(option in text for option in _OPTIONS),
    "detectable_format:json_format": _json,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "keywords:existence": lambda text, k: all(_find_all(keyword, text) for keyword in k["keywords"]),
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": lambda text, k: _meets(
        k["relation"], len(_find_all(k["keyword"], text)), int(k["frequency"])
    ),
    "keywords:letter_frequency": _letters,
    "language:response_language": _is_language,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": lambda text, k: _meets(
        k["relation"], count_sentences(text), int(k["num_sentences"])
    ),
    "length_constraints:number_words": lambda text, k: _meets(k["relation"], count_words(text), int(k["num_words"])),
    "punctuation:no_comma": lambda text, _: "," not in text,
    "startend:end_checker": _end,
    "startend:quotation": _quotation,
}
