"""posttrain sources: the table, one entry in full, JSON, and mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.commands.sources import app
from infra.config import ConfigError


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def listed(*arguments: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(run("--json", *arguments))
    return entries


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw folder with one file of its own and one that was downloaded from the hub."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/gsm8k_train.jsonl").write_text('{"question": "How many?", "answer": "#### 3"}\n')
    long = json.dumps({"question": "Q" * 500, "final_answer": "7", "r1_solution_1": "So 7."})
    (tmp_path / "raw/deepmath_103k.jsonl").write_text(f"{long}\n")
    return tmp_path


def test_all_are_listed_with_what_they_carry_and_where_they_are(raw: Path) -> None:
    entries = {entry["name"]: entry for entry in listed("--raw", str(raw))}
    assert len(entries) > 100
    assert {name for name, entry in entries.items() if entry["present"]} == {"gsm8k_train", "deepmath_103k"}
    kodcode = entries["kodcode_v1"]
    assert (kodcode["carries"], kodcode["license"], kodcode["columns"]) == (
        "tests",
        "CC-BY-NC-4.0",
        ["question", "solution", "test"],
    )


def test_system_and_domain_choose() -> None:
    names = [entry["name"] for entry in listed("--system", "sk", "--domain", "code")]
    assert names == ["leetcode_dataset", "taco", "hub_livecodebench_sk"]
    table = run("--system", "sk", "--domain", "code")
    assert "newfacade/LeetCodeDataset" in table
    assert "2 sources, 1 benchmarks; 0 are here (no raw folder is set" in table


def test_one_is_shown_with_an_example_of_its_fields(raw: Path) -> None:
    made_up = run("deepmath_103k")
    assert '* final_answer: "0"' in made_up
    assert "topic: " in made_up
    assert "made up, in the shape of the source" in made_up
    here = run("deepmath_103k", "--raw", str(raw))
    assert '* final_answer: "7"' in here
    assert f'* question: "{"Q" * 98}…' in here
    selected = run("aime_before_2024")
    assert "without Year = 2024" in selected
    whole = json.loads(run("deepmath_103k", "--json", "--raw", str(raw)))
    assert whole["example"]["row"]["question"] == "Q" * 500


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean deepmath or deepmath_103k"):
        run("deepmth")
    with pytest.raises(ConfigError, match="no such raw folder"):
        run("--raw", str(tmp_path / "gone"))
