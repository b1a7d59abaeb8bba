"""The answer that a source's solution states, against its label; by hand and on real rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from infra.artifacts import Drop
from infra.runtime import Runtime
from tasks.records import Domain, Message, Query
from tasks.rewards.math import MathConfig
from tasks.rewards.math_policy import Fallback
from tasks.verify import solutions
from tasks.verify.config import SolutionCheck, SolutionsConfig
from tasks.verify.solutions import Extraction, check_solutions, stated_answer
from tests.unit.memory_tables import MemoryTables

PHRASES = (Fallback.LABEL, Fallback.PHRASE)


def query(name: str, solution: str | None, answer: str | None = "4", **fields: Any) -> Query:
    messages = (Message(role="user", content=f"What is {name}?"),)
    known: dict[str, Any] = {"domain": Domain.MATH, "source": "s", "messages": messages}
    return Query.model_validate({"id": name, "solution": solution, "answer": answer, **known, **fields})


def config(check: Literal["stated", "required"] = "stated") -> SolutionCheck:
    return SolutionCheck(solutions=SolutionsConfig(check=check), math=MathConfig())


def checked(folder: Path, rows: list[Query], check: SolutionCheck) -> MemoryTables:
    tables = MemoryTables(folder, queries=rows)
    check_solutions.inner(tables.sets["queries"], check, tables.out, Runtime(verifier_processes=1))
    tables.close()
    return tables


@pytest.mark.parametrize(
    ("solution", "answer", "found_by"),
    [
        ("First \\boxed{3}, at last \\boxed{4}.", "4", "box"),
        ("2 + 2 = <<2+2=4>>4\n#### 4", "4", "label"),
        ("Add them. So the answer is $4$, as asked.", "4", "phrase"),
        ("2 + 2 = 4", None, "no box in the answer part, nor what may stand for one"),
        (None, None, "no solution"),
        ("", None, "no solution"),
    ],
)
def test_what_a_solution_states(solution: str | None, answer: str | None, found_by: str) -> None:
    assert stated_answer(query("q", solution), PHRASES) == (answer, found_by)


def test_of_multiple_choice_a_solution_states_a_letter() -> None:
    choices: dict[str, Any] = {"choices": ("3", "4"), "answer": "B"}
    for solution in ("\\boxed{B}", "\\boxed{4}", "\\boxed{\\text{(B)}}"):
        assert stated_answer(query("q", solution, **choices), PHRASES).answer == "B"
    assert stated_answer(query("q", "\\boxed{9}", **choices), PHRASES) == (None, "names no option")


ROWS = [
    query("agrees", "\\boxed{4.0}"),
    query("alternative", "\\boxed{5}", alternatives=("5",)),
    query("disagrees", "\\boxed{5}"),
    query("silent", "By inspection."),
    query("bare", None),
    query("science", "\\boxed{5}", domain=Domain.SCIENCE),
    query("unlabelled", "\\boxed{5}", answer=None),
]


def test_only_labels_that_solutions_contradict_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = checked(tmp_path / "whole", ROWS, config())
    (drop,) = tables.read("dropped", Drop)
    assert (drop.query_id, drop.reason) == ("disagrees", "solution_disagrees")
    assert drop.evidence == "label '4', the solution states '5'"
    rows = {row.query_id: row for row in tables.read("extractions", Extraction)}
    assert {name: row.finding for name, row in rows.items()} == {
        "agrees": "agrees",
        "alternative": "agrees",
        "disagrees": "disagrees",
        "silent": "states no answer",
        "bare": "states no answer",
    }
    assert "| states no answer | 2 |" in tables.out.notes[0]
    monkeypatch.setattr(solutions, "BATCH_QUERIES", 2)
    batched = checked(tmp_path / "batched", ROWS, config())
    assert all(batched.bytes_of(name) == tables.bytes_of(name) for name in ("kept", "dropped", "extractions"))


def test_where_a_solution_is_required_silence_drops_too(tmp_path: Path) -> None:
    tables = checked(tmp_path, ROWS, config("required"))
    drops = {drop.query_id: drop for drop in tables.read("dropped", Drop)}
    assert {name: drop.reason for name, drop in drops.items()} == {
        "disagrees": "solution_disagrees",
        "silent": "solution_missing",
        "bare": "solution_missing",
    }
    assert drops["bare"].evidence == "no solution"
    assert drops["silent"].evidence.startswith("no box")


def test_a_comparison_that_fails_is_no_disagreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.records import Outcome
    from tasks.verify.votes import Comparisons

    hang = Comparisons(lambda pairs: [Outcome.TIME_OUT for _ in pairs])
    monkeypatch.setattr(solutions, "open_comparisons", lambda *_: hang)
    tables = checked(tmp_path, [query("slow", "\\boxed{5}")], config("required"))
    (drop,) = tables.read("dropped", Drop)
    assert (drop.reason, drop.evidence) == ("verification_failed", "time_out comparing '5' with '4'")


DATA = Path(__file__).resolve().parents[2].parent / "shared/data"


@pytest.mark.skipif(not DATA.exists(), reason=f"no real data at {DATA}")
@pytest.mark.parametrize(
    ("file", "adapter", "num_stated", "num_lost"),
    [("benchmarks/math500.jsonl", "math500", 500, 0), ("raw/aime_aimo_2022_2024.jsonl", "aimo", 80, 0)],
)
def test_real_solutions_state_their_labels(
    tmp_path: Path, file: str, adapter: str, num_stated: int, num_lost: int
) -> None:
    """The answers of MATH-500 and of AIME's worked solutions: boxes that say what the label says."""
    from tasks.ingest.config import SourceConfig
    from tasks.ingest.conversion import convert_file

    source = SourceConfig(name="real", file=file, adapter=adapter, license="")
    rows = [row for row, _ in convert_file(DATA / file, source)]
    tables = checked(tmp_path, rows, config())
    findings = [row.finding for row in tables.read("extractions", Extraction)]
    assert findings.count("agrees") >= num_stated
    assert findings.count("disagrees") == num_lost
