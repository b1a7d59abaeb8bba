"""The filter steps: conservation, reasons and evidence; and the planted faults of the procedural corpus."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.filter.config import DecontaminationConfig, DedupConfig, DuplicateSearch, LeakSearch, RulesConfig
from tasks.filter.decontaminate import BenchmarkIndex, find_leaks
from tasks.filter.dedup import judge_duplicates
from tasks.filter.reasons import DropReason
from tasks.filter.rules import signals
from tasks.filter.steps import (
    apply_rules,
    decontaminate,
    drop_duplicates,
    find_duplicate_signals,
    find_leak_signals,
    find_rule_signals,
)
from tasks.ingest.config import SourceConfig
from tasks.ingest.conversion import convert_file
from tasks.procedural.config import CorpusConfig
from tasks.procedural.corpus import Corpus, make_corpus, write_raw
from tasks.procedural.truth import BlemishKind, RowRef
from tasks.records import Query
from tests.unit.stored_queries import StoredQueries, ask

ADAPTERS = {
    "gsm8k_train": "gsm8k",
    "hendrycks_math": "hendrycks_math",
    "deepmath": "deepmath",
    "mbpp_train": "mbpp",
    "math500": "math500",
    "gsm8k_test": "gsm8k",
}


def test_apply_rules_names_the_first_reason_and_all_evidence(tmp_path: Path) -> None:
    stored = StoredQueries(tmp_path)
    queries = stored.add([ask("a", "What is 2+3?"), ask("b", "Prove that 2 > 1, see https://a.b/c")])
    signals = stored.run(find_rule_signals, queries).dataset
    judged = stored.run(apply_rules, queries, signals, config=RulesConfig())
    assert judged.kept == ["a"]
    assert (judged.drops["b"].reason, judged.drops["b"].evidence) == ("url", "url: https://a.b/c; proof: Prove that")
    kind = stored.run(apply_rules, queries, signals, config=RulesConfig(url=(), proof=()))
    assert kind.kept == ["a", "b"]  # the same signals, another policy


ROWS = [ask("a", "What is 2+3?"), ask("b", "what is 2+3"), ask("c", "What is 2+4?", answer="6")]


def test_drop_duplicates_conserves_and_an_old_keeper_wins(tmp_path: Path) -> None:
    stored = StoredQueries(tmp_path)
    queries = stored.add(ROWS)
    signals = stored.run(find_duplicate_signals, queries, config=DuplicateSearch()).dataset
    fresh = stored.run(drop_duplicates, queries, signals, config=DedupConfig())
    assert fresh.kept == ["a", "c"]
    assert fresh.drops["b"].reason == DropReason.DUPLICATE
    grown = stored.run(drop_duplicates, queries, signals, config=DedupConfig(), keepers=stored.add([ROWS[1]]))
    assert grown.kept == ["b", "c"]
    assert grown.drops["a"].evidence == "repeats b of toy"


def test_decontaminate_conserves_and_a_benchmark_more_is_a_look_at_it_alone(tmp_path: Path) -> None:
    stored = StoredQueries(tmp_path)
    queries = stored.add(ROWS)
    one, two = (
        stored.add([row]) for row in (ask("x", "unrelated", source="one"), ask("y", "WHAT IS 2+4", source="two"))
    )
    look = lambda *benchmarks: stored.run(find_leak_signals, queries, benchmarks, config=LeakSearch())  # noqa: E731
    both, apart = look(one, two), (look(one), look(two))
    cleans = [
        stored.run(decontaminate, queries, signals, config=DecontaminationConfig())
        for signals in ((both.dataset,), tuple(each.dataset for each in apart))
    ]
    assert cleans[0].kept == cleans[1].kept == ["a", "b"]
    assert cleans[0].drops == cleans[1].drops
    assert cleans[0].drops["c"].reason == DropReason.LEAK_EXACT
    assert cleans[0].drops["c"].evidence.startswith("two y: equal text")


class World:
    """The procedural corpus as queries, by the row that each comes from."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        write_raw(corpus, folder)
        self.truth = corpus.truth
        self.rows = {ref: query for ref, query in self._read(folder / "raw") if query.source in ADAPTERS}
        self.benchmarks = [query for _, query in self._read(folder / "benchmarks")]

    @staticmethod
    def _read(folder: Path) -> Iterator[tuple[RowRef, Query]]:
        for name, adapter in ADAPTERS.items():
            file = f"{name}.jsonl"
            if (folder / file).exists():
                config = SourceConfig(name=name, file=file, adapter=adapter, license="")
                for number, (query, _) in enumerate(convert_file(folder / file, config)):
                    yield RowRef(file, number), query

    def of_kind(self, kind: BlemishKind) -> set[str]:
        return {self.rows[b.row].id for b in self.truth.of_kind(kind) if b.row in self.rows}

    def faultless(self) -> set[str]:
        stays = {BlemishKind.WRONG_LABEL, BlemishKind.FAILING_REFERENCE}
        faulty = {ref for ref, blemish in self.truth.blemishes.items() if blemish.kind not in stays}
        return {query.id for ref, query in self.rows.items() if ref not in faulty}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(make_corpus(CorpusConfig()), tmp_path_factory.mktemp("world"))


def test_planted_faults_of_single_queries_are_found(world: World) -> None:
    found = {query.id: set(signals(query, RulesConfig())) for query in world.rows.values()}
    for kind, reason in (
        (BlemishKind.URL, DropReason.URL),
        (BlemishKind.IMAGE, DropReason.IMAGE),
        (BlemishKind.PROOF, DropReason.PROOF),
        (BlemishKind.MULTI_PART, DropReason.MULTI_PART),
        (BlemishKind.NO_TESTS, DropReason.TESTS_MISSING),
    ):
        planted = world.of_kind(kind)
        assert planted
        assert [name for name in planted if reason not in found[name]] == [], kind
    cut_off = world.of_kind(BlemishKind.INCOMPLETE)
    recall = sum(DropReason.INCOMPLETE in found[name] for name in cut_off) / len(cut_off)
    assert recall >= 0.8  # "Solve for x: 8x" is a whole question to a rule; the judge sees the rest
    assert [name for name in world.faultless() if found[name]] == []


def test_planted_duplicates_go_and_twins_stay(world: World) -> None:
    config = DedupConfig(near_duplicates=True)
    dropped = {query.id for query, duplicate in judge_duplicates(world.rows.values(), config) if duplicate}
    assert world.of_kind(BlemishKind.EXACT_DUPLICATE) <= dropped
    near = world.of_kind(BlemishKind.NEAR_DUPLICATE)
    assert near <= dropped
    for pair in world.truth.keep_pairs:
        assert not {world.rows[pair.first].id, world.rows[pair.second].id} & dropped
    assert world.faultless() & dropped == set()


def test_planted_leaks_go_and_nothing_else(world: World) -> None:
    index = BenchmarkIndex(world.benchmarks, DecontaminationConfig())
    leaks = find_leaks(world.rows.values(), index)
    planted = world.of_kind(BlemishKind.BENCHMARK_LEAK)
    assert planted <= leaks.keys()
    assert world.faultless() & leaks.keys() == set()
