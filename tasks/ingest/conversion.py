"""A native row → a query, or the reason why it makes none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from infra.artifacts import Raw
from tasks.ingest.adapters.registry import Adapter, find_adapter
from tasks.ingest.config import ReadConfig, SourceConfig
from tasks.ingest.native import Draft, FieldError, NativeRow, read_rows
from tasks.records import Query

ID_LENGTH = 24  # hex digits: 96 bits, so that a collision among 3M rows has a chance of 1e-16
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class IngestReason(StrEnum):
    """Why a raw row makes no query."""

    EMPTY_PROMPT = "empty_prompt"
    NO_USER_TURN = "no_user_turn"
    INVALID_UNICODE = "invalid_unicode"
    NOT_SELECTED = "not_selected"


class RowError(ValueError):
    """A raw row that does not have its source's schema; the message names source, row, field and remedy."""


class Unread(NamedTuple):
    """A row that the recipe does not want, so that no adapter sees it; `refusal` says by which rule."""

    id: str
    source: str
    refusal: str


class Converted(NamedTuple):
    """A query; `reason` is set where it is unusable."""

    query: Query | Unread
    reason: IngestReason | None


def native_rows(raw: Raw, config: ReadConfig) -> Iterator[dict[str, Any]]:
    """Rows of a raw file, or of a data set of the hub, in order."""
    if config.hub is not None:
        from tasks.ingest.hub import read_hub

        return read_hub(config, raw.uri)
    return read_rows(Path(raw.uri), config.origin)


def convert_file(path: Path, config: ReadConfig) -> Iterator[Converted]:
    """Queries of a raw file, in order. Raises what `convert_rows` and `read_rows` raise."""
    return convert_rows(read_rows(path, config.origin), config)


def convert_rows(rows: Iterable[Mapping[str, Any]], config: ReadConfig) -> Iterator[Converted]:
    """Queries of native rows, in order.

    Raises:
        RowError: a row lacks a field of the native schema.
    """
    adapter, seen = find_adapter(config.adapter), Counter[str]()
    for number, fields in enumerate(rows, start=1):
        if config.limit is not None and number > config.limit:
            return
        text = _canonical_text(config.name, fields)
        key = _digest(text)
        seen[key] += 1
        # Byte-equal rows of one source are told apart by their ordinal; the first keeps the bare hash.
        name = key if seen[key] == 1 else f"{key}#{seen[key]}"
        refusal = config.refusal(fields)
        if refusal is not None:
            yield Converted(Unread(name, config.name, refusal), IngestReason.NOT_SELECTED)
            continue
        try:
            found = convert(fields, name, config, adapter)
        except FieldError as error:
            raise RowError(
                f"source {config.name} ({config.origin}), row {number}: {error}; "
                f"adapter `{config.adapter}` cannot read it: choose another adapter or mend the row"
            ) from None
        is_unusable = found.reason is None and not _is_unicode(text)
        yield found._replace(reason=IngestReason.INVALID_UNICODE) if is_unusable else found


def content_id(source: str, fields: Mapping[str, Any]) -> str:
    """Hash of a source's name and a native row; the order of the fields does not matter."""
    return _digest(_canonical_text(source, fields))


def _canonical_text(source: str, fields: Mapping[str, Any]) -> str:
    return _ENCODER.encode([source, fields])


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]


def _is_unicode(text: str) -> bool:
    """False where it holds half of a surrogate pair, which no UTF-8 file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def convert(fields: Mapping[str, Any], name: str, config: ReadConfig, adapter: Adapter) -> Converted:
    """One native row as a query with the id `name`.

    Raises:
        FieldError: the row does not have the adapter's schema.
    """
    row = NativeRow(fields)
    draft = adapter(row)
    meta = row.rest() | draft.meta | ({} if draft.stem is None else {"stem": draft.stem})
    domain, license_ = (config.domain, config.license) if isinstance(config, SourceConfig) else (None, "")
    query = Query(
        id=name,
        domain=domain or draft.domain,
        source=config.name,
        messages=draft.messages,
        answer=draft.answer,
        choices=draft.choices,
        solution=draft.solution,
        tests=draft.tests,
        constraints=draft.constraints,
        license=license_,
        meta=meta,
    )
    return Converted(query, _unusable(draft, fields))


def _unusable(draft: Draft, fields: Mapping[str, Any]) -> IngestReason | None:
    if not draft.messages:
        has_turns = any(isinstance(fields.get(name), list) for name in ("conversations", "messages", "input"))
        return IngestReason.NO_USER_TURN if has_turns else IngestReason.EMPTY_PROMPT
    if draft.messages[-1].role != "user":
        return IngestReason.NO_USER_TURN
    if not draft.messages[-1].content:
        return IngestReason.EMPTY_PROMPT
    return None
