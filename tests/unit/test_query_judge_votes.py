"""Votes on queries: reading, counting, and the early stop, which never changes the outcome."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.filter.judge_config import JudgeConfig, QueryJudgesConfig
from tasks.filter.judge_votes import Hearing, Rating, Reply, Standing, read_rating

Script = Callable[[int, int], bool | None]


def config(*votes: int, min_valid: int = 1, **fields: int) -> QueryJudgesConfig:
    judges = tuple(JudgeConfig(model=f"m{place}", votes=number) for place, number in enumerate(votes))
    return QueryJudgesConfig.model_validate({"judges": judges, "min_valid": min_valid, **fields})


def hear(rules: QueryJudgesConfig, script: Script) -> Hearing:
    """Round by round, until the standing is final; the script says vote i of judge j, or None for no rating."""
    hearing = Hearing(rules)
    while hearing.standing is Standing.OPEN:
        for judge, number in enumerate(hearing.next_round()):
            first = hearing.num_asked(judge)
            hearing.replies += [reply(judge, index, script(judge, index)) for index in range(first, first + number)]
    return hearing


def reply(judge: int, index: int, valid: bool | None) -> Reply:
    rating = None if valid is None else Rating(valid, f"{judge}/{index}")
    return Reply(judge, index, rating, "no rating" if rating is None else rating.reasons)


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("<reasons>All is there.</reasons>\n<rating>valid</rating>", Rating(True, "All is there.")),
        ("<think>valid? <rating>valid</rating></think><rating> INVALID </rating>", Rating(False, "")),
        ("<reasons>It quotes <rating>valid</rating>.\n But</reasons><rating>invalid</rating>", None),
        ("<think>\n<rating>valid</rating>", None),  # cut off while thinking
        ("The query is valid.", None),
        ("<rating>perhaps</rating>", None),
        ("", None),
    ],
)
def test_the_last_rating_after_thinking_counts(text: str, rating: Rating | None) -> None:
    found = read_rating(text)
    if "quotes" in text:
        assert found is not None
        assert not found.is_valid
    else:
        assert found == rating


def test_nine_of_thirty_two_by_two_judges_keep_a_query() -> None:
    """SK: 2 × 16 votes, kept from 9 on."""
    rules = config(16, 16, min_valid=9)
    assert hear(rules, lambda judge, index: judge == 0 and index < 9).standing is Standing.VALID
    assert hear(rules, lambda judge, index: judge == 0 and index < 8).standing is Standing.INVALID
    assert len(hear(rules, lambda *_: True).replies) == 16  # two rounds of eight, and the second judge is not asked
    assert len(hear(rules, lambda *_: False).replies) == 24  # 8 votes cannot become 9


def test_one_judge_with_one_vote_as_am_has_it() -> None:
    rules = config(1)
    assert hear(rules, lambda *_: True).standing is Standing.VALID
    assert hear(rules, lambda *_: False).standing is Standing.INVALID


def test_a_reply_without_rating_is_no_vote() -> None:
    rules = config(1, spare_votes=1)
    assert hear(rules, lambda _, index: None if index == 0 else True).standing is Standing.VALID
    assert hear(rules, lambda *_: None).standing is Standing.FAILED
    assert len(hear(rules, lambda *_: None).replies) == 2
    # Two of four votes are missing: with them three could say valid, so nothing is known; with one needed, it is.
    lame: Script = lambda _, index: (True, None, False, None, None)[index]  # noqa: E731
    assert hear(config(4, min_valid=3), lame).standing is Standing.FAILED
    assert hear(config(4, min_valid=4), lame).standing is Standing.INVALID
    assert hear(config(4, min_valid=1), lame).standing is Standing.VALID


def test_evidence_counts_and_quotes() -> None:
    hearing = hear(config(4, min_valid=3, votes_per_round=2), lambda _, index: index == 0)
    assert hearing.tell(["judge-a"]) == "1 of 4 votes say valid, 3 of 4 are needed; judge-a: 0/1"
    failed = hear(config(1), lambda *_: None)
    assert failed.tell(["judge-a"]) == "0 of 0 votes say valid, 1 of 1 are needed; judge-a: no rating"


def test_a_round_asks_judge_by_judge() -> None:
    hearing = Hearing(config(3, 5, min_valid=1, votes_per_round=4))
    assert hearing.next_round() == [3, 1]
    hearing.replies += [reply(0, index, False) for index in range(3)] + [reply(1, 0, None)]
    assert hearing.next_round() == [0, 4]


scripts = st.lists(st.lists(st.sampled_from([True, False, None]), min_size=12, max_size=12), min_size=1, max_size=3)


@given(scripts, st.data(), st.integers(1, 9), st.integers(0, 3))
def test_the_early_stop_ends_as_all_votes_would(
    said: list[list[bool | None]], data: st.DataObject, votes_per_round: int, spare: int
) -> None:
    votes = [data.draw(st.integers(1, 8)) for _ in said]
    min_valid = data.draw(st.integers(1, sum(votes)))
    rules = config(*votes, min_valid=min_valid, votes_per_round=votes_per_round, spare_votes=spare)
    cast = [
        [valid for valid in one[: number + spare] if valid is not None][:number]
        for one, number in zip(said, votes, strict=True)
    ]
    num_valid = sum(valid for one in cast for valid in one)
    missing = sum(votes) - sum(map(len, cast))
    expected = Standing.INVALID if num_valid + missing < min_valid else Standing.FAILED
    hearing = hear(rules, lambda judge, index: said[judge][index])
    assert hearing.standing is (Standing.VALID if num_valid >= min_valid else expected)
    assert all(hearing.num_asked(judge) <= number + spare for judge, number in enumerate(votes))


def test_policies_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValidationError, match="keeps nothing"):
        config(2, 2, min_valid=5)
    with pytest.raises(ValidationError, match="all the same"):
        JudgeConfig(model="m", votes=2, temperature=0)
    with pytest.raises(ValidationError, match="more `votes`"):
        QueryJudgesConfig(judges=(JudgeConfig(model="m"), JudgeConfig(model="m")))
