"""10,000 generated hostile answers: nothing hangs, no process of the pool is lost to one, memory stays bounded."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tasks.records import Outcome, Verdict
from tasks.rewards.math import MIB, MathConfig, MathVerifier
from tasks.rewards.math_pool import MathPool

pytestmark = pytest.mark.integration
GOLDS = ("5", "x+1", r"\sqrt{2}", r"\frac{1}{3}", "(1,2)", r"\{1,2\}", "[1,2)", "5 cm", r"50\%", "1011_2", "east",
         r"\begin{pmatrix}1\\2\end{pmatrix}")  # fmt: skip
CHARACTERS = "\u200b\u200f\u202e\ufeff\x00\x1b\ud800\udfff\u0661\u06f5é漢🙂\u0301\u2028∑√∞²₂½Ⅷ"

WORDS = (r"\int_0^{\infty}", r"\sum_{n=1}^{10^9}", r"\prod", r"\lim_{x\to0}", r"\binom{999}{99}", "__import__('os')",
         "lambda: 0", "nan", "oo", "zoo", "I", "1/0", "0^0", r"\log_1 1")  # fmt: skip


def tower(rng: Random) -> str:
    return "^{".join(str(rng.randrange(2, 99)) for _ in range(rng.randrange(2, 12))) + "}" * 11


def symbolic_tower(rng: Random) -> str:
    return "x^" + "^".join(f"({rng.randrange(2, 9)}" for _ in range(9)) + ")" * 9


def factorials(rng: Random) -> str:
    return str(rng.randrange(3, 10**6)) + "!" * rng.randrange(1, 40)


def exponent(rng: Random) -> str:
    return rng.choice(("{}^{{{}}}", "{}**{}", "{}e{}", r"{}\times10^{{{}}}")).format(
        rng.randrange(2, 10**6), rng.randrange(10**3, 10**9)
    )


def long(rng: Random) -> str:
    return rng.choice(("1+", "x*", "(", r"\frac{1}{", "9", r"\text{a}", "a", "-", "!", " ", ",")) * 25_000


def braces(rng: Random) -> str:
    return "".join(rng.choice("{}()[]\\$^_1x,") for _ in range(rng.randrange(1, 900)))


def fractions(rng: Random) -> str:
    depth = rng.randrange(2, 90)
    return r"\frac{1}{1+" * depth + "x" + "}" * (depth - rng.randrange(2))


def unicode_text(rng: Random) -> str:
    return "".join(rng.choice(CHARACTERS + "12x+=") for _ in range(rng.randrange(1, 200)))


def endless_list(rng: Random) -> str:
    return rng.choice((",", ";", " and ", r"\cup", r"\pm ", "=", "<")).join(
        str(rng.randrange(9)) for _ in range(rng.randrange(2, 400))
    )


def matrix(rng: Random) -> str:
    size = rng.randrange(1, 14)
    rows = r"\\".join("&".join(rng.choice("0123x") for _ in range(size)) for _ in range(size))
    return rf"\begin{{pmatrix}}{rows}\end{{pmatrix}}" + rng.choice(("", "^{99}", "^{-1}", "!"))


def backtracking(rng: Random) -> str:
    return "5" + rng.choice(("a" * 60, " a" * 60, r"\text{a}" * 60, "a/" * 60, "^2" * 60)) + rng.choice("=!}\\")


def nested(rng: Random) -> str:
    opening, closing = rng.choice((("(1,", ")"), (r"\sqrt{", "}"), ("[", "]"), (r"\text{", "}"), ("2^{", "}")))
    depth = rng.randrange(10, 160)
    return opening * depth + "1" + closing * depth


def words(rng: Random) -> str:
    return rng.choice(WORDS) * rng.randrange(1, 4)


MAKERS: tuple[Callable[[Random], str], ...] = (
    tower, symbolic_tower, factorials, exponent, long, braces, fractions, unicode_text, endless_list, matrix,
    backtracking, nested, words,
)  # fmt: skip


def hostile(count: int, seed: int) -> list[tuple[str, str]]:
    rng = Random(seed)
    made = [(rng.choice(GOLDS), rng.choice(MAKERS)(rng)) for _ in range(count)]
    return [(gold, rf"\boxed{{{answer}}}" if rng.random() < 0.9 else answer) for gold, answer in made]


def children_kib() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


@pytest.mark.timeout(1200)
def test_thousands_of_hostile_answers(pytestconfig: pytest.Config) -> None:
    pairs = hostile(10_000 if pytestconfig.getoption("--thorough") else 800, seed=4)
    config = MathConfig(timeout_s=1.0, memory_bytes=1024 * MIB)
    before, children_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, children_kib()
    started = time.monotonic()
    with MathVerifier(config, num_processes=2) as verifier:
        verdicts = verifier.judge_all(pairs)
        assert verifier.compare("x+1", "1+x").outcome is Outcome.EQUAL  # the pool still works
    took = time.monotonic() - started
    found = Counter(verdict.outcome for verdict in verdicts)
    print(f"{took:.0f} s; {dict(found)}; children up to {children_kib() // 1024} MiB")
    assert len(verdicts) == len(pairs)
    assert sum(found[outcome] for outcome in (Outcome.TIME_OUT, Outcome.CRASH)) < 0.06 * len(pairs)
    assert slowest_in_parent(verdicts) < 1000
    assert children_kib() <= max(1024 * 1024, children_before)  # other tests of this process had children too
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024
    assert all(verdict.model_dump_json() for verdict in verdicts), "a verdict can be written to a file"


def slowest_in_parent(verdicts: list[Verdict]) -> float:
    """What rules and text take holds the interpreter's lock, so that no clock but the batch's own would end it."""
    return max(v.ms for v in verdicts if v.method not in {"math_verify", "value"})


def test_hostile_answers_from_threads_and_an_event_loop() -> None:
    pairs = hostile(300, seed=5)
    with MathVerifier(MathConfig(timeout_s=2.0), num_processes=2) as verifier:
        with ThreadPoolExecutor(8) as threads:
            by_threads = list(threads.map(lambda pair: verifier.judge(*pair).outcome, pairs))

        async def all_of_them() -> list[Outcome]:
            found = await asyncio.gather(*(asyncio.to_thread(verifier.judge, *pair) for pair in pairs))
            return [verdict.outcome for verdict in found]

        by_loop = asyncio.run(all_of_them())
    same = sum(a == b for a, b in zip(by_threads, by_loop, strict=True))
    assert same >= 290  # a clock on a busy machine may find otherwise


def test_pool_survives_what_the_guards_would_have_refused() -> None:
    rng = Random(6)
    with MathPool(num_processes=2, timeout_s=1.0, memory_bytes=1024 * MIB, recycle_after=100) as pool:
        for maker in (tower, symbolic_tower, factorials, exponent, fractions, unicode_text, matrix, nested):
            assert isinstance(pool.compare("5", maker(rng)[:20_000]).ruling.outcome, Outcome)
        assert pool.compare("x+1", "1+x").ruling.outcome is Outcome.EQUAL
