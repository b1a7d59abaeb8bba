"""The promotion gate, with hand-computed gains; and which checkpoint is compared with which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.promotion import PromotionConfig, find_candidate, find_contest, gate, promote
from infra.aliases import alias_history, read_alias
from infra.config import ConfigError
from infra.store import Store
from tests.unit.score_board import Board, Scores, train


@pytest.fixture
def board(local_store: Store, tmp_path: Path) -> Board:
    return Board(local_store, tmp_path)


# The gate


def compare(board: Board, before: Scores, after: Scores, **config: float) -> Any:
    one, other = board.checkpoint("one"), board.checkpoint("other")
    reports = board.report("scores other", other, after), board.report("scores one", one, before)
    return gate(board.store, *reports, PromotionConfig.model_validate(config))


def test_a_gain_whose_lower_bound_is_above_zero_passes(board: Board) -> None:
    """Differences 1, 1, 1, 0: mean 0.75, s 0.5, half-width 1.959964 × 0.5 / 2 = 0.489991."""
    result = compare(board, {"math": [0, 0, 0, 0]}, {"math": [1, 1, 1, 0]})
    assert (result.passed, result.reasons) == (True, ())
    assert result.overall.low == pytest.approx(0.75 - 0.489991, abs=1e-6)
    assert result.gains["math"] == result.overall


def test_a_gain_that_may_be_chance_is_refused_with_its_bound(board: Board) -> None:
    """Differences 1, 0, 0, 0: mean 0.25, s 0.5, lower bound 0.25 - 0.49."""
    result = compare(board, {"math": [0, 0, 0, 0]}, {"math": [1, 0, 0, 0]})
    assert not result.passed
    assert result.reasons == (
        "the gain over all 4 problems is +25.0 points, and its lower 95 % bound -24.0 is not above +0.0 "
        "(promotion.min_gain)",
    )


def test_equal_scores_are_no_gain(board: Board) -> None:
    assert not compare(board, {"math": [1, 0, 1]}, {"math": [1, 0, 1]}).passed


def test_min_gain_asks_for_more(board: Board) -> None:
    scores: tuple[Scores, Scores] = {"math": [0, 0, 0, 0]}, {"math": [1, 1, 1, 0]}
    assert compare(board, *scores, min_gain=0.25).passed
    assert not compare(board, *scores, min_gain=0.27).passed


def test_one_benchmark_that_loses_too_much_closes_the_gate(board: Board) -> None:
    before: Scores = {"math": [0.0] * 40, "chat": [0.5] * 10}
    after: Scores = {"math": [1.0] * 40, "chat": [0.4] * 10}
    result = compare(board, before, after)
    assert result.reasons == ("chat loses 10.0 points, more than 5.0 (promotion.max_loss)",)
    assert result.overall.mean == pytest.approx((40 * 1.0 - 10 * 0.1) / 50)
    assert compare(board, before, after, max_loss=0.2).passed


def test_only_problems_that_both_have_count(board: Board) -> None:
    result = compare(board, {"math": [0, 0, 0], "old": [0]}, {"math": [1, 1, 1, 0, 0], "new": [0]})
    assert list(result.gains) == ["math"]
    assert result.overall.n == 3


def test_nothing_in_common_is_no_reason_to_pass(board: Board) -> None:
    result = compare(board, {"old": [0]}, {"new": [1]})
    assert (result.passed, result.overall) == (False, None)
    assert "share no benchmark problem" in result.reasons[0]


# Who against whom


def test_without_a_champion_the_base_model_of_the_run_is_the_bar(board: Board) -> None:
    made = train(board, "r1", {"math": [0, 0, 0]}, {"math": [1, 1, 1]})
    contest = find_contest(board.store, "recipe", PromotionConfig())
    assert (contest.candidate.checkpoint, contest.candidate.report) == (made.policy, made.report)
    assert (contest.champion, contest.result.passed) == (None, True)
    assert contest.result.gains["math"].mean == 1.0


def test_the_champion_is_the_bar_once_there_is_one(board: Board) -> None:
    train(board, "r1", {"math": [0, 0, 0]}, {"math": [1, 1, 1]})
    first = promote(board.store, find_contest(board.store, "recipe", PromotionConfig()), reason="first")
    assert first.is_champion
    train(board, "r2", {"math": [0, 0, 0]}, {"math": [1, 1, 0]})
    contest = find_contest(board.store, "recipe", PromotionConfig())
    assert contest.candidate.run == "r2"
    assert not contest.is_champion
    assert contest.result.gains["math"].mean == pytest.approx(-1 / 3)
    assert not contest.result.passed
    alias = read_alias(board.store, "recipe", "champion")
    assert alias is not None
    assert (alias.digest, alias.reason, bool(alias.by)) == (first.candidate.checkpoint.digest, "first", True)


def test_a_champion_that_was_measured_otherwise_is_no_bar(board: Board) -> None:
    old = train(board, "r1", {"math": [0, 0, 0]}, {"math": [1, 1, 1]})
    promote(board.store, find_contest(board.store, "recipe", PromotionConfig()), reason="")
    train(board, "r2", {"math": [0, 0, 0]}, {"math": [1, 1, 1]}, run={"num_samples": 8})
    contest = find_contest(board.store, "recipe", PromotionConfig())
    assert not contest.result.passed
    assert "run its recipe with the candidate's [benchmark] and [rewards]" in contest.result.reasons[0]
    board.report("scores sft", old.policy, {"math": [0, 0, 0]}, run={"num_samples": 8}, policy={"max_model_len": 1})
    assert find_contest(board.store, "recipe", PromotionConfig()).result.passed


def test_a_run_without_a_base_report_and_no_champion_is_refused(board: Board) -> None:
    policy = board.checkpoint("policy")
    board.run("r1", policy, board.report("scores sft", policy, {"math": [1]}))
    contest = find_contest(board.store, "recipe", PromotionConfig())
    assert contest.result.reasons == ("there is no champion, and the run has no report `scores base` to compare with",)


def test_the_candidate_is_of_the_last_finished_run_or_what_is_named(board: Board) -> None:
    train(board, "r1", {"math": [0, 0]}, {"math": [1, 1]})
    second = train(board, "r2", {"math": [0, 0]}, {"math": [1, 0.5]})
    board.run("r3", second.base, state="failed")
    board.run("r4", second.base, second.base_report, recipe="other")
    found = find_candidate(board.store, "recipe")
    assert (found.run, found.checkpoint.name, found.base) == ("r2", "policy of r2", second.base_report)
    assert find_candidate(board.store, "recipe", "policy of r1").run == "r1"
    assert find_candidate(board.store, "recipe", second.base.digest[:12]).checkpoint == second.base
    with pytest.raises(
        ConfigError, match=r"no scored checkpoint `x` .* the last run with scores has: base \w{12}, policy of r2"
    ):
        find_candidate(board.store, "recipe", "x")
    with pytest.raises(ConfigError, match=r"recipe new has no finished run in .*; run it: posttrain run new"):
        find_candidate(board.store, "new")


def test_a_finished_run_without_scores_hides_no_candidate(board: Board) -> None:
    made = train(board, "r1", {"math": [0, 0]}, {"math": [1, 1]})
    board.run("r2")
    board.run("r3", made.policy)
    assert find_candidate(board.store, "recipe").run == "r1"
    with pytest.raises(
        ConfigError, match=r"no scored checkpoint `x` .*; the last run with scores has: base \w{12}, pol"
    ):
        find_candidate(board.store, "recipe", "x")


def test_runs_that_scored_nothing_have_no_candidate(board: Board) -> None:
    board.run("r1", board.checkpoint("model"))
    for text in (None, "model"):
        with pytest.raises(
            ConfigError, match=r"no finished run of recipe recipe in .* has a scored checkpoint; run it"
        ):
            find_candidate(board.store, "recipe", text)


def test_an_old_run_whose_report_was_collected_is_passed_by(board: Board) -> None:
    made = train(board, "r1", {"math": [0, 0]}, {"math": [1, 1]})
    train(board, "r2", {"math": [0, 0]}, {"math": [1, 1]})
    for report in (made.base_report, made.report):
        board.store.delete(f"manifests/{report.step}/{report.fingerprint}.json")
    with pytest.raises(ConfigError, match="no scored checkpoint `policy of r1`"):
        find_candidate(board.store, "recipe", "policy of r1")


def test_a_promotion_is_kept_with_its_reason(board: Board) -> None:
    made = train(board, "r1", {"math": [0, 0, 0]}, {"math": [1, 1, 1]})
    contest = promote(board.store, find_contest(board.store, "recipe", PromotionConfig()), "better")
    assert contest.as_json(has_moved=True)["champion"]["digest"] == made.policy.digest
    assert [move.reason for move in alias_history(board.store, "recipe", "champion")] == ["better"]
