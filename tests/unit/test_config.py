"""A wrong recipe or profile is refused with the file, the key and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from infra.config import Config, ConfigError, load_toml
from infra.runtime import load_profile, secret


class Optimizer(Config):
    lr: float = Field(gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)


class Stage(Config):
    num_steps: int = Field(ge=1)
    optimizer: Optimizer


class Plan(Config):
    name: str
    stages: tuple[Stage, ...] = ()
    optimizer: Optimizer | None = None


def refused(tmp_path: Path, text: str, **overrides: Any) -> str:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_toml(path, Plan, overrides)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_right_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('name = "a"\n[[stages]]\nnum_steps = 2\noptimizer = {lr = 1e-3}\n')
    plan = load_toml(path, Plan)
    assert plan == Plan(name="a", stages=(Stage(num_steps=2, optimizer=Optimizer(lr=0.001)),))


def test_overrides_replace_and_add_nested_fields(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('name = "a"\n[optimizer]\nlr = 1.0\n')
    plan = load_toml(path, Plan, {"name": "b", "optimizer.warmup": 0.5})
    assert plan == Plan(name="b", optimizer=Optimizer(lr=1.0, warmup=0.5))


def test_an_unknown_key_gets_the_nearest_known_one(tmp_path: Path) -> None:
    assert "nmae: unknown key; did you mean `name`?" in refused(tmp_path, 'name = "a"\nnmae = "b"')


def test_an_unknown_key_inside_a_list_of_tables_is_compared_with_that_tables_fields(tmp_path: Path) -> None:
    text = 'name = "a"\n[[stages]]\nnum_step = 1\nnum_steps = 2\noptimizer = {lr = 1.0}'
    assert "stages.0.num_step: unknown key; did you mean `num_steps`?" in refused(tmp_path, text)


def test_an_unknown_key_below_an_optional_table_is_compared_with_that_tables_fields(tmp_path: Path) -> None:
    text = 'name = "a"\n[optimizer]\nlr = 1.0\nwarm_up = 0.1'
    assert "optimizer.warm_up: unknown key; did you mean `warmup`?" in refused(tmp_path, text)


def test_an_unknown_key_like_no_other_gets_the_list_of_known_ones(tmp_path: Path) -> None:
    assert "zzz: unknown key; known here: name, optimizer, stages" in refused(tmp_path, 'name = "a"\nzzz = 1')


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "stages.0.optimizer: required key is missing; add it" in refused(
        tmp_path, 'name = "a"\n[[stages]]\nnum_steps = 1'
    )


def test_a_wrong_type_is_named_with_what_was_given(tmp_path: Path) -> None:
    message = refused(tmp_path, 'name = "a"\n[optimizer]\nlr = "fast"')
    assert "optimizer.lr" in message
    assert "(given: 'fast')" in message


def test_an_impossible_value_is_named_with_what_was_given(tmp_path: Path) -> None:
    message = refused(tmp_path, 'name = "a"\n[optimizer]\nlr = -1.0')
    assert "optimizer.lr" in message
    assert "greater than 0" in message
    assert "(given: -1.0)" in message


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, "nmae = 1\n[optimizer]\nlr = -1.0")
    assert "3 problem(s)" in message


def test_an_override_reaches_into_a_list_of_tables(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('name = "a"\n[[stages]]\nnum_steps = 2\noptimizer = {lr = 1.0}\n')
    plan = load_toml(path, Plan, {"stages.0.optimizer.lr": 2.0})
    assert plan.stages[0].optimizer.lr == 2.0


@pytest.mark.parametrize("key", ["name.first", "stages.0.num_steps", "stages.first.num_steps"])
def test_an_override_of_what_is_no_field_is_refused_by_name(tmp_path: Path, key: str) -> None:
    assert f"{key}: no such field to set" in refused(tmp_path, 'name = "a"\nstages = []', **{key: 1})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file; name a file that exists"):
        load_toml(tmp_path / "nowhere.toml", Plan)


def test_text_that_is_not_toml_is_named_with_its_place(tmp_path: Path) -> None:
    assert "line 1" in refused(tmp_path, "name = = 1")


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Optimizer(lr=1.0).lr = 2.0  # type: ignore[misc]


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no profile `lokal`; known: .*local"):
        load_profile("lokal")


def test_a_secret_that_is_not_set_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="SOME_KEY is not set; export"):
        secret("SOME_KEY")
