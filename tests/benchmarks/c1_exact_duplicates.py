"""C1: exact duplicates among 100,000 generated questions, against pandas on the same normalised text."""

from __future__ import annotations

from random import Random

from tasks.filter.config import DedupConfig
from tasks.filter.dedup import judge_duplicates
from tasks.filter.text import normalise
from tasks.records import Domain, Message, Query
from tests.benchmarks.__main__ import Contest

NUM_ROWS = 100_000


def contest() -> Contest:
    """The contest; a third of the rows repeat an earlier one in other case or spacing."""
    import pandas

    queries = [_query(number, Random(number)) for number in range(NUM_ROWS)]
    config = DedupConfig()

    def ours() -> object:
        return [judged.query.id for judged in judge_duplicates(queries, config) if judged.duplicate is None]

    def with_pandas() -> object:
        frame = pandas.DataFrame({"id": [q.id for q in queries], "text": [normalise(q.prompt) for q in queries]})
        return frame.drop_duplicates("text")["id"].tolist()

    def only_normalise() -> object:
        return [normalise(query.prompt) for query in queries]

    return Contest(
        "C1 exact duplicates", "rows", NUM_ROWS, ours, {"pandas drop_duplicates": with_pandas}, only_normalise,
        "normalising the text",
    )  # fmt: skip


def _query(number: int, rng: Random) -> Query:
    facts = Random(number - 1 if number % 3 == 2 else number)
    text = f"Tom has {facts.randrange(10**6)} apples and gives away {facts.randrange(10**6)}. How many are left?"
    text = text.upper().replace(" ", "  ") if rng.random() < 0.5 else text
    return Query(id=str(number), domain=Domain.MATH, source="s", messages=(Message(role="user", content=text),))
