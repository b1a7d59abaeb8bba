"""The verification steps: answers from texts, corrections, references, conservation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Dataset, Drop
from infra.output import Output, Resources
from infra.rows import read_shard
from infra.runtime import Endpoint, Runtime
from infra.store import Store
from tasks.generation.chat import lay_out
from tasks.generation.teacher import SOURCE_SOLUTIONS, TeacherConfig
from tasks.records import Domain, Message, Outcome, Query, Response, Verdict
from tasks.rewards.rewarder import RewardConfig
from tasks.verify import references, steps
from tasks.verify.answers import answer_of
from tasks.verify.config import AnswersConfig, ArbiterConfig, LabelCheck, LabelsConfig
from tasks.verify.steps import Correction, collect_answers, findings_table, verify_labels
from tasks.verify.votes import Comparisons, Pair

RUNTIME = Runtime(endpoints={role: Endpoint(base_url="stand-in") for role in ("teacher", "arbiter")})
STAND_IN_TEACHER = TeacherConfig(model="scripted-stand-in/teacher", temperature=1.0, max_tokens=512)
CHECK = LabelCheck(
    labels=LabelsConfig(arbiter=ArbiterConfig(model="scripted-stand-in/arbiter", max_tokens=512)),
    rewards=RewardConfig(),
)


def sum_query(number: int, answer: str | None = None, **fields: Any) -> Query:
    """A question that the stand-in solves: the answer is 2 · (number + 5)."""
    text = f"Start with {number}, add 5, multiply by 2. What is the result?"
    known = {"messages": (Message(role="user", content=text),), "domain": Domain.MATH, "source": "sums"}
    return Query.model_validate({"id": f"q{number:03}", "answer": answer or str(2 * (number + 5)), **known, **fields})


class Tables:
    """Data sets in memory, and an output that reads them."""

    def __init__(self, folder: Path, **tables: list[Any]) -> None:
        (folder / "scratch").mkdir(parents=True)
        store = Store(str(folder / "store"), local=folder / "local")
        self.resources = Resources()
        self.out = Output("step", scratch=folder / "scratch", store=store, resources=self.resources)
        self.sets = {name: Dataset(name=name, digest=name, uri="", rows=len(rows)) for name, rows in tables.items()}
        rows: Any = lambda dataset, model: iter(tables[dataset.name])  # noqa: E731
        self.out.rows = rows  # type: ignore[method-assign]

    def finish(self) -> None:
        """Write the tables, and end what was started."""
        self.paths = {file.path: self.out.store.local_file(file) for file in self.out.finish(True)}
        self.out.close()
        self.resources.close()

    def read(self, table: str, model: type[Any]) -> dict[str, Any]:
        """Rows of a table by query id."""
        path = self.paths.get(f"{table}-00000.parquet")
        rows = read_shard(path, model) if path else iter(())
        return {row.id if isinstance(row, Query) else row.query_id: row for row in rows}


def compare(pairs: Sequence[Pair]) -> list[Outcome]:
    return [Outcome.EQUAL if float(gold) == float(answer) else Outcome.DIFFERENT for gold, answer in pairs]


@pytest.fixture(autouse=True)
def small_verifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are compared as floats; a program is right when its text says so."""

    class Runner:
        def score(self, batch: Sequence[tuple[Query, str]]) -> list[Verdict]:
            words = {"good": Outcome.EQUAL, "hang": Outcome.TIME_OUT, "void": Outcome.TESTS_MISSING}
            found = [next((o for word, o in words.items() if word in text), Outcome.DIFFERENT) for _, text in batch]
            return [Verdict(outcome=outcome, detail="test 1 of 3") for outcome in found]

    monkeypatch.setattr(steps, "open_comparisons", lambda *_: Comparisons(compare))
    monkeypatch.setattr(references, "open_rewarder", lambda *_: Runner())


def responses_to(query: Query, answers: Sequence[str]) -> list[Response]:
    texts = [lay_out("…", f"\\boxed{{{answer}}}" if answer else "I cannot tell.") for answer in answers]
    return [
        Response(query_id=query.id, model="m", sample_index=i, text=text, finish_reason="stop")
        for i, text in enumerate(texts)
    ]


def verify(folder: Path, said: Mapping[Query, Sequence[str]] | list[Any], check: LabelCheck = CHECK) -> Tables:
    pairs = list(said)
    tables = Tables(
        folder,
        queries=[query for query, _ in pairs],
        responses=[response for query, answers in pairs for response in responses_to(query, answers)],
    )
    verify_labels.inner(tables.sets["queries"], tables.sets["responses"], check, tables.out, RUNTIME)
    tables.out.check_conservation(len(pairs))
    tables.finish()
    return tables


def test_wrong_labels_are_corrected_and_right_ones_unchanged(tmp_path: Path) -> None:
    """The teacher answers four times with its own mistakes; every tenth label is planted wrong."""
    queries = [sum_query(n, answer=str(2 * (n + 5) + (3 if n % 10 == 0 else 0)), solution="x") for n in range(200)]
    asked = Tables(tmp_path / "collect", queries=queries)
    collect_answers.inner(asked.sets["queries"], AnswersConfig(teacher=STAND_IN_TEACHER), asked.out, RUNTIME)
    asked.finish()
    responses = list(read_shard(asked.paths["kept-00000.parquet"], Response))
    assert len(responses) == 800
    tables = Tables(tmp_path / "verify", queries=queries, responses=responses)
    verify_labels.inner(tables.sets["queries"], tables.sets["responses"], CHECK, tables.out, RUNTIME)
    tables.out.check_conservation(200)
    tables.finish()
    kept, corrections = tables.read("kept", Query), tables.read("corrections", Correction)
    assert len(kept) >= 196  # a mistaken majority leaves some unresolved
    assert all(row.answer == str(2 * (int(key[1:]) + 5)) for key, row in kept.items())
    wrong = {query.id for query in queries if int(query.id[1:]) % 10 == 0}
    assert set(corrections) == wrong & set(kept)
    assert len(corrections) >= 19
    for key, row in kept.items():
        if key in wrong:
            assert row.meta["label_corrected"] == {"old": corrections[key].old, "new": row.answer}
            assert row.solution is None
        else:
            assert row.solution == "x"
            assert 0.5 <= row.meta["teacher_agreement"] <= 1
    assert "| teacher majority agrees |" in tables.out.notes[0]


def test_the_bytes_do_not_hang_on_the_order_of_the_wire(tmp_path: Path) -> None:
    queries = [sum_query(n) for n in range(60)]
    found = []
    for concurrency in (1, 16):
        runtime = Runtime(endpoints={"teacher": Endpoint(base_url="stand-in", max_concurrency=concurrency)})
        tables = Tables(tmp_path / str(concurrency), queries=queries)
        collect_answers.inner(tables.sets["queries"], AnswersConfig(teacher=STAND_IN_TEACHER), tables.out, runtime)
        tables.finish()
        found.append(tables.paths["kept-00000.parquet"].read_bytes())
    assert found[0] == found[1]


def test_every_query_has_its_end(tmp_path: Path) -> None:
    choice: dict[str, Any] = {"domain": Domain.SCIENCE, "choices": ("3", "7"), "answer": "B"}
    code: dict[str, Any] = {"domain": Domain.CODE, "tests": {"kind": "assert", "setup": "", "asserts": ["assert f(1)"]}}
    said: list[tuple[Query, list[str]]] = [
        (sum_query(1), ["12.0", "12", "", "9"]),
        (sum_query(2), ["", ""]),
        (sum_query(3).model_copy(update={"answer": None}), []),
        (sum_query(4, answer="99"), ["1", "1", "2"]),
        (sum_query(5, **choice), ["B", "(B)", "7", "A"]),
        (sum_query(6, **code, solution="good"), []),
        (sum_query(7, **code, solution="bad"), []),
        (sum_query(8, **code, solution="hang"), []),
        (sum_query(9, **code), []),
        (sum_query(10, domain=Domain.CODE, solution="good"), []),
        (sum_query(11, **code, solution="void"), []),
        (sum_query(12, domain=Domain.CHAT), []),
        (sum_query(13, domain=Domain.INSTRUCTION), []),
    ]
    tables = verify(tmp_path, said)
    drops = tables.read("dropped", Drop)
    assert {key: drop.reason for key, drop in drops.items()} == {
        "q002": "no_teacher_answer",
        "q003": "label_missing",
        "q004": "label_unresolved",
        "q007": "reference_fails",
        "q008": "verification_failed",
        "q010": "tests_missing",
        "q011": "tests_corrupt",
    }
    assert drops["q004"].evidence == "label '99', 2 of 3 say '1', arbiter '18'"
    kept = tables.read("kept", Query)
    assert set(kept) == {"q001", "q005", "q006", "q009", "q012", "q013"}
    assert kept["q001"].meta["teacher_agreement"] == pytest.approx(2 / 3)
    assert kept["q005"].meta["teacher_agreement"] == 0.75
    assert kept["q012"].meta == {}


def test_no_ruling_rests_on_the_batch_that_a_query_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = ["{0}", "{0}.0", "7"], ["9", "9.0", "8"]
    said = [
        (sum_query(n, answer=str(n)), [each.format(n) for each in (wrong if n % 4 == 0 else right)]) for n in range(17)
    ]
    whole = verify(tmp_path / "whole", said)
    monkeypatch.setattr(steps, "BATCH_QUERIES", 3)
    batched = verify(tmp_path / "batched", said)
    assert {name: path.read_bytes() for name, path in whole.paths.items()} == {
        name: path.read_bytes() for name, path in batched.paths.items()
    }
    assert whole.out.notes == batched.out.notes
    assert whole.out.funnel["sums"]["label_unresolved"] == 5


def test_no_more_than_a_batch_is_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BATCH_QUERIES", 4)
    queries = [sum_query(n) for n in range(30)]
    responses = [response for query in queries for response in responses_to(query, [query.answer or ""])]
    tables = Tables(tmp_path, queries=queries, responses=responses)
    read, held, rows = [0], [0], tables.out.rows

    def counted(dataset: Dataset, model: Any) -> Any:
        for row in rows(dataset, model):
            read[0] += isinstance(row, Query)
            held.append(read[0] - tables.out.rows_kept)
            yield row

    tables.out.rows = counted  # type: ignore[method-assign]
    verify_labels.inner(tables.sets["queries"], tables.sets["responses"], CHECK, tables.out, RUNTIME)
    tables.finish()
    assert tables.out.rows_kept == 30
    assert max(held) <= 4


def test_an_alternative_label_is_as_right_and_goes_with_a_label_that_is_wrong(tmp_path: Path) -> None:
    """2 · (n + 5) is what the arbiter says: 12 and 14."""
    kept_label = sum_query(1, answer="7", alternatives=("8", "12"))
    mended = sum_query(2, answer="7", alternatives=("8",))
    tables = verify(tmp_path, [(kept_label, ["12", "12", "7"]), (mended, ["14", "14", "8"])])
    kept = tables.read("kept", Query)
    assert (kept["q001"].answer, kept["q001"].alternatives) == ("7", ("8", "12"))
    assert kept["q001"].meta == {"teacher_agreement": 1.0}
    assert (kept["q002"].answer, kept["q002"].alternatives) == ("14", ())


def test_without_an_arbiter_contested_labels_are_unresolved(tmp_path: Path) -> None:
    check = LabelCheck(labels=LabelsConfig(unverified="keep"), rewards=RewardConfig())
    tables = verify(tmp_path, [(sum_query(1, answer="9"), ["12", "12"]), (sum_query(2), [])], check)
    assert tables.read("dropped", Drop)["q001"].reason == "label_unresolved"
    assert tables.read("kept", Query)["q002"].meta == {}


def test_source_solutions_confirm_their_labels(tmp_path: Path) -> None:
    queries = [sum_query(1, solution="1 + 5 = 6, 6 · 2 = 12"), sum_query(2), sum_query(3, domain=Domain.CHAT)]
    tables = Tables(tmp_path, queries=queries)
    config = AnswersConfig(teacher=TeacherConfig(model=SOURCE_SOLUTIONS))
    collect_answers.inner(tables.sets["queries"], config, tables.out, Runtime())
    tables.finish()
    assert [row.query_id for row in read_shard(tables.paths["kept-00000.parquet"], Response)] == ["q001"]


def test_an_unfinished_response_has_no_answer() -> None:
    assert answer_of(sum_query(1), "<think>\n\\boxed{12}") is None
    assert answer_of(sum_query(1), lay_out("\\boxed{1}", "\\boxed{12}")) == "12"
    assert answer_of(sum_query(1), lay_out("", "\\boxed{}")) is None


def test_the_table_of_findings_is_empty_without_labels() -> None:
    assert findings_table({}).endswith("|---|---:|")
