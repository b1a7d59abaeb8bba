"""Semantic dedup and decontamination as steps: conservation, keepers, thresholds without a new search, the report."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Dataset, Drop
from infra.output import Output, Resources
from infra.rows import read_shard
from infra.store import Store
from tasks.filter.contamination import Contamination, count_by_benchmark, report
from tasks.filter.encoder import HashedEncoder
from tasks.filter.leaks import Leak
from tasks.filter.reasons import DropReason
from tasks.filter.semantic import BenchmarkGists, Encoders, find_semantic_duplicates
from tasks.filter.semantic_config import (
    EncoderConfig,
    Limits,
    SemanticDedupConfig,
    SemanticLeakPolicy,
    SemanticLeakSearch,
    SemanticSearch,
    Support,
)
from tasks.filter.semantic_steps import LeakSignal, drop_semantic_duplicates, drop_semantic_leaks, find_semantic_leaks
from tasks.records import Domain, Message, Query

pytest.importorskip("faiss")
# Without a model likeness is of words, which is enough to show what the steps do with it.
WORDS = EncoderConfig(kind="hashed", dim=512)
SEARCH = SemanticSearch(candidates=WORDS, decisions=WORDS, min_candidate_cosine=0.2)


def limits(**changed: float) -> Limits:
    return Limits.model_validate({"answer": 0.5, "numbers": 0.5, "words": 0.7, "none": 1.0} | changed)


DEDUP = SemanticDedupConfig(search=SEARCH, min_cosine=limits(answer=0.5, words=0.7))
TEXT = "Tom has 3 red apples and buys 14 more of them. How many apples has he?"
TOLD = "Ann has 3 red apples and buys fourteen more of them. How many apples has she?"


def ask(name: str, text: str, **fields: Any) -> Query:
    defaults: dict[str, Any] = {"id": name, "domain": Domain.MATH, "source": "toy", "answer": "17"}
    return Query(messages=(Message(role="user", content=text),), **(defaults | fields))


def duplicates(*queries: Query, config: SemanticDedupConfig = DEDUP) -> dict[str, str]:
    encoders = Encoders(HashedEncoder(512), HashedEncoder(512))
    return {each.query_id: each.keeper.id for each in find_semantic_duplicates(queries, config, encoders)}


class Made:
    """What a step wrote: rows of its tables."""

    def __init__(self, folder: Path, tables: dict[str, list[Any]]) -> None:
        folder.mkdir()
        store = Store(str(folder.parent / "store"), local=folder / "local")
        self.out = Output("step", scratch=folder, store=store, resources=Resources())
        rows: Any = lambda dataset, model: iter(tables[dataset.name])  # noqa: E731
        self.out.rows = rows  # type: ignore[method-assign]

    def rows(self, table: str, model: Any) -> list[Any]:
        files = [file for file in self.out.finish(True) if file.path.startswith(f"{table}-")]
        return [row for file in files for row in read_shard(self.out.store.local_file(file), model)]


def dataset(name: str, rows: int = 0) -> Dataset:
    return Dataset(name=name, digest=name, uri="", rows=rows)


def test_the_earlier_query_stays_and_only_keepers_keep_others_out() -> None:
    far = "Once Ann had 3 apples, all red, then she went and bought fourteen others of them. How many has she?"
    assert duplicates(ask("a", TEXT), ask("b", TOLD)) == {"b": "a"}
    assert duplicates(ask("b", TOLD), ask("a", TEXT)) == {"a": "b"}
    strict = DEDUP.model_copy(update={"min_cosine": limits(answer=0.62)})
    assert duplicates(ask("b", TOLD), ask("c", far), config=strict).keys() <= {"c"}


def test_a_duplicate_across_blocks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [
        ask("a", TEXT),
        *(ask(f"x{n}", f"Sum up {n} and {n * 7} at once.", answer=str(8 * n)) for n in range(20)),
    ]
    queries.append(ask("b", TOLD))
    whole = duplicates(*queries)
    monkeypatch.setattr("tasks.filter.semantic._BLOCK", 4)
    assert duplicates(*queries) == whole == {"b": "a"}


@pytest.mark.parametrize(
    "other",
    [
        ask("b", TEXT.replace("14", "15"), answer="18"),  # the template trap
        ask("b", TOLD, answer="18"),  # answers that differ say: another question
        ask("b", TOLD, domain=Domain.SCIENCE),
        ask("b", "3 14"),
    ],
)
def test_what_is_no_duplicate(other: Query) -> None:
    assert duplicates(ask("a", TEXT), other) == {}


def test_code_has_no_answer_and_a_higher_bar() -> None:
    theirs = ask("a", "Write a function to sort a list of names by length.", domain=Domain.CODE, answer=None)
    ours = theirs.model_copy(
        update={
            "id": "b",
            "messages": (Message(role="user", content="Write a function to sort a list of names by age."),),
        }
    )
    assert duplicates(theirs, ours) == {"b": "a"}
    assert duplicates(theirs, ours, config=DEDUP.model_copy(update={"min_cosine": limits(words=0.95)})) == {}


def test_the_dedup_step_conserves_and_tells_both_texts(tmp_path: Path) -> None:
    made = Made(tmp_path / "dedup", {"queries": [ask("a", TEXT), ask("b", TOLD), ask("c", "What is 2+3 + 4?")]})
    drop_semantic_duplicates.inner(dataset("queries", 3), DEDUP, made.out)
    made.out.check_conservation(3)
    (drop,) = made.rows("dropped", Drop)
    assert (drop.query_id, drop.reason) == ("b", DropReason.SEMANTIC_DUPLICATE)
    assert drop.evidence.startswith("repeats a of toy: cosine 0.")
    assert "theirs: 'tom has 3 red" in drop.evidence


def leak_signals(folder: Path) -> list[LeakSignal]:
    tables = {
        "queries": QUERIES,
        "bench": [ask("t", TEXT, source="exam"), ask("u", "Name a large sea.", source="exam")],
    }
    made = Made(folder, tables)
    config = SemanticLeakSearch(search=SEARCH, min_stored_cosine=0.4)
    find_semantic_leaks.inner(dataset("queries"), (dataset("bench"),), config, made.out)
    rows: list[LeakSignal] = made.rows("kept", LeakSignal)
    return rows


QUERIES = [
    ask("same", TOLD),
    ask("other", TEXT.replace("14", "15"), answer="18"),
    ask("mislabelled", TEXT, answer="71", source="web"),
]


def test_signals_are_stored_once_and_a_policy_judges_them(tmp_path: Path) -> None:
    signals = leak_signals(tmp_path / "find")
    assert [(s.query_id, s.benchmark_id, s.support) for s in signals] == [
        ("same", "t", Support.ANSWER),
        ("mislabelled", "t", Support.NONE),
    ]
    for policy, expected in (
        (SemanticLeakPolicy(min_cosine=limits()), {"same", "mislabelled"}),
        (SemanticLeakPolicy(min_cosine=limits(answer=0.99)), {"mislabelled"}),
        (SemanticLeakPolicy(min_cosine=limits(none=0.9)), {"same", "mislabelled"}),
    ):
        made = Made(tmp_path / f"drop{len(expected)}{policy.min_cosine.none}", {"queries": QUERIES, "signals": signals})
        drop_semantic_leaks.inner(dataset("queries", 3), dataset("signals"), policy, made.out)
        made.out.check_conservation(3)
        rows = made.rows("contamination", Contamination)
        assert {row.query_id for row in rows} == expected
        assert {row.benchmark for row in rows} == {"exam"}
        assert "| exam | web | 1 | semantic 1 |" in made.out.notes[0]


def test_vectors_are_kept_between_steps(tmp_path: Path) -> None:
    leak_signals(tmp_path / "first")
    made = Made(tmp_path / "second", {"queries": QUERIES, "bench": [ask("t", TEXT, source="exam")]})
    find_semantic_leaks.inner(dataset("queries"), (dataset("bench"),), SemanticLeakSearch(search=SEARCH), made.out)
    assert made.out.cost.cache_hits == 2


def test_short_texts_are_left_alone() -> None:
    encoders = Encoders(HashedEncoder(64), HashedEncoder(64))
    assert list(BenchmarkGists([ask("t", "Why so?")], SEARCH, encoders).like([ask("q", "Why so?")])) == []


def leaks() -> Iterator[Contamination]:
    for number, (benchmark, reason) in enumerate(
        [("b2", DropReason.LEAK_EXACT), ("b1", DropReason.LEAK_SEMANTIC), ("b1", DropReason.LEAK_EXACT)]
    ):
        leak = Leak(benchmark, f"id{number}", reason, 1 - number / 10, "how", "a | b <c>", "ours\nhere `x`")
        yield Contamination.of(ask(f"q{number}", "x", source="web"), leak)


def test_the_report_counts_and_shows_the_least_sure_first() -> None:
    counts = count_by_benchmark(leaks())
    assert [(c.benchmark, c.source, c.rows, c.reasons) for c in counts] == [
        ("b1", "web", 2, {"leak_exact": 1, "leak_semantic": 1}),
        ("b2", "web", 1, {"leak_exact": 1}),
    ]
    told = report(leaks()).split("\n")
    assert "| b1 | web | 2 | exact 1, semantic 1 |" in told
    assert told[-3] == "| 0.80 | b1 id2 | a \\| b &lt;c> | web q2 | ours here \\`x\\` | how |"
    assert "No row leaks a benchmark." in report([])
