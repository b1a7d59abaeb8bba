"""posttrain gc, promote and costs, as a person calls them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.commands import upkeep
from infra.aliases import read_alias
from infra.config import ConfigError
from infra.store import Store
from tests.unit.score_board import Board, train


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(Store(str(tmp_path / "store"), local=tmp_path / "store"), tmp_path)


@pytest.fixture(autouse=True)
def mirrored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests that MLflow was told; the real one is in tests/integration/test_promotion_mlflow.py."""
    told: list[str] = []
    monkeypatch.setattr(upkeep, "_mirror", lambda _, __, contest: told.append(contest.candidate.checkpoint.digest))
    return told


def call(board: Board, *arguments: str) -> Result:
    return CliRunner().invoke(upkeep.app, [*arguments, "--store", board.store.uri])


def json_of(board: Board, *arguments: str) -> dict[str, Any]:
    ended = call(board, *arguments, "--json")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


# gc


def test_gc_shows_and_deletes_only_when_told(board: Board) -> None:
    board.report("scores", board.checkpoint("model"), {"math": [1]})
    for path in Path(board.store.uri).rglob("*"):
        os.utime(path, (0, 0))
    shown = call(board, "gc")
    assert (shown.exit_code, "manifests of evaluate" in shown.stdout) == (0, True)
    assert "would go; add --delete to do it" in shown.stdout
    found = json_of(board, "gc")
    assert (len(found["manifests"]), len(found["blobs"])) == (2, 1)
    assert json_of(board, "gc", "--delete") == found
    assert list(board.store.manifests()) == []
    assert "0.0 MB" in call(board, "gc", "--delete").stdout


def test_gc_leaves_what_is_young_and_takes_its_bounds(board: Board) -> None:
    board.checkpoint("model")
    assert json_of(board, "gc", "--delete")["manifests"] == []
    assert len(json_of(board, "gc", "--grace-hours", "0")["manifests"]) == 1
    assert call(board, "gc", "--keep-days", "-1").exit_code == 2


def test_the_end_line_names_the_store_as_it_is(tmp_path: Path) -> None:
    board = Board(Store(str(tmp_path / "b[bold]"), local=tmp_path / "local"), tmp_path)
    assert f"{board.store.uri} would go" in call(board, "gc").stdout


# promote


def test_promote_moves_the_champion_past_the_gate_once(board: Board, mirrored: list[str]) -> None:
    made = train(board, "r1", {"math": [0, 0, 0]}, {"math": [1, 1, 1]}, recipe="smoke")
    first = json_of(board, "promote", "smoke", "--yes", "--reason", "first of all")
    assert (first["promoted"], first["gate"]["passed"]) == (True, True)
    assert first["champion"]["digest"] == made.policy.digest
    assert first["champion"]["reason"] == "first of all (passed the gate)"
    again = call(board, "promote", "smoke")
    assert (again.exit_code, "is champion of smoke already" in again.stderr) == (0, True)
    assert mirrored == [made.policy.digest] * 2, "a registry that missed the move hears of it again"


def test_promote_refuses_with_the_reasons(board: Board, mirrored: list[str]) -> None:
    train(board, "r1", {"math": [1, 0, 0]}, {"math": [1, 0, 0]}, recipe="smoke")
    ended = call(board, "promote", "smoke", "--yes")
    assert ended.exit_code == 1
    assert "against the base model" in ended.stdout
    assert "the gain over all 3 problems is +0.0 points" in ended.stderr
    assert read_alias(board.store, "smoke", "champion") is None
    refused = call(board, "promote", "smoke", "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["promoted"]) == (1, False)
    assert mirrored == []


def test_promote_past_a_closed_gate_needs_a_reason_and_keeps_it(board: Board) -> None:
    train(board, "r1", {"math": [1, 0, 0]}, {"math": [1, 0, 0]}, recipe="smoke")
    with pytest.raises(ConfigError, match="say why with --reason"):
        raise call(board, "promote", "smoke", "--force").exception or AssertionError
    ended = call(board, "promote", "smoke", "--force", "--reason", "shorter answers", "--yes")
    assert ended.exit_code == 0
    alias = read_alias(board.store, "smoke", "champion")
    assert alias is not None
    assert alias.reason.startswith("shorter answers (forced past the gate: the gain over all 3 problems is +0.0")


def test_promote_asks_only_at_a_terminal(board: Board) -> None:
    train(board, "r1", {"math": [0, 0, 0]}, {"math": [1, 1, 1]}, recipe="smoke")
    with pytest.raises(ConfigError, match="nobody is at the terminal to confirm; give --yes"):
        raise call(board, "promote", "smoke").exception or AssertionError
    assert read_alias(board.store, "smoke", "champion") is None


# costs


def test_costs_tells_the_newest_run_or_the_one_that_is_named(board: Board) -> None:
    train(board, "r1", {"math": [0]}, {"math": [1]})
    train(board, "r2", {"math": [0]}, {"math": [1]})
    assert json_of(board, "costs")["run"] == "r2"
    assert json_of(board, "costs", "r1")["steps"][0]["label"] == "base"
    ended = call(board, "costs")
    assert ended.exit_code == 0
    assert ended.stdout.rstrip().endswith("run r2 spent 0 s and 0.00 USD; the store saved it 0 s and 0.00 USD")
