"""Mathematics as the hub's data sets publish it."""

from __future__ import annotations

from tasks.ingest.adapters.labels import label, user_turn, whole_number
from tasks.ingest.native import Draft, NativeRow
from tasks.records import Domain
from tasks.rewards.extract import last_box

_METAMATH_MARK = "The answer is:"


def openr1_math(row: NativeRow) -> Draft:
    """OpenR1-Math-220k: NuminaMath-1.5's columns with R1's generations, which are not kept."""
    row.leave("generations", "messages")
    return _solved(row)


def numina_1_5(row: NativeRow) -> Draft:
    """NuminaMath-1.5: `answer` may be the word `proof` or `notfound`; then there is no label."""
    draft = _solved(row)
    if draft.answer in {"proof", "notfound"}:
        return Draft(Domain.MATH, draft.messages, solution=draft.solution, meta={"answer": draft.answer})
    return draft


def numina_cot(row: NativeRow) -> Draft:
    """NuminaMath-CoT: the label is the last box of the solution; `messages` repeat problem and solution."""
    row.leave("messages")
    return _boxed(row, "problem")


def big_math(row: NativeRow) -> Draft:
    """Big-Math-RL-Verified: a problem, its answer, and how often an 8B model solves it."""
    return Draft(Domain.MATH, user_turn(row.text("problem")), answer=label(row.take("answer")))


def s1_full(row: NativeRow) -> Draft:
    """The 59K questions of s1 (data_ablation_full59K): `solution` is worked out, or the bare answer."""
    draft = _boxed(row, "question")
    domain = Domain.MATH if row.text("cot_type") == "math" else Domain.SCIENCE
    solution = draft.solution or ""
    is_bare = bool(solution) and not any(character.isspace() for character in solution)
    answer = draft.answer or (label(solution) if is_bare else None)
    return Draft(
        domain, draft.messages, answer=answer, solution=draft.solution, meta={"cot_type": row.text("cot_type")}
    )


def metamath(row: NativeRow) -> Draft:
    """MetaMathQA: the response ends with `The answer is: …`."""
    response = row.text("response")
    _, mark, answer = response.rpartition(_METAMATH_MARK)
    return Draft(
        Domain.MATH, user_turn(row.text("query")), answer=label(answer) if mark else None, solution=response or None
    )


def deepmath_103k(row: NativeRow) -> Draft:
    """DeepMath-103K: the first of three R1 solutions is kept."""
    row.leave("r1_solution_2", "r1_solution_3")
    solution = row.text("r1_solution_1") or None
    return Draft(
        Domain.MATH, user_turn(row.text("question")), answer=label(row.take("final_answer")), solution=solution
    )


def aime_table(row: NativeRow) -> Draft:
    """AIME_1983_2024: one row a problem of the contest; labels are whole numbers."""
    return Draft(Domain.MATH, user_turn(row.text("Question")), answer=whole_number(row.take("Answer")))


def deepscaler(row: NativeRow) -> Draft:
    """DeepScaleR-Preview-Dataset."""
    return _solved(row)


def still_3(row: NativeRow) -> Draft:
    """STILL-3-Preview-RL-Data: question and answer."""
    return Draft(Domain.MATH, user_turn(row.text("question")), answer=label(row.take("answer")))


def omni_math(row: NativeRow) -> Draft:
    """Omni-MATH: olympiad problems; `domain` and `difficulty` stay in the meta."""
    return _solved(row)


def aime_2025(row: NativeRow) -> Draft:
    """AIME 2025 as problem and answer."""
    return Draft(Domain.MATH, user_turn(row.text("problem")), answer=whole_number(row.take("answer")))


def _solved(row: NativeRow) -> Draft:
    solution = row.text("solution") or None
    return Draft(Domain.MATH, user_turn(row.text("problem")), answer=label(row.take("answer")), solution=solution)


def _boxed(row: NativeRow, question: str) -> Draft:
    solution = row.text("solution").strip()
    answer = label(last_box(solution)) if "boxed" in solution else None
    return Draft(Domain.MATH, user_turn(row.text(question)), answer=answer, solution=solution or None)
