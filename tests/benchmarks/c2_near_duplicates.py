"""C2: near duplicates among 100,000 rows with planted copies and planted twins, against datatrove and datasketch.

Recall is of the copies, precision of the drops; both are printed before the clock runs. The peers know no numbers from
words, so twins cost them precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tasks.filter.config import DedupConfig
from tasks.filter.dedup import judge_duplicates
from tasks.filter.text import words
from tasks.filter.tokens import hash_tokens
from tasks.records import Query
from tests.benchmarks.__main__ import Contest
from tests.benchmarks.peer_words import split_tokenizer
from tests.unit.planted_queries import Planted, make_planted

NUM_ROWS = 100_000
CONFIG = DedupConfig(near_duplicates=True, prefer_verified=False)


class Quality(NamedTuple):
    """Of a set of drops."""

    recall: float
    precision: float


def contest() -> Contest:
    """The contest; each side does the whole work and is asked for nothing but to end, after its drops are judged."""
    planted = make_planted(NUM_ROWS)
    sides: dict[str, Callable[[], set[str]]] = {
        "ours": lambda: {query.id for query, found in judge_duplicates(planted.queries, CONFIG) if found},
        "datatrove MinHash": lambda: with_datatrove(planted.queries),
        "datasketch LSH": lambda: with_datasketch(planted.queries),
    }
    qualities = {name: judge(side(), planted) for name, side in sides.items()}
    Console().print(told(qualities))
    assert all(
        qualities["ours"] >= each and qualities["ours"].precision >= each.precision for each in qualities.values()
    )
    works = {name: lambda side=side: bool(side()) for name, side in sides.items()}  # type: ignore[misc]
    return Contest(
        "C2 near duplicates", "rows", NUM_ROWS, works.pop("ours"), works,
        lambda: len(hash_tokens([query.prompt for query in planted.queries]).starts) > 0, "hashing the words", runs=3,
    )  # fmt: skip


def judge(dropped: set[str], planted: Planted) -> Quality:
    """How many copies are dropped, and how many of the dropped are copies."""
    found = len(planted.copies.keys() & dropped)
    return Quality(found / len(planted.copies), found / max(1, len(dropped)))


def told(qualities: dict[str, Quality]) -> Table:
    """Recall and precision of each side."""
    table = Table("", "recall", "precision", title="C2 on planted copies and twins", title_justify="left")
    for name, quality in qualities.items():
        table.add_row(name, f"{quality.recall:.4f}", f"{quality.precision:.4f}")
    return table


def with_datatrove(queries: Iterable[Query]) -> set[str]:
    """Its four steps in one process with its defaults, and its cheapest tokenizer."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    config = MinhashConfig()
    documents = [Document(text=query.prompt, id=query.id) for query in queries]
    with TemporaryDirectory() as folder:
        signed, met, removed = (str(Path(folder, name)) for name in ("signed", "met", "removed"))
        MinhashDedupSignature(signed, config=config, language=split_tokenizer()).run(documents)
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(signed, met, config=config).run(rank=bucket, world_size=config.num_buckets)
        MinhashDedupCluster(met, removed, config=config).run()
        stays = {document.id for document in MinhashDedupFilter(removed).run(documents)}
    return {document.id for document in documents} - stays


def with_datasketch(queries: Iterable[Query]) -> set[str]:
    """Its MinHash of the same word pairs as ours, and its LSH; a row drops if an earlier one that stays is near."""
    from datasketch import MinHash, MinHashLSH

    lsh, dropped = MinHashLSH(threshold=0.7, num_perm=96), set()
    for query in queries:
        tokens = words(query.prompt)
        sketch = MinHash(num_perm=96, seed=1)
        sketch.update_batch([" ".join(pair).encode() for pair in pairwise(tokens)])
        if lsh.query(sketch):
            dropped.add(query.id)
        else:
            lsh.insert(query.id, sketch)
    return dropped
