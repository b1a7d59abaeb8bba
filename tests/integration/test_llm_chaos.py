"""Bars of the endpoints' clients against chaos: no row lost, none paid twice, no cent over the budget.

What is counted: the endpoint charges for every reply that it makes. A reply that a client reads is paid once. One that
was made and not read (garbage, broken off, too late, or on its way when the client was killed) has to be asked again,
so it is paid once more; it stands in the client's cost and in the account, at the most that it can cost.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra.chat import ChatRequest, Sampling
from infra.llm import BudgetError, LlmClient
from infra.llm_budget import Budget, Spending
from infra.llm_price import NUSD, at_most, price_nusd
from infra.row_cache import RowCache
from infra.runtime import Endpoint
from infra.store import Store
from tests.integration.chaos_endpoint import PROMPT_TOKENS, REPLY_NUSD, ChaosEndpoint, chaos

pytestmark = pytest.mark.integration

IN_FLIGHT = 8
# Twelve attempts fail together less than once in a million requests.
SETTINGS: dict[str, Any] = {
    "max_concurrency": IN_FLIGHT,
    "max_attempts": 12,
    "timeout_s": 1.0,
    "usd_per_million_prompt_tokens": 1.0,
    "usd_per_million_completion_tokens": 10.0,
    "budget_account": "chaos",
}
ASKER = """
import json, sys
from pathlib import Path
import infra.llm_http
infra.llm_http.FIRST_WAIT_S = 0.02
from tests.integration.test_llm_chaos import ask, open_client
folder, url, count, settings = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
client = open_client(folder, url, "teacher", **settings)
print(len(list(client.complete_all(map(ask, range(count))))))
"""


def ask(number: int) -> ChatRequest:
    question = f"{number:05}"
    return ChatRequest(question, [{"role": "user", "content": question}], Sampling(max_tokens=64))


WORST_NUSD = price_nusd(at_most(ask(0), 1), Endpoint(base_url="x", **SETTINGS))


def open_cache(folder: Path) -> RowCache:
    return RowCache(Store(str(folder / "store"), folder / "local"), "llm", folder)


def open_client(folder: Path, url: str, role: str, cache: RowCache | None = None, **settings: Any) -> LlmClient:
    return LlmClient(role, "m", Endpoint(base_url=url, **(SETTINGS | settings)), cache or open_cache(folder))


def account(folder: Path, limit_nusd: int) -> Spending:
    """What the file says, read anew."""
    return Budget(folder / "store" / "spending" / "chaos.jsonl").spending(limit_nusd)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.02)


def test_under_chaos_every_row_comes_once_and_every_reply_is_accounted_for(tmp_path: Path) -> None:
    num_rows, limit_nusd = 300, NUSD
    cache = open_cache(tmp_path)
    with chaos() as server:
        # Three steps at once; each row is wanted by two of them.
        clients = [open_client(tmp_path, server.url, role, cache, budget_usd=1.0) for role in ("teacher", "judge", "c")]
        wanted = [range(200), range(100, 300), [*range(200, 300), *range(100)]]
        with ThreadPoolExecutor(3) as threads:
            replies = list(threads.map(lambda c, rows: list(c.complete_all(map(ask, rows))), clients, wanted))
    for got, rows in zip(replies, wanted, strict=True):
        assert {each.request.key: each.reply.text for each in got} == {
            f"{row:05}": f"answer to {row:05}" for row in rows
        }
    faults = sum(server.faults.values()) - server.faults["none"] - server.faults["spike"]
    assert faults > 0.25 * sum(server.faults.values())  # the chaos was there
    # Paid once: as many replies were read as there are rows, and the rest came to nobody for nothing.
    assert sum(client.usage.prompt_tokens for client in clients) == PROMPT_TOKENS * num_rows
    assert sum(client.usage.cache_hits for client in clients) == 2 * num_rows - num_rows
    assert set(server.delivered) == {f"{row:05}" for row in range(num_rows)}
    # What was made and not read is told, each at its worst case: nothing else is.
    assumed = sum(client.usage.assumed_replies for client in clients)
    assert assumed >= server.num_lost + server.num_extra
    spent = account(tmp_path, limit_nusd)
    assert spent.paid == num_rows * REPLY_NUSD + assumed * WORST_NUSD
    assert (spent.assumed, spent.pending) == (assumed * WORST_NUSD, 0)
    assert sum(client.usage.usd for client in clients) == pytest.approx(spent.paid / NUSD)
    assert server.charged_nusd <= spent.paid


def test_under_chaos_the_budget_is_not_exceeded_by_a_cent(tmp_path: Path) -> None:
    num_rows = 150
    with chaos() as server:
        done, budget_nusd = 0, 20 * WORST_NUSD
        for _ in range(12):
            client = open_client(tmp_path, server.url, "teacher", budget_usd=budget_nusd / NUSD)
            before, done, told = done, 0, ""
            try:
                for _answered in client.complete_all(map(ask, range(num_rows))):
                    done += 1
            except BudgetError as error:
                told = str(error)
            spent = account(tmp_path, budget_nusd)
            # Neither what was charged nor what could have been is over; nothing that was done is lost.
            assert server.charged_nusd <= spent.paid + spent.pending <= budget_nusd
            assert done >= before
            if not told:
                break
            assert f"{done} samples are done and kept, {num_rows - done} are left" in told
            # As much was sent as could be: another worst case does not fit.
            assert spent.left < WORST_NUSD
            budget_nusd += 20 * WORST_NUSD
    assert done == num_rows
    assert len(server.delivered) == num_rows


def test_a_client_that_is_killed_again_and_again_loses_nothing_and_stays_within_its_budget(tmp_path: Path) -> None:
    num_rows, num_kills, limit_nusd = 120, 3, 120 * WORST_NUSD
    with chaos() as server:
        settings = json.dumps({"budget_usd": limit_nusd / NUSD})
        command = [sys.executable, "-c", ASKER, str(tmp_path), server.url, str(num_rows), settings]
        for kill in range(num_kills):
            asker = subprocess.Popen(command, stdout=subprocess.PIPE)
            wait_for(server, (kill + 1) * num_rows // (num_kills + 1), asker)
            asker.kill()
            asker.communicate()
        time.sleep(0.4)  # what it had sent is still being charged
        spent = account(tmp_path, limit_nusd)
        assert server.charged_nusd <= spent.paid + spent.pending <= limit_nusd
        last = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    assert int(last.stdout) == num_rows
    assert len(server.delivered) == num_rows
    spent = account(tmp_path, limit_nusd)
    assert server.charged_nusd <= spent.paid + spent.pending <= limit_nusd
    # Each reply that was paid and not read stands in the account, and of those at a kill as many as were in flight.
    assert server.num_extra + server.num_lost <= (spent.assumed + spent.pending) // WORST_NUSD
    assert spent.pending <= num_kills * IN_FLIGHT * WORST_NUSD


def wait_for(server: ChaosEndpoint, num_delivered: int, asker: subprocess.Popen[bytes]) -> None:
    """Until so many replies were delivered."""
    deadline = time.monotonic() + 60
    while server.delivered.total() < num_delivered and time.monotonic() < deadline:
        assert asker.poll() is None, "the asker ended before it was killed"
        time.sleep(0.005)
