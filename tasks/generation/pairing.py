"""Queries with their responses, read side by side without holding either in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from tasks.records import Query, Response


class Answered(NamedTuple):
    """A query and its responses, by sample index; none where nobody answered it."""

    query: Query
    responses: list[Response]


def pair_up(queries: Iterable[Query], responses: Iterable[Response]) -> Iterator[Answered]:
    """Join queries with responses that lie in the order of the queries.

    Raises:
        ValueError: responses are left over, so they belong to other queries or to another order of these.
    """
    groups = groupby(responses, key=lambda response: response.query_id)
    group = next(groups, None)
    for query in queries:
        if group is None or group[0] != query.id:
            yield Answered(query, [])
            continue
        yield Answered(query, sorted(group[1], key=lambda response: response.sample_index))
        group = next(groups, None)
    if group is not None:
        raise ValueError(f"response to query {group[0]}, which is not among the queries; pass those that were answered")
