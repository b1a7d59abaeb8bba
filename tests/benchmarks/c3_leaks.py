"""C3: leaks of a benchmark in 20 MB of prompts, against datatrove's n-gram filter with 13 words.

Both find the planted leaks; false drops are printed before the clock runs. Ours looks for equal texts, rewordings and
asserts too. The rate is of bytes, one process.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from rich.console import Console

from tasks.filter.config import DecontaminationConfig
from tasks.filter.decontaminate import BenchmarkIndex, find_leaks
from tasks.filter.tokens import hash_tokens
from tasks.records import Domain, Message, Query
from tests.benchmarks.__main__ import Contest
from tests.benchmarks.peer_words import split_tokenizer
from tests.unit.planted_queries import word

NUM_ROWS, NUM_ITEMS, NUM_LEAKS = 20_000, 5_000, 200
BOILERPLATE = (
    "The answer can be written as m over n where m and n are relatively prime positive integers. Find m plus n."
)


class World(NamedTuple):
    """Prompts, a benchmark, and the ids of prompts that hold one of its items."""

    queries: list[Query]
    benchmark: list[Query]
    leaks: set[str]


def contest() -> Contest:
    """The contest, in megabytes."""
    world = make_world(Random(0))
    index = BenchmarkIndex(world.benchmark, DecontaminationConfig())
    texts = [query.prompt for query in world.queries]
    with TemporaryDirectory() as folder:
        datatrove = DatatroveFilter(world.benchmark, Path(folder))
    for name, found in (("ours", set(find_leaks(world.queries, index))), ("datatrove", datatrove.find(world.queries))):
        assert world.leaks <= found, f"{name} misses {len(world.leaks - found)} of {len(world.leaks)} planted leaks"
        Console().print(f"C3 {name}: {len(world.leaks)} planted leaks found, {len(found - world.leaks)} false drops")
    return Contest(
        "C3 leaks", "MB", sum(len(text) for text in texts) / 1e6,
        lambda: world.leaks <= find_leaks(world.queries, index).keys(),
        {"datatrove 13-grams": lambda: world.leaks <= datatrove.find(world.queries)},
        lambda: len(hash_tokens(texts).starts) > 0, "hashing the words", runs=3,
    )  # fmt: skip


def make_world(rng: Random) -> World:
    """Prompts of a kilobyte from a common vocabulary, one in five with boilerplate that items hold too."""
    vocabulary = [word(rng) for _ in range(20_000)]

    def text(num_words: int) -> str:
        plain = " ".join(rng.choice(vocabulary) for _ in range(num_words))
        return f"{plain} {rng.randrange(10**4)}. {BOILERPLATE if rng.random() < 0.2 else ''}"

    benchmark = [_query(f"b{k}", text(rng.randrange(20, 60)), "bench") for k in range(NUM_ITEMS)]
    leaks = {f"q{k}" for k in rng.sample(range(NUM_ROWS), NUM_LEAKS)}
    queries = []
    for k in range(NUM_ROWS):
        own = text(rng.randrange(60, 160))
        leaked = f"{own} {rng.choice(benchmark).prompt.upper()}"
        queries.append(_query(f"q{k}", leaked if f"q{k}" in leaks else own, "train"))
    return World(queries, benchmark, leaks)


class DatatroveFilter:
    """datatrove's filter with an index of a benchmark's prompts; its own indexer asks for lighteval's data sets."""

    def __init__(self, benchmark: list[Query], folder: Path) -> None:
        from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
        from datatrove.utils.text import ngrams, simplify_text

        config, tokenizer = NGramsDecontConfig(n_grams=13, find_query_ngrams=True), split_tokenizer()
        self.filter = NGramsDecontFilter(str(folder), config=config, language=tokenizer)
        hashes = {
            self.filter.hash_func(" ".join(gram))
            for query in benchmark
            for gram in ngrams(tokenizer.word_tokenize(simplify_text(query.prompt, config.norm_config)), 13)
        }
        np.array(sorted(hashes), config.hash_config.np_descr).tofile(folder / "bench.index.hashes")
        self.filter.load_index_hashes()

    def find(self, queries: list[Query]) -> set[str]:
        """Ids of what it would drop."""
        from datatrove.data import Document

        return {q.id for q in queries if self.filter.filter(Document(text=q.prompt, id=q.id)) is not True}


def _query(name: str, text: str, source: str) -> Query:
    return Query(id=name, domain=Domain.CHAT, source=source, messages=(Message(role="user", content=text),))
