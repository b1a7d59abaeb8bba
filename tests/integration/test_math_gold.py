"""Real golds: each equals itself in its usual spellings, and differs from what is nearly it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.records import Outcome
from tasks.rewards.math import MathConfig, MathVerifier

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not there"),
]
FIELDS = {
    "benchmarks/math500": "answer", "raw/deepmath": "ground_truth", "raw/olympiadbench": "answer",
    "raw/minerva": "answer",
    "raw/scibench": "answer_number", "raw/gaokao2023en": "answer", "raw/amc_rllm": "answer", "raw/amc_aimo": "answer",
    "raw/hendrycks_math": "answer",
}  # fmt: skip
# math_verify folds the case of letters and lets products commute: these say nothing. Infinity + 1 is infinite.
SAYS_NOTHING = ("AB = BA", "I = J", "N=n", r"\infty")
EVERY = 5  # of the golds are changed: all of them take minutes


def golds() -> list[str]:
    found: dict[str, None] = {}
    for name, field in FIELDS.items():
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            value = json.loads(line)[field]
            found |= dict.fromkeys(str(gold) for gold in (value if isinstance(value, list) else [value]))
    return [gold for gold in found if gold.strip()]


def respelled(gold: str) -> Iterator[str]:
    yield gold
    yield gold.replace(r"\frac", r"\dfrac")
    yield gold.replace(" ", "  ")
    yield gold.replace(r"\sqrt{", r"\sqrt {")
    yield gold.replace("^{2}", "^2") if "^{2}" in gold else gold.replace("^2", "^{2}")
    if gold.count("$") == 0:
        yield f"${gold.strip()}$"
    if gold.startswith("(") and gold.endswith(")") and "(" not in gold[1:]:
        yield rf"\left({gold[1:-1]}\right)"


def changed(gold: str) -> Iterator[str]:
    digits = list(re.finditer(r"\d", gold))
    for found in {digits[0], digits[-1]} if digits else ():
        yield gold[: found.start()] + str((int(found[0]) + 1) % 10) + gold[found.end() :]
    if "-" in gold:
        yield gold.replace("-", "+", 1)
    if "+" in gold:
        yield gold.replace("+", "-", 1)
    bare = gold.strip("$ \n")
    items = [item.strip() for item in bare[1:-1].split(",")]
    if bare.startswith("(") and bare.endswith(")") and bare.count("(") == 1 and len(set(items)) > 1:
        yield "(" + ",".join(items[::-1]) + ")"
    yield gold.rstrip().rstrip("$.") + "+1" + ("$" if gold.rstrip().endswith("$") else "")


def test_golds_equal_themselves_in_every_spelling() -> None:
    pairs = [(gold, answer) for gold in golds() for answer in dict.fromkeys(respelled(gold))]
    with MathVerifier(MathConfig(timeout_s=30.0)) as verifier:
        verdicts = verifier.compare_all(pairs)
    assert len(pairs) > 5000
    assert [pair for pair, v in zip(pairs, verdicts, strict=True) if v.outcome is not Outcome.EQUAL] == []


def test_changed_golds_are_not_equal() -> None:
    some = [gold for gold in golds()[::EVERY] if not any(text in gold for text in SAYS_NOTHING)]
    pairs = [(gold, answer) for gold in some for answer in dict.fromkeys(changed(gold)) if answer != gold]
    with MathVerifier(MathConfig(timeout_s=5.0)) as verifier:
        verdicts = verifier.compare_all(pairs)
    assert len(pairs) > 1000
    assert [pair for pair, v in zip(pairs, verdicts, strict=True) if v.outcome is Outcome.EQUAL] == []
    assert sum(v.outcome is Outcome.DIFFERENT for v in verdicts) > 0.95 * len(pairs)
    assert sum(v.outcome is Outcome.CRASH for v in verdicts) < 5
