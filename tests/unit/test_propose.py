"""A run's end: candidate always, champion only behind the gate and a person's yes; and what a no leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flows.approval
import flows.propose
from flows.approval import approve_training
from flows.propose import propose
from flows.recipe import Recipe, load_recipe
from infra.aliases import read_alias
from infra.artifacts import Dataset
from infra.config import ConfigError
from infra.run import RefusedError, Run, active, read_run
from infra.runtime import Runtime
from infra.store import Store
from tests.unit.score_board import Board

BETTER = {"math": [1.0, 1.0, 1.0, 1.0]}
WORSE = {"math": [0.0, 0.0, 0.0, 0.0]}


class FakePerson:
    """Answers the form, and keeps what was asked and shown."""

    def __init__(self) -> None:
        self.approve, self.reason = True, "looks right"
        self.questions: list[str] = []
        self.cards: dict[str, str] = {}

    def answer(self, question: str) -> Any:
        self.questions.append(question)
        return SimpleNamespace(approve=self.approve, reason=self.reason)

    def show(self, key: str, markdown: str) -> None:
        self.cards[key] = markdown


class FakeDispatcher:
    """There is a server, where a person could answer."""

    def serves(self, phase: str) -> bool:
        return False

    def call(self, phase: str, arguments: Any) -> Any:
        raise AssertionError("no phase is called here")


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> FakePerson:
    person = FakePerson()
    monkeypatch.setattr(flows.approval, "_wait_for", person.answer)
    monkeypatch.setattr(flows.approval, "show", person.show)
    monkeypatch.setattr(flows.propose, "show", person.show)
    return person


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with active(Run("smoke", Runtime(store=str(tmp_path / "store")), id_="a-run")) as current:
        current.dispatcher = FakeDispatcher()
        yield current


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("smoke")


@pytest.fixture
def end(run: Run, recipe: Recipe, tmp_path: Path) -> Callable[..., str]:
    """Ends the run with a checkpoint of these scores after a base of those; the checkpoint's digest."""

    def ended(base: Any, last: Any, ask_person: bool) -> str:
        board = Board(Store(run.runtime.store, tmp_path / "local"), tmp_path)
        before, policy = board.checkpoint("base"), board.checkpoint("policy")
        reports = board.report("scores base", before, base), board.report("scores policy", policy, last)
        propose(policy, reports, recipe, ask_person)
        return policy.digest

    return ended


def alias(run: Run, name: str) -> str | None:
    found = read_alias(run.store, "smoke", name)
    return found.digest if found else None


def test_behind_gate_and_yes_it_becomes_champion(run: Run, person: FakePerson, end: Callable[..., str]) -> None:
    digest = end(WORSE, BETTER, ask_person=True)
    assert (alias(run, "candidate"), alias(run, "champion")) == (digest, digest)
    assert person.questions == ["Make policy the champion of smoke?"]
    assert "**passed**" in person.cards["promotion-gate"]
    champion = read_alias(run.store, "smoke", "champion")
    assert champion is not None
    assert (champion.reason, champion.by) == ("looks right", "run a-run")


def test_a_no_leaves_it_candidate_and_its_reason_behind(run: Run, person: FakePerson, end: Callable[..., str]) -> None:
    person.approve, person.reason = False, "length exploded"
    with pytest.raises(RefusedError, match="length exploded"):
        end(WORSE, BETTER, ask_person=True)
    assert (alias(run, "candidate") is None, alias(run, "champion")) == (False, None)
    kept = run.store.read_note("approvals/a-run/approve-champion.md") or b""
    assert b"refused: length exploded" in kept


def test_a_closed_gate_asks_nobody(run: Run, person: FakePerson, end: Callable[..., str]) -> None:
    digest = end(BETTER, WORSE, ask_person=True)
    assert (alias(run, "candidate"), alias(run, "champion"), person.questions) == (digest, None, [])
    assert "**not passed**" in person.cards["promotion-gate"]


def test_without_a_person_to_ask_it_stays_candidate(run: Run, person: FakePerson, end: Callable[..., str]) -> None:
    digest = end(WORSE, BETTER, ask_person=False)
    assert (alias(run, "candidate"), alias(run, "champion"), person.questions) == (digest, None, [])


# Before training


def queries() -> Dataset:
    return Dataset(name="queries", digest="d" * 64, uri="", rows=7, funnel={"gsm8k": {"kept": 7, "url": 2}})


def test_training_is_approved_with_the_rows_of_each_source_in_view(
    run: Run, person: FakePerson, recipe: Recipe
) -> None:
    approve_training(queries(), recipe)
    assert person.questions == ["Train smoke on data version dddddddddddd, 7 queries?"]
    assert "- gsm8k: 7 rows" in person.cards["approve-training"]


def test_a_refused_training_ends_the_run_with_the_reason(tmp_path: Path, person: FakePerson, recipe: Recipe) -> None:
    person.approve, person.reason = False, ""
    with (  # noqa: PT012  the run's end is what is looked at
        pytest.raises(RefusedError, match="no reason given"),
        active(Run("smoke", Runtime(store=str(tmp_path / "store")), id_="b-run")) as current,
    ):
        current.dispatcher = FakeDispatcher()
        approve_training(queries(), recipe)
    record = read_run(current.store, "b-run")
    assert record is not None
    assert (record.state, "no reason given" in record.reason) == ("failed", True)


def test_nobody_can_be_asked_where_there_is_no_server(run: Run, person: FakePerson, recipe: Recipe) -> None:
    run.dispatcher = None
    with pytest.raises(ConfigError, match="posttrain up"):
        approve_training(queries(), recipe)
    assert person.questions == []


def test_planning_asks_nobody(tmp_path: Path, person: FakePerson, recipe: Recipe) -> None:
    with active(Run("smoke", Runtime(store=str(tmp_path / "store")), planning=True)):
        approve_training(queries(), recipe)
    assert person.questions == []
