"""C4: verdicts on 5,000 math answers, against math_verify as it comes, in a pool of as many processes.

Both start cold in every run: their processes, imports and tables are part of the time. The peer has the clocks that it
brings along (5 s for a parse, 5 s for a comparison); of the pathological answers it gets those that these can stop,
since a tower of powers would hold it for ever. Golds: integers, made expressions, real ones where the data is there.
40 % of the answers are wrong, 1 % pathological. Where both disagree, the pair's family must be a listed correction.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import NamedTuple

from rich.console import Console

from tasks.rewards.extract import last_box
from tasks.rewards.math import MathConfig, MathVerifier
from tests.benchmarks.__main__ import Contest

NUM_PAIRS = 5_000
NUM_PROCESSES = 2
DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
SOURCES = {"benchmarks/math500": "answer", "raw/hendrycks_math": "answer", "raw/deepmath": "ground_truth"}
# Families of pairs where math_verify is wrong, and why.
CORRECTIONS = {
    "trap: unit": "units are dropped",
    "trap: tiny": "values are rounded to six decimals",
    "trap: base": "bases are dropped",
    "trap: one of two": "`and` hides the second value",
    "trap: percent": "decimals with a percent sign",
    "trap: scientific": "3e8 is read as 3 times a letter",
    "pathological": "a time-out counts as a wrong answer",
    "real": "only a part of the text is read, letters are folded, values rounded to six decimals",
}


class Sample(NamedTuple):
    """A gold, a response, and the family that the response belongs to."""

    gold: str
    response: str
    family: str


def samples() -> list[Sample]:
    """The pairs, always the same ones for the same data."""
    rng = Random(4)
    real = real_golds()
    return [_sample(rng, real) for _ in range(NUM_PAIRS)]


def real_golds() -> list[str]:
    """Golds of public sets; none where the shared data is not there."""
    found: dict[str, None] = {}
    for name, field in SOURCES.items():
        path = DATA / f"{name}.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            gold = json.loads(line)[field]
            if isinstance(gold, str) and 0 < len(gold.strip()) < 80:
                found[gold] = None
    return list(found)


def _sample(rng: Random, real: list[str]) -> Sample:
    kind = rng.random()
    if kind < 0.01:
        return Sample("12", _boxed(rng.choice(_PATHOLOGICAL)), "pathological")
    if kind < 0.03:
        return rng.choice(_TRAPS)
    is_right = rng.random() < 0.6
    if kind < 0.45:
        number = rng.randrange(1000)
        return Sample(str(number), _boxed(str(number if is_right else number + rng.randrange(1, 50))), "integer")
    if kind < 0.75 or not real:
        made = _made(rng)
        return Sample(made, _boxed(_respelled(made) if is_right else _changed(made)), "made")
    gold = rng.choice(real)
    return Sample(gold, _boxed(_respelled(gold) if is_right else _changed(gold)), "real")


def _boxed(answer: str) -> str:
    return rf"So the final answer is $\boxed{{{answer}}}$."


def _made(rng: Random) -> str:
    a, b, c = (rng.randrange(2, 40) for _ in range(3))
    return rng.choice(
        (rf"\frac{{{a}}}{{{b}}}", rf"{a}\sqrt{{{b}}}",
         f"({a},{b})", f"{a}x^2+{b}x+{c}", rf"{a}\pi", f"{a}.{b}", f"{a}-{b}i",
         rf"\frac{{{a}}}{{{b}}}x+{c}", rf"{a}+{b}\sqrt{{{c}}}")
    )  # fmt: skip


def _respelled(gold: str) -> str:
    return gold.replace(r"\frac", r"\dfrac").replace("+", " + ").replace(",", ", " if gold.startswith("(") else ",")


def _changed(gold: str) -> str:
    for index, character in enumerate(gold):
        if character.isdigit():
            return gold[:index] + str(int(character) % 9 + 1) + gold[index + 1 :]
    return f"{gold}+1"


_PATHOLOGICAL = ("{" * 80 + "1" + "}" * 80, "1+" * 400 + "1", "((" * 60, "x" * 900)
_TRAPS = (
    Sample("5 cm", _boxed("5 m"), "trap: unit"),
    Sample("1/2^{99}", _boxed("1/2^{98}"), "trap: tiny"),
    Sample("1011_2", _boxed("1011"), "trap: base"),
    Sample("1331 and 1728", _boxed("1728"), "trap: one of two"),
    Sample(r"7.41\%", _boxed("7.41"), "trap: percent"),
    Sample(r"3\times10^8", _boxed("3e8"), "trap: scientific"),
)


def _quiet() -> None:
    logging.disable(logging.CRITICAL)


def bare(sample: Sample) -> bool:
    """What math_verify says by itself; an error is a wrong answer, as it is for whoever uses it so."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(rf"$\boxed{{{sample.gold}}}$"), parse(sample.response)))
    except Exception:  # whatever sympy raises within it
        return False


def contest() -> Contest:
    """The contest; the corrections are counted and printed first."""
    rows = samples()

    def ours() -> list[bool]:
        with MathVerifier(MathConfig(), NUM_PROCESSES) as verifier:
            return [v.outcome.is_right for v in verifier.judge_all([(row.gold, row.response) for row in rows])]

    def peer() -> list[bool]:
        with ProcessPoolExecutor(NUM_PROCESSES, get_context("spawn"), initializer=_quiet) as pool:
            return list(pool.map(bare, rows, chunksize=8))

    mine, others = ours(), peer()
    corrected = _corrections(rows, mine, others)
    known = [others]  # minutes each: what was found for the corrections also serves the check, which is not timed

    def peer_corrected() -> list[bool]:
        told = known.pop() if known else peer()
        return [is_right != (index in corrected) for index, is_right in enumerate(told)]

    def only_boxes() -> list[str | None]:
        return [last_box(row.response) for row in rows]

    return Contest(
        "C4 math verdicts", "pairs", NUM_PAIRS, ours, {"math_verify": peer_corrected}, only_boxes, "finding the boxes",
        runs=1,
    )  # fmt: skip


def _corrections(rows: list[Sample], ours: list[bool], peers: list[bool]) -> frozenset[int]:
    """Where both disagree; an unlisted family ends the benchmark."""
    found = frozenset(i for i, (mine, other) in enumerate(zip(ours, peers, strict=True)) if mine != other)
    console = Console()
    told_apart = [(rows[i].family, ours[i]) for i in sorted(found)]
    for (family, is_right), count in sorted(Counter(told_apart).items()):
        told = f"{'right' if is_right else 'wrong'} here, {'wrong' if is_right else 'right'} by math_verify"
        examples = list(
            dict.fromkeys(rows[i] for i in sorted(found) if (rows[i].family, ours[i]) == (family, is_right))
        )
        console.print(f"{count} {family}: {told}; {CORRECTIONS.get(family, 'NOT LISTED')}", markup=False)
        for row in examples[:6]:
            console.print(f"    {row.gold} | {last_box(row.response)}", markup=False)
        assert family in CORRECTIONS, f"both disagree on {family}, and it is no listed correction"
    return found
