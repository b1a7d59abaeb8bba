"""Lines of a batch's files: a reply, a refusal, or what went wrong with one request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from infra.llm_http import REFUSED_FOR_GOOD, Completed, Trouble, read_reply


class LineReply(NamedTuple):
    """What came of a line, by its `custom_id`."""

    id: str
    result: Completed | Trouble


def read_lines(content: bytes) -> Iterator[LineReply]:
    """The lines of an output or error file; one that is no JSON object is passed over, and so asked again."""
    for line in content.splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if isinstance(fields, dict) and "custom_id" in fields:
            yield LineReply(str(fields["custom_id"]), _result(fields))


def _result(fields: dict[str, Any]) -> Completed | Trouble:
    response = fields.get("response") or {}
    status, body = response.get("status_code"), response.get("body")
    if status == HTTPStatus.OK:
        return read_reply(json.dumps(body).encode(), None)
    text = f"HTTP {status}: {str(fields.get('error') or body)[:300]}"
    return Trouble(text, is_final=status in REFUSED_FOR_GOOD)
