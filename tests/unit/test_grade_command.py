"""posttrain grade: exit codes, JSON, and help, without a process of its own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from infra.config import ConfigError

ROWS = [{"id": n, "response": rf"\boxed{{{n + n % 2}}}", "gold": n} for n in range(4)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["grade", *(str(argument) for argument in arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_wrong_answers_are_no_failure(source: Path) -> None:
    code, told = invoke("math", source, "-o", source.with_name("out.jsonl"), "--json")
    report = json.loads(told)
    assert (code, report["mean_score"], report["outcomes"]) == (0, 0.5, {"equal": 2, "different": 2})
    code, told = invoke("math", source, "-o", source.with_name("out.jsonl"), "--json")
    assert (code, json.loads(told)["kept"]) == (0, 4)


def test_the_table_tells_outcomes_and_score(source: Path) -> None:
    code, told = invoke("math", source, "-o", source.with_name("out.jsonl"))
    assert code == 0
    assert "different" in told
    assert "mean score 0.5000 over 4 rows" in told


def test_bad_input_is_exit_code_2(source: Path) -> None:
    source.write_text('{"id": 1}\n')
    assert invoke("math", source, "-o", source.with_name("out.jsonl"))[0] == 2
    assert invoke("math", source.with_name("absent.jsonl"), "-o", source.with_name("out.jsonl"))[0] == 2
    assert [path.name for path in source.parent.iterdir()] == ["in.jsonl"]


def test_an_output_that_cannot_be_is_exit_code_2(source: Path) -> None:
    (source.parent / "folder.jsonl").mkdir()
    for output in (source.parent / "folder.jsonl", source / "out.jsonl"):
        assert invoke("math", source, "-o", output)[0] == 2
    (source.parent / "mine.jsonl").write_text("precious")
    assert invoke("math", source, "-o", source.parent / "mine.jsonl")[0] == 2
    assert (source.parent / "mine.jsonl").read_text() == "precious"


def test_faults_of_the_grader_are_exit_code_3(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.rewards.math.MathVerifier.judge", lambda *_: 1 / 0)
    code, told = invoke("math", source, "-o", source.with_name("out.jsonl"), "--json")
    assert (code, json.loads(told)["grader_faults"]) == (3, 4)


def test_rules_are_set_by_name(source: Path) -> None:
    out = source.with_name("out.jsonl")
    code, told = invoke("math", source, "-o", out, "--set", "math.max_answer_chars=1", "--json")
    assert (code, json.loads(told)["rows"]) == (0, 4)
    with pytest.raises(ConfigError, match="did you mean `timeout_s`"):
        invoke("math", source, "-o", out, "--set", "math.timeout=1")
    rules = source.with_name("rules.toml")
    rules.write_text("[math]\nmax_answer_chars = 2\n")
    assert invoke("math", source, "-o", out, "--rewards", rules)[0] == 0


def test_chat_needs_a_model_and_no_stand_in_speaks_for_a_real_one(source: Path) -> None:
    rows = [{"id": 1, "response": "x", "messages": [{"role": "user", "content": "Why?"}]}]
    source.write_text(json.dumps(rows[0]) + "\n")
    arguments = ("chat", source, "-o", source.with_name("out.jsonl"), "--store", source.parent / "store")
    with pytest.raises(ConfigError, match="--model"):
        invoke(*arguments)
    with pytest.raises(ConfigError, match=r"stand-in.*--endpoint"):
        invoke(*arguments, "--model", "real")


def test_help_tells_fields_and_examples() -> None:
    code, told = invoke("--help")
    assert code == 0
    assert "posttrain grade math answers.jsonl -o verdicts.jsonl" in told
    assert "instruction_id_list" in told
