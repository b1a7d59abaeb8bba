"""Copies with misspellings, courtesies and other layout go; a word that matters, a number or a sign keeps both."""

import pytest

from tasks.filter.config import DedupConfig, DuplicateSearch
from tasks.filter.dedup import decide, judge_duplicates, sketch
from tasks.filter.near import count_changes, is_misspelling
from tasks.filter.reasons import DropReason
from tasks.filter.signals import DuplicateSignal
from tasks.filter.text import words
from tasks.records import Domain
from tests.unit.planted_queries import make_planted
from tests.unit.stored_queries import ask

NEAR = DedupConfig(near_duplicates=True)
LETTER = "Write a letter to the mayor about the broken benches, the flooded cellars and the missing lanterns"


def is_dropped(first: str, second: str, domain: Domain = Domain.CHAT, config: DedupConfig = NEAR) -> bool:
    pair = [ask(name, text, domain=domain, answer=None) for name, text in (("a", first), ("b", second))]
    return [judged.duplicate is not None for judged in judge_duplicates(pair, config)] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        f"Please: {LETTER}!",
        LETTER.replace("benches", "bencehs"),
        LETTER.replace("lanterns", "lantersn"),
        LETTER.replace("the mayor", "mayor"),
        LETTER.replace(",", ";"),
        f"Hello! {LETTER}. Thanks!",
    ],
)
def test_the_same_request_in_other_clothes_goes(text: str) -> None:
    assert is_dropped(LETTER, text)


@pytest.mark.parametrize(
    "text",
    [
        LETTER.replace("letter", "poem"),
        LETTER.replace("mayor", "major"),
        f"{LETTER} in French",
        f"Do not {LETTER}",
        LETTER.replace("the flooded cellars and the missing lanterns", "the missing lanterns and the flooded cellars"),
        f"{LETTER} in 3 lines",
        f"{LETTER} in three lines",
    ],
)
def test_another_request_in_like_words_stays(text: str) -> None:
    assert not is_dropped(LETTER, text)


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("What is the size of the set A {} B that is named there?", "∪", "∩"),
        ("Evaluate {} for the values that we gave before.", "(x + y) * z", "x + (y * z)"),
        ("Which is the {} letter of the alphabet used in Athens?", "sixth", "sixty"),
        ("Let the set hold {} apples and a pear. Is it large?", "two", "four"),
        ("What is {} for the number n of seats in the room?", "n!", "n"),
    ],
)
def test_the_template_trap(text: str, ours: str, theirs: str) -> None:
    assert not is_dropped(text.format(ours), text.format(theirs), Domain.SCIENCE)


def test_in_code_every_sign_counts() -> None:
    task = "Write a function add_all(items, start) that returns the sum of the items and start."
    assert is_dropped(task, f"Please: {task}", Domain.CODE)
    assert is_dropped(task, task.replace(" that", "\n  that"), Domain.CODE)
    for other in ("add_All", "add_alls", "mul_all"):
        assert not is_dropped(task, task.replace("add_all", other), Domain.CODE)


def test_policy_may_allow_words_to_differ_and_leave_domains_out() -> None:
    other = LETTER.replace("letter", "poem")
    assert is_dropped(LETTER, other, config=NEAR.model_copy(update={"max_changed_words": 2}))
    none = NEAR.model_copy(update={"near_domains": (Domain.MATH,)})
    assert not is_dropped(LETTER, f"Please: {LETTER}", config=none)


def test_misspellings_are_one_slip_in_a_word_that_begins_alike() -> None:
    assert is_misspelling("calculate", "calcluate")
    assert is_misspelling("calculate", "calculte")
    assert is_misspelling("calculate", "calculete")
    assert is_misspelling("angel", "angle")
    for pair in (("horse", "house"), ("plant", "planet"), ("sixth", "sixty"), ("cat", "cats"), ("north", "forth")):
        assert not is_misspelling(*pair)


def test_changes_are_counted_between_what_is_alike() -> None:
    change = lambda first, second: count_changes(words(first), words(second))  # noqa: E731
    assert change("sort the big red box", "sort big blue box") == 2
    assert change("sort the box", "sort box now") == 0
    assert change("sort 3 boxes", "sort 4 boxes") is None
    assert change("add a to b", "take a from b") is None


def signal(second: str, first: str, **fields: object) -> DuplicateSignal:
    told = {"source": "s", "domain": Domain.CHAT, "is_verified": False, "other_source": "s", "other_is_verified": False}
    places = {"place": int(second), "other_place": int(first), "reason": DropReason.NEAR_DUPLICATE, "score": 0.9}
    return DuplicateSignal.model_validate(told | places | {"id": second, "other": first} | fields)


def test_a_query_is_dropped_only_against_one_that_stays() -> None:
    chain = [signal("1", "0"), signal("2", "1"), signal("3", "2")]
    assert decide(chain, NEAR).keys() == {"1", "3"}  # 2 is like 1, which does not stay
    assert decide(chain, NEAR, keepers={"1"}).keys() == {"0", "2"}
    assert decide([signal("1", "0", is_verified=True)], NEAR).keys() == {"0"}
    first = NEAR.model_copy(update={"prefer_verified": False})
    assert decide([signal("1", "0", is_verified=True)], first).keys() == {"1"}
    assert decide([signal("1", "0", score=0.55)], NEAR) == {}


def test_equal_queries_go_with_the_one_that_stands_for_them() -> None:
    equal = {"reason": DropReason.DUPLICATE, "score": 1.0}
    drops = decide([signal("2", "1", **equal), signal("1", "0")], NEAR)
    assert {name: drop.evidence for name, drop in drops.items()} == {
        "1": "repeats 0 of s; words 0.90",
        "2": "repeats 0 of s; words 0.90",
    }


def test_another_version_of_the_sketches_is_told() -> None:
    with pytest.raises(ValueError, match=r"minhash_version=1, but rensa computes version 2; set .*minhash_version"):
        sketch([ask("a", "What is it?")], DuplicateSearch(minhash_version=1))
    with pytest.raises(ValueError, match="num_bands=7 does not divide num_permutations=96"):
        DuplicateSearch(num_bands=7)


def test_planted_copies_go_and_planted_twins_stay() -> None:
    planted = make_planted(5_000)
    config = NEAR.model_copy(update={"prefer_verified": False})
    dropped = {query.id for query, duplicate in judge_duplicates(planted.queries, config) if duplicate}
    assert len(planted.copies) > 600
    assert len(planted.twins) > 600
    assert len(planted.copies.keys() & dropped) / len(planted.copies) >= 0.99
    assert dropped <= planted.copies.keys()
