"""A budget is never exceeded, whatever happens: the account as a state machine, its file, and a client that stops."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.chat import ChatRequest, Sampling
from infra.config import ConfigError
from infra.llm import BudgetError, EndpointError, LlmSession
from infra.llm_budget import Account, Budget, Fit
from infra.llm_price import NOTHING_DUE, TEMPLATE_TOKENS, WORST_CASE, Bill, Tokens, at_most, bill_of, price_nusd
from infra.llm_sharing import spendings
from infra.row_cache import RowCache
from infra.runtime import Endpoint
from infra.store import Store
from tests.unit.scripted_endpoint import Scripted, ask, completion, echo, new_cache, new_client, serve, texts

SAMPLE_NUSD = 10 * 1_000 + 4 * 10_000  # what `echo` charges: 10 + 4 tokens at 1 and 10 USD a million


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("infra.llm_paying.LOOK_AGAIN_S", 0.005)


# Prices


def test_a_price_is_exact_and_rounded_up() -> None:
    endpoint = Endpoint(base_url="x", usd_per_million_prompt_tokens=0.55, usd_per_million_completion_tokens=2.19)
    assert price_nusd(Tokens(1_000_000, 0), endpoint) == 550_000_000
    assert price_nusd(Tokens(1000, 3000), endpoint) == 7_120_000  # 0.00712 USD
    thirds = Endpoint(base_url="x", usd_per_million_completion_tokens=0.0001)
    assert [price_nusd(Tokens(0, count), thirds) for count in (1, 10, 11)] == [1, 1, 2]
    assert price_nusd(Tokens(1000, 3000), endpoint, is_batch=True) == 3_560_000


@given(st.text(max_size=200), st.integers(1, 5))
def test_a_prompt_has_no_more_tokens_than_are_reserved(text: str, num_samples: int) -> None:
    request = ChatRequest("q", [{"role": "user", "content": text}], Sampling(max_tokens=7))
    worst = at_most(request, num_samples)
    # A tokenizer of bytes is the worst one.
    assert worst.prompt >= num_samples * (len(text.encode()) + TEMPLATE_TOKENS)
    assert worst.completion == 7 * num_samples


@pytest.mark.parametrize(
    ("body", "bill"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, Bill(True, Tokens(3, 4))),
        ({"usage": {"prompt_tokens": 3}}, Bill(True, Tokens(3, 0))),
        ({"usage": {}}, WORST_CASE),
        ({"usage": None}, WORST_CASE),
        ({"usage": {"prompt_tokens": "many"}}, WORST_CASE),
        ({"usage": {"prompt_tokens": -5, "completion_tokens": 9}}, WORST_CASE),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": -9}}, WORST_CASE),
        ([], WORST_CASE),
        (None, WORST_CASE),
    ],
)
def test_a_reply_that_does_not_count_is_billed_at_its_worst(body: Any, bill: Bill) -> None:
    assert bill_of(body) == bill
    assert not NOTHING_DUE.is_due


# The account


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1), st.booleans()), max_size=60), st.integers(0, 300))
def test_whatever_is_reserved_and_settled_the_limit_holds(events: list[tuple[int, float, bool]], limit: int) -> None:
    account, mine, paid = Account(), [], 0
    for number, (worst, share, settles) in enumerate(events):
        fit = account.fit(limit, worst, set(mine))
        assert (fit is Fit.NOW) == (paid + sum(account.pending.values()) + worst <= limit)
        # Only what is in flight can make room.
        assert fit is not Fit.LATER or mine
        if fit is Fit.NOW:
            account.apply(["reserve", str(number), worst])
            mine.append(str(number))
        if settles and mine:
            id_ = mine.pop(0)
            cost = int(account.pending[id_] * share)
            account.apply(["settle", id_, cost, 0])
            account.apply(["settle", id_, cost, 0])  # twice counts once
            paid += cost
        assert account.paid == paid
        assert account.used <= limit


def test_what_others_reserved_is_not_waited_for() -> None:
    account = Account()
    account.apply(["reserve", "theirs", 60])
    assert account.fit(100, 50, set()) is Fit.NEVER
    assert account.fit(100, 50, {"theirs"}) is Fit.LATER
    assert account.fit(100, 40, set()) is Fit.NOW


def test_a_killed_process_leaves_its_reservations_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    killed = Budget(path)
    paid, open_ = killed.reserve(100, 30), killed.reserve(100, 30)
    killed.settle(str(paid), 20)
    again = Budget(path)
    assert again.spending(100)[2:] == (20, 0, 30)
    assert again.spending(100).left == 50
    assert again.reserve(100, 51) is Fit.NEVER
    killed.settle(str(open_), 0)
    assert isinstance(again.reserve(100, 80), str)


@pytest.mark.parametrize("cut", range(1, 23))
def test_half_a_line_of_a_killed_writer_says_nothing(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    first = Budget(path)
    assert isinstance(first.reserve(100, 30), str)
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps(["reserve", "half", 70]).encode()[:cut])
    again = Budget(path)
    assert again.spending(100).pending == 30
    assert isinstance(again.reserve(100, 70), str)
    assert Budget(path).spending(100).pending == 100


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 9))
def test_threads_with_accounts_of_their_own_share_one_limit(worst: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        budgets = [Budget(path) for _ in range(3)]

        def spend(budget: Budget) -> int:
            got = 0
            while not isinstance(budget.reserve(200, worst), Fit):
                got += worst
            return got

        with ThreadPoolExecutor(6) as threads:
            total = sum(threads.map(spend, budgets * 2))
    assert 200 - worst < total <= 200


# A client with a budget


def test_a_client_stops_before_the_budget_and_keeps_what_is_done(tmp_path: Path) -> None:
    asked = [ask(f"{i:02}") for i in range(40)]
    worst = price_nusd(at_most(asked[0], 1), _priced())
    limit = (12 * SAMPLE_NUSD + worst) / 1e9  # the 13th fits, the 14th no more
    got = []
    with serve(echo) as fake:
        client = new_client(new_cache(tmp_path), fake.url, budget_usd=limit)
        with pytest.raises(BudgetError) as stopped:  # noqa: PT012
            for answered in client.complete_all(asked):
                got.append(answered.request.key)
        assert len(got) == len(fake.bodies) == 13
        assert client.usage.usd == pytest.approx(13 * SAMPLE_NUSD / 1e9)
        told = str(stopped.value)
        assert "account `teacher`" in told
        assert "13 samples are done and kept, 27 are left" in told
        assert "raise budget_usd in [endpoints.teacher]" in told
        # Again with the same budget: what is done costs nothing, nothing new is sent.
        again = new_client(new_cache(tmp_path), fake.url, budget_usd=limit)
        with pytest.raises(BudgetError, match="13 samples are done and kept, 27 are left"):
            list(again.complete_all(asked))
        assert len(fake.bodies) == 13
        # And with a larger one it goes on.
        richer = new_client(new_cache(tmp_path), fake.url, budget_usd=1.0)
        assert len(texts(richer.complete_all(asked))) == 40
        assert len(fake.bodies) == 40
        spending = richer.answering().till.spending()
    assert spending is not None
    assert (spending.paid, spending.pending) == (40 * SAMPLE_NUSD, 0)


def _priced() -> Endpoint:
    return Endpoint(base_url="x", usd_per_million_prompt_tokens=1.0, usd_per_million_completion_tokens=10.0)


def test_roles_and_threads_of_one_account_share_its_budget(tmp_path: Path) -> None:
    worst = price_nusd(at_most(ask("000"), 1), _priced())
    limit_nusd = 30 * SAMPLE_NUSD + worst
    cache = new_cache(tmp_path)
    with serve(lambda body, number: echo(body, number)._replace(delay_s=0.002)) as fake:
        clients = [
            new_client(cache, fake.url, role, budget_usd=limit_nusd / 1e9, budget_account="november")
            for role in ("teacher", "judge", "arbiter")
        ]

        def run(number: int) -> int:
            got = 0
            try:
                for _ in clients[number].complete_all(ask(f"{number}{i}") for i in range(10, 50)):
                    got += 1
            except BudgetError:
                return got
            return got

        with ThreadPoolExecutor(3) as threads:
            done = sum(threads.map(run, range(3)))
        assert done == len(fake.bodies) == 31


def test_a_reply_without_a_count_costs_its_worst(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Scripted:
        said = completion("x")
        said.body["usage"] = {}
        return said

    with serve(script) as fake:
        client = new_client(new_cache(tmp_path), fake.url, budget_usd=1.0)
        list(client.complete_all([ask("a")]))
    worst = price_nusd(at_most(ask("a"), 1), _priced())
    assert client.usage.assumed_replies == 1
    assert client.usage.usd == client.usage.assumed_usd == worst / 1e9


@pytest.mark.parametrize(
    ("failure", "costs"),
    [
        (Scripted(429, b""), 0.0),
        (Scripted(500, b""), 0.0),
        (Scripted(504, b""), 1.0),
        (Scripted(200, b'{"choices": [{"mess'), 1.0),
        (Scripted(200, {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}), SAMPLE_NUSD),
        (Scripted(200, completion("late").body, delay_s=0.7), 1.0),
    ],
    ids=["refused", "failed", "lost behind a gateway", "garbled", "empty, with a count", "late"],
)
def test_what_a_failed_attempt_costs(tmp_path: Path, failure: Scripted, costs: float) -> None:
    with serve(lambda body, number: failure if number == 0 else echo(body, number)) as fake:
        client = new_client(new_cache(tmp_path), fake.url, budget_usd=1.0, timeout_s=0.4 if failure.delay_s else 30)
        assert texts(client.complete_all([ask("a")])) == {"a": ["a/100"]}
        spending = client.answering().till.spending()
    worst = price_nusd(at_most(ask("a"), 1), _priced())
    lost = worst if costs == 1.0 else int(costs)
    assert spending is not None
    assert (spending.paid, spending.pending) == (SAMPLE_NUSD + lost, 0)
    assert spending.assumed == (worst if costs == 1.0 else 0)
    assert client.usage.usd == pytest.approx((SAMPLE_NUSD + lost) / 1e9)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_refuses_us_is_owed_nothing(tmp_path: Path, status: int) -> None:
    with serve(lambda *_: Scripted(status, b"{}")) as fake:
        client = new_client(new_cache(tmp_path), fake.url, budget_usd=1.0, max_concurrency=1)
        with pytest.raises(EndpointError):
            list(client.complete_all([ask("a")]))
        spending = client.answering().till.spending()
    assert spending is not None
    assert (spending.paid, spending.pending, client.usage.usd) == (0, 0, 0.0)


def test_leaving_early_counts_what_was_in_flight(tmp_path: Path) -> None:
    release = threading.Event()

    def script(body: dict[str, Any], number: int) -> Scripted:
        if number:
            release.wait(5)
        return echo(body, number)

    with serve(script) as fake:
        client = new_client(new_cache(tmp_path), fake.url, budget_usd=1.0, max_concurrency=2)
        answers = client.complete_all([ask("a"), ask("b"), ask("c")])
        next(answers)
        while len(fake.bodies) < 3:
            pass
        answers.close()  # type: ignore[attr-defined]
        release.set()
        spending = client.answering().till.spending()
    worst = price_nusd(at_most(ask("a"), 1), _priced())
    assert spending is not None
    assert (spending.paid, spending.assumed, spending.pending) == (SAMPLE_NUSD + 2 * worst, 2 * worst, 0)


def test_a_session_refuses_what_does_not_fit_and_answers_what_does(tmp_path: Path) -> None:
    worst = price_nusd(at_most(ask("a"), 1), _priced())
    with serve(echo) as fake, LlmSession(new_client(new_cache(tmp_path), fake.url, budget_usd=worst / 1e9)) as session:
        with pytest.raises(BudgetError, match=r"account `teacher`.*2 are left"):
            session.ask(ask("a", 2))
        assert session.ask(ask("a"))[0].text == "a/100"
        with pytest.raises(BudgetError):
            session.ask(ask("b"))
        assert session.ask(ask("a"))[0].is_cached


def test_a_budget_that_cannot_bind_or_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never be reached, since both prices are 0"):
        Endpoint(base_url="x", budget_usd=1.0)
    remote = RowCache(Store("memory://bucket/x", tmp_path), "llm", tmp_path)
    with pytest.raises(ConfigError, match=r"budget_usd.*is remote"):
        new_client(remote, "http://127.0.0.1:1/v1", budget_usd=1.0)


def test_how_every_budget_stands_is_told_without_asking(tmp_path: Path) -> None:
    with serve(echo) as fake:
        cache = new_cache(tmp_path)
        client = new_client(cache, fake.url, budget_usd=1.0)
        list(client.complete_all([ask("a")]))
    told = spendings(cache.store, {"teacher": client.endpoint, "judge": Endpoint(base_url="x")})
    assert {role: str(spending) for role, spending in told.items()} == {"teacher": "$0.0001 of $1.0000 used"}
    assert told["teacher"].left == 10**9 - SAMPLE_NUSD
    new = spendings(Store(str(tmp_path / "new"), tmp_path), {"teacher": client.endpoint})
    assert new["teacher"].left == 10**9
    assert not (tmp_path / "new" / "spending").exists()


# The estimate


def test_an_estimate_is_an_upper_bound_that_counts_the_cache(tmp_path: Path) -> None:
    with serve(echo) as fake:
        client = new_client(new_cache(tmp_path), fake.url, budget_usd=1.0)
        list(client.complete_all([ask("a", 2)]))
        told = client.estimate([ask("a", 4), ask("b", 3), ask("b", 3)])
        assert (told.cached, told.to_ask) == (5, 5)
        assert len(fake.bodies) == 1
        used = client.usage.usd
        list(client.complete_all([ask("a", 4), ask("b", 3), ask("b", 3)]))
        assert used < client.usage.usd <= used + told.usd
    worst = at_most(ask("a"), 2), at_most(ask("b"), 3)
    assert told.tokens == Tokens(worst[0].prompt + worst[1].prompt, 5 * 64)
    assert told.fits
    assert "5 samples are there, 5 to ask, at most" in str(told)
    assert not told._replace(left_usd=0.0).fits
