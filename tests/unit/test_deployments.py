"""prefect.yaml and automations.yaml are whole: what they name exists, and what they fill in, Prefect takes."""

from __future__ import annotations

import importlib
import json
from functools import cache
from typing import Any

import pytest
import yaml

import flows.deployed
from flows.recipe import RECIPES, Recipe, load_recipe
from infra.dispatch import deployment_of
from infra.phase import Phase
from infra.runtime import NUM_PARENTS, POOLS, StackRuntime
from infra.stack.plan import DEPLOYMENTS


@cache
def project() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text(encoding="utf-8"))
    return parsed


@cache
def deployments() -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in project()["deployments"]}


@cache
def flows_by_name() -> dict[str, Any]:
    """Every flow of flows/deployed.py under its attribute's name."""
    from prefect import Flow

    return {name: each for name, each in vars(flows.deployed).items() if isinstance(each, Flow)}


@cache
def schema_of(flow: str) -> Any:
    from prefect.utilities.callables import parameter_schema

    return parameter_schema(flows_by_name()[flow])


def attribute_of(deployment: dict[str, Any]) -> str:
    module, _, attribute = deployment["entrypoint"].rpartition(".")
    assert module == "flows.deployed"
    return str(attribute)


def filled(value: Any, steps: dict[str, Any]) -> Any:
    """The value as `prefect deploy` fills it in after the build steps have run."""
    from prefect.utilities.templating import apply_values

    return apply_values(value, steps, remove_notset=False)


@cache
def build_steps() -> dict[str, Any]:
    """What the build steps give, by their ids, as `prefect deploy` runs them."""
    found = {}
    for step in project()["build"]:
        ((path, inputs),) = step.items()
        module, _, name = path.rpartition(".")
        arguments = {key: value for key, value in inputs.items() if key != "id"}
        found[inputs["id"]] = getattr(importlib.import_module(module), name)(**arguments)
    return found


DEPLOYED = sorted(deployments())
FLOWS = sorted(flows_by_name())


# The whole


def test_every_deployed_phase_has_a_deployment_named_as_its_flow() -> None:
    """The dispatcher asks for `flow/flow`; without it the phase would silently run inline."""
    there = {f"{flows_by_name()[attribute_of(each)].name}/{name}" for name, each in deployments().items()}
    missing = [name for name, flow in flows_by_name().items() if deployment_of(flow.name) not in there]
    assert missing == []


def test_every_phase_of_the_pipeline_can_be_triggered() -> None:
    modules = ("benchmark", "filter", "grpo", "ingest", "pass_rate", "post_train", "recurate", "sft", "synthesize")
    phases = {
        name
        for module in (*modules, "verify")
        for name, each in vars(importlib.import_module(f"flows.{module}")).items()
        if isinstance(each, Phase)
    }
    assert phases == set(FLOWS)


def test_names_are_used_once() -> None:
    assert len(deployments()) == len(project()["deployments"])


@pytest.mark.parametrize("name", DEPLOYED)
def test_an_entrypoint_is_a_module_path_to_a_flow(name: str) -> None:
    """A file's path would put `flows/` on sys.path, where its names collide with packages."""
    from prefect import Flow
    from prefect.flows import load_flow_from_entrypoint

    entrypoint = deployments()[name]["entrypoint"]
    assert ":" not in entrypoint
    assert isinstance(load_flow_from_entrypoint(entrypoint), Flow)


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_deployment_runs_on_a_pool_of_every_profile(name: str) -> None:
    assert deployments()[name]["work_pool"]["name"] in StackRuntime().pools


def test_the_profile_counts_the_parents_that_wait_for_phases_in_their_pool() -> None:
    """With one place fewer than `StackRuntime` asks for, they could wait for ever."""
    pipelines = [each for each in deployments().values() if "pipeline" in each["tags"]]
    assert {each["work_pool"]["name"] for each in pipelines} == {"cpu"}
    assert sum(each["concurrency_limit"]["limit"] for each in pipelines) == NUM_PARENTS


def test_the_pools_that_a_profile_needs_are_those_of_the_deployments() -> None:
    assert {each["work_pool"]["name"] for each in deployments().values()} == set(POOLS)


# The forms


@pytest.mark.parametrize("name", DEPLOYED)
def test_filled_in_parameters_fit_the_form(name: str) -> None:
    from prefect.utilities.schema_tools import validate

    deployment = deployments()[name]
    parameters = filled(deployment["parameters"], build_steps())
    assert "{{" not in json.dumps(parameters)
    schema = schema_of(attribute_of(deployment)).model_dump_for_openapi()
    validate(parameters, schema, raise_on_error=True)


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_misspelt_parameter_does_not_fit_the_form(name: str) -> None:
    """So that the test above means something: the recipe's fields are checked, and its own too."""
    from prefect.utilities.schema_tools import validate

    deployment = deployments()[name]
    parameters = filled(deployment["parameters"], build_steps())
    schema = schema_of(attribute_of(deployment)).model_dump_for_openapi()
    wrong = parameters | {"recipe": parameters["recipe"] | {"no_such_field": 1}}
    assert validate(wrong, schema, raise_on_error=False) != []
    assert set(parameters) <= set(schema["properties"])
    assert validate({}, schema, raise_on_error=False) != []


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_a_recipe_fills_its_form_and_comes_back_equal(recipe: str) -> None:
    form = json.loads(json.dumps(flows.deployed.recipe_form(recipe)))
    assert Recipe.model_validate(form["recipe"]) == load_recipe(recipe)


def test_build_steps_name_recipes() -> None:
    known = {path.stem for path in RECIPES.glob("*.toml")}
    for step in project()["build"]:
        (inputs,) = step.values()
        assert inputs["id"] == inputs["recipe"]
        assert inputs["recipe"] in known


def described(schema: Any, field: dict[str, Any]) -> str:
    """A field's description, or that of the model or the choice that it refers to."""
    reference = field.get("$ref") or next((each.get("$ref") for each in field.get("allOf", [])), None)
    own = field.get("description", "")
    return own or (schema.definitions[reference.rpartition("/")[2]].get("description", "") if reference else "")


@pytest.mark.parametrize("flow", FLOWS)
def test_every_parameter_is_described(flow: str) -> None:
    schema = schema_of(flow)
    untold = {name for name, field in schema.properties.items() if not described(schema, field)}
    assert untold == set()


def test_every_field_of_the_recipe_is_described() -> None:
    schema = schema_of("post_train")
    fields = schema.definitions["Recipe"]["properties"]
    assert set(fields) == set(Recipe.model_fields)
    assert {name for name, field in fields.items() if not described(schema, field)} == set()


@pytest.mark.parametrize("flow", FLOWS)
def test_every_flow_says_what_it_does(flow: str) -> None:
    description = flows_by_name()[flow].description
    assert description
    assert not description.startswith("Args:")


# Schedules and triggers


@pytest.mark.parametrize("name", [name for name in DEPLOYED if "schedules" in deployments()[name]])
def test_schedules_are_prefects(name: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    for schedule in deployments()[name]["schedules"]:
        parsed = CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert parsed.cron == schedule["cron"]
        assert schedule["slug"]


def test_recuration_is_scheduled_and_the_newest_gives_way() -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy

    recurate = deployments()["recurate"]
    assert recurate["schedules"]
    assert recurate["concurrency_limit"]["collision_strategy"] == "CANCEL_NEW"
    for name, deployment in deployments().items():
        limit = deployment.get("concurrency_limit")
        if limit is not None:
            assert limit["limit"] >= 1, name
            assert ConcurrencyLimitStrategy(limit["collision_strategy"]), name


@pytest.mark.parametrize("name", [name for name in DEPLOYED if "triggers" in deployments()[name]])
def test_triggers_are_prefects(name: str) -> None:
    from prefect.events import DeploymentEventTrigger

    for trigger in deployments()[name]["triggers"]:
        # `prefect deploy` leaves what is in braces to the event.
        parsed = DeploymentEventTrigger.model_validate(filled(trigger, build_steps()))
        assert parsed.enabled
        properties = schema_of(attribute_of(deployments()[name])).properties
        assert set(parsed.parameters or {}) <= set(properties)


def test_training_waits_for_the_event_that_recuration_emits_and_asks() -> None:
    import fnmatch

    from flows.recurate import PUBLISHED

    (trigger,) = deployments()["train-on-new-data"]["triggers"]
    assert trigger["expect"] == [PUBLISHED]
    assert fnmatch.fnmatch("posttrain.data-version.smoke", trigger["match"]["prefect.resource.id"])
    assert trigger["parameters"]["ask_person"] is True


# Automations


def automations() -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = yaml.safe_load((DEPLOYMENTS / "automations.yaml").read_text(encoding="utf-8"))
    return parsed


@pytest.mark.parametrize("automation", automations(), ids=lambda each: each["name"])
def test_automations_are_prefects(automation: dict[str, Any]) -> None:
    from prefect.automations import Automation
    from prefect.server.events.schemas.automations import AutomationCreate

    parsed = Automation.model_validate(automation)
    assert parsed.name == automation["name"]
    assert parsed.description
    AutomationCreate.model_validate(parsed.model_dump(mode="json", exclude={"id", "owner_resource"}))


def test_a_flow_run_without_a_heartbeat_is_crashed_after_three_are_missing() -> None:
    from infra.stack.plan import HEARTBEAT_S

    heartbeat = next(each for each in automations() if each["name"] == "no heartbeat, so crashed")
    trigger = heartbeat["trigger"]
    assert trigger["within"] >= 3 * HEARTBEAT_S
    assert trigger["posture"] == "Proactive"
    assert [action["state"] for action in heartbeat["actions"]] == ["CRASHED"]
    # Every end of a flow run, under the names that it can have, stops the wait.
    ends = {"Completed", "Failed", "Cancelled", "Crashed", "Refused"}
    assert {event.rpartition(".")[2] for event in trigger["expect"]} == ends | {"heartbeat"}
