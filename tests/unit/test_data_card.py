"""The data card by hand-made counts: funnel over all steps, licences, lengths, contamination, corrections, examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.data_card import data_card
from infra.artifacts import Dataset
from infra.config import Config
from infra.data_versions import DataVersion
from infra.output import Output
from infra.run import Run
from infra.step import step
from tasks.records import Domain, Message, Query
from tasks.training.samples import Sample
from tests.unit.traced_store import call, new_run

TEXTS = {"m1": "What is 1 + 1?", "m2": "x" * 1000, "m3": "Find | the `pipe`.", "c1": "Say hello."}


class Nothing(Config):
    pass


class CardLeak(Config):
    query_id: str
    source: str
    benchmark: str
    reason: str


class CardCorrection(Config):
    query_id: str
    source: str


def query(name: str, text: str) -> Query:
    is_math = name.startswith("m")
    return Query(
        id=name,
        domain=Domain.MATH if is_math else Domain.CHAT,
        source="sums" if is_math else "talk",
        messages=(Message(role="user", content=text),),
        answer="2" if is_math else None,
        license="MIT" if is_math else "",
    )


@step(version=1, produces=Dataset)
def card_rows(config: Nothing, out: Output) -> None:
    for name, text in TEXTS.items():
        out.keep(query(name, text))


@step(version=1, produces=Dataset, conserves="queries")
def card_decontaminated(queries: Dataset, out: Output) -> None:
    for row in out.rows(queries, Query):
        if row.id == "m1":
            out.drop(row, "leak_exact", "equal text")
            out.attach(
                "contamination", CardLeak(query_id="m1", source="sums", benchmark="math500", reason="leak_exact")
            )
        else:
            out.attach("corrections", CardCorrection(query_id=row.id, source=row.source))
            out.keep(row)


@step(version=1, produces=Dataset, conserves="queries")
def card_samples(queries: Dataset, out: Output) -> None:
    for row in out.rows(queries, Query):
        if row.id == "m3":
            out.drop(row, "no_response")
            continue
        turns = (*row.messages, Message(role="assistant", content="y" * 10))
        out.keep(Sample(id=row.id, query_id=row.id, source=row.source, domain=row.domain, messages=turns), of=row)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path)


@pytest.fixture
def made(run: Run) -> Mapping[str, Dataset]:
    rows = call(run, card_rows, config=Nothing(), label="rows")
    queries = call(run, card_decontaminated, rows, label="queries")
    return {"queries": queries, "samples": call(run, card_samples, queries, label="samples")}


@pytest.fixture
def card(run: Run, made: Mapping[str, Dataset]) -> str:
    version = DataVersion(
        recipe="sums-and-talk",
        number=3,
        queries="q",
        queries_digest="a" * 64,
        num_queries=3,
        samples="s",
        samples_digest="b" * 64,
        num_samples=2,
        run="a-run",
        at=0.0,
    )
    return data_card(run.store, version, made["queries"], made["samples"])


def test_the_funnel_counts_every_raw_row_once(card: str) -> None:
    assert "| sums | 3 | 1 | 2 | leak exact 1, no response 1 |" in card
    assert "| talk | 1 | 1 | 0 |  |" in card


def test_licences_are_those_of_the_queries(card: str) -> None:
    assert "| MIT | 2 | sums |" in card
    assert "| not stated | 1 | talk |" in card


def test_lengths_are_characters_of_dialogs(card: str) -> None:
    assert "| queries, math | 2 | 18 | 1,000 | 1,000 | 1,000 |" in card
    assert "| samples, chat | 1 | 20 | 20 | 20 | 20 |" in card


def test_contamination_names_benchmark_source_and_kind(card: str) -> None:
    assert "| math500 | sums | 1 | exact 1 |" in card


def test_corrected_labels_are_counted_by_source(card: str) -> None:
    assert "Corrected labels: 3 (sums 2, talk 1)." in card


def test_examples_are_cut_and_cannot_break_out(card: str) -> None:
    assert f"**sums** (math, `m2`): `{'x' * 300}…` Answer: `2`." in card
    assert "**talk** (chat, `c1`): `Say hello.`" in card
