"""posttrain grade as a person runs it: every domain, and a kill in the middle that loses nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.sandbox.limits import SandboxError
from infra.sandbox.sandbox import Sandbox
from tests.integration.cli import kill_when, posttrain

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
IFEVAL = Path(__file__).resolve().parents[2].parent / "shared/data/benchmarks/ifeval.jsonl"


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _grade(domain: str, source: Path, *more: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    output = source.with_suffix(".out.jsonl")
    done = posttrain("grade", domain, str(source), "-o", str(output), "--json", *more, timeout_s=500)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout), _read(output)


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    # Each needs algebra, so that there is a middle to be killed in.
    rows = [{"id": n, "response": rf"\boxed{{(x+{n})^2}}", "gold": f"x^2+{2 * n}x+{n * n + n % 2}"} for n in range(150)]
    source, output = _lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    journal = tmp_path / "out.jsonl.journal"
    command = ["grade", "math", str(source), "-o", str(output), "--processes", "1"]

    def is_in_the_middle() -> bool:
        return journal.exists() and journal.read_bytes().count(b"\n") > 10

    assert kill_when(is_in_the_middle, command, tmp_path / "log")
    assert not output.exists()
    done = posttrain(*command, "--json")
    assert done.code == 0, done.stderr
    assert 10 <= json.loads(done.stdout)["kept"] < 150
    assert [(row["id"], row["score"]) for row in _read(output)] == [(n, float(n % 2 == 0)) for n in range(150)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "log", "out.jsonl", "out.jsonl.graded.json"]


def test_code_in_two_languages(tmp_path: Path) -> None:
    try:
        _ = Sandbox().level
    except SandboxError as error:
        pytest.skip(f"no jail works here: {error}")
    good, bad = (f"```python\ndef f(x): return x + {n}\n```" for n in (1, 2))
    doubles = "```cpp\n#include <iostream>\nint main(){int a;std::cin>>a;std::cout<<2*a;}\n```"
    asserts = {"kind": "assert", "asserts": ["assert f(1) == 2"]}
    rows = [
        {"id": "good", "response": good, "tests": asserts},
        {"id": "bad", "response": bad, "tests": {"kind": "call", "function": "f", "inputs": [[1]], "outputs": [2]}},
        {
            "id": "c++",
            "response": doubles,
            "language": "cpp",
            "tests": {"kind": "stdio", "inputs": ["4"], "outputs": ["8"]},
        },
        {"id": "odd", "response": good, "tests": {"kind": "odd"}},
        {"id": "none", "response": "text", "tests": asserts},
    ]
    summary, graded = _grade("code", _lines(tmp_path / "in.jsonl", rows))
    assert [row["outcome"] for row in graded] == ["passed", "wrong", "passed", "tests_missing", "no_code"]
    assert (summary["scored"], summary["mean_score"]) == (4, 0.5)


@pytest.mark.skipif(not IFEVAL.exists(), reason="the shared data folder is not there")
def test_rows_of_ifeval_as_they_are(tmp_path: Path) -> None:
    rows = [row | {"id": row["key"], "response": row["prompt"]} for row in _read(IFEVAL)]
    strict, graded = _grade("instructions", _lines(tmp_path / "in.jsonl", rows))
    assert (len(graded), strict["scored"]) == (541, 541)
    assert {row["method"] for row in graded} == {"instructions_strict"}


def test_chat_by_the_stand_in_is_not_asked_twice(tmp_path: Path) -> None:
    rows = [{"id": n, "response": f"{n}", "messages": [{"role": "user", "content": "Why?"}]} for n in range(3)]
    more = ("--model", "scripted-stand-in/reward-model", "--store", str(tmp_path / "store"))
    summary, graded = _grade("chat", _lines(tmp_path / "in.jsonl", rows), *more)
    assert summary["outcomes"] == {"scored": 3}
    assert all(0 <= row["score"] <= 1 and "coherence=" in row["detail"] for row in graded)


def test_an_endpoint_that_is_not_there_keeps_what_is_graded(tmp_path: Path) -> None:
    source = _lines(
        tmp_path / "in.jsonl", [{"id": 1, "response": "x", "messages": [{"role": "user", "content": "Why?"}]}]
    )
    arguments = ("--endpoint", "http://127.0.0.1:9/v1", "--model", "absent", "--store", str(tmp_path / "store"))
    done = posttrain("grade", "chat", str(source), "-o", str(tmp_path / "out.jsonl"), *arguments)
    assert done.code == 1
    assert "gives no reply" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
