"""Connections in several small pools, and counts that threads do not lose."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from infra.llm_pools import POOL_SIZE, Pools
from infra.llm_price import WORST_CASE, Bill, Tokens
from infra.llm_usage import LlmUsage
from infra.runtime import Endpoint
from tests.unit.scripted_endpoint import Scripted, ask, echo, new_cache, new_client, serve, texts


def test_no_pool_gets_more_than_it_holds() -> None:
    async def take_all(pools: Pools) -> list[int]:
        async with AsyncExitStack() as stack:
            taken = [await stack.enter_async_context(pools.client()) for _ in range(POOL_SIZE * 3)]
            counts = [sum(client is each for client in taken) for each in {id(c): c for c in taken}.values()]
        await pools.close()
        return counts

    pools = Pools(Endpoint(base_url="http://127.0.0.1:1/v1", max_concurrency=POOL_SIZE * 2 + 1))
    assert asyncio.run(take_all(pools)) == [POOL_SIZE] * 3


def test_more_requests_than_a_pool_holds_are_in_flight(tmp_path: Path) -> None:
    num = POOL_SIZE + 16
    everybody = threading.Barrier(num, timeout=30)

    def script(body: dict[str, Any], number: int) -> Scripted:
        everybody.wait()
        return echo(body, number)

    with serve(script) as fake:
        client = new_client(new_cache(tmp_path), fake.url, max_concurrency=num)
        assert len(texts(client.complete_all(ask(str(i)) for i in range(num)))) == num
        assert fake.most_in_flight == num


def test_counts_of_threads_add_up_while_they_are_taken() -> None:
    usage, taken = LlmUsage(), list[dict[str, float]]()

    def pay() -> None:
        for _ in range(2000):
            usage.pay(Bill(True, Tokens(3, 5)), 7)
            usage.hit(2)

    threads = [threading.Thread(target=pay) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.append(usage.take())
    taken.append(usage.take())
    sums = {name: sum(counts[name] for counts in taken) for name in taken[0]}
    assert (sums["prompt_tokens"], sums["completion_tokens"], sums["cache_hits"]) == (24_000, 40_000, 16_000)
    assert round(sums["usd"] * 1e9) == 56_000


def test_what_is_assumed_is_part_of_the_cost() -> None:
    usage = LlmUsage()
    usage.pay(Bill(True, Tokens(1, 1)), 100)
    usage.pay(WORST_CASE, 900)
    assert (usage.usd, usage.assumed_usd, usage.assumed_replies) == (1000 / 1e9, 900 / 1e9, 1)
    usage.take()
    assert (usage.usd, usage.assumed_usd, usage.assumed_replies) == (0, 0, 0)
