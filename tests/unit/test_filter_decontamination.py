"""Leaks of every form are found; boilerplate and template-near questions are none."""

from typing import Any

from tasks.filter.config import DecontaminationConfig, LeakSearch
from tasks.filter.decontaminate import BenchmarkIndex, Leak, find_leaks, scan, strongest, weigh
from tasks.filter.reasons import DropReason
from tasks.records import Domain, Message, Query

LONG = (
    "Every morning Aya goes for a 9-kilometer-long walk and stops at a coffee shop afterwards, and when she walks at a "
    "constant speed of s kilometers per hour the walk takes her 4 hours, including t minutes spent in the coffee shop."
)
BOILERPLATE = "The probability can be written as m/n where m and n are relatively prime positive integers. Find m + n."


def ask(name: str, text: str, **fields: Any) -> Query:
    defaults: dict[str, Any] = {"id": name, "domain": Domain.MATH, "source": "toy", "answer": "5"}
    return Query(messages=(Message(role="user", content=text),), **(defaults | fields))


def leaks_of(queries: list[Query], benchmark: list[Query], **config: Any) -> dict[str, Leak]:
    return find_leaks(queries, BenchmarkIndex(benchmark, DecontaminationConfig(**config)))


def reason_of(ours: str, theirs: str) -> DropReason | None:
    found = leaks_of([ask("q", ours)], [ask("b", theirs, source="bench")])
    return found["q"].reason if found else None


def test_equal_texts_of_any_length_and_layout_leak() -> None:
    found = leaks_of([ask("q", "what is $2+3$")], [ask("b", "What is \\(2 + 3\\)?", source="bench")])
    assert found["q"].reason is DropReason.LEAK_EXACT
    assert found["q"].evidence == "bench b: equal text; theirs: 'What is \\\\(2 + 3\\\\)?'; ours: 'what is $2+3$'"


def test_a_figure_or_a_frame_hides_no_leak() -> None:
    base = "Rectangles are drawn such that D, E, C, F are collinear with BC = 16. What is CE?"
    assert reason_of(base, f"{base}\n[asy] draw((0,0)--(70,16)); [/asy]") is DropReason.LEAK_EXACT
    framed = f"{base} Let's think step by step and output the final answer within \\boxed{{}}."
    assert reason_of(framed, base) is DropReason.LEAK_EXACT


def test_rewordings_with_the_numbers_in_order_leak() -> None:
    assert reason_of(
        "Begin with 9, add 7, add 9. What is the outcome?", "Start with 9, add 7, add 9. What is the result?"
    )


def test_other_numbers_or_another_order_are_no_leak() -> None:
    theirs = "Start with 9, add 7, subtract 2. What is the result?"
    assert reason_of("Start with 9, add 7, subtract 3. What is the result?", theirs) is None
    assert reason_of("Start with 9, subtract 7, add 2. What is the result?", theirs) is None
    assert reason_of(LONG.replace("9", "11"), LONG) is None
    assert reason_of("Convert 50 days to hours.", "Convert 50 hours to minutes.") is None


def test_like_words_need_an_agreeing_answer() -> None:
    theirs = [ask("b", "Take 28. Add 10. Add 6. What do you get?", source="bench", answer="44")]
    text = "Pick 28. Add 10. Add 6. What do you obtain?"
    assert leaks_of([ask("q", text, answer="44")], theirs).keys() == {"q"}
    assert leaks_of([ask("q", text, answer="45")], theirs) == {}
    assert leaks_of([ask("q", text.replace("Pick", "Take"), answer="45")], theirs, min_word_overlap_alone=0.7)


def test_a_long_prompt_inside_another_leaks() -> None:
    found = leaks_of([ask("q", f"Here is a riddle with 3 hints. {LONG} Good luck!")], [ask("b", LONG, source="bench")])
    assert found["q"].reason is DropReason.LEAK_OVERLAP


def test_boilerplate_weighs_nothing() -> None:
    theirs = [ask("b", f"Two dice are rolled until a six shows up on one of them. {BOILERPLATE}", source="bench")]
    subjects = ["cards", "coins", "balls", "socks", "keys", "hats", "fish", "cups", "pens", "maps"]
    ours = [ask(word, f"A box holds {word} and one of the {word} is red. {BOILERPLATE}") for word in subjects]
    assert leaks_of(ours, theirs) == {}
    assert leaks_of([*ours, ask("x", f"Now: {theirs[0].prompt}")], theirs).keys() == {"x"}


def test_multiple_choice_needs_the_options_unless_the_stem_is_long() -> None:
    options = "\n\nA. {}\nB. {}"
    short, long = "Which is true?", "Which of the following terms describes how the body keeps its normal state?"
    theirs = [
        ask(f"b{n}", stem + options.format("x", "y"), source="bench", choices=("x", "y"), meta={"stem": stem})
        for n, stem in enumerate((short, long))
    ]
    ours = [
        ask(f"q{n}", stem + options.format("p", "q"), choices=("p", "q"), meta={"stem": stem})
        for n, stem in enumerate((short, long))
    ]
    assert leaks_of(ours, theirs).keys() == {"q1"}
    assert leaks_of([ask("fill", long)], theirs).keys() == {"fill"}


def test_shared_asserts_leak_however_the_task_is_worded() -> None:
    asserts = ["assert f([1,2], 3) == 4", "assert f([ ], 0) == 1", "assert f([7], 7) == 0"]
    theirs = ask("b", "Sum them up.", domain=Domain.CODE, source="bench", tests={"kind": "assert", "asserts": asserts})
    spaced = ["assert f([1, 2], 3) == 4", "assert f([], 0) == 1"]
    ours = ask("q", "Write the total function.", domain=Domain.CODE, tests={"kind": "assert", "asserts": spaced})
    one = ours.model_copy(update={"id": "one", "tests": {"kind": "assert", "asserts": spaced[:1]}})
    found = leaks_of([ours, one], [theirs])
    assert found.keys() == {"q"}
    assert found["q"].reason is DropReason.LEAK_TESTS
    assert "2 equal asserts" in found["q"].evidence


def test_every_user_turn_is_compared() -> None:
    turns = tuple(
        Message(role=role, content=text)
        for role, text in (("user", "Who rules?"), ("assistant", "x"), ("user", "Why?"))
    )
    query = ask("q", "x").model_copy(update={"messages": turns})
    assert leaks_of([query], [ask("b", "who rules", source="bench")]).keys() == {"q"}


def test_short_prompts_are_compared_by_shorter_sequences_and_need_more_of_them() -> None:
    theirs = "Write a function to replace all blanks of the given string with an underscore."
    longer = f"{theirs[:-1]} by means of a loop."
    assert reason_of(longer, theirs) is DropReason.LEAK_OVERLAP
    other = theirs.replace("an underscore", "a dash, then take away every vowel that is left")
    assert reason_of(other, theirs) is None


def test_evidence_names_benchmark_score_and_both_texts() -> None:
    ours = f"Hint 1: {LONG}"
    leak = leaks_of([ask("q", ours)], [ask("b", LONG, source="bench")])["q"]
    assert (leak.benchmark, leak.benchmark_id, leak.reason) == ("bench", "b", DropReason.LEAK_OVERLAP)
    assert leak.score == 1.0
    assert (leak.theirs, leak.ours) == (LONG, ours)
    assert leak.evidence.startswith("bench b: share of sequences 1.00; theirs: 'Every morning Aya")


def test_signals_below_the_policy_are_kept_for_another_policy() -> None:
    theirs = [ask("b", "Take 28. Add 10. Add 6. What do you get?", source="bench", answer="44")]
    index = BenchmarkIndex(theirs, LeakSearch())
    found = list(weigh([scan([ask("q", "Pick 28. Add 10. Add 6. What do you obtain?", answer="45")], index)], index))
    assert (found[0].leak.reason, found[0].answers_agree) == (DropReason.LEAK_REWORDED, False)
    assert strongest(found, DecontaminationConfig()) == {}
    assert strongest(found, DecontaminationConfig(min_word_overlap_alone=0.6)).keys() == {"q"}


def test_parts_of_the_queries_are_weighed_as_one() -> None:
    theirs = [ask("b", f"Two dice are rolled until a six shows up on one of them. {BOILERPLATE}", source="bench")]
    ours = [ask(str(k), f"A box holds {k} cards and one of the cards is red. {BOILERPLATE}") for k in range(9)]
    index = BenchmarkIndex(theirs, DecontaminationConfig())
    assert strongest(weigh([scan([query], index) for query in ours], index), index.config) == {}
    assert find_leaks([], index) == {}
    assert find_leaks(ours, BenchmarkIndex([], DecontaminationConfig())) == {}
