"""Every adapter over the real file it is written for, and the filters over all of them."""

from collections import Counter
from pathlib import Path

import pytest

from tasks.filter.config import DecontaminationConfig, DedupConfig, RulesConfig
from tasks.filter.decontaminate import BenchmarkIndex, find_leaks
from tasks.filter.dedup import judge_duplicates
from tasks.filter.reasons import DropReason
from tasks.filter.rules import signals
from tasks.ingest.catalogue import catalogue, find_entry, schemas
from tasks.ingest.config import BenchmarkConfig, SourceConfig
from tasks.ingest.conversion import Converted, convert_file
from tasks.ingest.native import read_rows
from tasks.records import Domain, Query
from tasks.rewards.code_tests import plan_tests

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
pytestmark = pytest.mark.skipif(not (DATA / "raw").exists(), reason=f"no real data at {DATA}")

LOCAL = [entry for entry in catalogue().values() if entry.file is not None]


def read(name: str) -> list[Converted]:
    kind = BenchmarkConfig if find_entry(name).is_benchmark else SourceConfig
    config = kind.model_validate({"catalogue": name})
    return list(convert_file(DATA / config.origin, config))


@pytest.fixture(scope="module")
def sources() -> dict[str, list[Converted]]:
    """In order of trust."""
    return {entry.name: read(entry.name) for entry in LOCAL if not entry.is_benchmark}


@pytest.fixture(scope="module")
def benchmarks() -> dict[str, list[Converted]]:
    return {entry.name: read(entry.name) for entry in LOCAL if entry.is_benchmark}


@pytest.fixture(scope="module")
def queries(sources: dict[str, list[Converted]]) -> list[Query]:
    return [each.query for rows in sources.values() for each in rows if each.reason is None]


def test_every_file_is_in_the_catalogue() -> None:
    files = {path.relative_to(DATA).as_posix() for path in DATA.glob("*/*.jsonl")}
    answers = "benchmarks/arena_hard_v0.1_baseline_gpt-4-0314.jsonl"  # of a model: no questions
    assert files - {answers} == {entry.file for entry in LOCAL}


def test_every_file_has_the_columns_that_its_schema_needs_and_the_made_up_rows_have_no_others() -> None:
    published: dict[str, set[str]] = {}
    for entry in LOCAL:
        columns = {name for row in read_rows(DATA / entry.origin, entry.origin) for name in row}
        assert set(schemas()[entry.adapter].needs) <= columns, entry.name
        published[entry.adapter] = published.get(entry.adapter, set()) | columns
    others = {adapter: set(schemas()[adapter].row) - columns for adapter, columns in published.items()}
    assert {adapter: columns for adapter, columns in others.items() if columns} == {}


def test_every_row_makes_a_query_with_its_own_id(
    sources: dict[str, list[Converted]], benchmarks: dict[str, list[Converted]]
) -> None:
    everything = sources | benchmarks
    for name, rows in everything.items():
        lines = (DATA / find_entry(name).origin).read_bytes().count(b"\n")
        assert len(rows) == lines, name
        assert all(each.reason is None for each in rows), name
    names = [each.query.id for rows in everything.values() for each in rows]
    assert len(names) == len(set(names))
    assert sum("#" in name for name in names) == 4  # byte-equal rows of alpaca_demo


def test_every_domain_has_its_verifier(
    sources: dict[str, list[Converted]], benchmarks: dict[str, list[Converted]]
) -> None:
    missing: Counter[str] = Counter()
    for name, rows in (sources | benchmarks).items():
        for query, _ in rows:
            has = {Domain.MATH: query.answer, Domain.SCIENCE: query.answer, Domain.CODE: query.tests}
            missing[name] += has.get(query.domain, "-") is None
    expected = {"minif2f_proofs": 150, "taco_no_tests": 150, "hendrycks_math": 2, "gaokao2023en": 2}
    assert {name: count for name, count in missing.items() if count} == expected
    assert all(query.constraints for name in ("ifeval", "ifbench") for query, _ in benchmarks[name])
    labels = [query.answer or "" for name in ("aime24", "aime25") for query, _ in benchmarks[name]]
    assert all(label.isdecimal() and not label.startswith("0") for label in labels)


def test_livecodebench_is_read_with_its_tests(benchmarks: dict[str, list[Converted]]) -> None:
    rows = [query for query, _ in benchmarks["livecodebench_sample"]]
    assert Counter(str((query.tests or {})["kind"]) for query in rows).keys() == {"call", "stdio"}
    assert all(plan_tests(query.tests).tests for query in rows)
    hidden = next(query for query in rows if query.meta["question_id"] == "abc301_a")
    assert len((hidden.tests or {})["inputs"]) > 10  # the hidden tests are there too


def test_rules_on_real_rows(queries: list[Query]) -> None:
    found = {(query.source, reason): 0 for query in queries for reason in DropReason}
    clean: Counter[str] = Counter()
    for query in queries:
        reasons = signals(query, RulesConfig())
        clean[query.source] += not reasons
        for reason in reasons:
            found[query.source, reason] += 1
    assert clean["minif2f_proofs"] == clean["taco_no_tests"] == 0
    assert found["minif2f_proofs", DropReason.PROOF] >= 145
    for source in ("gsm8k_train", "qasc_cot", "mmlu_science_val", "logiqa_en", "fastchat_dummy", "followbench"):
        assert clean[source] == len([query for query in queries if query.source == source]), source
    asy = [query for query in queries if "[asy]" in query.prompt]
    assert len(asy) > 150
    assert all(DropReason.IMAGE in signals(query, RulesConfig()) for query in asy)


def test_duplicates_on_real_rows(queries: list[Query]) -> None:
    dropped: Counter[str] = Counter()
    for query, duplicate in judge_duplicates(queries, DedupConfig()):
        dropped[query.source] += duplicate is not None
    assert dropped["tulu_eval_instances"] == 213
    assert dropped["fastchat_dummy"] == 116
    assert dropped["amc_aimo"] == 83  # the same problems as amc_rllm
    assert dropped["gsm8k_train"] == dropped["deepmath"] == 0


def test_leaks_on_real_rows(queries: list[Query], benchmarks: dict[str, list[Converted]]) -> None:
    evaluation = [query for rows in benchmarks.values() for query, _ in rows]
    leaks = find_leaks(queries, BenchmarkIndex(evaluation, DecontaminationConfig()))
    leaked = {
        name: [q for q in queries if q.source == name and q.id in leaks] for name in {query.source for query in queries}
    }
    exact = [leaks[q.id] for q in leaked["aime_1983_2023"] if leaks[q.id].reason is DropReason.LEAK_EXACT]
    assert len([leak for leak in exact if leak.evidence.startswith("math500")]) == 6
    assert 6 <= len(leaked["aime_1983_2023"]) <= 40
    found = {leaks[q.id].evidence.split()[1] for q in leaked["aime_aimo_2022_2024"]}
    assert len(found) == 30  # all of AIME 2024
    assert leaked["gsm8k_train"] == []
    assert len(leaked["mbpp_train"]) >= 130
    assert len(leaked["hendrycks_math"]) <= 10
    assert len(leaked["deepmath"]) <= 3
