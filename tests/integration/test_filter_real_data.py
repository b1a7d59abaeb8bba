"""The filters over all real rows: what must go goes, what must stay stays, and every source adds up. The 200,000-row
planted corpus is here too."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from infra.artifacts import Dataset
from tasks.filter.config import FilterConfig
from tasks.filter.dedup import judge_duplicates
from tasks.filter.steps import (
    apply_rules,
    decontaminate,
    drop_duplicates,
    find_duplicate_signals,
    find_leak_signals,
    find_rule_signals,
)
from tasks.records import Query
from tests.unit.planted_queries import make_planted
from tests.unit.stored_queries import Outcome, StoredQueries
from tests.unit.test_ingest_real_data import DATA, LOCAL, read

pytestmark = pytest.mark.integration
real = pytest.mark.skipif(not (DATA / "raw").exists(), reason=f"no real data at {DATA}")
CONFIG = FilterConfig.model_validate({"dedup": {"near_duplicates": True}})


class Filtered:
    """All sources through all filters, and the drops of each."""

    def __init__(self, folder: Path) -> None:
        self.stored = StoredQueries(folder)
        self.queries = self.stored.add(read_sources())
        self.benchmarks = tuple(self.stored.add(rows) for rows in read_benchmarks())
        signals = self.stored.run(find_rule_signals, self.queries).dataset
        self.judged = self.stored.run(apply_rules, self.queries, signals, config=CONFIG.rules)
        pairs = self.stored.run(find_duplicate_signals, self.judged.dataset, config=CONFIG.dedup.search).dataset
        self.unique = self.stored.run(drop_duplicates, self.judged.dataset, pairs, config=CONFIG.dedup)
        self.clean = self.decontaminate(self.unique.dataset)

    def decontaminate(self, queries: Dataset) -> Outcome:
        config = CONFIG.decontamination
        leaks = self.stored.run(find_leak_signals, queries, self.benchmarks, config=config.search).dataset
        return self.stored.run(decontaminate, queries, (leaks,), config=config)


def read_sources() -> list[Query]:
    return [row.query for entry in LOCAL if not entry.is_benchmark for row in read(entry.name)]


def read_benchmarks() -> list[list[Query]]:
    return [[row.query for row in read(entry.name)] for entry in LOCAL if entry.is_benchmark]


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Filtered:
    return Filtered(tmp_path_factory.mktemp("filtered"))


@real
def test_every_source_adds_up_in_every_step(filtered: Filtered) -> None:
    rows = {source: sum(counts.values()) for source, counts in filtered.judged.dataset.funnel.items()}
    files = {entry.name: DATA / str(entry.file) for entry in LOCAL if not entry.is_benchmark}
    lines = {name: path.read_bytes().count(b"\n") for name, path in files.items()}
    assert rows == lines
    steps = [filtered.judged, filtered.unique, filtered.clean]
    for before, after in pairwise(steps):
        kept = {source: counts["kept"] for source, counts in before.dataset.funnel.items() if "kept" in counts}
        assert kept == {source: sum(counts.values()) for source, counts in after.dataset.funnel.items()}
    assert all(drop.evidence for step in steps for drop in step.drops.values())


@real
def test_what_cannot_be_judged_goes_with_the_right_reason_and_shared_passages_stay(filtered: Filtered) -> None:
    funnel = filtered.judged.dataset.funnel
    assert "kept" not in funnel["minif2f_proofs"]
    assert funnel["minif2f_proofs"]["proof"] >= 145
    assert set(funnel["minif2f_proofs"]) <= {"proof", "image", "answer_missing"}
    assert set(funnel["taco_no_tests"]) <= {"tests_missing", "image", "url"}
    missing = [drop for drop in filtered.judged.drops.values() if drop.source == "taco_no_tests"]
    assert len(missing) == 150
    assert all("tests_missing: no tests" in drop.evidence for drop in missing)
    assert filtered.clean.dataset.funnel["logiqa_en"] == {"kept": 400}


@real
def test_known_duplicates_go(filtered: Filtered) -> None:
    stored = filtered.stored
    pairs = stored.run(find_duplicate_signals, filtered.queries, config=CONFIG.dedup.search).dataset
    funnel = stored.run(drop_duplicates, filtered.queries, pairs, config=CONFIG.dedup).dataset.funnel
    assert funnel["amc_aimo"] == {"duplicate": 83}
    assert funnel["amc_rllm"] == {"kept": 83}
    assert funnel["tulu_eval_instances"]["duplicate"] == 213
    near = sum(counts.get("near_duplicate", 0) for counts in funnel.values())
    assert 15 <= near <= 40  # of those read, all are the same questions, spaced, spelt or set otherwise


@real
def test_known_leaks_go_and_other_years_stay(filtered: Filtered) -> None:
    clean = filtered.decontaminate(filtered.queries)
    found = Counter((drop.source, drop.evidence.split()[0]) for drop in clean.drops.values())
    aime24 = {d.evidence.split()[1] for d in clean.drops.values() if d.source == "aime_aimo_2022_2024"}
    assert len(aime24) == found["aime_aimo_2022_2024", "aime24"] == 30
    exact = [d for d in clean.drops.values() if d.source == "aime_1983_2023" and d.reason == "leak_exact"]
    assert len([drop for drop in exact if drop.evidence.startswith("math500")]) == 6
    assert sum(drop.source == "aime_1983_2023" for drop in clean.drops.values()) <= 40
    assert "leak_exact" not in clean.dataset.funnel["gsm8k_train"]
    assert sum(drop.source == "mbpp_train" for drop in clean.drops.values()) >= 130
    assert {drop.query_id for drop in clean.drops.values()} <= set(clean.drops)


@pytest.mark.thorough
def test_planted_copies_among_200_000_rows() -> None:
    planted = make_planted(200_000, seed=1)
    config = CONFIG.dedup.model_copy(update={"prefer_verified": False})
    dropped = {query.id for query, duplicate in judge_duplicates(planted.queries, config) if duplicate}
    assert len(planted.copies.keys() & dropped) / len(planted.copies) >= 0.99
    assert not dropped & planted.twins.keys()
    assert dropped <= planted.copies.keys()


def test_processes_and_shards_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = make_planted(3_000).queries
    outcomes = []
    for shard_rows, processes in ((50_000, 1), (700, 2)):
        monkeypatch.setattr("infra.output.SHARD_ROWS", shard_rows)
        stored = StoredQueries(tmp_path / str(processes), processes=processes)
        rows, bench = stored.add(queries[:2_500]), (stored.add(queries[2_500:]),)
        pairs = stored.run(find_duplicate_signals, rows, config=CONFIG.dedup.search)
        unique = stored.run(drop_duplicates, rows, pairs.dataset, config=CONFIG.dedup)
        leaks = stored.run(find_leak_signals, rows, bench, config=CONFIG.decontamination.search)
        clean = stored.run(decontaminate, rows, (leaks.dataset,), config=CONFIG.decontamination)
        outcomes.append((unique.drops, clean.drops))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][0]) > 300
    assert len(outcomes[0][1]) > 50
