"""The client of the judging hosts, against small HTTP servers that say what a test tells them."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
import pytest

from infra.config import ConfigError
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig
from tasks.rewards.code_client import RemoteCodeGrader
from tasks.rewards.code_hosts import NoHostError, SandboxHosts
from tasks.rewards.verdicts import verdict

PASSED = verdict(Outcome.PASSED, "tests").model_dump_json()
TESTS = {"kind": "assert", "asserts": ["assert f() == 1"]}


class Said(NamedTuple):
    """One reply; `status` 0: the connection breaks."""

    status: int = 200
    body: str = PASSED
    headers: dict[str, str] = {}


class ScriptedHost:
    """Answers the n-th POST with `script(n)`."""

    def __init__(self, script: Callable[[int], Said]) -> None:
        self.num_asked = 0
        self.health = 200
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.tokens: list[str] = []
        lock, owner = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                owner.may_answer.wait(20)
                self._answer(Said(owner.health, "{}"))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    owner.tokens.append(self.headers.get("authorization", ""))
                    number, owner.num_asked = owner.num_asked, owner.num_asked + 1
                owner.may_answer.wait(20)
                self._answer(script(number))

            def _answer(self, said: Said) -> None:
                if said.status == 0:
                    self.close_connection = True
                    return
                self.send_response(said.status)
                for name, value in {**said.headers, "Content-Length": str(len(said.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.body.encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def hosts(*scripts: Callable[[int], Said], **options: Any) -> Iterator[tuple[RemoteCodeGrader, list[ScriptedHost]]]:
    with ExitStack() as stack:
        started = [ScriptedHost(script) for script in scripts]
        for host in started:
            stack.callback(host.close)
        code = options.pop("code", CodeConfig())
        config = SandboxHosts(addresses=tuple(host.address for host in started), probe_s=0.05, **options)
        yield stack.enter_context(RemoteCodeGrader(code, config)), started


def passes(_: int) -> Said:
    return Said()


def test_requests_spread_over_the_hosts() -> None:
    def slow(_: int) -> Said:
        time.sleep(0.02)
        return Said()

    with hosts(slow, slow) as (grader, both):
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: grader.judge_program(TESTS, "x"), range(40)))
        assert {each.outcome for each in found} == {Outcome.PASSED}
        assert min(host.num_asked for host in both) >= 12
        assert sum(host.num_asked for host in both) == 40


def test_a_slow_host_gets_less() -> None:
    def slow(_: int) -> Said:
        time.sleep(0.3)
        return Said()

    with hosts(passes, slow) as (grader, (quick, late)):
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: grader.judge(TESTS, "x"), range(60)))
        assert quick.num_asked > 3 * late.num_asked


def test_a_full_host_is_asked_again_when_it_says_so() -> None:
    def script(number: int) -> Said:
        return Said(429, "{}", {"Retry-After": "1"}) if number == 0 else Said()

    with hosts(script) as (grader, (host,)):
        started = time.monotonic()
        assert grader.judge_program(TESTS, "x").outcome is Outcome.PASSED
        assert 1.0 <= time.monotonic() - started < 10
        assert host.num_asked == 2


def test_a_full_host_is_left_for_another_at_once() -> None:
    with hosts(lambda _: Said(429, "{}", {"Retry-After": "30"}), passes) as (grader, _):
        started = time.monotonic()
        assert {grader.judge_program(TESTS, "x").outcome for _ in range(5)} == {Outcome.PASSED}
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("broken", [Said(0), Said(500, "oops"), Said(503, "{}")])
def test_a_broken_host_is_left_for_another(broken: Said) -> None:
    with hosts(lambda _: broken, passes) as (grader, _):
        assert {grader.judge_program(TESTS, "x").outcome for _ in range(5)} == {Outcome.PASSED}


def test_a_host_that_is_back_is_asked_again() -> None:
    with hosts(lambda number: Said(0) if number == 0 else Said()) as (grader, (host,)):
        assert grader.judge_program(TESTS, "x").outcome is Outcome.PASSED
        assert host.num_asked == 2


def test_another_host_is_asked_where_jails_fail() -> None:
    failed = verdict(Outcome.SANDBOX_ERROR, "tests", detail="no jail").model_dump_json()
    with hosts(lambda _: Said(200, failed), passes) as (grader, _):
        assert {grader.judge_program(TESTS, "x").outcome for _ in range(5)} == {Outcome.PASSED}
    with hosts(lambda _: Said(200, failed), max_failures=2) as (grader, (host,)):
        found = grader.judge_program(TESTS, "x")
        assert (found.outcome, found.score, host.num_asked) == (Outcome.SANDBOX_ERROR, None, 2)


def test_hosts_that_stay_dead_are_a_fault_that_names_them() -> None:
    with hosts(lambda _: Said(0), dead_for_s=0.3) as (grader, (host,)):
        host.health = 503
        found = grader.judge_program(TESTS, "x")
        assert (found.outcome, found.score) == (Outcome.SANDBOX_ERROR, None)
        assert host.address in found.detail
        started = time.monotonic()
        grader.judge_program(TESTS, "x")
        assert time.monotonic() - started < 0.25, "the clock is that of the hosts, and does not start with each program"


def test_an_internal_error_everywhere_is_a_fault() -> None:
    with hosts(lambda _: Said(500, "oops"), max_failures=2) as (grader, (host,)):
        found = grader.judge_program(TESTS, "x")
        assert (found.outcome, found.score, host.num_asked) == (Outcome.SANDBOX_ERROR, None, 2)


def test_a_host_that_hangs_is_left_after_the_time_of_the_tests() -> None:
    may_end = threading.Event()

    def hang(_: int) -> Said:
        may_end.wait(20)
        return Said()

    with ExitStack() as stack:
        both = [ScriptedHost(hang), ScriptedHost(passes)]
        for host in both:
            stack.callback(host.close)
        config = CodeConfig(seconds_per_test=0.1, spare_s=0.1)
        patience = SandboxHosts(addresses=tuple(host.address for host in both), waiting_s=0.2, probe_s=0.05)
        grader = stack.enter_context(RemoteCodeGrader(config, patience))
        started = time.monotonic()
        assert {grader.judge_program(TESTS, "x").outcome for _ in range(3)} == {Outcome.PASSED}
        assert time.monotonic() - started < 10
        may_end.set()


def test_a_row_that_is_refused_is_a_fault_of_that_row() -> None:
    refused = Said(422, '{"error": "tests: odd", "fields": ["tests"]}')
    with hosts(lambda number: refused if number == 0 else Said()) as (grader, _):
        assert grader.judge_program(TESTS, "x").outcome is Outcome.CRASH
        assert grader.judge_program(TESTS, "x").outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "refused",
    [
        Said(401, '{"error": "wrong or no token"}'),
        Said(404, "not found"),
        Said(422, '{"error": "config.version: 2", "fields": ["config.version"]}'),
    ],
)
def test_what_no_row_would_be_spared_is_one_error(refused: Said) -> None:
    with hosts(lambda _: refused) as (grader, (host,)), pytest.raises(ConfigError, match=host.address):
        grader.judge_program(TESTS, "x")


def test_the_token_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_TOKEN", "t0ken")
    with hosts(lambda _: Said(401, "{}"), token_env="SANDBOX_TOKEN") as (grader, (host,)):
        with pytest.raises(ConfigError) as raised:
            grader.judge_program(TESTS, "x")
        assert host.tokens == ["Bearer t0ken"]
        assert "t0ken" not in str(raised.value)


def test_no_host_at_the_start_is_one_error_that_names_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    addresses = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/")
    with pytest.raises(NoHostError, match=rf"127.0.0.1:{port} .*posttrain sandbox serve"):
        RemoteCodeGrader(CodeConfig(), SandboxHosts(addresses=addresses))


def test_one_host_at_the_start_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = ScriptedHost(passes)
    addresses = (f"http://127.0.0.1:{port}", host.address)
    with RemoteCodeGrader(CodeConfig(), SandboxHosts(addresses=addresses, probe_s=0.05)) as grader:
        assert grader.judge_program(TESTS, "x").outcome is Outcome.PASSED
    host.close()


def test_an_event_loop_may_ask_from_threads() -> None:
    async def ask(grader: RemoteCodeGrader) -> set[Outcome]:
        found = await asyncio.gather(*(asyncio.to_thread(grader.judge_program, TESTS, "x") for _ in range(20)))
        return {each.outcome for each in found}

    with hosts(passes, passes) as (grader, _):
        assert asyncio.run(ask(grader)) == {Outcome.PASSED}


QUICK = CodeConfig(seconds_per_test=0.1, spare_s=0.1)


def test_a_program_that_ends_every_host_is_a_fault() -> None:
    with hosts(lambda _: Said(0), lambda _: Said(0), max_failures=3) as (grader, both):
        found = grader.judge_program(TESTS, "x")
        assert (found.outcome, found.score) == (Outcome.SANDBOX_ERROR, None)
        assert sum(host.num_asked for host in both) == 3


def test_a_lasting_503_is_a_fault_after_a_while_and_asked_for_less_and_less() -> None:
    with hosts(lambda _: Said(503, "{}"), dead_for_s=0.8, waiting_s=0.2, code=QUICK) as (grader, (host,)):
        started = time.monotonic()
        found = grader.judge_program(TESTS, "x")
        assert (found.outcome, found.score) == (Outcome.SANDBOX_ERROR, None)
        assert "draining" in found.detail
        assert 1.0 <= time.monotonic() - started < 10
        assert 3 <= host.num_asked <= 10


def test_a_frozen_host_gives_its_programs_back() -> None:
    with hosts(passes, passes, watch_s=0.2) as (grader, (frozen, _)):
        frozen.may_answer.clear()
        started = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: grader.judge_program(TESTS, "x").outcome, range(8)))
        assert time.monotonic() - started < 10
        assert found == [Outcome.PASSED] * 8
        assert frozen.num_asked > 0
        frozen.may_answer.set()


def test_a_host_that_judges_for_long_keeps_its_program() -> None:
    def long(_: int) -> Said:
        time.sleep(1.0)
        return Said()

    with hosts(long, watch_s=0.1) as (grader, (host,)):
        assert grader.judge_program(TESTS, "x").outcome is Outcome.PASSED
        assert host.num_asked == 1


@pytest.mark.parametrize("odd", [Said(200, "<html>Sign in</html>"), Said(200, "{}"), Said(408, "{}")])
def test_what_is_no_verdict_counts_as_a_failure(odd: Said) -> None:
    with hosts(lambda _: odd, max_failures=2) as (grader, (host,)):
        found = grader.judge_program(TESTS, "x")
        assert (found.outcome, found.score, host.num_asked) == (Outcome.SANDBOX_ERROR, None, 2)


def test_a_time_to_come_again_that_is_no_number_is_a_second() -> None:
    odd = Said(429, "{}", {"Retry-After": "\u00b2"})
    with hosts(lambda number: odd if number == 0 else Said()) as (grader, _):
        assert grader.judge_program(TESTS, "x").outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "address", ["host:8000", "ftp://host:1", "http://", "http://host:99999", "http://h:0", "http://a@h:1"]
)
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(ConfigError, match=f"'{address}'"):
        RemoteCodeGrader(CodeConfig(), SandboxHosts(addresses=(address,)))


@pytest.mark.parametrize("error", [httpx.InvalidURL("odd"), httpx.StreamClosed(), httpx.DecodingError("odd")])
def test_a_look_that_breaks_is_not_the_last(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any, **__: Any) -> httpx.Response:
        raise error

    with hosts(lambda number: Said(0) if number == 0 else Said()) as (grader, _), monkeypatch.context() as broken:
        broken.setattr(httpx.Client, "get", breaks)
        with ThreadPoolExecutor(1) as threads:
            found = threads.submit(grader.judge_program, TESTS, "x")
            time.sleep(0.3)
            broken.undo()
            assert found.result(10).outcome is Outcome.PASSED
