"""Work on the shards of a data set, several at a time, with results in the order of the shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from infra.artifacts import Dataset, File
from infra.store import Store

Made = TypeVar("Made")


def shard_files(store: Store, dataset: Dataset) -> list[File]:
    """The shards of a data set's rows, in order."""
    files = store.manifest(dataset).files
    return [file for file in files if file.path.startswith("kept-") and file.path.endswith(".parquet")]


def map_shards(
    store: Store, dataset: Dataset, work: Callable[..., Made], num_processes: int, *given: Sequence[Any]
) -> Iterator[Made]:
    """What `work(path, …)` makes of each shard; `given`: further arguments, one a shard.

    Args:
        store: holds the data set.
        dataset: whose shards.
        work: a function of a module, since it runs in other processes where there is more than one shard.
        num_processes: how many shards at a time.
        given: a sequence for each further argument.
    """
    paths = [store.local_file(file) for file in shard_files(store, dataset)]
    if len(paths) < 2 or num_processes < 2:
        yield from map(work, paths, *given)
        return
    # Spawned, not forked: a step runs in a thread beside others, whose locks a fork would copy as they are.
    with ProcessPoolExecutor(min(num_processes, len(paths)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, paths, *given)


def first_places(store: Store, dataset: Dataset) -> list[int]:
    """The place of each shard's first row in the data set."""
    places = [0]
    for file in shard_files(store, dataset):
        places.append(places[-1] + (file.rows or 0))
    return places[:-1]
