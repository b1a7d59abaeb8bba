"""Every adapter over the real file it is written for, and the filters over all of them."""

from collections import Counter
from pathlib import Path

import pytest

from tasks.filter.config import DecontaminationConfig, DedupConfig, RulesConfig
from tasks.filter.decontaminate import BenchmarkIndex, find_leaks
from tasks.filter.dedup import judge_duplicates
from tasks.filter.reasons import DropReason
from tasks.filter.rules import signals
from tasks.ingest.adapters.registry import ADAPTERS
from tasks.ingest.config import BenchmarkConfig, FileConfig, SourceConfig
from tasks.ingest.conversion import Converted, convert_file
from tasks.records import Domain, Query

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
pytestmark = pytest.mark.skipif(not (DATA / "raw").exists(), reason=f"no real data at {DATA}")

SOURCES = {  # file stem → adapter, in order of trust
    "deepmath": "deepmath",
    "hendrycks_math": "hendrycks_math",
    "aime_1983_2023": "aime",
    "amc_rllm": "amc",
    "amc_aimo": "aimo",
    "aime_aimo_2022_2024": "aimo",
    "olympiadbench": "olympiadbench",
    "minerva": "minerva",
    "minif2f_proofs": "minif2f",
    "gsm8k_train": "gsm8k",
    "gaokao2023en": "gaokao",
    "leetcode": "leetcode",
    "code_contests": "code_contests",
    "codeforces": "codeforces",
    "leetcode_weekly_2023": "leetcode_weekly",
    "mbpp_train": "mbpp",
    "taco_no_tests": "taco",
    "acecode": "acecode",
    "multi_subject_rlvr": "multi_subject",
    "mmlu_science_val": "mmlu_mcq",
    "scibench": "scibench",
    "logiqa_en": "agieval",
    "sat_math_mcq": "agieval_math",
    "qasc_cot": "qasc",
    "autoif": "autoif",
    "followbench": "followbench",
    "self_instruct_seed": "self_instruct",
    "tulu_eval_instances": "tulu_eval_instances",
    "fastchat_dummy": "sharegpt",
    "mt_bench": "mt_bench",
    "alpaca_demo": "alpaca",
    "dpo_demo": "preference",
    "evol_instruct": "evol_instruct",
}
BENCHMARKS = {
    "aime24": "aime_verl",
    "aime25": "aime_verl",
    "math500": "math500",
    "gsm8k_test": "gsm8k",
    "humaneval": "humaneval",
    "mbpp_sanitized": "mbpp_sanitized",
    "ifeval": "ifeval",
    "ifbench": "ifeval",
    "arena_hard_v0.1_questions": "arena_hard",
    "arena_hard_v2.0_questions": "arena_hard",
    "mmlu_stem_sample": "mmlu_stem",
}


def read(config: FileConfig) -> list[Converted]:
    return list(convert_file(DATA / config.file, config))


@pytest.fixture(scope="module")
def sources() -> dict[str, list[Converted]]:
    return {
        name: read(SourceConfig(name=name, file=f"raw/{name}.jsonl", adapter=adapter, license="test"))
        for name, adapter in SOURCES.items()
    }


@pytest.fixture(scope="module")
def benchmarks() -> dict[str, list[Converted]]:
    return {
        name: read(BenchmarkConfig(name=name, file=f"benchmarks/{name}.jsonl", adapter=adapter))
        for name, adapter in BENCHMARKS.items()
    }


@pytest.fixture(scope="module")
def queries(sources: dict[str, list[Converted]]) -> list[Query]:
    return [each.query for rows in sources.values() for each in rows if each.reason is None]


def test_every_raw_file_and_every_adapter_is_read() -> None:
    assert {path.stem for path in (DATA / "raw").glob("*.jsonl")} == set(SOURCES)
    assert {*SOURCES.values(), *BENCHMARKS.values()} == set(ADAPTERS)


def test_every_row_makes_a_query_with_its_own_id(
    sources: dict[str, list[Converted]], benchmarks: dict[str, list[Converted]]
) -> None:
    everything = sources | benchmarks
    for name, rows in everything.items():
        folder = "raw" if name in sources else "benchmarks"
        lines = (DATA / folder / f"{name}.jsonl").read_bytes().count(b"\n")
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
    leaked = {name: [q for q in queries if q.source == name and q.id in leaks] for name in SOURCES}
    exact = [leaks[q.id] for q in leaked["aime_1983_2023"] if leaks[q.id].reason is DropReason.LEAK_EXACT]
    assert len([leak for leak in exact if leak.evidence.startswith("math500")]) == 6
    assert 6 <= len(leaked["aime_1983_2023"]) <= 40
    found = {leaks[q.id].evidence.split()[1] for q in leaked["aime_aimo_2022_2024"]}
    assert len(found) == 30  # all of AIME 2024
    assert leaked["gsm8k_train"] == []
    assert len(leaked["mbpp_train"]) >= 130
    assert len(leaked["hendrycks_math"]) <= 10
    assert len(leaked["deepmath"]) <= 3
