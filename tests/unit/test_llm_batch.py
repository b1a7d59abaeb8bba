"""The Batch API: half the price, the same row cache, and no batch is paid twice, whenever the client dies."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.llm import BudgetError, EndpointError, LlmClient, LlmSession
from infra.llm_batch_wire import BatchWire
from tests.unit.batch_endpoint import BatchEndpoint, echo_line, serve_batches
from tests.unit.scripted_endpoint import ask, echo, new_cache, new_client, serve, texts

SAMPLE_NUSD = (10 * 1_000 + 4 * 10_000) // 2  # at half of 1 and 10 USD a million


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("infra.llm_paying.LOOK_AGAIN_S", 0.005)


def client(folder: Path, server: BatchEndpoint, **endpoint: Any) -> LlmClient:
    endpoint = {"batch": True, "batch_poll_s": 0.01, "budget_usd": 1.0} | endpoint
    return new_client(new_cache(folder), server.url, **endpoint)


def spending(of: LlmClient) -> tuple[int, int, int]:
    spent = of.answering().till.spending()
    assert spent is not None
    return spent.paid, spent.assumed, spent.pending


def test_all_samples_come_at_half_the_price_and_once(tmp_path: Path) -> None:
    with serve_batches() as server:
        asking = client(tmp_path, server, batch_requests=3)
        estimate = asking.estimate(ask(q, 2) for q in "abcdefgh")
        found = texts(asking.complete_all([*(ask(q, 2) for q in "abcdefgh"), ask("a", 2)]))
        assert found == {q: [f"{q}/100", f"{q}/101"] for q in "bcdefgh"} | {"a": ["a/100", "a/100", "a/101", "a/101"]}
        assert len(server.batches) == 3
        assert server.paid == Counter(dict.fromkeys("abcdefgh", 2))
        assert spending(asking) == (8 * SAMPLE_NUSD, 0, 0)  # one prompt and four tokens a line
        assert asking.usage.usd == 8 * SAMPLE_NUSD / 1e9 <= estimate.usd
        assert asking.usage.prompt_tokens == 80
        again = client(tmp_path, server)
        assert texts(again.complete_all(ask(q, 2) for q in "abcdefgh"))["h"] == ["h/100", "h/101"]
        assert again.usage.cache_hits == 16
        assert len(server.batches) == 3


def test_samples_of_a_batch_and_of_single_requests_are_the_same_rows(tmp_path: Path) -> None:
    with serve(echo) as fake:
        list(new_client(new_cache(tmp_path), fake.url).complete_all([ask("a", 2)]))
    with serve_batches() as server:
        found = texts(client(tmp_path, server).complete_all([ask("a", 4), ask("b")]))
        assert found == {"a": [f"a/{100 + i}" for i in range(4)], "b": ["b/100"]}
        assert server.paid == Counter({"a": 2, "b": 1})


@pytest.mark.parametrize("call", ["upload", "create", "look", "download"])
def test_a_lost_reply_of_the_batch_api_costs_nothing_twice(tmp_path: Path, call: str) -> None:
    with serve_batches() as server:
        server.lost[call] = 2
        asking = client(tmp_path, server)
        assert len(texts(asking.complete_all(ask(q) for q in "abc"))) == 3
        assert len(server.batches) == 1
        assert spending(asking) == (3 * SAMPLE_NUSD, 0, 0)


@pytest.mark.parametrize("heard", [True, False], ids=["created", "not created"])
def test_a_run_that_died_while_it_created_a_batch_is_gone_on_with(
    tmp_path: Path, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BatchWire.create

    async def create_and_die(self: BatchWire, file: str, name: str) -> str:
        if heard:
            await real(self, file, name)
        raise EndpointError("killed")

    with serve_batches() as server:
        monkeypatch.setattr(BatchWire, "create", create_and_die)
        with pytest.raises(EndpointError, match="killed"):
            list(client(tmp_path, server).complete_all(ask(q) for q in "abc"))
        monkeypatch.setattr(BatchWire, "create", real)
        asking = client(tmp_path, server)
        assert spending(asking)[2] > 0  # it may have been created: its money stays reserved
        assert len(texts(asking.complete_all(ask(q) for q in "abcd"))) == 4
        assert server.paid == Counter("abcd")
        assert spending(asking) == (4 * SAMPLE_NUSD, 0, 0)


def test_a_run_that_left_while_a_batch_ran_takes_it_up_again(tmp_path: Path) -> None:
    with serve_batches() as server:
        server.looks = 10**9
        leaving = client(tmp_path, server).complete_all(ask(q) for q in "abc")
        thread = threading.Thread(target=lambda: next(leaving, None), daemon=True)
        thread.start()
        while not server.looked:
            time.sleep(0.001)
        # Another process, while the first is as good as dead.
        server.looks = 0
        asking = client(tmp_path, server)
        assert len(texts(asking.complete_all(ask(q) for q in "abcd"))) == 4
        thread.join(10)
        assert server.paid == Counter("abcd")
        assert spending(asking) == (4 * SAMPLE_NUSD, 0, 0)


def test_what_a_batch_left_out_or_failed_is_asked_again(tmp_path: Path) -> None:
    with serve_batches() as server:

        def some(line: dict[str, Any]) -> dict[str, Any] | None:
            question, is_first = line["body"]["messages"][0]["content"], len(server.batches) == 1
            if question == "long":
                return {"status_code": 400, "body": {"error": {"message": "too long"}}}
            if question == "unlucky" and is_first:
                return {"status_code": 500, "body": None}
            if question == "garbled" and is_first:
                return {"status_code": 200, "body": {"choices": []}}
            return None if question == "expired" and is_first else echo_line(line)

        server.answer, server.status = some, "expired"
        asking = client(tmp_path, server)
        answers = list(asking.complete_all(ask(q) for q in ("a", "long", "unlucky", "garbled", "expired")))
        assert [answered.request.key for answered in answers if answered.reply.refusal] == ["long"]
        assert len(answers) == 5
        assert len(server.batches) == 2
        assert asking.usage.assumed_replies == 1  # the garbled one may be charged
        assert asking.usage.usd == pytest.approx(4 * SAMPLE_NUSD / 1e9 + asking.usage.assumed_usd)
        assert spending(asking)[2] == 0


def test_the_budget_halves_batches_until_they_fit_and_then_stops(tmp_path: Path) -> None:
    with serve_batches() as server:
        asked = [ask(f"{i:02}") for i in range(16)]
        worst = client(tmp_path / "x", server).estimate(asked[:1]).usd
        limit = round(6 * SAMPLE_NUSD / 1e9 + worst, 9)
        asking = client(tmp_path, server, budget_usd=limit)
        got = []
        with pytest.raises(BudgetError, match=r"7 samples are done and kept, 9 are left") as stopped:  # noqa: PT012
            for answered in asking.complete_all(asked):
                got.append(answered)
        assert len(got) == server.paid.total() == 7
        assert "raise budget_usd" in str(stopped.value)
        paid, _, pending = spending(asking)
        assert (paid, pending) == (7 * SAMPLE_NUSD, 0)
        assert paid <= limit * 1e9


def test_a_failed_batch_and_an_endpoint_without_batches_are_told_and_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_batches() as server:
        server.status = "failed"
        asking = client(tmp_path, server)
        with pytest.raises(EndpointError, match=r"enqueued token limit reached.*lower batch_requests"):
            list(asking.complete_all([ask("a")]))
        assert spending(asking) == (0, 0, 0)
        monkeypatch.setattr(server, "url", f"{server.url}/elsewhere")
        lacking = client(tmp_path / "b", server)
        with pytest.raises(EndpointError, match="correct base_url"):
            list(lacking.complete_all([ask("a")]))
        assert spending(lacking) == (0, 0, 0)


def test_a_session_asks_at_once_though_batches_are_on(tmp_path: Path) -> None:
    with serve(echo) as fake, LlmSession(new_client(new_cache(tmp_path), fake.url, batch=True)) as session:
        assert session.ask(ask("a"))[0].text == "a/100"
