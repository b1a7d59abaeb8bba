"""C1: exact duplicates among a million generated questions, against polars, DuckDB and datatrove on the same text.

Ours also tells what each duplicate repeats; the peers give the rows that stay. All normalise the text first, in their
time, since only then their outputs are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tasks.filter.config import DedupConfig
from tasks.filter.dedup import judge_duplicates
from tasks.filter.text import normalise
from tasks.records import Domain, Message, Query
from tests.benchmarks.__main__ import Contest

NUM_ROWS = 1_000_000


def contest() -> Contest:
    """The contest; a third of the rows repeat an earlier one in other case or spacing."""
    queries = [_query(number, Random(number)) for number in range(NUM_ROWS)]
    config = DedupConfig()

    def ours() -> object:
        return [judged.query.id for judged in judge_duplicates(queries, config) if judged.duplicate is None]

    def only_normalise() -> object:
        return [normalise(query.prompt) for query in queries]

    return Contest(
        "C1 exact duplicates", "rows", NUM_ROWS, ours, peers(queries), only_normalise, "normalising the text", runs=3
    )


def peers(queries: list[Query]) -> dict[str, Callable[[], object]]:
    """Each gives the ids that stay, in order."""
    import duckdb
    import polars
    import pyarrow

    def columns() -> dict[str, list[str]]:
        return {"id": [q.id for q in queries], "text": [normalise(q.prompt) for q in queries]}

    def with_polars() -> object:
        frame = polars.DataFrame(columns()).unique("text", keep="first", maintain_order=True)
        return frame["id"].to_list()

    def with_duckdb() -> object:
        rows = pyarrow.table(columns() | {"place": list(range(len(queries)))})
        connection = duckdb.connect()
        connection.register("rows", rows)
        found = connection.execute("select arg_min(id, place) id from rows group by text order by min(place)")
        return [row[0] for row in found.fetchall()]

    return {"polars unique": with_polars, "DuckDB group by": with_duckdb, "datatrove": lambda: _datatrove(columns())}


def _datatrove(columns: dict[str, list[str]]) -> list[str]:
    from datatrove.data import Document
    from datatrove.pipeline.dedup.exact_dedup import (
        ExactDedupConfig,
        ExactDedupFilter,
        ExactDedupSignature,
        ExactFindDedups,
    )

    config = ExactDedupConfig(content_getter=lambda document: document.text)
    pairs = zip(columns["id"], columns["text"], strict=True)
    documents = [Document(text=text, id=name) for name, text in pairs]
    with TemporaryDirectory() as folder:
        signatures, found = str(Path(folder, "signatures")), str(Path(folder, "found"))
        ExactDedupSignature(signatures, finder_workers=1, config=config).run(documents)
        ExactFindDedups(signatures, found, config=config).run()
        return [document.id for document in ExactDedupFilter(found, config=config).run(documents)]


def _query(number: int, rng: Random) -> Query:
    facts = Random(number - 1 if number % 3 == 2 else number)
    text = f"Tom has {facts.randrange(10**6)} apples and gives away {facts.randrange(10**6)}. How many are left?"
    text = text.upper().replace(" ", "  ") if rng.random() < 0.5 else text
    return Query(id=str(number), domain=Domain.MATH, source="s", messages=(Message(role="user", content=text),))
