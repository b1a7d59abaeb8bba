"""A promotion in MLflow's registry: the alias follows the store, and a registry that missed it is told again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.commands import upkeep
from infra.config import ConfigError
from infra.lineage import Tracking
from infra.runtime import load_profile
from infra.store import Store
from tests.unit.score_board import Board, train

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_the_champion_is_registered_with_its_alias(tmp_path: Path) -> None:
    board = Board(Store(str(tmp_path / "store"), local=tmp_path / "store"), tmp_path)
    made = train(board, "r1", {"math": [0, 0, 0]}, {"math": [1, 1, 1]}, recipe="smoke")
    arguments = ["promote", "smoke", "--yes", "--store", board.store.uri]
    with pytest.raises(ConfigError, match=r"MLflow does not know run r1; .*--sync"):
        raise CliRunner().invoke(upkeep.app, arguments).exception or AssertionError
    tracking = Tracking(load_profile("local", {"store": board.store.uri}))
    tracking.new_parent("smoke r1", "r1", "smoke", 1.0)
    for _ in range(2):
        ended = CliRunner().invoke(upkeep.app, arguments)
        assert (ended.exit_code, "is champion of smoke already" in ended.stderr) == (0, True)
    version = tracking.client.get_model_version_by_alias("smoke", "champion")
    assert version.tags["digest"] == made.policy.digest
    assert len(tracking.client.search_model_versions("name = 'smoke'")) == 1
