"""A key goes to its endpoint and nowhere else, however hard the endpoint tries to give it back."""

from __future__ import annotations

import io
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from infra.config import ConfigError
from infra.llm import EndpointError
from infra.llm_pools import hide
from tests.unit.scripted_endpoint import Scripted, ask, completion, new_cache, new_client, serve

KEY = "sk-planted-0123456789abcdef"


@pytest.fixture(autouse=True)
def planted_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY + "\n")  # as `export TEACHER_KEY="$(cat file)"` may leave it
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.01)


def all_text_of(error: BaseException) -> str:
    """All that a log or a debugger could show of an exception and of those behind it."""
    shown = ["".join(traceback.format_exception(error))]
    behind: list[BaseException | None] = [error]
    while behind:
        one = behind.pop()
        if one is not None:
            shown.append(f"{one!r} {one.args!r} {vars(one)!r}")
            behind += [one.__cause__, one.__context__]
    return "\n".join(shown)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 504])
@pytest.mark.parametrize("form", ["json", "text", "content"])
def test_the_key_is_in_nothing_that_is_kept_or_said(tmp_path: Path, status: int, form: str) -> None:
    said = {
        "json": {"error": {"message": f"{'x' * 290} no such key: {KEY}", "code": KEY}},
        "text": f"you sent Bearer {KEY}".encode(),
        "content": completion(f"your key is {KEY}").body,
    }[form]
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    told: list[str] = []
    headers = {"x-request-id": KEY, "retry-after": "0"}
    try:
        with serve(lambda *_: Scripted(status, said, headers)) as fake:
            cache = new_cache(tmp_path)
            priced: dict[str, Any] = {"budget_usd": 1.0, "api_key_env": "TEACHER_KEY"}
            client = new_client(cache, fake.url, **priced)
            try:
                told = [f"{answered!r}" for answered in client.complete_all([ask("a")])]
            except EndpointError as error:
                told = [all_text_of(error)]
            cache.close()
            told += [str(client.estimate([ask("b")])), repr(client.endpoint), repr(vars(client))]
    finally:
        logging.getLogger().removeHandler(handler)
    assert all(sent["authorization"] == f"Bearer {KEY}" for sent in fake.headers)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not [content for content in kept if KEY.encode() in content]
    assert not [text for text in [*told, log.getvalue()] if KEY in text]
    # Nor a beginning of it, left over where a long message is cut.
    assert not [text for text in told if KEY[:12] in text]


def test_a_key_that_no_header_takes_is_refused_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (f"{KEY}\n{KEY}", f"{KEY}é", f"{KEY}\x00"[:-1] + "\x7f"):
        monkeypatch.setenv("TEACHER_KEY", wrong)
        with pytest.raises(ConfigError, match="TEACHER_KEY holds more than a key") as raised:
            new_client(new_cache(tmp_path), "http://127.0.0.1:1/v1", api_key_env="TEACHER_KEY")
        assert KEY not in all_text_of(raised.value)


def test_only_what_may_be_a_key_is_hidden() -> None:
    assert hide("no-key here", "no-key") == "no-key here"
    assert hide(f"a {KEY} b", KEY) == "a *** b"
    assert hide(json.dumps({"k": KEY}).encode(), KEY) == b'{"k": "***"}'


def test_what_a_step_records_is_counts(tmp_path: Path) -> None:
    # Manifests, cards and MLflow get of a client only what `take` gives.
    with serve(lambda *_: Scripted(200, completion(f"key {KEY}").body)) as fake:
        client = new_client(new_cache(tmp_path), fake.url, budget_usd=1.0, api_key_env="TEACHER_KEY")
        list(client.complete_all([ask("a")]))
    counts = client.usage.take()
    assert set(counts) == {"prompt_tokens", "completion_tokens", "usd", "cache_hits"}
    assert all(isinstance(count, int | float) for count in counts.values())
