"""A phase is called, planned, dispatched or triggered alone: always the same function, and the same arguments."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import Field, ValidationError

from infra.artifacts import Checkpoint, Dataset
from infra.config import Config, ConfigError
from infra.dispatch import Ticket
from infra.passing import encode
from infra.phase import Phase, PhaseError, phase
from infra.run import Run, active, require_run
from infra.runtime import Runtime
from infra.store import Store
from tests.unit.small_world import World

Often = Annotated[int, Field(description="how many times")]
CALLS: list[tuple[Any, ...]] = []


class Recipe(Config):
    """What is made.

    More of it.
    """

    name: str = Field(default="recipe", description="of the recipe")


class Pair(NamedTuple):
    """A data set and its twin."""

    first: Dataset
    second: Dataset


class Improved(NamedTuple):
    """What it ends with."""

    policy: Checkpoint
    times: int


@phase
def improve_model(policy: Checkpoint, pair: Pair, recipe: Recipe, runtime: Runtime, times: Often = 2) -> Improved:
    """Improve it."""
    CALLS.append((require_run().phase, policy, pair, recipe, runtime, times))
    return Improved(policy, times)


class FakeDispatcher:
    def __init__(self, answer: Any = None, serves: bool = True) -> None:
        self.answer, self._serves = answer, serves
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def serves(self, phase: str) -> bool:
        return self._serves

    def call(self, phase: str, arguments: Mapping[str, Any]) -> Any:
        self.calls.append((phase, dict(arguments)))
        return self.answer


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Store(str(tmp_path / "store"), local=tmp_path), tmp_path)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(store=str(tmp_path / "store"))


@pytest.fixture
def run(runtime: Runtime) -> Run:
    return Run("recipe", runtime)


@pytest.fixture
def policy(world: World) -> Checkpoint:
    made = world.make("policy", kind="checkpoint")
    assert isinstance(made, Checkpoint)
    return made


@pytest.fixture
def pair(world: World) -> Pair:
    first, second = world.make("first"), world.make("second")
    assert isinstance(first, Dataset)
    assert isinstance(second, Dataset)
    return Pair(first, second)


def test_a_phase_has_the_functions_name_and_text() -> None:
    assert improve_model.name == "improve-model"
    assert improve_model.__doc__ == "Improve it."
    assert improve_model.__module__ == __name__


def test_a_call_without_a_run_is_refused(policy: Checkpoint, pair: Pair, runtime: Runtime) -> None:
    with pytest.raises(PhaseError, match=r"phase improve-model needs a run: open one with infra\.run\.active"):
        improve_model(policy, pair, Recipe(), runtime)
    assert CALLS == []


def test_planning_calls_the_function_in_this_process(policy: Checkpoint, pair: Pair, runtime: Runtime) -> None:
    run = Run("recipe", runtime, planning=True)
    run.dispatcher = FakeDispatcher()
    with active(run):
        assert improve_model(policy, pair, Recipe(), runtime, times=3) == Improved(policy, 3)
    assert [("improve-model", policy, pair, Recipe(), runtime, 3)] == CALLS
    assert run.phase == ""


def test_a_dispatched_call_gives_all_but_the_profile_and_decodes_the_result(
    policy: Checkpoint, pair: Pair, run: Run
) -> None:
    run.dispatcher = dispatcher = FakeDispatcher(encode(Improved(policy, 7)))
    with active(run):
        assert improve_model(policy, pair, recipe=Recipe(), runtime=run.runtime) == Improved(policy, 7)
    # The default goes too: the deployment may have filled in something else.
    given = {"policy": policy, "pair": pair, "recipe": Recipe(), "times": 2}
    assert dispatcher.calls == [("improve-model", given)]
    assert CALLS == []


def test_a_phase_that_the_dispatcher_does_not_serve_runs_inline(
    policy: Checkpoint, pair: Pair, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inline(*args: Any) -> tuple[Any, ...]:
        return ("inline", *args)

    monkeypatch.setitem(improve_model.__dict__, "flow", inline)
    run.dispatcher = dispatcher = FakeDispatcher(serves=False)
    with active(run):
        found: Any = improve_model(policy, pair, Recipe(), run.runtime)
    assert found == ("inline", policy, pair, Recipe(), run.runtime)
    assert dispatcher.calls == []


def test_the_form_is_the_phases_own_parameters_then_profile_and_ticket() -> None:
    parameters = improve_model.form().parameters
    assert list(parameters) == ["policy", "pair", "recipe", "times", "profile", "ticket"]
    required = {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}
    assert required == {"policy", "pair", "recipe"}
    assert {name: parameters[name].default for name in ("times", "profile", "ticket")} == {
        "times": 2,
        "profile": "",
        "ticket": None,
    }
    assert parameters["pair"].annotation.model_json_schema()["properties"]["first"]["type"] == "string"


def test_the_deployed_flow_describes_every_field() -> None:
    from prefect.utilities.callables import parameter_schema

    @phase
    def score_twice(policy: Checkpoint, twins: tuple[Dataset, ...], pair: Pair, recipe: Recipe, times: Often) -> None:
        """Score it."""

    flow = score_twice.deployed
    assert flow.name == "score-twice"
    assert flow.description.startswith("Score it.")
    schema = parameter_schema(flow)
    described = {name: field.get("description") for name, field in schema.properties.items()}
    assert described["policy"].startswith("label of a step")
    assert described["twins"].startswith("label of a step")
    assert schema.definitions["Pair"]["description"] == "A data set and its twin."
    assert schema.definitions["Recipe"]["description"].startswith("What is made.")
    assert described["times"] == "how many times"
    assert described["profile"].startswith("profile by name or path")
    assert described["ticket"].startswith("filled in by the run that dispatches")


def test_arguments_come_from_a_filled_form(policy: Checkpoint, pair: Pair, run: Run) -> None:
    form = {"policy": encode(policy), "pair": encode(pair), "recipe": {"name": "mine"}, "profile": "", "ticket": None}
    expected = {"policy": policy, "pair": pair, "recipe": Recipe(name="mine"), "runtime": run.runtime}
    assert improve_model.arguments(form, run) == expected
    assert improve_model.arguments(form | {"times": 5}, run) == expected | {"times": 5}


@pytest.mark.parametrize("empty", ["policy", "pair", "recipe"])
def test_an_empty_field_is_named(policy: Checkpoint, pair: Pair, run: Run, empty: str) -> None:
    form = {"policy": encode(policy), "pair": encode(pair), "recipe": {}}
    del form[empty]
    with pytest.raises(ConfigError, match=f"phase improve-model: parameter `{empty}` is empty; fill it in"):
        improve_model.arguments(form, run)


def test_run_in_is_a_call_within_the_phase(policy: Checkpoint, pair: Pair, run: Run) -> None:
    arguments = {"policy": policy, "pair": pair, "recipe": Recipe(), "runtime": run.runtime, "times": 1}
    with active(run):
        assert improve_model.run_in(run, arguments) == Improved(policy, 1)
    assert CALLS[0][0] == "improve-model"


def test_a_phase_without_a_result_gives_none_also_when_dispatched(run: Run) -> None:
    @phase
    def announce(recipe: Recipe) -> None:
        """Only tell."""

    run.dispatcher = FakeDispatcher(None)
    with active(run):
        Phase.__call__(announce, Recipe())
    assert announce.hints["return"] is type(None)


def test_a_ticket_holds_all_that_joins_a_flow_run_to_its_run() -> None:
    ticket = {"run": "r", "part": "sft-1", "lineage": "m", "parent": "p"}
    assert Ticket.model_validate(ticket).model_dump() == ticket
    with pytest.raises(ValidationError, match="parent"):
        Ticket.model_validate({key: value for key, value in ticket.items() if key != "parent"})


def test_declaring_a_phase_loads_no_prefect() -> None:
    """In a process of its own, since another test may have loaded it here."""
    script = "import sys, infra.phase; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
