"""The step that judges queries, against the scripted stand-in over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Drop
from infra.runtime import Endpoint, Runtime
from tasks.filter import judge
from tasks.filter.judge import Judgement, judge_messages, judge_queries
from tasks.filter.judge_config import JudgeConfig, QueryJudgesConfig
from tasks.procedural import stand_in
from tasks.procedural.roles import StandInConfig
from tasks.records import Domain, Message, Query
from tests.unit.memory_tables import MemoryTables

RUNTIME = Runtime(endpoints={"judge": Endpoint(base_url="stand-in", max_concurrency=4)})
JUDGES = (
    JudgeConfig(model="scripted-stand-in/judge", votes=4),
    JudgeConfig(model="scripted-stand-in/second-judge", votes=4),
)
CONFIG = QueryJudgesConfig(judges=JUDGES, min_valid=4, votes_per_round=4)


def ask(number: int, is_clear: bool = True, domain: Domain = Domain.MATH) -> Query:
    start = str(number) if is_clear else "some number"
    text = f"Start with {start}, add {number + 5}, multiply by 2. What is the result?"
    messages = (Message(role="user", content=text),)
    return Query(id=f"q{number:03}", domain=domain, source="sums", messages=messages, answer="1")


def judged(folder: Path, queries: list[Query], config: QueryJudgesConfig = CONFIG) -> MemoryTables:
    tables = MemoryTables(folder, queries=queries)
    judge_queries.inner(tables.sets["queries"], config, tables.out, RUNTIME)
    tables.close()
    return tables


def test_unclear_queries_go_with_reasons_and_clear_ones_stay(tmp_path: Path) -> None:
    queries = [ask(number, is_clear=number % 5 > 0) for number in range(60)]
    queries.append(ask(500, is_clear=False, domain=Domain.CHAT))  # not of a domain that is judged
    tables = judged(tmp_path, queries)
    drops = {drop.query_id: drop for drop in tables.read("dropped", Drop)}
    assert set(drops) == {query.id for query in queries if "some" in query.prompt and query.domain is Domain.MATH}
    assert {drop.reason for drop in drops.values()} == {"judged_invalid"}
    assert drops["q000"].evidence.endswith("The question is incomplete or unclear.")
    rows = tables.read("judgements", Judgement)
    assert {row.query_id for row in rows} == {query.id for query in queries[:60]}
    assert all(row.told for row in rows)
    assert {row.valid for row in rows} == {True, False, None}
    assert len(rows) < 60 * 8 * 0.8  # votes stop once the outcome is fixed
    assert tables.out.cost.cache_hits == 0
    assert "| scripted-stand-in/second-judge |" in tables.out.notes[0]


def test_neither_rounds_nor_batches_change_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [ask(number, is_clear=number % 3 > 0) for number in range(10)]
    whole = judged(tmp_path / "a", queries)
    monkeypatch.setattr(judge, "BATCH_QUERIES", 9)
    batched = judged(tmp_path / "b", queries)
    for table in ("kept", "judgements", "dropped"):
        assert batched.bytes_of(table) == whole.bytes_of(table)
    at_once = judged(tmp_path / "c", queries, CONFIG.model_copy(update={"votes_per_round": 100}))
    one_by_one = judged(tmp_path / "d", queries, CONFIG.model_copy(update={"votes_per_round": 2}))
    assert at_once.bytes_of("kept") == one_by_one.bytes_of("kept") == whole.bytes_of("kept")
    num_votes = [len(tables.read("judgements", Judgement)) for tables in (one_by_one, whole, at_once)]
    assert num_votes == sorted(num_votes)
    assert num_votes[0] < num_votes[2]


def test_a_second_threshold_pays_only_for_votes_that_were_not_cast(tmp_path: Path) -> None:
    queries = [ask(number) for number in range(20)]
    runs: list[Any] = []
    for config in (CONFIG, CONFIG.model_copy(update={"min_valid": 3}), CONFIG.model_copy(update={"min_valid": 8})):
        tables = MemoryTables(tmp_path / str(len(runs)), queries=queries)
        tables.out.store = type(tables.out.store)(str(tmp_path / "shared"), local=tmp_path / "local")
        judge_queries.inner(tables.sets["queries"], config, tables.out, RUNTIME)
        tables.close()
        runs.append(tables.out.cost)
    assert runs[0].completion_tokens > 0
    assert runs[1].completion_tokens == 0
    assert runs[1].cache_hits > 0
    assert 0 < runs[2].completion_tokens < 2 * runs[0].completion_tokens


def test_judges_that_say_nothing_call_nothing_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = StandInConfig(garbled_rate=1.0)
    monkeypatch.setattr(stand_in.StandInServer.__init__, "__defaults__", (mute, 0))
    tables = judged(tmp_path, [ask(1), ask(2, is_clear=False)])
    drops = tables.read("dropped", Drop)
    assert {drop.reason for drop in drops} == {"judge_failed"}
    assert "no rating (stop)" in drops[0].evidence
    assert {row.valid for row in tables.read("judgements", Judgement)} == {None}


def test_all_turns_are_shown() -> None:
    turns = [("user", "Hello."), ("assistant", "Hi."), ("user", "What is 2+2?")]
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    query = Query(id="q", domain=Domain.CHAT, source="s", messages=messages)
    shown = judge_messages(query)[0]["content"]
    assert "<query>\nUser: Hello.\n\nAssistant: Hi.\n\nUser: What is 2+2?\n</query>" in shown
    assert shown.rindex("<reasons>") < shown.rindex("<rating>")
