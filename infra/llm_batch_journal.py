"""Batches that were sent, kept in the store: a run that was killed goes on with them, and pays for none twice."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from infra.chat import ChatRequest
from infra.config import Config
from infra.row_cache import RowCache
from infra.runtime import Endpoint

NAMESPACE = "llm_batches"


class Line(NamedTuple):
    """One request of a batch.

    Attributes:
        first: index of its first sample.
        keys: of its samples, in the row cache.
        worst_nusd: the most that it can cost.
    """

    id: str
    request: ChatRequest
    first: int
    keys: list[str]
    worst_nusd: int


class SentLine(Config):
    """What is kept of a line: enough to take its reply in."""

    keys: list[str]
    worst_nusd: int


class Sent(Config):
    """A batch that was or may have been created. Its name is also its reservation's."""

    name: str
    base_url: str
    lines: dict[str, SentLine]


class BatchJournal:
    """Three facts of a batch, each written once: that it is to be created, its id, that it is over."""

    def __init__(self, cache: RowCache, endpoint: Endpoint) -> None:
        self._kept = cache.beside(NAMESPACE)
        self._base_url = endpoint.base_url

    def begin(self, lines: Sequence[Line], name: str) -> Sent:
        """Before it is created."""
        kept = {line.id: SentLine(keys=line.keys, worst_nusd=line.worst_nusd) for line in lines}
        sent = Sent(name=name, base_url=self._base_url, lines=kept)
        self._kept.put(f"{name}:sent", sent.model_dump(mode="json"))
        return sent

    def name_id(self, sent: Sent, id_: str) -> None:
        """It was created."""
        self._kept.put(f"{sent.name}:id", id_)

    def id_of(self, sent: Sent) -> str | None:
        """Its id, if that was learnt."""
        found = self._kept.get(f"{sent.name}:id")
        return None if found is None else str(found)

    def end(self, sent: Sent) -> None:
        """Its replies are in the row cache, or there are none."""
        self._kept.put(f"{sent.name}:over", True)

    def open_batches(self, keys: set[str]) -> list[Sent]:
        """Batches of this endpoint that are not over and hold one of the keys."""
        facts = dict(self._kept.items())
        sent = [
            Sent.model_validate(fact)
            for key, fact in facts.items()
            if key.endswith(":sent") and f"{key.removesuffix(':sent')}:over" not in facts
        ]
        return [
            each
            for each in sorted(sent, key=lambda batch: batch.name)
            if each.base_url == self._base_url and any(keys.intersection(line.keys) for line in each.lines.values())
        ]

    def close(self) -> None:
        """Have all of it in the store."""
        self._kept.close()


def new_name() -> str:
    """A name that no other batch has."""
    return uuid.uuid4().hex
